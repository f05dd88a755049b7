/** The services for which volseal asks the embedded KMS. AWS knows them by roles that are assumed: its own principals cannot be had. */
export const SERVICE_PRINCIPALS = { workspaces: 'workspaces.amazonaws.com', ebs: 'ebs.amazonaws.com' } as const;

/** As `kms:ViaService` names the WorkSpaces service where it asks for an administrator. */
export const VIA_WORKSPACES = 'workspaces.local.amazonaws.com';

/**
 * The services as which volseal calls the embedded KMS. With AWS it assumes roles, because nobody can act as AWS's
 * service principals.
 */
export const SERVICE_PRINCIPALS = { workspaces: 'workspaces.amazonaws.com', ebs: 'ebs.amazonaws.com' } as const;

/** The value of `kms:ViaService` when WorkSpaces calls on behalf of an administrator. */
export const VIA_WORKSPACES = 'workspaces.local.amazonaws.com';

/** The keys of the encryption context that EBS and WorkSpaces set, and that volseal sets as they do. */

/** Names the volume. volseal sets it itself, with the volume's id. */
export const VOLUME_ID_CONTEXT_KEY = 'aws:ebs:id';
/** Names the user of a WorkSpace: `[SID]@[DIRECTORY]`. */
export const WORKSPACE_USER_CONTEXT_KEY = 'aws:workspaces:sid-directoryid';

/** The record of a WorkSpace: its user, its key, its volumes, its grants, and its state. */
import { randomBytes } from 'node:crypto';
import * as z from 'zod';

const grant = z.object({
  /**
   * Chosen before the request: KMS returns the same grant for the same name, so a repeated request makes no second one.
   */
  name: z.string(),
  /** Once KMS has answered. */
  grantId: z.string().optional(),
  grantToken: z.string().optional(),
});

const volume = z.object({
  volumeId: z.string(),
  /** Absolute. */
  path: z.string(),
  /** The raw image it is made from, absolute; without one the volume is empty and has `sizeBytes`. */
  image: z.string().optional(),
  sizeBytes: z.int().optional(),
  /** The grant of step 2: the volume service may use the key for this volume. */
  grant,
});

export const workspaceRecord = z.object({
  workspaceId: z.string(),
  /** `creating` and `rebuilding` are not finished yet; a `terminating` one can only be finished. */
  state: z.enum(['creating', 'ready', 'rebuilding', 'terminating']),
  sid: z.string(),
  directoryId: z.string(),
  /** As `parseKmsUri` reads it. */
  kms: z.string(),
  keyArn: z.string(),
  services: z.object({
    /** The owner of the key, who makes the first grant; undefined: the owner of the credentials. */
    administrator: z.string().optional(),
    workspaces: z.string(),
    ebs: z.string(),
  }),
  /** The grant of step 1: the WorkSpaces service may use the key for this user. */
  grant,
  root: volume,
  user: volume,
  /** While rebuilding: the next root volume, then the previous one. */
  newRoot: volume.optional(),
  oldRoot: volume.optional(),
  /** ISO 8601. */
  created: z.string(),
});

export type WorkspaceRecord = z.infer<typeof workspaceRecord>;
export type WorkspaceVolume = z.infer<typeof volume>;
export type WorkspaceGrant = z.infer<typeof grant>;

const ID_ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789';

/** A new id in the shape that WorkSpaces gives them: `ws-` and 9 characters. */
export function newWorkspaceId(): string {
  // 252 is the largest multiple of 36 that a byte reaches: no character is likelier than another.
  const characters: string[] = [];
  while (characters.length < 9) {
    const [byte = 255] = randomBytes(1);
    if (byte < 252) characters.push(ID_ALPHABET[byte % ID_ALPHABET.length]!);
  }
  return `ws-${characters.join('')}`;
}

const SID = /^S-1-\d{1,14}(?:-\d{1,10}){1,15}$/;
const DIRECTORY_ID = /^d-[0-9a-f]{10}$/;

/** Whether `text` is a security identifier of Windows, `S-1-5-21-...`. */
export const isSid = (text: string): boolean => SID.test(text);
/** Whether `text` is the id of a directory, `d-` and 10 hexadecimal digits. */
export const isDirectoryId = (text: string): boolean => DIRECTORY_ID.test(text);

/** The record of a WorkSpace: its user, its key, its volumes, its grants, and its state. */
import { randomBytes } from 'node:crypto';
import * as z from 'zod';

/** A grant of a WorkSpace's key. */
export interface WorkspaceGrant {
  /**
   * Chosen before the request: KMS returns the same grant for the same name, so a repeated request makes no second one.
   */
  name: string;
  /** Once KMS has answered. */
  grantId?: string | undefined;
  grantToken?: string | undefined;
}

/** A volume of a WorkSpace. */
export interface WorkspaceVolume {
  volumeId: string;
  /** Absolute. */
  path: string;
  /** The raw image it is made from, absolute; without one the volume is empty and has `sizeBytes`. */
  image?: string | undefined;
  sizeBytes?: number | undefined;
  /** The grant of step 2: the volume service may use the key for this volume. */
  grant: WorkspaceGrant;
}

/** What is known of a WorkSpace. */
export interface WorkspaceRecord {
  workspaceId: string;
  /** `creating` and `rebuilding` are not finished yet; a `terminating` one can only be finished. */
  state: 'creating' | 'ready' | 'rebuilding' | 'terminating';
  sid: string;
  directoryId: string;
  /** As `parseKmsUri` reads it. */
  kms: string;
  keyArn: string;
  services: {
    /** The owner of the key, who makes the first grant; undefined: the owner of the credentials. */
    administrator?: string | undefined;
    workspaces: string;
    ebs: string;
  };
  /** The grant of step 1: the WorkSpaces service may use the key for this user. */
  grant: WorkspaceGrant;
  root: WorkspaceVolume;
  user: WorkspaceVolume;
  /** While rebuilding: the next root volume, then the previous one. */
  newRoot?: WorkspaceVolume | undefined;
  oldRoot?: WorkspaceVolume | undefined;
  /** ISO 8601. */
  created: string;
}

const grant = z.object({ name: z.string(), grantId: z.string().optional(), grantToken: z.string().optional() });

const volume = z.object({
  volumeId: z.string(),
  path: z.string(),
  image: z.string().optional(),
  sizeBytes: z.int().optional(),
  grant,
});

/** Of a record in the store. @internal */
export const workspaceRecord: z.ZodType<WorkspaceRecord> = z.object({
  workspaceId: z.string(),
  state: z.enum(['creating', 'ready', 'rebuilding', 'terminating']),
  sid: z.string(),
  directoryId: z.string(),
  kms: z.string(),
  keyArn: z.string(),
  services: z.object({ administrator: z.string().optional(), workspaces: z.string(), ebs: z.string() }),
  grant,
  root: volume,
  user: volume,
  newRoot: volume.optional(),
  oldRoot: volume.optional(),
  created: z.string(),
});

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

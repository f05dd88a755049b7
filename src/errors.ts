/**
 * The only error class of the library. Its `code` decides behaviour (retry, exit status, hint). Its message names the
 * file, the offset, the key and the encryption context if they matter.
 */
import { constants } from 'node:os';
import { types } from 'node:util';

/** All error codes. */
export type ErrorCode =
  /** A caller's argument is wrong: nothing was touched. */
  | 'ERR_ARGUMENT'
  /** The target exists and overwriting was not asked for. */
  | 'ERR_TARGET_EXISTS'
  /** The length of an image is not a whole number of sectors. `details.sizeBytes`, `details.sectorBytes`. */
  | 'ERR_IMAGE_SIZE'
  /**
   * A volume's data is not the image it was compared with. `details.offsetBytes`, `details.sector`: the first
   * difference.
   */
  | 'ERR_IMAGE_DIFFERS'
  /** A block device is too small for the data. `details.sizeBytes`, `details.neededBytes`. */
  | 'ERR_TARGET_SIZE'
  /** The source was changed while it was read: the result would be a mixture of its old and new state. */
  | 'ERR_SOURCE_CHANGED'
  /** The partial file of an interrupted run does not belong to this job, or was changed. `details.path`. */
  | 'ERR_RESUME'
  /** The operation was aborted by the caller's signal; targets are as they were. */
  | 'ERR_ABORTED'
  /** No reply from KMS: worth a retry. */
  | 'ERR_KMS_UNREACHABLE'
  /** KMS answered and refused: permissions, credentials, signature. */
  | 'ERR_KMS_DENIED'
  /** KMS knows no such key or alias. */
  | 'ERR_KMS_NOT_FOUND'
  /** The key exists and its state (disabled, pending deletion) forbids the operation. */
  | 'ERR_KMS_KEY_STATE'
  /** KMS refused the request for another reason, named in `details.name`. */
  | 'ERR_KMS_REQUEST'
  /** The volume is under another KMS key than the caller expects. `details.keyId` is the one in its header. */
  | 'ERR_KMS_KEY_MISMATCH'
  /** KMS answered what it must not answer (another key's ARN, no plaintext, a key of another length). */
  | 'ERR_KMS_REPLY'
  /** There is no such bucket, object, version or upload. `details.path`. */
  | 'ERR_STORE_NOT_FOUND'
  /** The store denies it, or takes no credentials. `details.action`: the IAM action that is missing. */
  | 'ERR_STORE_DENIED'
  /** The store refuses a request for another reason, named in `details.name`, or answers what it must not answer. */
  | 'ERR_STORE_REQUEST'
  /** The store does not answer, or asks for less, again and again: worth a retry later. */
  | 'ERR_STORE_UNREACHABLE'
  /** The server of a fleet's queue does not answer: worth a retry. */
  | 'ERR_QUEUE_UNREACHABLE'
  /** The server of a fleet's queue denies it, or cannot keep a queue (a Redis that may evict keys). */
  | 'ERR_QUEUE_REFUSED'
  /** The embedded KMS's own store is unreadable, damaged or of another version. */
  | 'ERR_KMS_STORE'
  /** The store of WorkSpaces is unreadable, damaged or of another version. */
  | 'ERR_WORKSPACE_STORE'
  /** There is no such WorkSpace. */
  | 'ERR_WORKSPACE_NOT_FOUND'
  /**
   * The state of the WorkSpace does not allow this: an operation was not completed, or the WorkSpace exists already.
   */
  | 'ERR_WORKSPACE_STATE'
  /** The audit log cannot be written, or was changed. No call to KMS is made that it cannot record. */
  | 'ERR_AUDIT'
  /** The encryption context (or the encrypted data key itself) is not what the data key was wrapped with. */
  | 'ERR_CONTEXT_MISMATCH'
  /** The file has no LUKS2 header. */
  | 'ERR_NOT_A_VOLUME'
  /** No copy of the LUKS2 header is good. `details.copies` says what is wrong with each. */
  | 'ERR_HEADER_DAMAGED'
  /**
   * The header is good, but needs something that volseal does not support: another cipher, segment type, requirement.
   */
  | 'ERR_HEADER_UNSUPPORTED'
  /** The header is good, but has no complete `aws-kms` token. */
  | 'ERR_HEADER_TOKEN'
  /** The MAC in the header is not the one that the volume key gives: somebody changed the header. */
  | 'ERR_HEADER_MAC'
  /**
   * A backup of a header does not fit the volume: it is another volume's, or older than a re-encryption.
   * `details.backup`.
   */
  | 'ERR_HEADER_BACKUP'
  /** The length of the file is not what the header describes: truncated, or not whole sectors. `details.sizeBytes`. */
  | 'ERR_VOLUME_SIZE'
  /**
   * The data is not that of the detached header: the two belong to different volumes. `details.header`,
   * `details.volumeId`.
   */
  | 'ERR_DATA_MISMATCH'
  /**
   * The unwrapped key is not the key of this volume: the digest differs. `details.keyslots`: how many passphrases it
   * has.
   */
  | 'ERR_KEY_DIGEST'
  /**
   * No keyslot of the volume opens with this recovery key or passphrase. `details.foreign`: keyslots that were not
   * tried.
   */
  | 'ERR_KEYSLOT'
  /** The volume is detached. */
  | 'ERR_STATE_DETACHED'
  /** Another process, or this one, holds the volume. */
  | 'ERR_STATE_BUSY'
  /**
   * A killed run left a new header with an old volume. `details.backup`: the old header; `details.successor`: the new
   * volume. Or a job in place is in the middle of the file (`details.inPlace`, `details.journal`, and where it is known
   * `details.kind`: encrypt, decrypt or reencrypt).
   */
  | 'ERR_STATE_INTERRUPTED'
  /** The volume was attached for reading only. */
  | 'ERR_STATE_READ_ONLY'
  /** An earlier flush failed: what was written since the last good flush may be lost (fsync failure is final). */
  | 'ERR_STATE_POISONED'
  /** A vault handle names no key: it was wiped. */
  | 'ERR_KEY_GONE'
  /** The system lacks a program, a kernel module or a right that this needs. `details.missing` names it. */
  | 'ERR_REQUIREMENT'
  /** A system call failed; `details` has errno, syscall, path, offsetBytes. */
  | 'ERR_IO'
  /** Memory for keys could not be locked (RLIMIT_MEMLOCK). No key is put into unlocked memory instead. */
  | 'ERR_MEMORY_LOCK'
  /** The self-test of the cipher failed: processor, memory or build produce wrong bytes. No key is used. */
  | 'ERR_SELF_TEST'
  /** The native addon is not there, or this runtime cannot load it: the import of volseal fails. `details.path`. */
  | 'ERR_ADDON';

/** Facts for programs, in addition to the message: plain values that survive a structured clone. */
export type ErrorDetails = Readonly<
  Record<string, string | number | boolean | null | readonly string[] | Readonly<Record<string, string>>>
>;

/** A `VolsealError` on its way between threads, where class and code would be lost. */
export interface PlainError {
  code: ErrorCode;
  message: string;
  details: ErrorDetails;
}

/** The one class of errors. `code` decides behaviour; the message names what is wrong, where, and what to do. */
export class VolsealError extends Error {
  /** Always `VolsealError`. */
  override readonly name = 'VolsealError';
  /** What went wrong, for programs. */
  readonly code: ErrorCode;
  /** Facts for programs: `path`, `errno`, `offset` and the like, as the code has them. */
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; details?: ErrorDetails } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = options.details ?? {};
  }

  /** True only for an unreachable KMS or store, which may answer next time. The rest fails the same way again. */
  get retryable(): boolean {
    return this.code === 'ERR_KMS_UNREACHABLE' || this.code === 'ERR_STORE_UNREACHABLE';
  }

  /** The error as a plain object, for a message to another thread. */
  toPlain(): PlainError {
    return { code: this.code, message: this.message, details: this.details };
  }

  /** The error that `toPlain` made plain. */
  static fromPlain(plain: PlainError): VolsealError {
    return new VolsealError(plain.code, plain.message, { details: plain.details });
  }
}

/**
 * Whether `value` is an error, also one of another realm: under Jest and in `vm` contexts, Node's own modules and the
 * addon throw errors of the main context, which are no instances of this context's `Error`.
 */
export const isError = (value: unknown): value is Error => value instanceof Error || types.isNativeError(value);

/** The message of an error; of anything else that was thrown, its text. */
export const messageOf = (thrown: unknown): string => (isError(thrown) ? thrown.message : String(thrown));

/** An error of Node's own file system calls. */
function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return isError(error) && typeof (error as NodeJS.ErrnoException).syscall === 'string';
}

/** `EDQUOT`, also where Node has no name for it and says "Unknown system error -122". */
function errnoName({ code = '', errno = 0 }: NodeJS.ErrnoException): string {
  if (/^E[A-Z0-9]+$/.test(code)) return code;
  return Object.entries(constants.errno).find(([, number]) => number === Math.abs(errno))?.[0] ?? code;
}

/** How system calls name a file in an open directory (src/directory-entry.ts): the number says nothing to a reader. */
const THROUGH_DESCRIPTOR = /'\/proc\/self\/fd\/\d+(?:\/([^']*))?'/g;

/**
 * `error` as a `VolsealError`: itself, or an `ERR_IO` that names the system call and the path. What is neither stays
 * what it is (a programmer's error must not be dressed up as a fault of the disk).
 */
export function asVolsealError(error: unknown, path?: string): unknown {
  if (error instanceof VolsealError || !isSystemError(error)) return error;
  const where = path ?? error.path ?? '';
  const message = error.message.replaceAll(THROUGH_DESCRIPTOR, (_, name?: string) => `'${name ?? where}'`);
  return new VolsealError('ERR_IO', `${where === '' ? '' : `${where}: `}${error.syscall} failed: ${message}`, {
    cause: error,
    details: { errno: errnoName(error), syscall: error.syscall ?? '', path: where },
  });
}

/**
 * Makes the file system calls of `call` fail as `asVolsealError` says, with `path` named.
 * @throws {VolsealError} `ERR_IO`
 */
export async function namingPath<T>(path: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw asVolsealError(error, path);
  }
}

/** `error` with `path` named in its message and details, for errors of layers that know a descriptor only. */
export function withPath(error: unknown, path: string): unknown {
  if (!(error instanceof VolsealError) || error.details.path !== undefined) return asVolsealError(error, path);
  return new VolsealError(error.code, `${path}: ${error.message}`, { cause: error, details: { ...error.details, path } });
}

/**
 * `error` as `asVolsealError`, and where it names a file by the number of an open directory
 * (src/directory-entry.ts), it names `path`, by which the user knows that directory or file.
 */
export function namedAs(error: unknown, path: string): unknown {
  const known = asVolsealError(error, path);
  if (!(known instanceof VolsealError) || !known.message.includes(DESCRIPTORS)) return known;
  const message = known.message.replaceAll(BY_DESCRIPTOR, path);
  return new VolsealError(known.code, message, { cause: error, details: { ...known.details, path } });
}

const DESCRIPTORS = '/proc/self/fd/';
const BY_DESCRIPTOR = /\/proc\/self\/fd\/\d+(?:\/[^\s:']+)?/g;

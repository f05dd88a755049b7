/**
 * The exit statuses of the program. Where cryptsetup has one (1 arguments, 2 key, 4 device, 5 busy), it is the same.
 */
import type { ErrorCode } from '../errors.js';

/** Exit statuses by name; `EXIT_STATUS_HELP` says them in words. */
export const EXIT = {
  ok: 0,
  arguments: 1,
  key: 2,
  differs: 3,
  device: 4,
  busy: 5,
  kmsRefused: 6,
  kmsUnreachable: 7,
  memoryLock: 8,
  selfTest: 9,
  /** EX_SOFTWARE of sysexits.h: a bug. */
  internal: 70,
  /** EX_TEMPFAIL of sysexits.h: a job of `jobs run` that failed for a reason that passes. */
  temporary: 75,
  /** 128 + SIGINT, as a shell reports it. */
  interrupted: 130,
  /** 128 + SIGPIPE: the reader of the output stopped reading. */
  outputClosed: 141,
} as const;

/** For `volseal --help`. */
export const EXIT_STATUS_HELP = [
  '0 done',
  '1 arguments or image size',
  '2 key, context or header do not match',
  '3 the data differs from the image',
  '4 file or device',
  '5 busy',
  '6 KMS or the store refused',
  '7 KMS or the store unreachable',
  '8 memory could not be locked',
  '9 the cipher failed its self-test',
  '70 a bug',
  '75 a job that may succeed later',
  '130 interrupted',
];

/** The type makes a new code without a status an error of the compiler. */
const BY_CODE: Readonly<Record<ErrorCode, number>> = {
  ERR_ARGUMENT: EXIT.arguments,
  ERR_IMAGE_SIZE: EXIT.arguments,
  ERR_IMAGE_DIFFERS: EXIT.differs,
  ERR_CONTEXT_MISMATCH: EXIT.key,
  ERR_KMS_KEY_MISMATCH: EXIT.key,
  ERR_KEY_DIGEST: EXIT.key,
  ERR_DATA_MISMATCH: EXIT.key,
  ERR_KEY_GONE: EXIT.key,
  ERR_KEYSLOT: EXIT.key,
  ERR_HEADER_MAC: EXIT.key,
  ERR_TARGET_EXISTS: EXIT.device,
  ERR_TARGET_SIZE: EXIT.device,
  ERR_SOURCE_CHANGED: EXIT.device,
  ERR_RESUME: EXIT.device,
  ERR_NOT_A_VOLUME: EXIT.device,
  ERR_HEADER_DAMAGED: EXIT.device,
  ERR_HEADER_UNSUPPORTED: EXIT.device,
  ERR_HEADER_TOKEN: EXIT.device,
  ERR_HEADER_BACKUP: EXIT.device,
  ERR_VOLUME_SIZE: EXIT.device,
  ERR_STATE_DETACHED: EXIT.device,
  ERR_STATE_INTERRUPTED: EXIT.device,
  ERR_STATE_READ_ONLY: EXIT.device,
  ERR_STATE_POISONED: EXIT.device,
  ERR_KMS_STORE: EXIT.device,
  ERR_IO: EXIT.device,
  ERR_REQUIREMENT: EXIT.device,
  ERR_ADDON: EXIT.device,
  ERR_STATE_BUSY: EXIT.busy,
  ERR_KMS_DENIED: EXIT.kmsRefused,
  ERR_KMS_NOT_FOUND: EXIT.kmsRefused,
  ERR_KMS_KEY_STATE: EXIT.kmsRefused,
  ERR_KMS_REQUEST: EXIT.kmsRefused,
  ERR_STORE_NOT_FOUND: EXIT.device,
  ERR_STORE_DENIED: EXIT.kmsRefused,
  ERR_STORE_REQUEST: EXIT.kmsRefused,
  ERR_STORE_UNREACHABLE: EXIT.kmsUnreachable,
  ERR_QUEUE_UNREACHABLE: EXIT.kmsUnreachable,
  ERR_QUEUE_REFUSED: EXIT.kmsRefused,
  ERR_AUDIT: EXIT.device,
  ERR_WORKSPACE_STORE: EXIT.device,
  ERR_WORKSPACE_NOT_FOUND: EXIT.device,
  ERR_WORKSPACE_STATE: EXIT.busy,
  ERR_KMS_REPLY: EXIT.kmsRefused,
  ERR_KMS_UNREACHABLE: EXIT.kmsUnreachable,
  ERR_MEMORY_LOCK: EXIT.memoryLock,
  ERR_SELF_TEST: EXIT.selfTest,
  ERR_ABORTED: EXIT.interrupted,
};

/**
 * The exit status for an error of this code. A serving process of a newer volseal may send a code that this one does
 * not know.
 */
export const exitStatusOf = (code: ErrorCode): number => BY_CODE[code] ?? EXIT.internal;

/**
 * The exit status of a job for its engine (docs/FLEET.md): where another attempt is worth it and the code alone does
 * not say so (a full disk), it is one of its own.
 */
export const exitStatusOfJob = (code: ErrorCode, verdict: unknown): number =>
  verdict === 'retry' && exitStatusOf(code) === EXIT.device ? EXIT.temporary : exitStatusOf(code);

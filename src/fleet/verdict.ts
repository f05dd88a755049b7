/** Whether a failed job is worth another attempt, for every engine the same. */
import type { ErrorCode, VolsealError } from '../errors.js';

/**
 * `retry`: the same job may succeed later, or on another machine. `fail`: it fails the same way again. `interrupted`:
 * the worker was told to stop; what was done is kept, and the attempt does not count.
 */
export type Verdict = 'retry' | 'fail' | 'interrupted';

/** A KMS or store that does not answer or throttles; a target that another worker is at. */
const RETRY: ReadonlySet<ErrorCode> = new Set(['ERR_KMS_UNREACHABLE', 'ERR_STORE_UNREACHABLE', 'ERR_STATE_BUSY']);

/** A full disk, a failing disk, a file server that went away, a machine short of memory, files or locks. */
const RETRY_ERRNO: ReadonlySet<unknown> = new Set([
  ...['ENOSPC', 'EDQUOT', 'EIO', 'EREMOTEIO', 'ENODEV', 'ENXIO'],
  ...['ESTALE', 'ETIMEDOUT', 'EHOSTDOWN', 'EHOSTUNREACH', 'ENOLINK', 'ECOMM', 'EAGAIN', 'EINTR', 'EBUSY'],
  ...['ENOMEM', 'EMFILE', 'ENFILE', 'ENOLCK'],
]);

/** What an engine should do with a job that has failed with `error`. */
export function verdictOf({ code, details }: VolsealError): Verdict {
  if (code === 'ERR_ABORTED') return 'interrupted';
  return RETRY.has(code) || RETRY_ERRNO.has(details.errno) ? 'retry' : 'fail';
}

/** The last step of every way to a volume key. */
import { type KeyHandle, native } from '../native.js';

/**
 * The key as a volume key, once `check` has accepted it; it is wiped where that throws.
 * @throws what `check` throws; {VolsealError} `ERR_ARGUMENT`, `ERR_SELF_TEST`
 */
export function readyKey(key: KeyHandle, check: (key: KeyHandle) => void): KeyHandle {
  try {
    check(key);
    native.xtsPrepare(key);
    return key;
  } catch (error) {
    native.keyWipe(key);
    throw error;
  }
}

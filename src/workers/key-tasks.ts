/**
 * The tasks that ask KMS, apart from the others because of what they load: the AWS SDK, and perhaps the embedded KMS.
 */
import { type Kms, openKms, type UnwrapRequest } from '../kms/client.js';
import type { EncryptionContext } from '../kms/encryption-context.js';
import type { KmsEndpoint } from '../kms/endpoint.js';
import type { Luks2Header } from '../luks2/header.js';
import { verifyHeader } from '../luks2/header-mac.js';
import { type KeyHandle, native } from '../native.js';

/** A new data key: KMS makes and wraps it, then unwraps it into the vault. The handle, a volume key, is the caller's to wipe. */
export interface NewKeyTask {
  kind: 'newKey';
  kms: KmsEndpoint;
  /** KMS key id, ARN, alias name or alias ARN. */
  keyId: string;
  context: EncryptionContext;
}

/** What a `NewKeyTask` gives. `encryptedDataKey` is a plain Uint8Array once it has crossed between threads. */
export interface NewKey {
  keyArn: string;
  encryptedDataKey: Uint8Array;
  key: KeyHandle;
}

/**
 * A volume's data key from KMS into the vault, ready as a volume key, and the header proved to be the one that the key's owner wrote;
 * the key is wiped where it is not. The handle is the caller's to wipe.
 */
export interface UnlockTask {
  kind: 'unlock';
  kms: KmsEndpoint;
  request: UnwrapRequest;
  header: Luks2Header;
  headerPath: string;
}

/** @param signal ends the calls to KMS @throws {VolsealError} `ERR_KMS_*`, `ERR_MEMORY_LOCK`, `ERR_SELF_TEST`, `ERR_ABORTED` */
export function newKey({ kms: endpoint, keyId, context }: NewKeyTask, signal: AbortSignal | undefined): Promise<NewKey> {
  return withKms(endpoint, signal, async (kms) => {
    const wrapped = await kms.generateWrappedKey({ keyId, context });
    return { ...wrapped, key: await unwrap(kms, { ...wrapped, context }) };
  });
}

/**
 * @param signal ends the call to KMS
 * @throws {VolsealError} `ERR_KMS_*`, `ERR_CONTEXT_MISMATCH`, `ERR_KEY_DIGEST`, `ERR_HEADER_MAC`, `ERR_MEMORY_LOCK`, `ERR_SELF_TEST`,
 * `ERR_ABORTED`
 */
export function unlock({ kms: endpoint, request, header, headerPath }: UnlockTask, signal: AbortSignal | undefined): Promise<KeyHandle> {
  return withKms(endpoint, signal, (kms) => unwrap(kms, request, (key) => verifyHeader(key, header, headerPath)));
}

async function unwrap(kms: Kms, request: UnwrapRequest, check: (key: KeyHandle) => void = () => {}): Promise<KeyHandle> {
  const key = await kms.unwrapKey(request);
  try {
    check(key);
    native.xtsPrepare(key);
    return key;
  } catch (error) {
    native.keyWipe(key);
    throw error;
  }
}

async function withKms<Result>(
  endpoint: KmsEndpoint,
  signal: AbortSignal | undefined,
  use: (kms: Kms) => Promise<Result>,
): Promise<Result> {
  const kms = openKms(endpoint, signal);
  try {
    return await use(kms);
  } finally {
    kms.close();
  }
}

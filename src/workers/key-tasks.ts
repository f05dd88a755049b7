/**
 * The tasks that ask KMS, apart from the others because of what they load: the AWS SDK, and perhaps the embedded KMS.
 */
import { type Kms, kmsOver, openKms } from '../kms/client/calls.js';
import { type Connection, openConnection } from '../kms/client/connection.js';
import type { RewrapRequest, UnwrapRequest } from '../kms/client/data-key-calls.js';
import type { EncryptionContext } from '../kms/shared/encryption-context.js';
import type { KmsEndpoint } from '../kms/shared/endpoint.js';
import type { Luks2Header } from '../luks2/header.js';
import { verifyHeader } from '../luks2/header-mac.js';
import { type KeyHandle, native } from '../native.js';

export { loadConnection } from '../kms/client/connection.js';

/** A new data key: KMS makes and wraps it, then unwraps it into the vault. The handle, a volume key, is the caller's to wipe. */
export interface NewKeyTask {
  kind: 'newKey';
  kms: KmsEndpoint;
  /** KMS key id, ARN, alias name or alias ARN. */
  keyId: string;
  context: EncryptionContext;
  /** Tokens of grants that KMS may not have spread yet. */
  grantTokens?: readonly string[] | undefined;
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

/** The same data key wrapped by another KMS key. Nobody sees it, this thread included. */
export interface RewrapTask {
  kind: 'rewrap';
  kms: KmsEndpoint;
  request: RewrapRequest;
}

/** Whether KMS would do the same (DryRun): nothing is done. */
export interface TryRewrapTask extends Omit<RewrapTask, 'kind'> {
  kind: 'tryRewrap';
}

/** What a `RewrapTask` gives. */
export type RewrappedKey = Omit<NewKey, 'key'>;

/** @param signal ends the calls to KMS @throws {VolsealError} `ERR_KMS_*`, `ERR_MEMORY_LOCK`, `ERR_SELF_TEST`, `ERR_ABORTED` */
export function newKey({ kms: endpoint, keyId, context, grantTokens = [] }: NewKeyTask, signal: AbortSignal | undefined): Promise<NewKey> {
  return withKms(endpoint, signal, async (kms) => {
    const wrapped = await kms.generateWrappedKey({ keyId, context, grantTokens });
    return { ...wrapped, key: await unwrap(kms, { ...wrapped, context, grantTokens }) };
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

/** @param signal ends the call to KMS @throws {VolsealError} `ERR_KMS_*`, `ERR_CONTEXT_MISMATCH`, `ERR_ABORTED` */
export function rewrap({ kms: endpoint, request }: RewrapTask, signal: AbortSignal | undefined): Promise<RewrappedKey> {
  return withKms(endpoint, signal, (kms) => kms.rewrapKey(request));
}

/** Returns if KMS would rewrap the key. @param signal, errors as `rewrap` */
export function tryRewrap({ kms: endpoint, request }: TryRewrapTask, signal: AbortSignal | undefined): Promise<void> {
  return withKms(endpoint, signal, (kms) => kms.tryRewrapKey(request));
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

/**
 * Connections that outlast a task, by endpoint: they hold no key, and a thousand attaches must not mean a thousand TLS handshakes and
 * as many fetches of credentials. They end with the thread.
 */
const connections = new Map<string, Connection>();

async function withKms<Result>(
  endpoint: KmsEndpoint,
  signal: AbortSignal | undefined,
  use: (kms: Kms) => Promise<Result>,
): Promise<Result> {
  if (endpoint.kind !== 'embedded') {
    const place = JSON.stringify(endpoint);
    const connection = connections.get(place) ?? openConnection(endpoint);
    connections.set(place, connection);
    return use(kmsOver(connection, signal));
  }
  // The embedded KMS's root key opens every key in its store: it is in the vault for as long as it is needed.
  const kms = openKms(endpoint, signal);
  try {
    return await use(kms);
  } finally {
    kms.close();
  }
}

/**
 * The tasks that ask KMS, apart from the others because of what they load: the AWS SDK, and perhaps the embedded KMS.
 */
import type { MessagePort } from 'node:worker_threads';
import { VolsealError } from '../errors.js';
import { type Kms, kmsOver } from '../kms/client/calls.js';
import { type Connection, loadConnection, openConnection } from '../kms/client/connection.js';
import type { RewrapRequest, UnwrapRequest } from '../kms/client/data-key-calls.js';
import type { KeyCalls } from '../kms/client/key-calls.js';
import type { EncryptionContext } from '../kms/shared/encryption-context.js';
import type { KmsEndpoint } from '../kms/shared/endpoint.js';
import type { Luks2Header } from '../luks2/header.js';
import { isKeyOf, verifyHeader } from '../luks2/header-mac.js';
import type { KeyDigest } from '../luks2/metadata.js';
import type { KeyslotParameters } from '../luks2/passphrase-keyslot.js';
import { type KeyHandle, native } from '../native.js';
import { receiveAbort } from './abort.js';
import { handedOver } from './hand-over.js';
import type { SessionMessage, SessionReply } from './kms-session.js';
import { whileLoading } from './native-loads.js';
import { readyKey } from './ready-key.js';
import { taskResult } from './task-result.js';

/** Loads what calls to such a KMS need. */
export const loadKms = (kind: KmsEndpoint['kind']): Promise<undefined> => whileLoading(() => loadConnection(kind));

/**
 * A new data key: KMS makes and wraps it, then unwraps it into the vault. The handle, a volume key, is the caller's to
 * wipe.
 */
export interface NewKeyTask {
  kind: 'newKey';
  kms: KmsEndpoint;
  /** KMS key id, ARN, alias name or alias ARN. */
  keyId: string;
  context: EncryptionContext;
  /** Tokens of grants that KMS may not have spread yet. */
  grantTokens?: readonly string[] | undefined;
}

/** Whether KMS would make such a key (DryRun): nothing is done. */
export interface TryNewKeyTask extends Omit<NewKeyTask, 'kind'> {
  kind: 'tryNewKey';
}

/** A task for a session, as the pool's orders carry tasks. */
interface KmsOrder {
  readonly task: KmsTask;
  readonly owner: number;
  readonly abortPort: MessagePort | undefined;
}

/** What a `NewKeyTask` gives. `encryptedDataKey` is a plain Uint8Array once it has crossed between threads. */
export interface NewKey {
  keyArn: string;
  encryptedDataKey: Uint8Array;
  key: KeyHandle;
}

/**
 * A volume's data key from KMS into the vault, ready as a volume key, and the header proved to be the one that the
 * key's owner wrote; the key is wiped where it is not. The handle is the caller's to wipe.
 */
export interface UnlockTask {
  kind: 'unlock';
  kms: KmsEndpoint;
  request: UnwrapRequest;
  header: Luks2Header;
  headerPath: string;
}

/**
 * The key of a volume that KMS has not wrapped yet, from a keyslot or as it is, and the same wrapped by KMS. It is
 * ready as a volume key, and the caller's to wipe. What KMS gives back for the wrapped one was compared with the
 * digest.
 */
export interface AdoptTask extends Omit<NewKeyTask, 'kind'> {
  kind: 'adopt';
  digest: KeyDigest;
  /** The keys of `from` stay the caller's. */
  from: { volumeKey: KeyHandle } | { passphrase: KeyHandle; keyslots: readonly AdoptedKeyslot[] };
}

/** A keyslot that may open the volume. */
export interface AdoptedKeyslot {
  readonly keyslot: string;
  readonly area: Uint8Array;
  readonly parameters: KeyslotParameters;
}

/** What an `AdoptTask` gives; undefined where nothing opens the volume. */
export interface AdoptedKey extends NewKey {
  /** The keyslot that opened it. */
  keyslot: string | undefined;
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

/**
 * The calls of `Kms` that other threads may ask for as they are: requests and results are plain values, without keys.
 */
export type PlainCall = 'createGrant' | 'listGrants' | 'listRetirableGrants' | 'retireGrant' | keyof KeyCalls;

/** One call to KMS. */
export interface KmsCallTask<Call extends PlainCall = PlainCall> {
  kind: 'kmsCall';
  kms: KmsEndpoint;
  call: Call;
  request: Parameters<Kms[Call]>[0];
}

/**
 * Starts a session: what comes through `port` is done here, with every KMS opened once, until the other end says
 * `close`.
 */
export interface ServeKmsTask {
  kind: 'serveKms';
  port: MessagePort;
}

export type KmsTask = NewKeyTask | AdoptTask | TryNewKeyTask | UnlockTask | RewrapTask | TryRewrapTask | KmsCallTask;

/**
 * Does a task that asks KMS.
 *
 * @param signal ends the calls to KMS
 * @param held connections that outlast the task, by endpoint
 * @throws {VolsealError} `ERR_KMS_*`, `ERR_CONTEXT_MISMATCH`, `ERR_KEY_DIGEST` and `ERR_HEADER_MAC` (unlock),
 * `ERR_MEMORY_LOCK`, `ERR_SELF_TEST`, `ERR_ABORTED`
 */
export async function askKms(task: KmsTask, signal: AbortSignal | undefined, held?: Map<string, Connection>) {
  await loadKms(task.kms.kind);
  const connection = connectionFor(task.kms, held);
  try {
    return await perform(task, kmsOver(connection, signal));
  } finally {
    if (held === undefined && !outlastsTask(task.kms)) connection.close();
  }
}

/**
 * Not the embedded KMS: its root key opens every key in its store, and is in the vault only for as long as it is
 * needed. Not one with credentials of the caller's: they may be others at the next call.
 */
const outlastsTask = ({ kind, credentials }: KmsEndpoint): boolean => kind !== 'embedded' && credentials === undefined;

function perform(task: KmsTask, kms: Kms) {
  switch (task.kind) {
    case 'newKey':
      return newKey(task, kms);
    case 'adopt':
      return adopt(task, kms);
    case 'tryNewKey':
      return kms
        .tryGenerateWrappedKey({ keyId: task.keyId, context: task.context, grantTokens: task.grantTokens ?? [] })
        .then(() => undefined);
    case 'unlock':
      return unwrap(kms, task.request, (key) => verifyHeader(key, task.header, task.headerPath));
    case 'rewrap':
      return kms.rewrapKey(task.request);
    case 'tryRewrap':
      return kms.tryRewrapKey(task.request).then(() => undefined);
    case 'kmsCall':
      // The task's type ties the request to the call.
      return (kms[task.call] as (request: unknown) => Promise<unknown>)(task.request);
  }
}

async function newKey({ keyId, context, grantTokens = [] }: NewKeyTask, kms: Kms): Promise<NewKey> {
  const wrapped = await kms.generateWrappedKey({ keyId, context, grantTokens });
  return { ...wrapped, key: await unwrap(kms, { ...wrapped, context, grantTokens }) };
}

async function adopt({ keyId, context, grantTokens = [], digest, from }: AdoptTask, kms: Kms): Promise<AdoptedKey | undefined> {
  const opened = 'volumeKey' in from ? { key: from.volumeKey, keyslot: undefined } : openFirst(from.passphrase, from.keyslots, digest);
  if (opened === undefined || !isKeyOf(opened.key, digest)) return undefined;
  try {
    // The dry run finds what is wrong before a key is sent, over the connection that will carry it: TLS copies what it
    // is given before it is ready.
    await kms.tryWrapKey({ keyId, context, grantTokens });
    const wrapped = await kms.wrapKey({ keyId, context, grantTokens, key: opened.key });
    const key = await unwrap(kms, { ...wrapped, context, grantTokens }, (given) => {
      if (isKeyOf(given, digest)) return;
      throw new VolsealError('ERR_KMS_REPLY', `${wrapped.keyArn}: KMS gave back another key than the one that it had wrapped`);
    });
    return { ...wrapped, key, keyslot: opened.keyslot };
  } finally {
    if (!('volumeKey' in from)) native.keyWipe(opened.key);
  }
}

/** The key of the first keyslot that the passphrase opens; the caller's to wipe. */
function openFirst(passphrase: KeyHandle, keyslots: readonly AdoptedKeyslot[], digest: KeyDigest) {
  for (const { keyslot, area, parameters } of keyslots) {
    const { kdfHash, salt, iterations, afHash, slotKeyBytes } = parameters;
    const key = native.keyslotOpen(passphrase, area, kdfHash, salt, iterations, afHash, slotKeyBytes);
    if (isKeyOf(key, digest)) return { key, keyslot };
    native.keyWipe(key);
  }
  return undefined;
}

async function unwrap(kms: Kms, request: UnwrapRequest, check: (key: KeyHandle) => void = () => {}): Promise<KeyHandle> {
  return readyKey(await kms.unwrapKey(request), check);
}

/**
 * Connections to other KMSs outlast a task, by endpoint: they hold no key, and a thousand attaches must not mean a
 * thousand TLS handshakes and as many fetches of credentials. They end with the thread.
 */
const connections = new Map<string, Connection>();

function connectionFor(endpoint: KmsEndpoint, held: Map<string, Connection> | undefined): Connection {
  const kept = held ?? (outlastsTask(endpoint) ? connections : undefined);
  const key = JSON.stringify(endpoint);
  const connection = kept?.get(key) ?? openConnection(endpoint);
  kept?.set(key, connection);
  return connection;
}

/** Serves a session until its other end closes it. */
export function serveKms({ port }: ServeKmsTask): void {
  const held = new Map<string, Connection>();
  port.on('message', async (message: SessionMessage<KmsOrder>) => {
    if (message === 'close') {
      for (const connection of held.values()) connection.close();
      port.close();
      return;
    }
    const { id, order } = message;
    const { task, owner, abortPort } = order;
    const signal = abortPort && receiveAbort(abortPort);
    const result = await taskResult(async () => handedOver(task.kind, owner, await askKms(task, signal, held)));
    abortPort?.close();
    port.postMessage({ id, result } satisfies SessionReply);
  });
}

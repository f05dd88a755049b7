/**
 * What runs inside the pool's threads. A task is one native call over many sectors, or the unlocking of a volume: KMS is asked
 * here, so that a data key goes from the reply straight into the vault and the main thread never meets it.
 *
 * Nothing here throws across threads, where an error would lose its class and its code: each task returns a `TaskResult`.
 */
import type { MessagePort } from 'node:worker_threads';
import { move, transferableSymbol, valueSymbol } from 'piscina';
import { asVolsealError, type PlainError, VolsealError } from '../errors.js';
import { type Kms, openKms, type UnwrapRequest } from '../kms/client.js';
import type { EncryptionContext } from '../kms/encryption-context.js';
import type { KmsEndpoint } from '../kms/endpoint.js';
import type { Luks2Header } from '../luks2/header.js';
import { verifyHeader } from '../luks2/header-mac.js';
import { type DeviceHandle, type KeyHandle, native, type TransformHandle, type TransformOptions } from '../native.js';
import { receiveAbort } from './abort-port.js';

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

export interface ReadTask {
  kind: 'read';
  device: DeviceHandle;
  offsetBytes: number;
  lengthBytes: number;
}

export interface WriteTask {
  kind: 'write';
  device: DeviceHandle;
  offsetBytes: number;
  bytes: Uint8Array;
}

export interface FlushTask {
  kind: 'flush';
  device: DeviceHandle;
}

/** Opens a transform: setting the target's room aside may take seconds. The handle is the caller's to close. */
export interface OpenTransformTask {
  kind: 'openTransform';
  options: TransformOptions;
}

/** A slice of a transform's work, in `lanes` native threads. Gives whether there is more to do. */
export interface TransformTask {
  kind: 'transform';
  transform: TransformHandle;
  lanes: number;
  milliseconds: number;
}

export type Task = NewKeyTask | UnlockTask | ReadTask | WriteTask | FlushTask | OpenTransformTask | TransformTask;

/** What the pool sends to a thread. */
export interface Order {
  task: Task;
  /** Where the caller's wish to stop comes in (`receiveAbort`). */
  abortPort: MessagePort | undefined;
}

/** What each kind of task gives. */
export type TaskValue<T extends Task> = T extends NewKeyTask
  ? NewKey
  : T extends UnlockTask
    ? KeyHandle
    : T extends OpenTransformTask
      ? TransformHandle
      : T extends TransformTask
        ? boolean
      : T extends ReadTask
        ? Uint8Array<ArrayBuffer>
        : undefined;

export type TaskResult<Value> = { ok: true; value: Value } | { ok: false; error: PlainError };

/** The pool's entry: gives a `TaskResult`. A failure that is not a `VolsealError` is a bug, and is thrown. */
export default async function runTask({ task, abortPort }: Order): Promise<unknown> {
  try {
    if (task.kind === 'read') return moved(read(task));
    return { ok: true, value: await perform(task, abortPort && receiveAbort(abortPort)) };
  } catch (thrown) {
    const error = asVolsealError(thrown);
    if (!(error instanceof VolsealError)) throw error;
    return { ok: false, error: error.toPlain() };
  } finally {
    abortPort?.close();
  }
}

async function perform(
  task: Exclude<Task, ReadTask>,
  signal: AbortSignal | undefined,
): Promise<NewKey | KeyHandle | TransformHandle | boolean | undefined> {
  switch (task.kind) {
    case 'newKey':
      return withKms(task.kms, signal, (kms) => newKey(kms, task));
    case 'unlock':
      return withKms(task.kms, signal, (kms) => unwrap(kms, task.request, (key) => verifyHeader(key, task.header, task.headerPath)));
    case 'write':
      native.deviceWrite(task.device, task.offsetBytes, task.bytes);
      return undefined;
    case 'flush':
      native.deviceFlush(task.device);
      return undefined;
    case 'openTransform':
      return native.transformOpen(task.options);
    case 'transform':
      return native.transformRun(task.transform, task.lanes, task.milliseconds);
  }
}

async function newKey(kms: Kms, { keyId, context }: NewKeyTask): Promise<NewKey> {
  const wrapped = await kms.generateWrappedKey({ keyId, context });
  return { ...wrapped, key: await unwrap(kms, { ...wrapped, context }) };
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

function read({ device, offsetBytes, lengthBytes }: ReadTask): Uint8Array<ArrayBuffer> {
  const target = Buffer.allocUnsafeSlow(lengthBytes);
  native.deviceRead(device, offsetBytes, target);
  return new Uint8Array(target.buffer);
}

/** A result whose bytes change owner instead of being copied. */
function moved(bytes: Uint8Array<ArrayBuffer>): unknown {
  const result: TaskResult<Uint8Array> = { ok: true, value: bytes };
  return move({ [transferableSymbol]: bytes.buffer, [valueSymbol]: result });
}

/**
 * What runs inside the pool's threads. A task is one native call over many sectors, or the unlocking of a volume: KMS
 * is asked here, so that a data key goes from the reply straight into the vault and the main thread never meets it.
 *
 * Nothing here throws across threads, where an error would lose its class and its code: each task returns a
 * `TaskResult`.
 */
import type { MessagePort } from 'node:worker_threads';
import type { Kms } from '../kms/client/calls.js';
import type { KmsEndpoint } from '../kms/shared/endpoint.js';
import { type DeviceExtent, type DeviceHandle, type KeyHandle, native, type TransformHandle, type TransformOptions } from '../native.js';
import { receiveAbort } from './abort.js';
import type { KmsCallTask, KmsTask, NewKey, NewKeyTask, RewrappedKey, RewrapTask, ServeKmsTask, UnlockTask } from './key-tasks.js';
import type { IterationsTask, OpenKeyslotTask, SealKeyslotTask } from './keyslot-tasks.js';
import { type TaskResult, taskResult } from './task-result.js';

export type { NewKeyTask, RewrapTask, TryRewrapTask, UnlockTask } from './key-tasks.js';

/** Loads what calls to such a KMS need, ahead of the first. */
export interface LoadKmsTask {
  kind: 'loadKms';
  of: KmsEndpoint['kind'];
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

/**
 * `zero`: the range reads as zeros. `trim`: it is not needed. `fill`: no sector of it is left out. As `deviceZero` and
 * its like.
 */
export interface RangeTask {
  kind: 'zero' | 'trim' | 'fill';
  device: DeviceHandle;
  offsetBytes: number;
  lengthBytes: number;
}

/** Where the range is known to be zeros, as `deviceExtents`. */
export interface ExtentsTask {
  kind: 'extents';
  device: DeviceHandle;
  offsetBytes: number;
  lengthBytes: number;
  countMax: number;
}

/** Opens a transform: reserving the target's room on the disk may take seconds. The handle is the caller's to close. */
export interface OpenTransformTask {
  kind: 'openTransform';
  options: TransformOptions;
}

/** A slice of a transform's work, in `threadCount` native threads. The result says whether there is more to do. */
export interface TransformTask {
  kind: 'transform';
  transform: TransformHandle;
  threadCount: number;
  milliseconds: number;
}

export type Task =
  | LoadKmsTask
  | KmsTask
  | ServeKmsTask
  | SealKeyslotTask
  | OpenKeyslotTask
  | IterationsTask
  | ReadTask
  | WriteTask
  | FlushTask
  | RangeTask
  | ExtentsTask
  | OpenTransformTask
  | TransformTask;

/** What the pool sends to a thread. */
export interface Order {
  task: Task;
  /** Where the caller's wish to stop comes in (`receiveAbort`). */
  abortPort: MessagePort | undefined;
}

/** What each kind of task gives. */
export type TaskValue<T extends Task> =
  T extends KmsCallTask<infer Call>
    ? Awaited<ReturnType<Kms[Call]>>
    : T extends NewKeyTask
      ? NewKey
      : T extends UnlockTask
        ? KeyHandle
        : T extends SealKeyslotTask
          ? Uint8Array
          : T extends OpenKeyslotTask
            ? KeyHandle | undefined
            : T extends IterationsTask
              ? number
              : T extends RewrapTask
                ? RewrappedKey
                : T extends OpenTransformTask
                  ? TransformHandle
                  : T extends TransformTask
                    ? boolean
                    : T extends ReadTask
                      ? Uint8Array<ArrayBuffer>
                      : T extends ExtentsTask
                        ? DeviceExtent[]
                        : undefined;

/** The pool's entry: gives a `TaskResult`. A failure that is not a `VolsealError` is a bug, and is thrown. */
export default async function runTask({ task, abortPort }: Order): Promise<unknown> {
  try {
    if (task.kind !== 'read') return await taskResult(() => perform(task, abortPort && receiveAbort(abortPort)));
    const result = await taskResult(() => read(task));
    return result.ok ? await moved(result.value) : result;
  } finally {
    abortPort?.close();
  }
}

async function perform(task: Exclude<Task, ReadTask>, signal: AbortSignal | undefined): Promise<unknown> {
  switch (task.kind) {
    // These load the AWS SDK, in the thread that needs it and nowhere else: most of a start is loading.
    case 'loadKms':
      return (await import('./key-tasks.js')).loadConnection(task.of);
    case 'newKey':
    case 'unlock':
    case 'rewrap':
    case 'tryRewrap':
    case 'kmsCall':
      return (await import('./key-tasks.js')).askKms(task, signal);
    case 'sealKeyslot':
      return (await import('./keyslot-tasks.js')).sealKeyslot(task);
    case 'openKeyslot':
      return (await import('./keyslot-tasks.js')).openKeyslot(task);
    case 'iterations':
      return native.passphraseIterations(task.milliseconds);
    case 'serveKms':
      return (await import('./key-tasks.js')).serveKms(task);
    case 'write':
      native.deviceWrite(task.device, task.offsetBytes, task.bytes);
      return undefined;
    case 'flush':
      native.deviceFlush(task.device);
      return undefined;
    case 'zero':
      native.deviceZero(task.device, task.offsetBytes, task.lengthBytes);
      return undefined;
    case 'trim':
      native.deviceTrim(task.device, task.offsetBytes, task.lengthBytes);
      return undefined;
    case 'fill':
      native.deviceFill(task.device, task.offsetBytes, task.lengthBytes);
      return undefined;
    case 'extents':
      return native.deviceExtents(task.device, task.offsetBytes, task.lengthBytes, task.countMax);
    case 'openTransform':
      return native.transformOpen(task.options);
    case 'transform':
      return native.transformRun(task.transform, task.threadCount, task.milliseconds);
  }
}

function read({ device, offsetBytes, lengthBytes }: ReadTask): Uint8Array<ArrayBuffer> {
  const target = Buffer.allocUnsafeSlow(lengthBytes);
  native.deviceRead(device, offsetBytes, target);
  return new Uint8Array(target.buffer);
}

const loadPiscina = () => import('piscina');
let piscinaLoading: ReturnType<typeof loadPiscina> | undefined;

/** A result whose bytes change owner instead of being copied. */
async function moved(bytes: Uint8Array<ArrayBuffer>): Promise<unknown> {
  // With the first result: threads that move no bytes to the caller start without it.
  piscinaLoading ??= loadPiscina();
  const piscina = await piscinaLoading;
  const result: TaskResult<Uint8Array> = { ok: true, value: bytes };
  return piscina.move({ [piscina.transferableSymbol]: bytes.buffer, [piscina.valueSymbol]: result });
}

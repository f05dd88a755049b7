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
import {
  type KeyHandle,
  type MoveHandle,
  type MoveOptions,
  type MovePart,
  native,
  type PendingPartOptions,
  type TransformHandle,
  type TransformOptions,
} from '../native.js';
import { receiveAbort } from './abort.js';
import { handedOver } from './hand-over.js';
import type { AdoptedKey, KmsCallTask, KmsTask, NewKey, RewrappedKey, ServeKmsTask } from './key-tasks.js';
import type { IterationsTask, OpenKeyslotTask, SealKeyslotTask } from './keyslot-tasks.js';
import type { PieceSums, PieceTask } from './piece-task.js';
import { taskResult } from './task-result.js';

export type { NewKeyTask, RewrapTask, TryRewrapTask, UnlockTask } from './key-tasks.js';

/** Loads what calls to such a KMS need, ahead of the first. */
export interface LoadKmsTask {
  kind: 'loadKms';
  of: KmsEndpoint['kind'];
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

/** Opens a move: setting room aside may take seconds. The handle is the caller's to close. */
export interface OpenMoveTask {
  kind: 'openMove';
  options: MoveOptions;
}

/** One round of a move, in `threadCount` native threads. Gives the digest of what was taken. */
export interface MoveTask {
  kind: 'move';
  move: MoveHandle;
  direction: 'toHigh' | 'toLow';
  take: MovePart | undefined;
  put: MovePart | undefined;
  threadCount: number;
}

/** Reads back what an earlier run has taken. */
export interface ReadMovedTask {
  kind: 'readMoved';
  move: MoveHandle;
  direction: 'toHigh' | 'toLow';
  part: MovePart;
  /** Its digest. */
  sha256: Uint8Array;
}

/** Rebuilds what a run has taken, for those who only read. */
export interface RebuildPartTask {
  kind: 'rebuildPart';
  options: PendingPartOptions;
}

export type Task =
  | LoadKmsTask
  | KmsTask
  | ServeKmsTask
  | SealKeyslotTask
  | OpenKeyslotTask
  | IterationsTask
  | OpenMoveTask
  | MoveTask
  | ReadMovedTask
  | RebuildPartTask
  | OpenTransformTask
  | TransformTask
  | PieceTask;

/** What the pool sends to a thread. */
export interface Order {
  task: Task;
  /** The thread that has sent it: what a task opens for it ends with that thread (`handleGive`). */
  owner: number;
  /** Where the caller's abort arrives (`receiveAbort`). */
  abortPort: MessagePort | undefined;
}

/** What tasks give, by their kind; the others give nothing, but for a `KmsCallTask`. */
interface TaskValues {
  newKey: NewKey;
  adopt: AdoptedKey | undefined;
  unlock: KeyHandle;
  rewrap: RewrappedKey;
  sealKeyslot: Uint8Array;
  openKeyslot: KeyHandle | undefined;
  iterations: number;
  openMove: MoveHandle;
  move: Uint8Array | undefined;
  openTransform: TransformHandle;
  transform: boolean;
  piece: PieceSums;
}

/** What a task gives. */
export type TaskValue<T extends Task> =
  T extends KmsCallTask<infer Call>
    ? Awaited<ReturnType<Kms[Call]>>
    : T['kind'] extends keyof TaskValues
      ? TaskValues[T['kind']]
      : undefined;

/** The pool's entry: gives a `TaskResult`. A failure that is not a `VolsealError` is a bug, and is thrown. */
export default async function runTask({ task, abortPort, owner }: Order): Promise<unknown> {
  try {
    return await taskResult(async () => handedOver(task.kind, owner, await perform(task, abortPort && receiveAbort(abortPort))));
  } finally {
    abortPort?.close();
  }
}

async function perform(task: Task, signal: AbortSignal | undefined): Promise<unknown> {
  switch (task.kind) {
    // These load the AWS SDK, in the thread that needs it and nowhere else: most of a start is loading.
    case 'loadKms':
      return (await import('./key-tasks.js')).loadKms(task.of);
    case 'newKey':
    case 'adopt':
    case 'tryNewKey':
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
    case 'openMove':
      return native.moveOpen(task.options);
    case 'move':
      return native.moveRun(task.move, task.direction, task.take, task.put, task.threadCount);
    case 'readMoved':
      return native.moveReadBack(task.move, task.direction, task.part, task.sha256);
    case 'rebuildPart':
      return native.pendingPartRebuild(task.options);
    case 'openTransform':
      return native.transformOpen(task.options);
    case 'transform':
      return native.transformRun(task.transform, task.threadCount, task.milliseconds);
    case 'piece':
      return (await import('./piece-task.js')).runPiece(task);
  }
}

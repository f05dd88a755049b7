/**
 * What a task opens for the thread that has sent it belongs to that thread: it outlives this one, and ends with that
 * one.
 */
import { type KeyHandle, type MoveHandle, native, type TransformHandle } from '../native.js';

/**
 * Gives the handle in the result of a task, if there is one, to the thread that has sent the task.
 * @param kind of the task @param owner by its `environmentId` @returns the result
 */
export function handedOver(kind: string, owner: number, result: unknown): unknown {
  if (kind === 'unlock' || kind === 'openTransform' || kind === 'openMove')
    native.handleGive(result as KeyHandle | TransformHandle | MoveHandle, owner);
  if (kind === 'openKeyslot' && result !== undefined) native.handleGive(result as KeyHandle, owner);
  if ((kind === 'newKey' || kind === 'adopt') && result !== undefined) native.handleGive((result as { key: KeyHandle }).key, owner);
  return result;
}

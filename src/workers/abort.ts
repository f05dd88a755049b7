/** A caller's `AbortSignal`: checked between the steps of a job, and passed on to a task in a thread of the pool. */
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { VolsealError } from '../errors.js';

/**
 * @param outcome what has become of the caller's files @throws {VolsealError} `ERR_ABORTED` once the signal has come
 */
export function throwIfAborted(signal: AbortSignal | undefined, outcome = 'targets are as they were before'): void {
  if (signal?.aborted) throw new VolsealError('ERR_ABORTED', `stopped on request; ${outcome}`, { cause: signal.reason });
}

/**
 * The caller's end of a signal into a thread of the pool, where an `AbortSignal` cannot be sent. The pool's own way to
 * stop a task ends its thread, in which other volumes have work. So the task gets a message, ends its call to KMS
 * itself and wipes what it had: a key comes back whole or not at all.
 *
 * @returns `port` goes to the task; call `close` once the task is done
 */
export function sendAbort(signal: AbortSignal): { port: MessagePort; close(): void } {
  const { port1, port2 } = new MessageChannel();
  const send = (): void => port1.postMessage('abort');
  if (signal.aborted) send();
  else signal.addEventListener('abort', send, { once: true });
  return {
    port: port2,
    close() {
      signal.removeEventListener('abort', send);
      port1.close();
    },
  };
}

/** The task's end: a signal that follows the caller's. The task closes the port. */
export function receiveAbort(port: MessagePort): AbortSignal {
  const controller = new AbortController();
  port.once('message', () => controller.abort());
  return controller.signal;
}

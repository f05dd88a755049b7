/**
 * A caller's wish to stop, on its way into a thread of the pool. An `AbortSignal` cannot go there; and the pool's own way to stop a task
 * ends its thread, in which other volumes have work. So the task is told, ends its call to KMS itself and wipes what it had: a key
 * comes back whole or not at all.
 */
import { MessageChannel, type MessagePort } from 'node:worker_threads';

/** The caller's end. `port` goes to the task; `close` once the task is done. */
export function sendAbort(signal: AbortSignal): { port: MessagePort; close(): void } {
  const { port1, port2 } = new MessageChannel();
  const tell = (): void => port1.postMessage('abort');
  if (signal.aborted) tell();
  else signal.addEventListener('abort', tell, { once: true });
  return {
    port: port2,
    close() {
      signal.removeEventListener('abort', tell);
      port1.close();
    },
  };
}

/** The task's end: a signal that follows the caller's. The port is the task's to close. */
export function receiveAbort(port: MessagePort): AbortSignal {
  const controller = new AbortController();
  port.once('message', () => controller.abort());
  return controller.signal;
}

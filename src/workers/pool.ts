/**
 * The one pool of worker threads of this process, shared by everything that is attached or under way: started by the first user,
 * ended by the last.
 */
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import { VolsealError } from '../errors.js';
import { POOL_THREADS_MAX } from '../limits.js';
import { sendAbort } from './abort-port.js';
import type { Order, Task, TaskResult, TaskValue, WriteTask } from './tasks.js';

/** A user's share in the pool. */
export interface PoolLease {
  /** How many tasks run side by side. */
  readonly threads: number;
  /**
   * Runs a task in some thread.
   * @param signal ends a call to KMS (`newKey`, `unlock`); other tasks are short and run to their end
   * @throws {VolsealError} what the task threw; `ERR_ABORTED`
   */
  run<T extends Task>(task: T, signal?: AbortSignal): Promise<TaskValue<T>>;
  /** Gives the share back; the last one ends the pool's threads. Once its own tasks are done; a second call does nothing. */
  release(): Promise<void>;
}

let pool: Piscina | undefined;
let leases = 0;

/** A share in the pool, which starts with the first one. */
export function leasePool(): PoolLease {
  pool ??= startPool();
  leases += 1;
  const mine = pool;
  let released = false;
  return {
    threads: mine.maxThreads,
    async run(task, signal) {
      const abort = signal === undefined ? undefined : sendAbort(signal);
      const order: Order = { task, abortPort: abort?.port };
      const transferList = [...(isWrite(task) ? [task.bytes.buffer as ArrayBuffer] : []), ...(abort === undefined ? [] : [abort.port])];
      try {
        const result = (await mine.run(order, { transferList })) as TaskResult<TaskValue<typeof task>>;
        if (!result.ok) throw VolsealError.fromPlain(result.error);
        return result.value;
      } finally {
        abort?.close();
      }
    },
    async release() {
      if (released) return;
      released = true;
      leases -= 1;
      if (leases > 0) return;
      pool = undefined;
      await mine.close();
    },
  };
}

const isWrite = (task: Task): task is WriteTask => task.kind === 'write';

/** Whether the pool's threads are running: for tests and for people who wonder why a process does not end. */
export const poolIsRunning = (): boolean => pool !== undefined;

function startPool(): Piscina {
  const threads = Math.min(availableParallelism(), POOL_THREADS_MAX);
  return new Piscina({
    filename: fileURLToPath(new URL('./tasks.js', import.meta.url)),
    // Equal, because Piscina retires threads above the minimum: a new start costs more than most tasks.
    minThreads: threads,
    maxThreads: threads,
    // Between tasks a thread must go on with its event loop, so that connections to KMS really close.
    atomics: 'disabled',
  });
}

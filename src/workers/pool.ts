/**
 * The one pool of worker threads of this process, shared by everything that is attached or under way: started by the first user,
 * ended by the last.
 */
import { availableParallelism } from 'node:os';
import { Piscina } from 'piscina';
import { VolsealError } from '../errors.js';
import type { KmsEndpoint } from '../kms/shared/endpoint.js';
import { POOL_THREADS_MAX, POOL_THREADS_MIN } from '../limits.js';
import { TASKS_FILE } from '../package-files.js';
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
  /** Makes a thread ready for calls to such a KMS; all calls to KMS wait for that. For who has other things to load meanwhile. */
  expectKms(kind: KmsEndpoint['kind']): void;
  /** Gives the share back; the last one ends the pool's threads. Once its own tasks are done; a second call does nothing. */
  release(): Promise<void>;
}

let pool: Piscina | undefined;
let leases = 0;
/** Settles once no thread is getting ready for KMS. */
let expecting: Promise<unknown> = Promise.resolve();

/** A share in the pool, which starts with the first one. */
export function leasePool(): PoolLease {
  pool ??= startPool();
  leases += 1;
  const mine = pool;
  let released = false;
  return {
    threads: mine.maxThreads,
    async run(task, signal) {
      if (asksKms(task)) await expecting;
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
    expectKms(kind) {
      // What cannot be loaded fails the call that needs it.
      expecting = mine.run({ task: { kind: 'loadKms', of: kind }, abortPort: undefined } satisfies Order).catch(() => {});
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

const KMS_TASKS: ReadonlySet<Task['kind']> = new Set<Task['kind']>(['newKey', 'unlock', 'rewrap', 'tryRewrap']);
const asksKms = ({ kind }: Task): boolean => KMS_TASKS.has(kind);

const isWrite = (task: Task): task is WriteTask => task.kind === 'write';

/** Whether the pool's threads are running: for tests and for people who wonder why a process does not end. */
export const poolIsRunning = (): boolean => pool !== undefined;

function startPool(): Piscina {
  return new Piscina({
    filename: TASKS_FILE,
    // The first thread at once, the others with the first tasks that find none free: most commands need one for most of their time.
    minThreads: 1,
    maxThreads: Math.max(POOL_THREADS_MIN, Math.min(availableParallelism(), POOL_THREADS_MAX)),
    // None retires before the pool ends: a new start costs more than most tasks.
    idleTimeout: Number.POSITIVE_INFINITY,
    // Between tasks a thread must go on with its event loop, so that connections to KMS really close.
    atomics: 'disabled',
  });
}

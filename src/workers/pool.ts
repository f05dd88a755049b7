/**
 * The one pool of worker threads of this process, shared by everything that is attached or under way: started by the
 * first user, ended a moment after the last.
 */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import type { MessagePort } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { VolsealError } from '../errors.js';
import { type KmsEndpoint, kmsUri } from '../kms/shared/endpoint.js';
import { environmentSnapshot } from '../kms/shared/environment.js';
import { POOL_LINGER_MS, POOL_THREADS_MAX, POOL_THREADS_MIN } from '../limits.js';
import { type Logger, loggedCall } from '../logging.js';
import { native } from '../native.js';
import { TASKS_FILE } from '../package-files.js';
import { sendAbort } from './abort.js';
import type { KmsTask } from './key-tasks.js';
import { KmsSession, sessionKey } from './kms-session.js';
import { expectLastFlush } from './last-flush.js';
import { poolLoads, waitForLoads } from './native-loads.js';
import { resultValue, type TaskResult } from './task-result.js';
import type { Order, Task, TaskValue } from './tasks.js';

/** A user's share in the pool. */
export interface PoolLease {
  /**
   * Runs a task in some thread.
   * @param signal ends a call to KMS (`newKey`, `unlock`); other tasks are short and run to their end
   * @throws {VolsealError} what the task threw; `ERR_ABORTED`
   */
  run<T extends Task>(task: T, signal?: AbortSignal): Promise<TaskValue<T>>;
  /**
   * Makes a thread ready for calls to such a KMS; all calls to KMS wait for that. For a caller that loads other things
   * meanwhile.
   */
  expectKms(kind: KmsEndpoint['kind']): void;
  /**
   * Keeps the KMS open in one thread while `work` runs: all tasks of this process that ask it go there.
   * @throws what `work` throws
   */
  withOpenKms<Result>(kms: KmsEndpoint, work: () => Promise<Result>): Promise<Result>;
  /**
   * Gives the share back, once its tasks are done. A moment after the last one (`POOL_LINGER_MS`) the pool's threads
   * end. A second call does nothing.
   */
  release(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

let pool: Piscina | undefined;
/** The environment that the pool's threads have. */
let startedIn = '';
let leases = 0;
/** Ends the pool that nobody uses. */
let ending: NodeJS.Timeout | undefined;
/** By `sessionKey`. */
const sessions = new Map<string, { readonly session: KmsSession; users: number }>();
/** Settles once no thread is getting ready for KMS. */
let expecting: Promise<unknown> = Promise.resolve();

/**
 * A share in the pool, which starts with the first one. Throws what the start of the pool throws, and then counts as no
 * share.
 * @param logger gets a line for each call to KMS
 */
export function leasePool(logger?: Logger): PoolLease {
  clearTimeout(ending);
  // A thread has a copy of the environment, and credentials that it found there: an unused pool does not outlive a
  // change.
  if (pool !== undefined && leases === 0 && startedIn !== environmentSnapshot()) {
    void pool.close();
    pool = undefined;
  }
  if (pool === undefined) {
    if (!process.listeners('exit').includes(waitForLoads)) process.on('exit', waitForLoads);
    pool = startPool();
    startedIn = environmentSnapshot();
  }
  leases += 1;
  const mine = pool;
  async function send<T extends Task>(task: T, signal: AbortSignal | undefined): Promise<TaskValue<T>> {
    const abort = signal === undefined ? undefined : sendAbort(signal);
    const order: Order = { task, owner: native.environmentId(), abortPort: abort?.port };
    const transferList = [...transfersOf(task), ...(abort === undefined ? [] : [abort.port])];
    const session = asksKms(task) ? sessions.get(sessionKey(task.kms))?.session : undefined;
    try {
      const result = await (session?.run(order, transferList) ?? mine.run(order, { transferList }));
      return resultValue(result as TaskResult<TaskValue<T>>);
    } finally {
      abort?.close();
    }
  }
  let released = false;
  const lease: PoolLease = {
    async run(task, signal) {
      if (!asksKms(task)) return send(task, signal);
      expectLastFlush(task.kms);
      const facts = { kms: kmsUri(task.kms), call: task.kind === 'kmsCall' ? task.call : task.kind };
      return loggedCall(logger, facts, async () => send((await readyToAsk(task, signal)) as typeof task, signal));
    },
    expectKms(kind) {
      // What cannot be loaded fails the call that needs it.
      expecting = mine
        .run({ task: { kind: 'loadKms', of: kind }, owner: native.environmentId(), abortPort: undefined } satisfies Order)
        .catch(() => {});
    },
    async withOpenKms(kms, work) {
      const key = sessionKey(kms);
      const open = sessions.get(key) ?? { session: startSession(mine), users: 0 };
      sessions.set(key, open);
      open.users += 1;
      try {
        return await work();
      } finally {
        open.users -= 1;
        if (open.users === 0) {
          sessions.delete(key);
          await open.session.close();
        }
      }
    },
    async release() {
      if (released) return;
      released = true;
      leases -= 1;
      if (leases === 0) ending = endSoon();
    },
    async [Symbol.asyncDispose]() {
      await lease.release();
    },
  };
  return lease;
}

const asksKms = (task: Task): task is KmsTask => 'kms' in task;

/**
 * Waits for a thread that gets ready for KMS, and puts the credentials that a provider gives now into the task: no
 * function can go to a thread.
 */
async function readyToAsk(task: KmsTask, signal: AbortSignal | undefined): Promise<KmsTask> {
  await expecting;
  if (typeof task.kms.credentials !== 'function') return task;
  const { withGivenCredentials } = await import('../kms/client/given-credentials.js');
  return { ...task, kms: await withGivenCredentials(task.kms, signal) };
}

const transfersOf = (task: Task): MessagePort[] => (task.kind === 'serveKms' ? [task.port] : []);

/** A session in a thread of `pool`. What goes through its port before the thread listens waits in it. */
function startSession(pool: Piscina): KmsSession {
  const session = new KmsSession();
  const order: Order = { task: { kind: 'serveKms', port: session.threadPort }, owner: native.environmentId(), abortPort: undefined };
  pool.run(order, { transferList: [session.threadPort] }).catch(() => session.discard());
  return session;
}

/** Whether anything holds a share in the pool: for tests and for people who wonder what is still attached. */
export const poolIsUsed = (): boolean => leases > 0;

/**
 * The end of a pool that nobody uses, unless it is used again before: uses one after another (attach, detach, attach
 * ...) share a pool, whose start costs 0.3 s of CPU. Neither the timer nor idle threads keep the process alive.
 */
function endSoon(): NodeJS.Timeout {
  return setTimeout(() => {
    const idle = pool;
    pool = undefined;
    void idle?.close();
  }, POOL_LINGER_MS).unref();
}

/** @throws {VolsealError} `ERR_IO` the installation lacks a file; Node cannot start threads in a deleted directory */
function checkStart(): void {
  if (!existsSync(TASKS_FILE)) {
    const details = { path: TASKS_FILE, errno: 'ENOENT' };
    throw new VolsealError('ERR_IO', `${TASKS_FILE} is missing, so no worker thread can start; install volseal again`, { details });
  }
  try {
    process.cwd();
  } catch (error) {
    const details = { errno: 'ENOENT', syscall: 'uv_cwd' };
    throw new VolsealError('ERR_IO', 'the current directory was deleted, so no worker thread can start', { cause: error, details });
  }
}

function startPool(): Piscina {
  checkStart();
  const started = new Piscina({
    filename: TASKS_FILE,
    workerData: poolLoads,
    // The first thread at once, the others with the first tasks that find none free: most commands need one for most of
    // their time.
    minThreads: 1,
    maxThreads: Math.max(POOL_THREADS_MIN, Math.min(availableParallelism(), POOL_THREADS_MAX)),
    // None retires before the pool ends: a new start costs more than most tasks.
    idleTimeout: Number.POSITIVE_INFINITY,
    // Between tasks a thread must go on with its event loop, so that connections to KMS really close.
    atomics: 'disabled',
  });
  // A thread that could not start, or that memory ran out for, has failed its task. Without a listener that would end
  // the process. Piscina may start no other thread after it: what waits here fails too, and the next user gets a pool.
  started.on('error', () => {
    if (pool === started) pool = undefined;
    void started.destroy();
  });
  return started;
}

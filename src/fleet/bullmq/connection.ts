/**
 * Where the queue of a fleet is kept: Redis or PostgreSQL. BullMQ and the clients are packages that only a fleet needs;
 * they are loaded here, with the first queue.
 */
import type { ConnectionOptions, Queue, QueueOptions, Worker, WorkerOptions } from 'bullmq';
import { isError, messageOf, VolsealError } from '../../errors.js';

/** BullMQ with a place for its jobs; whoever opened it closes it. */
export interface Backend {
  /** Without a password, for messages. */
  readonly name: string;
  readonly bullmq: typeof import('bullmq');
  makeQueue<Data, Result>(name: string, options: Omit<QueueOptions, 'connection'>): Queue<Data, Result>;
  makeWorker<Data, Result>(
    name: string,
    run: (job: import('bullmq').Job<Data, Result>, token?: string, signal?: AbortSignal) => Promise<Result>,
    options: Omit<WorkerOptions, 'connection'>,
  ): Worker<Data, Result>;
  close(): Promise<void>;
}

const PACKAGES = 'bullmq ioredis pg pino';
const CONNECT_MS = 10_000;

/**
 * Connects, and checks that the server can keep a queue.
 * @param url `redis://`, `rediss://`, `postgres://` or `postgresql://`
 * @throws {VolsealError} `ERR_ARGUMENT` no such URL; `ERR_REQUIREMENT` a package is missing; `ERR_QUEUE_UNREACHABLE`;
 * `ERR_QUEUE_REFUSED` the server denies it, is too old, or may drop jobs
 */
export async function openBackend(url: string): Promise<Backend> {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  switch (parsed?.protocol) {
    case 'redis:':
    case 'rediss:':
      return openRedis(url, publicName(parsed));
    case 'postgres:':
    case 'postgresql:':
      return openPostgres(url, publicName(parsed));
    default:
      throw new VolsealError(
        'ERR_ARGUMENT',
        'the queue is no URL that volseal knows: expected redis://HOST:PORT or postgres://HOST/DATABASE',
      );
  }
}

function publicName(url: URL): string {
  const copy = new URL(url);
  copy.password = '';
  copy.search = '';
  return copy.href;
}

async function openRedis(url: string, name: string): Promise<Backend> {
  const [bullmq, { Redis }] = await Promise.all([loadForFleet(() => import('bullmq')), loadForFleet(() => import('ioredis'))]);
  const redis = new Redis(url, { lazyConnect: true, maxRetriesPerRequest: null, connectTimeout: CONNECT_MS, retryStrategy: () => null });
  // Errors come out of the calls; without a listener they would end the process.
  redis.on('error', () => {});
  try {
    await redis.connect();
    checkEviction(await redis.info('memory'), name);
  } catch (error) {
    redis.disconnect();
    throw refusedBy(error, name);
  }
  // From now on a server that goes away is waited for.
  redis.options.retryStrategy = (times) => Math.min(100 * times, 2_000);
  const connection = redis as unknown as ConnectionOptions;
  return {
    name,
    bullmq,
    makeQueue: (queue, options) => new bullmq.Queue(queue, { ...options, connection }),
    makeWorker: (queue, run, options) => new bullmq.Worker(queue, run as never, { ...options, connection }),
    async close() {
      redis.disconnect();
    },
  };
}

/** A Redis that may evict keys loses jobs without a word (BullMQ's guide "Going to production"). */
function checkEviction(info: string, name: string): void {
  const [, policy] = /^maxmemory_policy:(\S+)/m.exec(info) ?? [];
  if (policy === 'noeviction') return;
  throw new VolsealError('ERR_QUEUE_REFUSED', `${name}: this Redis may drop jobs when its memory is full: maxmemory-policy is ${policy}`, {
    details: { queue: name, policy: policy ?? '' },
  });
}

async function openPostgres(url: string, name: string): Promise<Backend> {
  const [bullmq, { default: pg }] = await Promise.all([loadForFleet(() => import('bullmq')), loadForFleet(() => import('pg'))]);
  const pool = new pg.Pool({
    connectionString: url,
    connectionTimeoutMillis: CONNECT_MS,
    keepAlive: true,
    max: 10,
    // BullMQ's tables have a schema of their own. A worker that is cut off in a transaction must not block the others.
    options: `-c search_path=${bullmq.DEFAULT_SCHEMA} -c idle_in_transaction_session_timeout=${CONNECT_MS} -c lock_timeout=${CONNECT_MS}`,
  });
  pool.on('error', () => {});
  try {
    const client = await pool.connect();
    try {
      await bullmq.assertSchemaCompatibility(client as never).catch(async (error: unknown) => {
        if (!(error instanceof bullmq.SchemaMigrationRequiredError)) throw error;
        await bullmq.runMigrations(client as never);
      });
    } finally {
      client.release();
    }
  } catch (error) {
    await pool.end().catch(() => {});
    throw refusedBy(error, name);
  }
  const { Queue, Worker } = bullmq.withBackend(bullmq.createPostgresBackend);
  const connection = pool as never;
  return {
    name,
    bullmq,
    makeQueue: (queue, options) => new Queue(queue, { ...options, connection }) as never,
    makeWorker: (queue, run, options) => new Worker(queue, run as never, { ...options, connection }) as never,
    close: () => pool.end(),
  };
}

/** Loads a package that only a fleet needs. @throws {VolsealError} `ERR_REQUIREMENT` it is not installed */
export async function loadForFleet<Module>(importing: () => Promise<Module>): Promise<Module> {
  try {
    return await importing();
  } catch (error) {
    const isMissing = isError(error) && /MODULE_NOT_FOUND/.test(String((error as NodeJS.ErrnoException).code));
    if (!isMissing) throw error;
    throw new VolsealError('ERR_REQUIREMENT', `a fleet needs packages that are not installed: npm install ${PACKAGES}`, {
      cause: error,
      details: { missing: PACKAGES },
    });
  }
}

const UNREACHABLE = /^(E[A-Z]+|CONNECTION_\w+|57P0[1-3]|53\d{3}|08\w{3})$/;

/** What a server or its client says, as an error of ours; never with the URL, which may hold a password. */
export function refusedBy(error: unknown, name: string): unknown {
  if (error instanceof VolsealError || !isError(error)) return error;
  const { code = '' } = error as NodeJS.ErrnoException;
  const isAway = UNREACHABLE.test(code) || /closed|timeout|terminated|ECONNREFUSED|ENOTFOUND/i.test(messageOf(error));
  const text = messageOf(error).replaceAll(/\w+:\/\/\S+/g, '...') || code;
  return isAway
    ? new VolsealError('ERR_QUEUE_UNREACHABLE', `${name}: the queue cannot be reached: ${text}`, { cause: error, details: { queue: name } })
    : new VolsealError('ERR_QUEUE_REFUSED', `${name}: the server of the queue refuses: ${text}`, {
        cause: error,
        details: { queue: name },
      });
}

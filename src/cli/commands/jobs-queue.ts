/** `volseal jobs submit`, `work`, `status`, `retry` and `cancel`: a fleet of workers on a queue. */
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command, InvalidArgumentError } from 'commander';
import { VolsealError } from '../../errors.js';
import type { FleetStatus } from '../../fleet/bullmq/queue.js';
import type { WorkerReports } from '../../fleet/bullmq/worker.js';
import type { JobSpec } from '../../fleet/spec.js';
import { isStored } from '../../stores/location.js';
import { readJobs } from '../jobs-file.js';
import {
  type Address,
  type KmsFlags,
  type Session,
  type StoreFlags,
  storeOptions,
  withJson,
  withKms,
  withMetrics,
  withStore,
} from '../options.js';
import { alignedRows, withExamples } from '../terminal/output.js';
import { humanSize } from '../terminal/sizes.js';

interface QueueFlags {
  queue?: string;
  name: string;
}

/** How often `status --watch` looks. */
const WATCH_MS = 2_000;
/** So many bad lines are named to people; the others are counted. */
const BAD_LINES_SHOWN = 20;

/** The commands; `session` is what they run with. */
export const queueCommands = (session: Session): Command[] =>
  [submitCommand, workCommand, statusCommand, retryCommand, cancelCommand].map((make) => make(session));

const withQueue = (command: Command): Command =>
  withJson(
    command
      .option('--queue <url>', 'where the queue is: redis://HOST:PORT or postgres://HOST/DATABASE (default: $VOLSEAL_QUEUE)')
      .option('--name <name>', 'which queue there', 'default'),
  );

/** @throws {VolsealError} `ERR_ARGUMENT` */
function queueOf({ queue, name }: QueueFlags): { url: string; name: string } {
  const url = queue ?? process.env.VOLSEAL_QUEUE;
  if (url === undefined || url === '')
    throw new VolsealError(
      'ERR_ARGUMENT',
      'which queue? Give --queue, or set VOLSEAL_QUEUE: redis://HOST:PORT or postgres://HOST/DATABASE',
    );
  return { url, name };
}

async function openQueue(flags: QueueFlags) {
  const { FleetQueue } = await import('../../fleet/bullmq/queue.js');
  return FleetQueue.open(queueOf(flags));
}

function submitCommand({ output }: Session): Command {
  const command = new Command('submit')
    .description('put the jobs of a file into the queue; one that is there already is not added again')
    .argument('<file>', 'jobs as JSON, one a line: {"kind":"encrypt","source":"a.raw","target":"a.vol"}')
    .option('--run <name>', 'a name for this run of the jobs: under another name the same job is done anew', 'default')
    .option('--partial', 'submit what is right although other lines are no jobs');
  withQueue(command);
  withExamples(command, [
    'volseal jobs submit jobs.jsonl --queue redis://127.0.0.1:6379',
    'echo \'{"kind":"encrypt","source":"huge.raw","target":"huge.vol","rangeSize":"1GiB"}\' > huge.jsonl',
  ]);
  return command.action(async (path: string, flags: QueueFlags & { run: string; partial?: boolean }) => {
    const { jobs, bad } = await readJobs(path);
    for (const { line, problem } of bad.slice(0, BAD_LINES_SHOWN)) output.warning(`line ${line} of ${path} is no job: ${problem}`);
    if (bad.length > 0 && flags.partial !== true) {
      const [first] = bad;
      throw new VolsealError(
        'ERR_ARGUMENT',
        `nothing was submitted: ${bad.length} of ${jobs.length + bad.length} lines of ${path} are no jobs; the first, line ${first!.line}: ${first!.problem}`,
        { details: { path, lines: bad.map(({ line, problem }) => `${line}: ${problem}`) } },
      );
    }
    await using queue = await openQueue(flags);
    const specs = jobs.map(({ spec }) => absolute(spec));
    const { added, known } = await queue.submit(specs, flags.run);
    const already = known === 0 ? '' : `; ${known} are there already`;
    output.result({ added, known, leftOut: bad }, [`submitted ${added} jobs${already}`]);
  });
}

/** Workers have other working directories. */
function absolute(spec: JobSpec): JobSpec {
  const full = (path: string): string => (isStored(path) ? path : resolve(path));
  const choices = Object.fromEntries(
    Object.entries(spec.choices ?? {}).map(([name, value]) => [
      name,
      ['header', 'newHeader', 'against'].includes(name) ? full(String(value)) : value,
    ]),
  );
  const target = 'target' in spec ? { target: full(spec.target) } : {};
  return { ...spec, source: full(spec.source), ...target, ...(spec.choices === undefined ? {} : { choices }) } as JobSpec;
}

interface WorkFlags extends QueueFlags, KmsFlags, StoreFlags {
  concurrency: number;
  lock: number;
  untilEmpty?: boolean;
  metrics?: Address;
}

function workCommand({ output, signal }: Session): Command {
  const command = new Command('work')
    .description('work on the jobs of a queue, until a signal comes; its log goes to standard error as JSON lines (pino)')
    .option('--concurrency <number>', 'jobs at once: more where images are small', countArgument, 1)
    .option('--lock <seconds>', 'a worker that gives no sign for so long has lost its jobs to others', countArgument, 30)
    .option('--until-empty', 'end when the queue is empty');
  withQueue(withMetrics(withStore(withKms(command, 'embedded, or what a header records'))));
  withExamples(command, ['volseal jobs work --queue redis://127.0.0.1:6379 --until-empty']);
  return command.action(async (flags: WorkFlags) => {
    const { kms, concurrency, lock: lockSeconds, untilEmpty } = flags;
    const queue = queueOf(flags);
    const { workJobs } = await import('../../fleet/bullmq/worker.js');
    const log = await openLog(output.quiet);
    const metrics = flags.metrics && (await (await import('../../fleet/metrics.js')).serveJobMetrics(flags.metrics));
    if (metrics !== undefined) log.info({ url: metrics.server.url }, 'metrics');
    try {
      const reports = both(logged(log), metrics?.reports);
      const options = { ...queue, kms, concurrency, lockSeconds, untilEmpty, ...storeOptions(flags), signal, reports };
      const counts = await workJobs({ ...options, onWarning: (warning) => log.warn(warning) });
      output.result(counts, [`${counts.done} jobs done, ${counts.failed} failed`]);
    } finally {
      await metrics?.server.close();
    }
  });
}

type Log = import('pino').Logger;

/** @throws {VolsealError} `ERR_REQUIREMENT` */
async function openLog(quiet: boolean): Promise<Log> {
  const { loadForFleet } = await import('../../fleet/bullmq/connection.js');
  const { pino } = await loadForFleet(() => import('pino'));
  // Written at once: the last line before a crash is the one that is needed.
  return pino({ name: 'volseal', level: quiet ? 'error' : 'info' }, pino.destination({ dest: 2, sync: true }));
}

const logged = (log: Log): WorkerReports => ({
  onStart: (job) => log.info(job, 'job begins'),
  onDone: (job, outcome) => log.info({ ...outcome, ...job }, 'job done'),
  onRanges: (job, ranges) => log.info({ ...job, ...ranges }, 'job waits for its ranges'),
  onFailed: (job, failure) => log[failure.verdict === 'interrupted' ? 'info' : 'error']({ ...job, ...failure }, 'attempt failed'),
  onTrouble: (message) => log.warn(message),
});

const both = (one: WorkerReports, other: WorkerReports = {}): WorkerReports => ({
  onStart(job) {
    one.onStart?.(job);
    other.onStart?.(job);
  },
  onDone(job, outcome) {
    one.onDone?.(job, outcome);
    other.onDone?.(job, outcome);
  },
  onRanges(job, ranges) {
    one.onRanges?.(job, ranges);
    other.onRanges?.(job, ranges);
  },
  onFailed(job, failure) {
    one.onFailed?.(job, failure);
    other.onFailed?.(job, failure);
  },
  onTrouble(message) {
    one.onTrouble?.(message);
    other.onTrouble?.(message);
  },
});

function statusCommand({ output, signal }: Session): Command {
  const command = new Command('status')
    .description('how the jobs of a queue are: counts, rate, failures by reason, time left')
    .option('--watch', 'again every two seconds, until the queue is empty or a signal comes');
  withQueue(command);
  withExamples(command, ['volseal jobs status --queue redis://127.0.0.1:6379']);
  return command.action(async (flags: QueueFlags & { watch?: boolean }) => {
    await using queue = await openQueue(flags);
    for (;;) {
      const status = await queue.status();
      output.result(status, statusLines(status));
      const { waiting, active, delayed } = status.counts;
      if (flags.watch !== true || waiting + active + delayed + status.inRanges.length === 0) return;
      await sleep(WATCH_MS, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
    }
  });
}

function statusLines({ counts, active, inRanges, failures, lastFailures, rate, secondsLeft }: FleetStatus): string[] {
  const rows: [string, string][] = Object.entries(counts).map(([state, count]) => [state, String(count)]);
  if (rate !== null) rows.push(['rate', `${rate.jobsPerSecond.toFixed(2)} jobs/s, ${humanSize(rate.bytesPerSecond)}/s`]);
  if (secondsLeft !== null && secondsLeft > 0) rows.push(['left', durationOf(secondsLeft)]);
  for (const [code, count] of Object.entries(failures)) rows.push([code, `${count} failed`]);
  const percent = (done: number, total: number): string => (total === 0 ? '' : ` ${Math.floor((100 * done) / total)} %`);
  return [
    ...alignedRows(rows),
    ...inRanges.map(({ kind, source, done, count }) => `${kind} ${source}: ${done} of ${count} ranges done`),
    ...active.map(
      ({ kind, source, range, worker, doneBytes, totalBytes }) =>
        `${worker}: ${kind} ${source}${range === undefined ? '' : ` range ${range.index + 1} of ${range.count}`}${percent(doneBytes, totalBytes)}`,
    ),
    ...lastFailures.map(({ kind, source, reason }) => `failed: ${kind} ${source}: ${reason}`),
  ];
}

function durationOf(seconds: number): string {
  const minutes = Math.ceil(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function retryCommand({ output }: Session): Command {
  const command = new Command('retry').description('give every failed job its attempts again');
  withQueue(command);
  withExamples(command, ['volseal jobs retry --queue redis://127.0.0.1:6379']);
  return command.action(async (flags: QueueFlags) => {
    await using queue = await openQueue(flags);
    const retried = await queue.retry();
    output.result({ retried }, [`${retried} jobs will be tried again`]);
  });
}

function cancelCommand({ output }: Session): Command {
  const command = new Command('cancel').description('remove the jobs that wait, and stop those that workers are at');
  withQueue(command);
  withExamples(command, ['volseal jobs cancel --queue redis://127.0.0.1:6379']);
  return command.action(async (flags: QueueFlags) => {
    await using queue = await openQueue(flags);
    const { removed, stopping } = await queue.cancel();
    output.result({ removed, stopping }, [`${removed} jobs removed, ${stopping} are told to stop`]);
  });
}

function countArgument(text: string): number {
  if (/^[1-9]\d{0,3}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Expected a number from 1 to 9999.');
}

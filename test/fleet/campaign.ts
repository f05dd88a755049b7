/**
 * A fleet under faults: workers that are killed and stopped, a network that fails, a server that dies. Afterwards every
 * job is done, every volume opens and holds its image.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, truncateSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import { MAIN } from '../built.js';
import { type Lab, lab } from '../cli/program.js';
import { requireTool } from '../interop/tools.js';
import { seededNumbers } from '../seed.js';
import { behindRelay, type Machine } from './machines.js';
import type { QueueServer } from './servers.js';

/** How the campaign is run. */
export interface Campaign {
  readonly seed: number;
  readonly jobs: number;
  readonly workers: number;
  readonly faults: number;
  /** Adds one job whose image is cut into ranges. */
  readonly inRanges?: boolean;
  /** Where each worker runs. Default: this machine, behind a relay. */
  readonly machine?: (server: QueueServer, index: number) => Promise<Machine>;
}

const IMAGE_BYTES = 16 * 1024 * 1024;
/** Two ranges, the second one short. */
const RANGED_BYTES = (256 + 64) * 1024 * 1024;
/** On a busy machine a worker may be late with a sign of life, too. */
const LOCK_SECONDS = 4;
/** Slow writes, so that faults meet jobs in their middle. */
const WRITE_DELAY_US = 500_000;

const FAULTS = ['kill', 'kill', 'stop', 'network', 'server', 'interrupt'] as const;
type Fault = (typeof FAULTS)[number];

interface Worker {
  readonly machine: Machine;
  child: ChildProcess;
}

/** Runs the campaign. @returns how often each fault was injected, and how often the workers resumed */
export async function runCampaign(
  server: QueueServer,
  { seed, jobs, workers, faults, inRanges = false, machine: place = behindRelay }: Campaign,
): Promise<Record<Fault, number>> {
  const at = lab();
  const choose = seededNumbers(seed);
  const specs = Array.from({ length: jobs }, (_, index) => {
    at.image(`${index}.raw`, IMAGE_BYTES);
    return specOf(index);
  });
  if (inRanges) {
    at.image(`${jobs}.raw`, IMAGE_BYTES);
    truncateSync(at.path(`${jobs}.raw`), RANGED_BYTES);
    specs.unshift({ ...specOf(jobs), rangeSize: '256MiB' });
  }
  writeFileSync(at.path('jobs.jsonl'), specs.map((spec) => `${JSON.stringify(spec)}\n`).join(''));
  at.ok(['kms', 'create-key']);
  const queue = ['--queue', server.url(server.port)];
  at.ok(['jobs', 'submit', 'jobs.jsonl', ...queue]);
  const log = createWriteStream(at.path('workers.log'), { flags: 'a' });
  const fleet: Worker[] = [];
  for (let index = 0; index < workers; index += 1) {
    const machine = await place(server, index);
    fleet.push({ machine, child: startWorker(at, machine, log) });
  }
  const counts = Object.fromEntries(FAULTS.map((fault) => [fault, 0])) as Record<Fault, number>;
  const inject = async (fault: Fault, worker: Worker): Promise<void> => {
    counts[fault] += 1;
    switch (fault) {
      case 'kill':
      case 'interrupt':
        await end(worker.child, fault === 'kill' ? 'SIGKILL' : 'SIGTERM');
        worker.child = startWorker(at, worker.machine, log);
        return;
      case 'stop':
        worker.child.kill('SIGSTOP');
        await sleep(1000 * LOCK_SECONDS * (1 + choose(2)));
        worker.child.kill('SIGCONT');
        return;
      case 'network':
        await worker.machine.cutOff(1000 * LOCK_SECONDS * (1 + choose(2)));
        return;
      case 'server':
        await server.restart();
    }
  };
  const unfinished = (): number => {
    const { counts, inRanges: waiting } = JSON.parse(at.ok(['jobs', 'status', '--json', ...queue]).text) as {
      counts: Record<string, number>;
      inRanges: unknown[];
    };
    assert.equal(counts.failed, 0, at.run(['jobs', 'status', ...queue]).text);
    return counts.waiting! + counts.active! + counts.delayed! + waiting.length;
  };
  for (let left = faults; left > 0 && unfinished() > 0; left -= 1) {
    await sleep(choose(1500));
    await inject(FAULTS[choose(FAULTS.length)]!, fleet[choose(fleet.length)]!);
  }
  while (unfinished() > 0) await sleep(500);
  await Promise.all(fleet.map(({ child }) => end(child, 'SIGTERM')));
  checkAll(at, specs);
  return counts;
}

interface Spec {
  kind: string;
  source: string;
  target: string;
  context: { user: string };
  rangeSize?: string;
}

const specOf = (index: number): Spec => ({
  kind: 'encrypt',
  source: `${index}.raw`,
  target: `${index}.vol`,
  context: { user: `user${index}` },
});

function startWorker(at: Lab, { url, through }: Machine, log: NodeJS.WritableStream): ChildProcess {
  const slow = ['-D', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=pwrite64', '-e', `inject=pwrite64:delay_enter=${WRITE_DELAY_US}`];
  const work = [process.execPath, MAIN, 'jobs', 'work', '--queue', url, '--lock', String(LOCK_SECONDS)];
  const [command = '', ...args] = [...through, requireTool('strace'), ...slow, ...work];
  const child = spawn(command, args, { cwd: at.directory, env: at.env, stdio: ['ignore', 'ignore', 'pipe'] });
  child.stderr!.pipe(log, { end: false });
  onTestFinished(() => void child.kill('SIGKILL'));
  return child;
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill(signal);
  await ended;
}

/** Nothing is lost, nothing is wrong, nothing stays behind; and stock cryptsetup knows the volumes. */
function checkAll(at: Lab, specs: readonly Spec[]): void {
  const ids = new Set<string>();
  for (const { source, target, context } of specs) {
    const { volumeId } = JSON.parse(at.ok(['verify', target, '--against', source, '--context', `user=${context.user}`, '--json']).text) as {
      volumeId: string;
    };
    ids.add(volumeId);
    const dumped = at.shell(`cryptsetup luksDump '${target}'`);
    assert.equal(dumped.status, 0, dumped.stderr);
  }
  assert.equal(ids.size, specs.length);
  const known = new Set([...specs.flatMap(({ source, target }) => [source, target]), 'jobs.jsonl', 'workers.log']);
  assert.deepEqual(
    at.names().filter((name) => !known.has(name)),
    [],
  );
}

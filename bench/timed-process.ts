/**
 * A program from its start to its end: seconds, CPU seconds and memory, as GNU time counts them for it and what it
 * starts.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { inOneLine } from './peers.js';

/** Not the word of that name that shells have. */
const GNU_TIME = '/usr/bin/time';

export interface Spent {
  seconds: number;
  /** User and kernel, to 10 ms. */
  cpuSeconds: number;
  /** Of the process that had most. */
  maxRssBytes: number;
  stdout: string;
}

export interface Surroundings {
  env: NodeJS.ProcessEnv;
  /** Ends the program, and what it started. */
  signal: AbortSignal;
  /** Where GNU time may write. */
  timesFile: string;
}

/** Runs `command` to its end. @throws {Error} with the program's own words where it fails */
export async function timed(command: readonly string[], { env, signal, timesFile }: Surroundings): Promise<Spent> {
  signal.throwIfAborted();
  const started = performance.now();
  // A process group of its own, so that all of it can be ended.
  const child = spawn(GNU_TIME, ['-q', '-o', timesFile, '-f', '%U %S %M', '--', ...command], {
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const end = (): void => void (child.pid !== undefined && process.kill(-child.pid, 'SIGKILL'));
  signal.addEventListener('abort', end);
  try {
    const ended = new Promise<number | null>((resolve, reject) => {
      child.once('error', () => reject(new Error(`${GNU_TIME} is not installed: run scripts/setup.sh --test`)));
      child.once('exit', resolve);
    });
    const output = Promise.all([text(child.stdout), text(child.stderr)]);
    const status = await ended;
    const seconds = (performance.now() - started) / 1000;
    const [stdout, stderr] = await output;
    signal.throwIfAborted();
    if (status !== 0) throw new Error(inOneLine(stderr) || `ended with status ${status} and no word`);
    const [user, kernel, maxRssKib] = readFileSync(timesFile, 'utf8').trim().split(' ').map(Number) as [number, number, number];
    return { seconds, cpuSeconds: user + kernel, maxRssBytes: maxRssKib * 1024, stdout };
  } finally {
    signal.removeEventListener('abort', end);
  }
}

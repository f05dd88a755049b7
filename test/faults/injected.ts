/** Runs a program of ours with system calls that fail, lie or kill it (strace's fault injection). */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { MAIN } from '../built.js';
import type { Lab, Outcome } from '../cli/program.js';
import { requireTool, skipWithout } from '../interop/tools.js';

/** Node's own file calls are all counted in one thread. */
const ONE_FILE_THREAD = { UV_THREADPOOL_SIZE: '1' };

export const skipInjection = (): string | false => skipWithout('strace');

export interface InjectedRun {
  stdout: string;
  /** What ended the program where a signal did. */
  signal: NodeJS.Signals | null;
}

/**
 * `injection` as strace writes it, `pwrite64:error=EIO:when=3`; `when` counts in each thread. `path`: calls on that
 * file alone.
 */
export function runInjected(injection: string, script: string, args: string[], path?: string): InjectedRun {
  const [syscalls] = injection.split(':') as [string];
  const only = path === undefined ? [] : ['-P', path];
  const faults = ['-f', '-qq', '-o', '/dev/null', ...only, '-e', `trace=${syscalls}`, '-e', `inject=${injection}`];
  const env = { ...process.env, ...ONE_FILE_THREAD };
  const { stdout, signal, status } = spawnSync(requireTool('strace'), [...faults, process.execPath, script, ...args], {
    encoding: 'utf8',
    env,
  });
  // strace ends as its program did; some versions say so with a status instead.
  return { stdout: stdout.trim(), signal: signal ?? (status === 137 ? 'SIGKILL' : null) };
}

/** Runs `volseal` with a fault in its calls, on the file `on` alone where that is given. */
export function faulty(at: Lab, injection: string, args: string[], on?: string): Outcome {
  const { status, stdout, stderr } = spawnSync(requireTool('strace'), faultyWords(at, injection, args, on), faultyOptions(at));
  return { status, stdout, text: stdout.toString(), stderr: stderr.toString() };
}

/** The same, without waiting for its end. */
export const startFaulty = (at: Lab, injection: string, args: string[]): ChildProcess =>
  spawn(requireTool('strace'), faultyWords(at, injection, args), faultyOptions(at));

function faultyWords(at: Lab, injection: string, args: string[], on?: string): string[] {
  const only = on === undefined ? [] : ['-P', at.path(on)];
  const faults = [...only, '-e', `trace=${injection.split(':')[0]}`, '-e', `inject=${injection}`];
  return ['-D', '-f', '-qq', '-y', '-o', at.path('trace'), ...faults, process.execPath, MAIN, ...args];
}

const faultyOptions = ({ directory, env }: Lab) => ({ cwd: directory, env: { ...env, ...ONE_FILE_THREAD } });

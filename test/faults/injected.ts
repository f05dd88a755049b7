/** Runs a program of ours with system calls that fail, lie or kill it (strace's fault injection). */
import { spawnSync } from 'node:child_process';
import { requireTool, skipWithout } from '../interop/tools.js';

export const skipInjection = (): string | false => skipWithout('strace');

export interface InjectedRun {
  stdout: string;
  /** What ended the program where a signal did. */
  signal: NodeJS.Signals | null;
}

/** `injection` as strace writes it, `pwrite64:error=EIO:when=3`; `when` counts in each thread. `path`: calls on that file alone. */
export function runInjected(injection: string, script: string, args: string[], path?: string): InjectedRun {
  const [syscalls] = injection.split(':') as [string];
  const only = path === undefined ? [] : ['-P', path];
  const faults = ['-f', '-qq', '-o', '/dev/null', ...only, '-e', `trace=${syscalls}`, '-e', `inject=${injection}`];
  const { stdout, signal, status } = spawnSync(requireTool('strace'), [...faults, process.execPath, script, ...args], { encoding: 'utf8' });
  // strace ends as its program did; some versions say so with a status instead.
  return { stdout: stdout.trim(), signal: signal ?? (status === 137 ? 'SIGKILL' : null) };
}

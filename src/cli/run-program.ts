/** Runs a shell command of the user beside an attached volume, as `attach --run` does. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { isError } from '../errors.js';

/**
 * Runs `command` with `sh -c` to its end, with this process's standard streams.
 * @param variables what it finds in its environment, besides this process's own
 * @param signal Ctrl-C reaches the command by itself; any other signal to this process is passed on
 * @returns its exit status; 128 and the signal's number where a signal ended it, as a shell says
 */
export async function runShellCommand(command: string, variables: Readonly<Record<string, string>>, signal: AbortSignal): Promise<number> {
  const child = spawn('sh', ['-c', command], { stdio: 'inherit', env: { ...process.env, ...variables } });
  const passOn = (): void => {
    const fromTerminal = isError(signal.reason) && signal.reason.message.endsWith('SIGINT');
    if (!fromTerminal) child.kill('SIGTERM');
  };
  signal.addEventListener('abort', passOn, { once: true });
  if (signal.aborted) passOn();
  const [status, by] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return by === null ? (status ?? 1) : 128 + constants.signals[by];
}

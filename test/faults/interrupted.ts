/** Runs of `volseal` that are stopped in the middle: strace makes every write slow, so that there is a middle. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import { MAIN } from '../built.js';
import { ended, type Lab } from '../cli/program.js';
import { requireTool } from '../interop/tools.js';

/** At most 8 MiB, a write of each thread, in this time: an image of 96 MiB takes longer than the first checkpoint. */
const WRITE_DELAY_US = 400_000;
export const SLOW_IMAGE_BYTES = 96 * 1024 * 1024;

/** Starts the program with slow writes; killed when the test ends. The process is the program's own, not strace's. */
export function startSlowly(at: Lab, args: string[]): ChildProcess {
  const slow = ['-D', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=pwrite64', '-e', `inject=pwrite64:delay_enter=${WRITE_DELAY_US}`];
  const child = spawn(requireTool('strace'), [...slow, process.execPath, MAIN, ...args], { cwd: at.directory, env: at.env });
  onTestFinished(() => void child.kill('SIGKILL'));
  return child;
}

/** Resolves once a file is there. @throws {Error} where `child` ends before that */
export async function untilThere(child: ChildProcess, path: string): Promise<void> {
  while (!existsSync(path)) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error(`volseal ended before it made ${path}`);
    await sleep(20);
  }
}

/** Runs the program until it has made the file `checkpoint`, then sends these signals. @returns its end */
export async function interrupted(
  at: Lab,
  args: string[],
  checkpoint: string,
  signals: readonly NodeJS.Signals[] = ['SIGKILL'],
): Promise<{ status: number | null; signal: NodeJS.Signals | null; stderr: string }> {
  const child = startSlowly(at, args);
  const end = ended(child);
  await untilThere(child, at.path(checkpoint));
  for (const signal of signals) {
    child.kill(signal);
    await sleep(50);
  }
  return end;
}

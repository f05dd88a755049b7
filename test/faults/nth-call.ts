/** Runs scripts of ours in which the nth call that changes a file fails, or kills the process (nth-call.c). */
import { spawnSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../built.js';
import { runTool, skipWithout } from '../interop/tools.js';

export const skipNthCall = (): string | false => skipWithout('gcc');

let library: string | undefined;

/** Compiled once. */
function libraryPath(): string {
  if (library !== undefined) return library;
  library = join(mkdtempSync(join(tmpdir(), 'volseal-nth-')), 'nth-call.so');
  runTool('gcc', ['-O1', '-shared', '-fPIC', '-o', library, join(ROOT, 'test/faults/nth-call.c'), '-ldl']);
  return library;
}

export interface NthCall {
  readonly at: number;
  readonly action: 'kill' | 'torn' | 'EIO' | 'ENOSPC';
  /** Part of the names of the files that count. */
  readonly name: string;
  /** Only fsync and fdatasync count. */
  readonly syncs?: boolean;
}

export interface NthOutcome {
  readonly stdout: string;
  readonly stderr: string;
  readonly killed: boolean;
  /** Whether there was an nth call. */
  readonly met: boolean;
}

/** Runs the script to its end, or to its nth call. */
export function runToNthCall(script: string, args: readonly string[], { at, action, name, syncs }: NthCall): NthOutcome {
  const env = {
    ...process.env,
    LD_PRELOAD: libraryPath(),
    NTH_AT: String(at),
    NTH_ACTION: action,
    NTH_NAME: name,
    ...(syncs ? { NTH_SYNCS: '1' } : {}),
  };
  const { stdout, stderr, signal } = spawnSync(process.execPath, [script, ...args], { encoding: 'utf8', env });
  return { stdout: stdout.trim(), stderr, killed: signal === 'SIGKILL', met: stderr.includes('nth call') };
}

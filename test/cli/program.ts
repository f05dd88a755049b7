/**
 * Runs the real program in a directory of a test's own, with its own embedded KMS and an environment that holds nothing
 * else.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { MAIN } from '../built.js';

/** Runs a program without root's powers over files and locked memory, where we are root. */
export const unprivileged: readonly string[] =
  process.getuid?.() === 0 ? ['setpriv', '--bounding-set=-dac_override,-dac_read_search,-ipc_lock'] : [];

export interface Outcome {
  status: number | null;
  stdout: Buffer;
  /** `stdout` as text. */
  text: string;
  stderr: string;
}

export interface RunOptions {
  input?: string | Buffer;
  env?: Record<string, string>;
  /** A command line that runs the program's: `unprivileged`, for instance. */
  through?: readonly string[];
}

export interface Lab {
  directory: string;
  env: Record<string, string>;
  path(name: string): string;
  /** Writes random bytes and gives them. */
  image(name: string, bytes: number): Buffer;
  contents(name: string): Buffer;
  /** Names in the directory, hidden ones too, without the KMS's own. */
  names(): string[];
  /** Runs `volseal` with these arguments to its end. */
  run(args: string[], options?: RunOptions): Outcome;
  /** The same where it must succeed. @throws {Error} with its output */
  ok(args: string[], options?: RunOptions): Outcome;
  /** Starts `volseal`, with more in its environment where that is given; killed when the test ends. */
  start(args: string[], env?: Record<string, string>): ChildProcess;
  /** Runs a shell line in which `volseal` is the program. */
  shell(line: string): Outcome;
}

/** A directory whose name holds a space; removed when the test ends. @param parent where it is made */
export const lab = (parent = tmpdir()): Lab => labIn(mkdtempSync(join(parent, 'volseal cli ')));

/** The same for a directory that exists. */
export function labIn(directory: string): Lab {
  const children: ChildProcess[] = [];
  const path = (name: string): string => join(directory, name);
  const bin = mkdtempSync(path('.bin-'));
  const runtime = join(bin, 'run');
  mkdirSync(runtime, { mode: 0o700 });
  onTestFinished(() => {
    for (const child of children) child.kill('SIGKILL');
    for (const pid of servingProcesses(runtime)) killIfThere(pid);
    rmSync(directory, { recursive: true, force: true });
  });
  writeFileSync(join(bin, 'volseal'), `#!/bin/sh\nexec '${process.execPath}' '${MAIN}' "$@"\n`);
  chmodSync(join(bin, 'volseal'), 0o755);
  const env = {
    PATH: `${bin}:${process.env.PATH}`,
    HOME: directory,
    VOLSEAL_HOME: path('home'),
    XDG_RUNTIME_DIR: runtime,
    LC_ALL: 'C.UTF-8',
  };
  const finish = (command: string, args: string[], options: RunOptions): Outcome => {
    const { status, stdout, stderr, error } = spawnSync(command, args, {
      cwd: directory,
      env: { ...env, ...options.env },
      input: options.input ?? '',
      maxBuffer: 256 * 1024 * 1024,
      timeout: 300_000,
    });
    if (error !== undefined) throw error;
    return { status, stdout, text: stdout.toString(), stderr: stderr.toString() };
  };
  const run = (args: string[], options: RunOptions = {}): Outcome => {
    const [command = '', ...rest] = [...(options.through ?? []), process.execPath, MAIN, ...args];
    return finish(command, rest, options);
  };
  return {
    directory,
    env,
    path,
    image(name, bytes) {
      const contents = randomBytes(bytes);
      writeFileSync(path(name), contents);
      return contents;
    },
    contents: (name) => readFileSync(path(name)),
    names: () =>
      readdirSync(directory)
        .filter((name) => name !== 'home' && !name.startsWith('.bin-'))
        .sort(),
    run,
    ok(args, options = {}) {
      const outcome = run(args, options);
      if (outcome.status !== 0) throw new Error(`volseal ${args.join(' ')} ended with ${outcome.status}\n${outcome.stderr}`);
      return outcome;
    },
    start(args, more = {}) {
      const child = spawn(process.execPath, [MAIN, ...args], { cwd: directory, env: { ...env, ...more } });
      children.push(child);
      return child;
    },
    shell: (line) => finish('sh', ['-c', line], {}),
  };
}

/** The processes that serve the volumes attached in a runtime directory. */
function servingProcesses(runtime: string): number[] {
  const records = existsSync(join(runtime, 'volseal'))
    ? readdirSync(join(runtime, 'volseal')).filter((name) => name.endsWith('.json'))
    : [];
  return records.map((name) => (JSON.parse(readFileSync(join(runtime, 'volseal', name), 'utf8')) as { pid: number }).pid);
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Why this user cannot mount a small file system, or make a block device of a file; false where it can. */
export const rootRefused = (): string | false => (process.getuid?.() === 0 ? false : 'only root can mount and make loop devices');

/** The exit status and signal of a child, once its output has ended. */
export function ended(child: ChildProcess): Promise<{ status: number | null; signal: NodeJS.Signals | null; stderr: string }> {
  let stderr = '';
  child.stderr?.on('data', (chunk) => {
    stderr += chunk;
  });
  return new Promise((resolve) => child.on('close', (status, signal) => resolve({ status, signal, stderr })));
}

/**
 * Resolves with what a stream of a child has said once it holds a whole line. @throws {Error} where the child ends
 * before that
 */
export function firstLine(child: ChildProcess, stream: 'stdout' | 'stderr'): Promise<string> {
  let text = '';
  return new Promise((resolve, reject) => {
    child[stream]!.on('data', (chunk) => {
      text += chunk;
      if (text.includes('\n')) resolve(text.slice(0, text.indexOf('\n')));
    });
    child.on('close', (status) => reject(new Error(`volseal ended with ${status} before it said a line`)));
  });
}

/** The one JSON object that a text must be. */
export const parsed = (text: string): Record<string, unknown> => JSON.parse(text) as Record<string, unknown>;

/** The error that `--json` left on standard error. */
export function failureOf({ stderr }: Outcome): { code: string; message: string; hint: string | null; details: Record<string, unknown> } {
  return (JSON.parse(stderr) as { error: ReturnType<typeof failureOf> }).error;
}

/** Before all tests: builds what only exists built, and keeps the tests away from the user's own keys and records. */
import { type ChildProcess, execFileSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { subscribe } from 'node:diagnostics_channel';
import { appendFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from './built.js';

const REPORTS = join(ROOT, 'build/reports');

/** Vitest says that a process of tests has ended by itself, and not how: a file says it (.ci/totals.mjs prints it). */
function recordLostProcesses(): void {
  subscribe('child_process', (message) => {
    const { process: child } = message as { process: ChildProcess };
    child.once('exit', (status, signal) => {
      if (child.killed) return;
      mkdirSync(REPORTS, { recursive: true });
      appendFileSync(join(REPORTS, 'lost-processes.txt'), `${child.spawnargs.at(-1)} ended by itself: ${signal ?? status}\n`);
    });
  });
}

/** Builds if need be. @returns what cleans up after the last test */
export default function setUp(): () => void {
  execFileSync(process.execPath, ['scripts/build-if-needed.mjs', '--no-types'], { cwd: ROOT, stdio: 'inherit' });
  // A control of the sanitizers ends its process on purpose.
  if (process.env.FAULT === undefined) recordLostProcesses();
  const dataHome = mkdtempSync(join(tmpdir(), 'volseal-data-'));
  process.env.XDG_DATA_HOME = dataHome;
  // The SDK's advice on Node's version is for its users.
  process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = 'true';
  process.env.VOLSEAL_TEST_SEED ??= String(randomInt(2 ** 31));
  const seed = `seed of this run: VOLSEAL_TEST_SEED=${process.env.VOLSEAL_TEST_SEED}`;
  console.log(seed);
  return () => {
    rmSync(dataHome, { recursive: true, force: true });
    console.log(seed);
  };
}

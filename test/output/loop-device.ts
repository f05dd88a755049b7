/** Block devices made of files, for tests on devices as targets. */
import { spawnSync } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import { onTestFinished } from 'vitest';
import { rootRefused } from '../cli/program.js';
import { runTool, skipWithout } from '../interop/tools.js';

/** For a test's `skip` option: why there are no loop devices here; CI never skips. @throws {Error} the same reason in CI */
export function skipWithoutLoop(): string | false {
  const reason = rootRefused() || skipWithout('losetup') || noFreeDevice();
  if (reason !== false && process.env.CI) throw new Error(reason);
  return reason;
}

function noFreeDevice(): string | false {
  const { status, stderr } = spawnSync('losetup', ['--find'], { encoding: 'utf8' });
  return status === 0 ? false : `no loop device is free: ${stderr.trim()}`;
}

/** A device over a file that holds nothing but `fill`; gone when the test ends. @returns its path */
export function loopDevice(backing: string, bytes: number, fill = 0): string {
  if (fill === 0) {
    writeFileSync(backing, '');
    truncateSync(backing, bytes);
  } else {
    writeFileSync(backing, Buffer.alloc(bytes, fill));
  }
  const device = runTool('losetup', ['--find', '--show', backing]).trim();
  onTestFinished(() => void spawnSync('losetup', ['--detach', device]));
  return device;
}

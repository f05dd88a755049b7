/** Block devices made of files, for tests on devices as targets. */
import { spawnSync } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import { onTestFinished } from 'vitest';
import { rootRefused } from '../cli/program.js';
import { runTool, skipFor, skipWithout } from '../interop/tools.js';

/** Why a test that needs a loop device is skipped; false where one can be made. @throws {Error} as `skipFor` */
export function skipWithoutLoop(): string | false {
  const reason = rootRefused() || skipWithout('losetup') || noFreeDevice();
  return reason !== false && skipFor(reason);
}

function noFreeDevice(): string | false {
  const { status, stderr } = spawnSync('losetup', ['--find'], { encoding: 'utf8' });
  return status !== 0 && `no loop device is free: ${stderr.trim()}`;
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

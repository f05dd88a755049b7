/** Small disks for tests: file systems in memory, mounted for the time of a test. */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { onTestFinished } from 'vitest';
import { rootRefused } from './cli/program.js';
import { runTool, skipFor, tryTool } from './interop/tools.js';

/**
 * Why a test that mounts a file system is skipped: not root, or a container that may not mount. @throws {Error} as
 * `skipFor`
 */
export function skipWithoutMount(): string | false {
  const reason = rootRefused();
  if (reason !== false) return skipFor(reason);
  // In a mount namespace of its own, so that nothing stays.
  const { status, stderr } = tryTool('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'tmpfs', '/tmp']);
  return status !== 0 && skipFor(`no file system can be mounted: ${stderr.trim()}`);
}

/**
 * Makes a directory and mounts an empty disk of this size on it, in memory, until the test ends. @returns what changes
 * its options
 */
export function smallDisk(directory: string, bytes: number): (options: string) => void {
  mkdirSync(directory);
  runTool('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', directory]);
  onTestFinished(() => void spawnSync('umount', [directory]));
  return (options) => void runTool('mount', ['-o', `remount,${options}`, directory]);
}

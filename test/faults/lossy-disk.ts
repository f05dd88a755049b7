/**
 * A disk whose power is cut: an ext4 in a file on a loop device. A copy of that file has nothing that was not flushed.
 */
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { runTool, skipWithout } from '../interop/tools.js';
import { skipWithoutLoop } from '../output/loop-device.js';
import { skipInjection } from './injected.js';

/** Why the power of no disk can be cut here; false where it can. */
export const skipPowerCut = (): string | false => skipInjection() || skipWithoutLoop() || skipWithout('mkfs.ext4');

export class LossyDisk {
  /** The mounted file system. */
  readonly path: string;
  readonly #directory: string;

  /** Mounted until the test ends. */
  constructor(bytes: number) {
    this.#directory = mkdtempSync(join(tmpdir(), 'volseal-disk-'));
    onTestFinished(() => rmSync(this.#directory, { recursive: true, force: true }));
    const backing = join(this.#directory, 'disk');
    writeFileSync(backing, '');
    truncateSync(backing, bytes);
    runTool('mkfs.ext4', ['-q', '-F', backing]);
    this.path = this.#mount(backing, 'live');
    onTestFinished(() => void runTool('umount', [this.path]));
  }

  /** Runs `check` with what a power cut now would leave, mounted at another path: the journal is replayed. */
  async afterPowerCut<Result>(check: (path: string) => Result | Promise<Result>): Promise<Result> {
    const copy = join(this.#directory, 'copy');
    runTool('cp', ['--sparse=always', join(this.#directory, 'disk'), copy]);
    const path = this.#mount(copy, 'after');
    try {
      return await check(path);
    } finally {
      runTool('umount', [path]);
    }
  }

  #mount(backing: string, name: string): string {
    const path = join(this.#directory, name);
    mkdirSync(path, { recursive: true });
    runTool('mount', ['-o', 'loop', backing, path]);
    return path;
  }
}

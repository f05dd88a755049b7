/** A folder of its own for a test, with an embedded KMS in it, and images to encrypt. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

export interface Sandbox {
  folder: string;
  /** The `kms` option for the embedded KMS of this folder. */
  kms: string;
  /** A path in the folder. */
  path(name: string): string;
  /** Writes an image of random bytes and gives its contents. */
  image(name: string, bytes: number): Buffer;
  contents(name: string): Buffer;
}

/** Removed when the test ends. `parent` chooses the file system: a disk for O_DIRECT, tmpfs without. */
export function sandbox(test: Pick<TestContext, 'after'>, parent: string = tmpdir()): Sandbox {
  const folder = mkdtempSync(join(parent, 'volseal test '));
  test.after(() => rmSync(folder, { recursive: true, force: true }));
  const path = (name: string): string => join(folder, name);
  return {
    folder,
    kms: `embedded:${path('home')}`,
    path,
    image(name, bytes) {
      const contents = randomBytes(bytes);
      writeFileSync(path(name), contents);
      return contents;
    },
    contents: (name) => readFileSync(path(name)),
  };
}

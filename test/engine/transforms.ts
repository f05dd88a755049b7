/** Runs transforms of the addon in this thread, on files of a test's own directory. */
import { randomBytes } from 'node:crypto';
import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type KeyHandle, native, type TransformFile, type TransformHandle, type TransformOptions } from '../../src/native.js';

export const MIB = 1024 * 1024;

/** File systems to test on: a disk (O_DIRECT) and memory (buffered only). */
export const DIRECTORIES = [tmpdir(), '/dev/shm'];

export interface Workbench {
  key: KeyHandle;
  /** The same key for the reference. */
  keyBytes: Buffer;
  /** An open file of the directory, with these contents, or of this length and empty. */
  file(name: string, contents: Buffer | number): number;
  contents(name: string): Buffer;
  /** Bytes that the file takes on the disk. */
  allocatedBytes(name: string): number;
}

/** Removed when the test ends. */
export function workbench(parent: string): Workbench {
  const directory = mkdtempSync(join(parent, 'volseal transform '));
  const keyBytes = randomBytes(64);
  const key = native.keyImportBase64(Buffer.from(keyBytes.toString('base64')));
  native.xtsPrepare(key);
  const files: number[] = [];
  onTestFinished(() => {
    native.keyWipe(key);
    for (const fd of files) closeSync(fd);
    rmSync(directory, { recursive: true });
  });
  return {
    key,
    keyBytes,
    file(name, contents) {
      const fd = openSync(join(directory, name), 'w+');
      files.push(fd);
      if (typeof contents === 'number') ftruncateSync(fd, contents);
      else for (let written = 0; written < contents.length; ) written += writeSync(fd, contents, written);
      return fd;
    },
    contents: (name) => readFileSync(join(directory, name)),
    allocatedBytes: (name) => statSync(join(directory, name)).blocks * 512,
  };
}

/** What most transforms have in common. */
export const PLAIN = { startByte: 0, digest: false };

/** A file that holds an image, or a volume's data, from its first byte on. */
export const fileSide = (fd: number, sizeBytes: number, more: Partial<TransformFile> = {}): TransformFile => ({
  ...{ kind: 'file', fd, offsetBytes: 0, sizeBytes, sparse: false },
  ...more,
});

/** Opens a transform, runs it to its end with four threads, and closes it. @param use looks at it in between */
export function runTransform<T>(options: TransformOptions, use: (transform: TransformHandle) => T): T {
  const transform = native.transformOpen(options);
  try {
    while (native.transformRun(transform, 4, 20));
    return use(transform);
  } finally {
    native.transformClose(transform);
  }
}

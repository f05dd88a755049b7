/** The files that contenders read, and the state in which they find them. */
import { execFileSync } from 'node:child_process';
import { createCipheriv } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, ftruncateSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Surroundings, timed } from './timed-process.js';

const MIB = 1024 * 1024;
export const VOLSEAL = fileURLToPath(new URL('../program/main.js', import.meta.url));

export interface ImageFiles {
  /** Holds the image, volumes of it, and what contenders make. */
  directory: string;
  image: string;
  imageBytes: number;
  /** Where the image holds bytes; elsewhere it has holes. */
  dataBytes: number;
  surroundings: Surroundings;
}

/** How a volume is that is there to be decrypted. */
export interface KeptVolume {
  sectorBytes: number;
  isSparse: boolean;
}

/**
 * Makes the directory with the image, which then is on the disk: pieces of 1 MiB, spread evenly where they do not fill
 * it.
 */
export function makeImage({ directory, image, imageBytes, dataBytes }: ImageFiles): void {
  mkdirSync(directory);
  const file = openSync(image, 'wx');
  try {
    ftruncateSync(file, imageBytes);
    // Deterministic, does not compress, and comes faster than random numbers.
    const keystream = createCipheriv('aes-256-ctr', Buffer.alloc(32), Buffer.alloc(16));
    const zeros = Buffer.alloc(MIB);
    const pieces = dataBytes / MIB;
    for (let piece = 0; piece < pieces; piece++) {
      writeSync(file, keystream.update(zeros), 0, MIB, Math.floor(((imageBytes / MIB) * piece) / pieces) * MIB);
    }
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** A volume of the image, made when it is first asked for. @throws {Error} volseal's words */
export async function keptVolume({ directory, image, surroundings }: ImageFiles, { sectorBytes, isSparse }: KeptVolume): Promise<void> {
  const path = keptPath(directory, { sectorBytes, isSparse });
  if (existsSync(path)) return;
  const words = ['encrypt', image, path, '--json', '--sector-size', String(sectorBytes), ...(isSparse ? ['--sparse'] : [])];
  await timed([process.execPath, VOLSEAL, ...words], surroundings);
}

export const keptPath = (directory: string, { sectorBytes, isSparse }: KeptVolume): string =>
  join(directory, `volume-${sectorBytes}${isSparse ? '-sparse' : ''}`);

/** Leaves nothing that waits to be written, and a file in the page cache or out of it. Holes are not read. */
export function settle({ directory }: ImageFiles, source: string | undefined, state: 'warm' | 'cold'): void {
  run('sync', '--file-system', directory);
  if (source === undefined) return;
  if (state === 'cold') run('dd', `if=${source}`, 'iflag=nocache', 'count=0', 'status=none');
  else run('cp', '--sparse=always', '--reflink=never', source, '/dev/null');
}

/** What the files of a directory lie on. */
export const fileSystemOf = (directory: string): string =>
  run('findmnt', '--noheadings', '--output', 'FSTYPE', '--target', directory).trim();

function run(program: string, ...words: string[]): string {
  return execFileSync(program, words, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' });
}

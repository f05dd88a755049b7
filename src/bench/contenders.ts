/**
 * What a benchmark of the cipher lets compete: the kernels, the limits they are held against, copies, node:crypto,
 * single calls.
 */
import { VolsealError } from '../errors.js';
import { type KernelInfo, type KeyHandle, native } from '../native.js';
import type { Absence, Subject } from './measurement.js';
import { ciphertextOf, transformSectors } from './node-crypto.js';
import { publicKeyObject } from './public-key.js';
import { type Contender, inThread } from './sampling.js';

/** The two sizes that disks have. */
export const MEASURED_SECTOR_SIZES = [512, 4096] as const;
export const DIRECTIONS = ['encrypt', 'decrypt'] as const;

/** Enough that the loop over it is all the time there is; 1 MiB as the buffers that it is compared with. */
const LIMIT_BYTES = 1024 * 1024;

/**
 * Two buffers of each size, written, so that every page is there. What is in them does not matter to AES instructions.
 */
export interface Buffers {
  pair(byteLength: number): { source: Buffer; target: Buffer };
}

/** Where contenders work: one key, shared buffers, one length of turns. */
export interface Workbench {
  key: KeyHandle;
  buffers: Buffers;
  turnMs: number;
}

/** A buffer and how it is used. */
export interface Layout {
  bufferBytes: number;
  inPlace: boolean;
}

export interface Field {
  contenders: Contender[];
  absent: Absence[];
}

const PAGE_BYTES = 4096;

/** Buffers that begin with a page, as the engine's do, each size apart from the others. */
export function makeBuffers(): Buffers {
  const pairs = new Map<number, { source: Buffer; target: Buffer }>();
  return {
    pair(byteLength) {
      let pair = pairs.get(byteLength);
      if (pair === undefined) {
        pair = { source: filled(byteLength, 0x5a), target: filled(byteLength, 0xa5) };
        pairs.set(byteLength, pair);
      }
      return pair;
    },
  };
}

/** `byteLength` bytes that begin `behindPage` bytes behind the beginning of a page. */
function filled(byteLength: number, byte: number, behindPage = 0): Buffer {
  const room = Buffer.allocUnsafeSlow(byteLength + 2 * PAGE_BYTES);
  const start = PAGE_BYTES - native.pageOffset(room) + behindPage;
  return room.subarray(start, start + byteLength).fill(byte);
}

/**
 * One kernel over whole buffers, one call each, in each of `layouts`, for both sector sizes and directions. Its turns
 * leave it in force for the process: to name it in each call would cost 75 ns, 4 % of a call of 64 KiB, that no user
 * pays.
 */
export function kernelField(bench: Workbench, { name: kernel }: KernelInfo, layouts: readonly Layout[]): Contender[] {
  return layouts.flatMap(({ bufferBytes, inPlace }) =>
    sectorsAndDirections().map(({ sectorBytes, direction }) => {
      const { source, target } = bench.buffers.pair(bufferBytes);
      const into = inPlace ? source : target;
      const encrypt = direction === 'encrypt';
      const subject: Subject = { name: 'xts', kernel, direction, sectorBytes, bufferBytes, inPlace };
      const run = () => native.xtsTransform(bench.key, encrypt, sectorBytes, 0, source, into);
      return inThread(subject, bufferBytes, bench.turnMs, run, () => native.xtsUseKernel(kernel));
    }),
  );
}

/** Where Node puts its own large Buffers, behind a page: there each vector of 512 bits lies across two cache lines. */
const NODE_BUFFER_OFFSET = 16;

/** The kernel on 1 MiB in place where a user's own Buffer lies. */
export function nodeBufferField(bench: Workbench, { name: kernel }: KernelInfo): Contender[] {
  const bufferBytes = 1024 * 1024;
  const buffer = filled(bufferBytes, 0x5a, NODE_BUFFER_OFFSET);
  return sectorsAndDirections().map(({ sectorBytes, direction }) => {
    const encrypt = direction === 'encrypt';
    const subject: Subject = { name: 'xts, Node Buffer', kernel, direction, sectorBytes, bufferBytes, inPlace: true };
    const run = () => native.xtsTransform(bench.key, encrypt, sectorBytes, 0, buffer);
    return inThread(subject, bufferBytes, bench.turnMs, run, () => native.xtsUseKernel(kernel));
  });
}

/** `reason` said of each thing that `kernelField` would measure. */
export const absentField = (base: Partial<Subject>, layouts: readonly Layout[], reason: string): Absence[] =>
  layouts.flatMap((layout) => sectorsAndDirections().map((rest) => ({ ...NOTHING, ...base, ...layout, ...rest, reason })));

/** The AES rounds alone in the kernel's vectors; none for a kernel without AES instructions. */
export function limitField(bench: Workbench, { name: kernel }: KernelInfo): Contender[] {
  if (!hasAesInstructions(kernel)) return [];
  return [inThread({ ...NOTHING, name: 'limit', kernel }, LIMIT_BYTES, bench.turnMs, () => native.xtsRoundsOnly(kernel, LIMIT_BYTES))];
}

/** memcpy from buffer to buffer. */
export function memcpyField(bench: Workbench, bufferBytes: number): Contender[] {
  const { source, target } = bench.buffers.pair(bufferBytes);
  const subject = { ...NOTHING, name: 'memcpy', bufferBytes, inPlace: false };
  return [inThread(subject, bufferBytes, bench.turnMs, () => native.copyBytes(source, target))];
}

/** A copy with the kernel's stores past the caches; none for a kernel that has no such stores. */
export function streamCopyField(bench: Workbench, { name: kernel }: KernelInfo, bufferBytes: number): Contender[] {
  if (!hasStreamStores(kernel)) return [];
  const { source, target } = bench.buffers.pair(bufferBytes);
  const subject = { ...NOTHING, name: 'streamCopy', kernel, bufferBytes, inPlace: false };
  return [inThread(subject, bufferBytes, bench.turnMs, () => native.streamCopy(kernel, source, target))];
}

/**
 * What one call into the addon costs with this kernel, from a sector to 1 MiB, in place. It stays in force, as above.
 */
export function callField(bench: Workbench, { name: kernel }: KernelInfo): Contender[] {
  const sizes = [512, 4096, 64 * 1024, 1024 * 1024];
  return sizes.flatMap((bufferBytes) =>
    MEASURED_SECTOR_SIZES.filter((sectorBytes) => sectorBytes <= bufferBytes).map((sectorBytes) => {
      const { source } = bench.buffers.pair(bufferBytes);
      const subject: Subject = { name: 'call', kernel, direction: 'encrypt', sectorBytes, bufferBytes, inPlace: true };
      const run = () => native.xtsTransform(bench.key, true, sectorBytes, 0, source);
      return inThread(subject, bufferBytes, bench.turnMs, run, () => native.xtsUseKernel(kernel));
    }),
  );
}

/** A turn of node:crypto is longer, so that the collection of the objects it leaves falls into each one. */
const GARBAGE_TURNS = 4;

/** node:crypto, one cipher object a sector; its output is a new Buffer for each. */
export function nodeCryptoField(bench: Workbench, bufferSizes: readonly number[]): Contender[] {
  const key = publicKeyObject();
  return bufferSizes.flatMap((bufferBytes) =>
    sectorsAndDirections().map(({ sectorBytes, direction }) => {
      const { source } = bench.buffers.pair(bufferBytes);
      const encrypt = direction === 'encrypt';
      const subject: Subject = { name: 'node:crypto', kernel: null, direction, sectorBytes, bufferBytes, inPlace: false };
      return inThread(subject, bufferBytes, bench.turnMs * GARBAGE_TURNS, () => transformSectors(key, encrypt, source, sectorBytes));
    }),
  );
}

/**
 * Encrypts and decrypts with `transform` and compares with node:crypto: the speed of wrong bytes is worth nothing.
 *
 * @param what who is judged, for the message
 * @param transform from `source` to `target`, sectors from 0 on, under the public key
 * @throws {VolsealError} `ERR_SELF_TEST`
 */
export function judgeBytes(what: string, transform: (encrypt: boolean, source: Buffer, target: Buffer, sectorBytes: number) => void): void {
  const key = publicKeyObject();
  const plaintext = Buffer.alloc(64 * 1024, 'The quick brown fox jumps over the lazy dog. ');
  const target = Buffer.alloc(plaintext.length);
  for (const sectorBytes of MEASURED_SECTOR_SIZES) {
    const expected = ciphertextOf(key, plaintext, sectorBytes);
    for (const [encrypt, source, wanted] of [
      [true, plaintext, expected],
      [false, expected, plaintext],
    ] as const) {
      transform(encrypt, source, target, sectorBytes);
      if (!target.equals(wanted)) {
        const direction = encrypt ? 'encrypts' : 'decrypts';
        throw new VolsealError(
          'ERR_SELF_TEST',
          `${what} ${direction} sectors of ${sectorBytes} bytes to other bytes than node:crypto does`,
        );
      }
    }
  }
}

/** Subjects begin as this. */
const NOTHING: Subject = { name: '', kernel: null, direction: null, sectorBytes: null, bufferBytes: null, inPlace: null };

const sectorsAndDirections = () =>
  MEASURED_SECTOR_SIZES.flatMap((sectorBytes) => DIRECTIONS.map((direction) => ({ sectorBytes, direction })));

const hasAesInstructions = (kernel: string): boolean => !isRefused(() => native.xtsRoundsOnly(kernel, 1024));

const hasStreamStores = (kernel: string): boolean =>
  !isRefused(() => native.streamCopy(kernel, Buffer.allocUnsafeSlow(4096), Buffer.allocUnsafeSlow(4096)));

function isRefused(call: () => void): boolean {
  try {
    call();
    return false;
  } catch (error) {
    if (error instanceof VolsealError && error.code === 'ERR_ARGUMENT') return true;
    throw error;
  }
}

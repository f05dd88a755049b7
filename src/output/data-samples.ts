/**
 * Which data belongs to a detached header: digests of a few sectors of ciphertext, which the header records. They tell
 * without a key, and stock tools neither see nor disturb them. Data that was overwritten since no longer matches; one
 * sector that still does is proof enough. docs/decisions/0050-data-samples.md says why it is this.
 */
import { createHash } from 'node:crypto';

/** What is needed of what has the data. */
export interface SampledFile {
  /** Up to `bytesMax` bytes from `offsetBytes` on. */
  read(offsetBytes: number, bytesMax: number): Promise<Buffer>;
}

/** Where the data is in its file. */
export interface SampledData {
  readonly offsetBytes: number;
  readonly sectorBytes: number;
}

/** By byte offset in the data, in decimal digits: the first 16 bytes of the SHA-256 of that sector, in base64. */
export type DataSamples = Readonly<Record<string, string>>;

/** So many sectors are recorded, fewer where there is less data. */
const SAMPLES_MAX = 8;
const DIGEST_BYTES = 16;

/** A run of bytes of the data. */
export interface DataRun {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** `count` positions, evenly spread over the runs from their first to their last byte. */
export function spreadOver(runs: readonly DataRun[], count: number): number[] {
  const total = runs.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
  if (total === 0) return [];
  return Array.from({ length: count }, (_, index) => {
    let rest = Math.floor((index * (total - 1)) / Math.max(count - 1, 1));
    const run = runs.find(({ lengthBytes }) => {
      if (rest < lengthBytes) return true;
      rest -= lengthBytes;
      return false;
    })!;
    return run.offsetBytes + rest;
  });
}

/**
 * Samples of the data in these runs, which must be on the disk or in the page cache. Sectors of zeros are holes, not
 * ciphertext, and say nothing.
 * @returns undefined where there is no data @throws {VolsealError} `ERR_IO`
 */
export async function takeSamples(file: SampledFile, data: SampledData, runs: readonly DataRun[]): Promise<DataSamples | undefined> {
  const sectors = new Set(spreadOver(runs, SAMPLES_MAX).map((at) => at - (at % data.sectorBytes)));
  const samples: Record<string, string> = {};
  for (const at of sectors) {
    const digest = await digestAt(file, data, at);
    if (digest !== undefined) samples[String(at)] = digest;
  }
  return Object.keys(samples).length === 0 ? undefined : samples;
}

/** How many of the samples the data still has. @throws {VolsealError} `ERR_IO` */
export async function countMatches(file: SampledFile, data: SampledData, samples: DataSamples): Promise<number> {
  const found = await Promise.all(Object.entries(samples).map(async ([at, digest]) => (await digestAt(file, data, Number(at))) === digest));
  return found.filter(Boolean).length;
}

async function digestAt(file: SampledFile, { offsetBytes, sectorBytes }: SampledData, at: number): Promise<string | undefined> {
  const sector = await file.read(offsetBytes + at, sectorBytes);
  return sector.length < sectorBytes ? undefined : digestOf(sector);
}

function digestOf(sector: Uint8Array): string | undefined {
  if (sector.every((byte) => byte === 0)) return undefined;
  return createHash('sha256').update(sector).digest().subarray(0, DIGEST_BYTES).toString('base64');
}

/** Samples of data that goes by, all of it, in pieces of whole sectors, in any order: its length need not be known. */
export class PassingSamples {
  readonly #sectorBytes: number;
  readonly #found = new Map<number, string>();

  constructor(sectorBytes: number) {
    this.#sectorBytes = sectorBytes;
  }

  /** @param offsetBytes of the piece in the data */
  see(offsetBytes: number, piece: Uint8Array): void {
    for (const position of spreadOver([{ offsetBytes: 0, lengthBytes: piece.length }], SAMPLES_MAX)) {
      const at = position - (position % this.#sectorBytes);
      const digest = digestOf(piece.subarray(at, at + this.#sectorBytes));
      if (digest !== undefined) this.#found.set(offsetBytes + at, digest);
    }
  }

  /** Some of what was seen, evenly spread; undefined where there was no data. */
  get samples(): DataSamples | undefined {
    const all = [...this.#found].sort(([one], [other]) => one - other);
    if (all.length === 0) return undefined;
    const chosen = new Set(spreadOver([{ offsetBytes: 0, lengthBytes: all.length }], SAMPLES_MAX));
    return Object.fromEntries([...chosen].map((index) => [String(all[index]![0]), all[index]![1]]));
  }
}

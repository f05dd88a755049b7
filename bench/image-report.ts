/** What the benchmark of whole images reports: one object a measurement, the limits it is held against included. */
import type { Machine } from '../src/bench/measurement.js';

/**
 * What a measurement is of.
 * - `warm`: the source lies in the page cache, the target is new and is on the disk at the end
 * - `cold`: as `warm`, but the source is on the disk only
 * - `cached`: the source lies in the page cache, the target exists already, and nobody waits for the disk
 * - `sparse`: an image of holes with a little data, its source in the page cache, the target new and on the disk at the
 *   end
 * - `start`: what a command costs that has next to nothing to do
 * - `newKey`: as `warm`, and the volumes that are made differ in their source: an image, or a volume under another key
 * - `inPlace`: the source is on the disk only, and is overwritten with what is made of it
 */
export type Scene = 'warm' | 'cold' | 'cached' | 'sparse' | 'start' | 'newKey' | 'inPlace';

export interface ImageSubject {
  scene: Scene;
  /** A program as people call it, with what matters of its options. */
  name: string;
  /** Null where the contender knows no sectors. */
  sectorBytes: number | null;
  /** Length of the image, holes included. */
  imageBytes: number;
}

export interface ImageMeasurement extends ImageSubject {
  /** How many counted; those to warm up are not among them. */
  rounds: number;
  /** From the start of the process to its end; of fio the time that it moved data, by its own clock. */
  seconds: { median: number; min: number; max: number };
  /** 10^9 bytes of the image a second, by the median; null in the scenes `sparse` and `start`. */
  gbps: number | null;
  /**
   * The same by the program's own clock, which runs from the first byte to the last one on the disk; null where it has
   * none.
   */
  dataGbps: number | null;
  /**
   * Who this is held against, of the same scene (fio's writing: of `warm`), size and, where it knows one, sector size;
   * null where nobody is.
   */
  limit: string | null;
  /** `gbps` as a share of the limit's. */
  ratio: number | null;
  /** `dataGbps` as a share of the limit's `gbps`; where volseal is held against itself, of its `dataGbps`. */
  dataRatio: number | null;
  /** Of user and kernel, all processes of the contender together; the median. */
  cpuSeconds: number;
  /** Most resident memory in any round, of the contender's largest process. */
  maxRssBytes: number;
  /** What the target of the last round occupied on the disk; null where there is none. */
  allocatedBytes: number | null;
}

/** What could not be measured, and why: never a number. */
export interface ImageAbsence extends ImageSubject {
  reason: string;
}

export interface ImageReport {
  benchmark: 'image' | 'reencrypt';
  /** When the run began, ISO 8601. */
  date: string;
  machine: Machine;
  /** `process.version`. */
  node: string;
  /** With "-dirty" where the work tree has changes. */
  commit: string;
  /** Versions of the programs among the peers, in their own words. */
  programs: Record<string, string>;
  /** Type of the one on which the images lay. */
  fileSystem: string;
  /** The larger image: what the targets are about. */
  imageBytes: number;
  measurements: ImageMeasurement[];
  absent: ImageAbsence[];
}

/** The one that volseal's durable jobs on a cached source are held against. */
export const FIO_WRITE = 'fio, writing';
export const PARALLEL_DD = 'dd, direct, eight at once';
export const DIRECT_DD = 'dd, direct';
export const CACHED_DD = 'dd, cached';
export const COPY = 'cp, sync';
export const QEMU = 'qemu-img convert, sync';

export const ENCRYPT = 'volseal encrypt';
export const REENCRYPT_OUT = 'volseal reencrypt --out';
export const REENCRYPT_IN_PLACE = 'volseal reencrypt';
export const CRYPTSETUP_REENCRYPT = 'cryptsetup reencrypt';
export const IN_PLACE_DD = 'dd, direct, eight at once, in place';

/** Who sets the limit of a scene. */
export const LIMITS: Partial<Record<Scene, string>> = {
  warm: FIO_WRITE,
  cold: PARALLEL_DD,
  cached: CACHED_DD,
  newKey: ENCRYPT,
  inPlace: IN_PLACE_DD,
};

/** The measurements that agree with each member of `wanted`. */
export function imagesLike(measurements: readonly ImageMeasurement[], wanted: Partial<ImageSubject>): ImageMeasurement[] {
  const entries = Object.entries(wanted) as [keyof ImageSubject, unknown][];
  return measurements.filter((measurement) => entries.every(([member, value]) => measurement[member] === value));
}

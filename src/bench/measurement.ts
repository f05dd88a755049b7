/** What a benchmark of the cipher reports: one object a measurement, the limits it is held against included. */
import type { KernelInfo, KernelName } from '../native.js';

/** What was measured. A member that has no meaning there is null: a copy has no direction, a limit no buffer. */
export interface Subject {
  /**
   * - `xts`: a kernel of volseal over a whole buffer, through one call into the addon
   * - `xts, Node Buffer`: the same 16 bytes behind the beginning of a page, where Node puts large Buffers; all others
   *   begin with a page
   * - `call`: `xts` in the way of small requests: what one call costs
   * - `limit`: the AES rounds alone, in registers: what the processor's AES units can do at all
   * - `memcpy`, `streamCopy`: a copy, and a copy with stores past the caches
   * - anything else: a peer, by its own name
   */
  name: string;
  kernel: KernelName | null;
  direction: 'encrypt' | 'decrypt' | null;
  sectorBytes: number | null;
  bufferBytes: number | null;
  inPlace: boolean | null;
}

/** Rates are in GB/s, 1 GB = 10^9 bytes, of thread CPU time; peers that are programs count as they themselves do. */
export interface Measurement extends Subject {
  /** The median over the rounds. */
  gbps: number;
  /** The interquartile range over the rounds, as a share of the median. */
  spread: number;
  /** What this is held against in the same run; null where nothing is. */
  limitGbps: number | null;
  /** `gbps / limitGbps`. */
  ratio: number | null;
  /** Of `call` only: nanoseconds of one call. */
  nsPerCall?: number;
}

/** What could not be measured, or was left out, and why: never a number. */
export interface Absence extends Subject {
  reason: string;
}

/** The machine that the numbers are of. */
export interface Machine {
  cpu: string;
  cores: number;
  memoryBytes: number;
  arch: string;
  /** Release of the operating system's kernel. */
  osRelease: string;
  /** Of the last minute, when the run began: above 0 the machine was not quiet. */
  loadAverage: number;
}

export interface KernelReport {
  benchmark: 'kernels';
  /** When the run began, ISO 8601. */
  date: string;
  machine: Machine;
  /** `process.version`. */
  node: string;
  /** OpenSSL inside Node, which `node:crypto` uses. */
  openssl: string;
  /** Every kernel there is, in the order of preference on this machine. */
  kernels: KernelInfo[];
  /** Rounds in which each contender had its turn. */
  rounds: number;
  /** Bytes of the largest buffers: past every cache. */
  largeBytes: number;
  measurements: Measurement[];
  absent: Absence[];
}

/** The measurements that agree with each member of `wanted`. */
export function matching(measurements: readonly Measurement[], wanted: Partial<Subject>): Measurement[] {
  const entries = Object.entries(wanted) as [keyof Subject, unknown][];
  return measurements.filter((measurement) => entries.every(([member, value]) => measurement[member] === value));
}

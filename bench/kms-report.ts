/** What the benchmark of the embedded KMS writes. */
import type { Machine } from '../src/bench/measurement.js';

/** Seconds of one call or one part: of all rounds. */
export interface Spread {
  median: number;
  min: number;
  max: number;
}

export interface OperationMeasurement {
  operation: string;
  /**
   * `service`: the embedded KMS called as a function. `sdk`: through the AWS SDK in process. `http`: through the SDK
   * and a socket.
   */
  way: 'service' | 'sdk' | 'http';
  grantCount: number;
  seconds: Spread;
  /** Of medians, against the smallest number of grants. */
  ratioToFirst: number;
}

export interface PartMeasurement {
  part: string;
  seconds: Spread;
}

export interface KmsReport {
  benchmark: 'kms';
  date: string;
  machine: Machine;
  node: string;
  commit: string;
  rounds: number;
  operations: OperationMeasurement[];
  attach: PartMeasurement[];
}

/** @param seconds at least one */
export function spreadOf(seconds: readonly number[]): Spread {
  const sorted = [...seconds].sort((a, b) => a - b);
  return { median: sorted[Math.floor(sorted.length / 2)]!, min: sorted[0]!, max: sorted.at(-1)! };
}

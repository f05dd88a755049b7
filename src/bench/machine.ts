/** The machine that numbers are of. */
import { arch, cpus, loadavg, release, totalmem } from 'node:os';
import type { Machine } from './measurement.js';

/** This machine, as it is now. */
export function describeMachine(): Machine {
  const processors = cpus();
  return {
    cpu: processors[0]?.model.trim() ?? 'unknown',
    cores: processors.length,
    memoryBytes: totalmem(),
    arch: arch(),
    osRelease: release(),
    loadAverage: loadavg()[0]!,
  };
}

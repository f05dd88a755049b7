/** Counters of a worker's jobs, for Prometheus. No volume ids as labels: there are too many of them. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { type MetricsServer, serveRegistry } from '../metrics-server.js';
import type { ReportedJob, WorkerReports } from './bullmq/worker.js';
import type { Verdict } from './verdict.js';

/** From small images in a second to large ones in hours. */
const DURATION_SECONDS = [0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600];

/**
 * Serves the counters of a worker.
 * @returns what the worker reports to, and the server, which is the caller's to close
 * @throws {VolsealError} as `serveRegistry`
 */
export async function serveJobMetrics(address: {
  readonly host: string;
  readonly port: number;
}): Promise<{ reports: WorkerReports; server: MetricsServer }> {
  const registry = new Registry();
  const registers = [registry];
  const jobs = new Counter<'kind' | 'outcome'>({
    name: 'volseal_jobs_total',
    help: 'Attempts that ended: done, already, retry, fail, interrupted',
    labelNames: ['kind', 'outcome'],
    registers,
  });
  const active = new Gauge({ name: 'volseal_jobs_active', help: 'Jobs that this worker is at', registers });
  const seconds = new Histogram<'kind'>({
    name: 'volseal_job_duration_seconds',
    help: 'What jobs that were done took',
    labelNames: ['kind'],
    buckets: DURATION_SECONDS,
    registers,
  });
  const bytes = new Counter<'kind'>({
    name: 'volseal_bytes_total',
    help: 'Bytes of images of jobs that were done',
    labelNames: ['kind'],
    registers,
  });
  const lastSuccess = new Gauge<'job'>({
    name: 'volseal_job_last_success_timestamp_seconds',
    help: 'When a job of this kind was done last',
    labelNames: ['job'],
    registers,
  });
  const ended = (kind: ReportedJob['kind'], outcome: Verdict | 'done' | 'already'): void => {
    jobs.inc({ kind, outcome });
    active.dec();
  };
  const reports: WorkerReports = {
    onStart: () => active.inc(),
    onDone({ kind }, { outcome, imageBytes, seconds: took }) {
      ended(kind, outcome);
      seconds.observe({ kind }, took);
      if (outcome === 'done') bytes.inc({ kind }, imageBytes);
      lastSuccess.set({ job: kind }, Date.now() / 1000);
    },
    onRanges: () => active.dec(),
    onFailed: ({ kind }, { verdict }) => ended(kind, verdict),
  };
  return { reports, server: await serveRegistry(address, registry) };
}

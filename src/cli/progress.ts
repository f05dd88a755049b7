/** How far a long command has come: a bar on a terminal, JSON lines for programs, silence elsewhere. All on standard error. */
import cliProgress from 'cli-progress';
import type { Progress } from '../volume/transform-image.js';
import { humanSize } from './sizes.js';

/** About five JSON lines a second. */
const EVENT_INTERVAL_MS = 200;
/** A rate over the last seconds follows the disk, and is steady enough to read. */
const RATE_WINDOW_MS = 3000;

export interface ProgressReport {
  /** For the library's `onProgress`; undefined where nobody looks. */
  readonly onProgress: ((progress: Progress) => void) | undefined;
  /** Leaves the terminal as it was. */
  end(): void;
}

/** @param asked whether `--progress` was given @param signal ends a bar at once, so that what is said next has a line of its own */
export function reportProgress(json: boolean, asked: boolean, signal: AbortSignal): ProgressReport {
  if (json && asked) return progressEvents();
  if (!json && process.stderr.isTTY) return progressBar(signal);
  return { onProgress: undefined, end() {} };
}

function progressEvents(): ProgressReport {
  const rateAt = rateMeter();
  let lastMs = Number.NEGATIVE_INFINITY;
  return {
    onProgress({ doneBytes, totalBytes }) {
      const nowMs = performance.now();
      const bytesPerSecond = Math.round(rateAt(doneBytes, nowMs));
      if (doneBytes < totalBytes && nowMs - lastMs < EVENT_INTERVAL_MS) return;
      lastMs = nowMs;
      process.stderr.write(`${JSON.stringify({ event: 'progress', doneBytes, totalBytes, bytesPerSecond })}\n`);
    },
    end() {},
  };
}

function progressBar(signal: AbortSignal): ProgressReport {
  const bar = new cliProgress.SingleBar(
    {
      format: '{percentage}% {bar} {done} of {size}  {rate}/s  {left} left',
      barsize: 30,
      autopadding: true,
      hideCursor: true,
      // The signals are ours: `end` restores the terminal.
      gracefulExit: false,
      stream: process.stderr,
    },
    cliProgress.Presets.shades_classic,
  );
  const rateAt = rateMeter();
  let state: 'waiting' | 'drawn' | 'ended' = 'waiting';
  const end = (): void => {
    if (state === 'drawn') bar.stop();
    state = 'ended';
  };
  signal.addEventListener('abort', end);
  return {
    onProgress({ doneBytes, totalBytes }) {
      if (state === 'ended') return;
      const rate = rateAt(doneBytes, performance.now());
      const values = {
        done: humanSize(doneBytes),
        size: humanSize(totalBytes),
        rate: humanSize(Math.round(rate)),
        left: timeLeft(totalBytes - doneBytes, rate),
      };
      if (state === 'drawn') bar.update(doneBytes, values);
      else bar.start(totalBytes, doneBytes, values);
      state = 'drawn';
    },
    end,
  };
}

function timeLeft(leftBytes: number, bytesPerSecond: number): string {
  if (bytesPerSecond <= 0) return '?';
  return cliProgress.Format.TimeFormat(Math.ceil(leftBytes / bytesPerSecond), { autopaddingChar: ' ' }, 1).trim();
}

/** Bytes a second within the window that ends now; counts from this call on. */
function rateMeter(): (doneBytes: number, nowMs: number) => number {
  const samples = [{ doneBytes: 0, atMs: performance.now() }];
  return (doneBytes, nowMs) => {
    samples.push({ doneBytes, atMs: nowMs });
    while (samples.length > 2 && samples[1]!.atMs < nowMs - RATE_WINDOW_MS) samples.shift();
    const oldest = samples[0]!;
    const elapsedMs = nowMs - oldest.atMs;
    return elapsedMs > 0 ? ((doneBytes - oldest.doneBytes) * 1000) / elapsedMs : 0;
  };
}

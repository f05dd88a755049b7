/**
 * Progress of a long command on standard error: a bar on a terminal, JSON lines with `--json --progress`, otherwise
 * nothing.
 */
import cliProgress from 'cli-progress';
import type { Progress } from '../../transfer/transform.js';
import type { Output } from './output.js';
import { humanSize } from './sizes.js';

/** About five JSON lines a second. */
const EVENT_INTERVAL_MS = 200;
/** The rate over a few seconds follows the disk and is steady enough to read. */
const RATE_WINDOW_MS = 3000;
/** A terminal that does not tell its width has at least this much. */
const TERMINAL_COLUMNS = 80;
/** "100%  1023 GiB of 1023 GiB  1023 MiB/s  10h10m left". */
const LONG_TEXT_COLUMNS = 54;
/** "100%   1023 MiB/s  10h10m left". */
const SHORT_TEXT_COLUMNS = 32;
const BAR_COLUMNS_MIN = 8;
const BAR_COLUMNS_MAX = 30;

export interface ProgressReport {
  /** For the library's `onProgress`; undefined if progress is not shown. */
  readonly onProgress: ((progress: Progress) => void) | undefined;
  /** Restores the terminal. */
  end(): void;
}

/**
 * @param asked whether `--progress` was given
 * @param signal ends a bar at once, so that the next message has its own line
 */
export function reportProgress({ json, quiet }: Output, asked: boolean, signal: AbortSignal): ProgressReport {
  if (json && asked) return progressEvents();
  if (!json && !quiet && process.stderr.isTTY) return progressBar(signal);
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

/** A bar on standard error. */
export interface Bar {
  /** Draws it, unless it has ended. `values` fill the names in its format. */
  show(done: number, total: number, values?: object): void;
  /** Restores the terminal. */
  end(): void;
}

/**
 * A bar that is drawn at the first progress.
 * @param signal ends it at once, so that the next message has its own line
 */
export function openBar(look: cliProgress.Options, signal: AbortSignal): Bar {
  const bar = new cliProgress.SingleBar(
    {
      barsize: 30,
      hideCursor: true,
      // volseal handles signals itself, and `end` restores the terminal.
      gracefulExit: false,
      stream: process.stderr,
      ...look,
    },
    cliProgress.Presets.shades_classic,
  );
  let state: 'waiting' | 'drawn' | 'ended' = 'waiting';
  const end = (): void => {
    if (state === 'drawn') bar.stop();
    state = 'ended';
  };
  signal.addEventListener('abort', end);
  return {
    show(done, total, values = {}) {
      if (state === 'ended') return;
      if (state === 'drawn') bar.update(done, values);
      else bar.start(total, done, values);
      state = 'drawn';
    },
    end,
  };
}

/** What a bar shows on a terminal of so many columns: a line that wraps would be drawn again and again. */
function barLook(columns: number): cliProgress.Options {
  const barsize = (otherColumns: number): number => Math.min(columns - otherColumns, BAR_COLUMNS_MAX);
  const long = barsize(LONG_TEXT_COLUMNS);
  if (long >= BAR_COLUMNS_MIN) return { format: '{percentage}% {bar} {done} of {size}  {rate}/s  {left} left', barsize: long };
  const short = barsize(SHORT_TEXT_COLUMNS);
  if (short >= BAR_COLUMNS_MIN) return { format: '{percentage}% {bar}  {rate}/s  {left} left', barsize: short };
  return { format: '{percentage}%  {rate}/s' };
}

function progressBar(signal: AbortSignal): ProgressReport {
  const bar = openBar({ ...barLook(process.stderr.columns || TERMINAL_COLUMNS), autopadding: true }, signal);
  const rateAt = rateMeter();
  return {
    onProgress({ doneBytes, totalBytes }) {
      const rate = rateAt(doneBytes, performance.now());
      bar.show(doneBytes, totalBytes, {
        done: humanSize(doneBytes),
        size: humanSize(totalBytes),
        rate: humanSize(Math.round(rate)),
        left: timeLeft(totalBytes - doneBytes, rate),
      });
    },
    end: bar.end,
  };
}

function timeLeft(leftBytes: number, bytesPerSecond: number): string {
  if (bytesPerSecond <= 0) return '?';
  return cliProgress.Format.TimeFormat(Math.ceil(leftBytes / bytesPerSecond), { autopaddingChar: ' ' }, 1).trim();
}

/** Measures bytes per second over the last `RATE_WINDOW_MS`, from this call on. */
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

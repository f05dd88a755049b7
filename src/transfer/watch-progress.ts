/** Progress of a job as an async iterable, beside the callback `onProgress`. */
import type { JobOptions, Progress } from './transform.js';

/** A job under way: to be iterated for its progress, and awaited for its result. */
export interface WatchedJob<Result> extends AsyncIterable<Progress> {
  /** What the job gives, or the failure that ended it. */
  readonly result: Promise<Result>;
}

/**
 * Starts a job and gives its progress as an async iterable, which ends with the job, and throws what the job throws. A
 * reader that is slow gets the newest progress only. To stop iterating does not stop the job: `signal` does.
 *
 *     const job = watchProgress((progress) => encryptImage('disk.raw', 'disk.vol', progress));
 *     for await (const { doneBytes, totalBytes } of job) show(doneBytes / totalBytes);
 *     const volume = await job.result;
 *
 * @param start starts the job with the options that it is given, and others of its own
 */
export function watchProgress<Result>(start: (options: Required<Pick<JobOptions, 'onProgress'>>) => Promise<Result>): WatchedJob<Result> {
  let newest: Progress | undefined;
  let isDone = false;
  /** Iterators that wait for news; they look again. */
  const waiting: (() => void)[] = [];
  const tell = (): void => {
    for (const look of waiting.splice(0)) look();
  };
  const onProgress = (progress: Progress): void => {
    newest = progress;
    tell();
  };
  const result = (async () => start({ onProgress }))();
  const end = (): void => {
    isDone = true;
    tell();
  };
  // A failure is the iterator's and the awaiter's to report.
  result.then(end, end);
  return {
    result,
    async *[Symbol.asyncIterator]() {
      let shown: Progress | undefined;
      for (;;) {
        if (newest !== undefined && newest !== shown) {
          shown = newest;
          yield newest;
        } else if (isDone) {
          await result;
          return;
        } else {
          await new Promise<void>((look) => waiting.push(look));
        }
      }
    },
  };
}

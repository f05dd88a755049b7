/**
 * SIGINT, SIGTERM and SIGHUP: the first one makes the command clean up and end, the second one ends the process at
 * once.
 */
import { constants } from 'node:os';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export interface Interruption {
  /** Aborted by the first signal. */
  readonly signal: AbortSignal;
  /** 128 + the number of the first signal, or undefined while there was none. */
  status(): number | undefined;
}

/** Catches the signals from now on. @param onFirst called after the abort, when a progress bar has released its line */
export function watchSignals(onFirst: () => void): Interruption {
  const controller = new AbortController();
  let status: number | undefined;
  const receive = (name: (typeof SIGNALS)[number]): void => {
    const own = 128 + constants.signals[name];
    if (status !== undefined) process.exit(own);
    status = own;
    controller.abort(new Error(`received ${name}`));
    onFirst();
  };
  for (const name of SIGNALS) process.on(name, receive);
  return { signal: controller.signal, status: () => status };
}

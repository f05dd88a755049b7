/**
 * Log lines for the application's own logger, where a call is given one: what was done, what failed, warnings, and each
 * call to KMS. Facts are names, numbers and times; no key and no encryption context is among them.
 */
import { messageOf, VolsealError } from './errors.js';

/** A logger of pino's shape: pino's own, bunyan's, or four functions. */
export interface Logger {
  /** Each call to KMS. */
  debug(facts: object, message: string): void;
  /** What was done, and what the caller's signal ended. */
  info(facts: object, message: string): void;
  /** What did not stop a job. */
  warn(facts: object, message: string): void;
  /** What failed, with the error as `err`. */
  error(facts: object, message: string): void;
}

/** Options of everything that writes log lines. */
export interface LogOptions {
  /**
   * Gets a line for what was done (`info`), for warnings (`warn`), failures (`error`) and calls to KMS (`debug`): an
   * object with facts, then a text. Default: no lines.
   */
  logger?: Logger | undefined;
}

/** Members of a result that are facts of its line. */
const REPORTED = ['volumeId', 'keyId', 'sizeBytes', 'imageBytes', 'keyslot', 'toKeyArn'];

/**
 * Runs `work` with options whose warnings go to the logger too, and writes a line of what came of it. Without a logger
 * it only runs `work`.
 * @throws what `work` throws
 */
export async function logged<Options extends LogOptions & { onWarning?: ((warning: string) => void) | undefined }, Result>(
  operation: string,
  facts: object,
  options: Options,
  work: (options: Options) => Promise<Result>,
): Promise<Result> {
  const { logger, onWarning } = options;
  if (logger === undefined) return work(options);
  const warn = (warning: string): void => {
    onWarning?.(warning);
    write(logger, 'warn', { operation, ...facts }, warning);
  };
  return timed(logger, { done: 'info', failed: 'error' }, operation, { operation, ...facts }, () => work({ ...options, onWarning: warn }));
}

/** Runs a call to KMS, and writes a line of it at `debug`. @throws what `call` throws */
export async function loggedCall<Result>(logger: Logger | undefined, facts: object, call: () => Promise<Result>): Promise<Result> {
  return logger === undefined ? call() : timed(logger, { done: 'debug', failed: 'debug' }, 'call to KMS', facts, call);
}

type Level = keyof Logger;

async function timed<Result>(
  logger: Logger,
  levels: { readonly done: Level; readonly failed: Level },
  what: string,
  facts: object,
  work: () => Promise<Result>,
): Promise<Result> {
  const startedMs = performance.now();
  const ms = (): number => Math.round(performance.now() - startedMs);
  try {
    const result = await work();
    write(logger, levels.done, { ...facts, ...reported(result), ms: ms() }, `${what}: done`);
    return result;
  } catch (error) {
    const isStopped = error instanceof VolsealError && error.code === 'ERR_ABORTED';
    write(
      logger,
      isStopped ? levels.done : levels.failed,
      { ...facts, err: error, ms: ms() },
      `${what}: ${isStopped ? 'stopped' : 'failed'}`,
    );
    throw error;
  }
}

function reported(result: unknown): object {
  if (typeof result !== 'object' || result === null) return {};
  const members = result as Record<string, unknown>;
  return Object.fromEntries(REPORTED.filter((name) => members[name] !== undefined).map((name) => [name, members[name]]));
}

/** A logger that fails must not fail what it reports. */
function write(logger: Logger, level: Level, facts: object, message: string): void {
  try {
    logger[level](facts, message);
  } catch (error) {
    process.emitWarning(`the logger failed: ${messageOf(error)}; its line was: ${message}`, { code: 'VOLSEAL_LOGGER' });
  }
}

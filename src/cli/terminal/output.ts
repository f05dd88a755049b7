/**
 * The output of a command: results on standard output, everything else on standard error. With `--json` one JSON object
 * each, otherwise lines of text.
 */
import { once } from 'node:events';
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import { asVolsealError } from '../../errors.js';
import type { Failure } from '../failure.js';
import { STANDARD_OUTPUT, standardOutput } from './standard-streams.js';
import { printable } from './text.js';

export interface Output {
  readonly json: boolean;
  /** Neither warnings nor progress are shown. */
  readonly quiet: boolean;
  /** The outcome of the command: `json` as one object, or `lines`. */
  result(json: object, lines: readonly string[]): void;
  /** The same on standard error, for a command whose standard output is data. */
  aside(json: object, lines: readonly string[]): void;
  /** Text as it is, to standard output: help. */
  text(text: string): void;
  /**
   * Data as it is, to standard output. Resolves once all of it is there.
   * @param signal ends it at once, even while whoever reads standard output does not go on
   * @throws {VolsealError} `ERR_IO` where it cannot be written; whatever `source` throws; an error with code `EPIPE`
   * where nobody reads any more; the signal's reason, or an `AbortError`, once the signal has come
   */
  data(source: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void>;
  /**
   * Resolves once standard output has taken everything that was said so far.
   * @throws {VolsealError} `ERR_IO` where it could not; an error with code `EPIPE` where nobody reads any more
   */
  settled(): Promise<void>;
  /** A remark for people; nothing with `--json` or `--quiet`. */
  warning(line: string): void;
  failure(failure: Failure): void;
}

/**
 * @param json whether programs read what is said
 * @param quiet whether warnings and progress are left out
 */
export function openOutput(json: boolean, quiet: boolean): Output {
  const stdout = standardOutput();
  // `settled` tells of a failure; without a listener the stream's event would end the process before that.
  stdout.on('error', () => {});
  const text = (words: string): void => {
    stdout.write(words);
  };
  const settled = async (): Promise<void> => {
    // A stream that has failed keeps what it is given for ever.
    if (stdout.errored) throw outputError(stdout.errored);
    await new Promise<void>((resolve, reject) => {
      stdout.write('', (error) => (error ? reject(outputError(error)) : resolve()));
    });
  };
  const sent = async (source: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> => {
    try {
      await pipeline(source, stdout, { signal, end: false });
    } catch (error) {
      throw outputError(error);
    }
    // The last write may still be under way.
    await settled();
  };
  return {
    json,
    quiet,
    text,
    settled,
    result(object, lines) {
      text(json ? `${JSON.stringify(object)}\n` : asText(lines));
    },
    aside(object, lines) {
      process.stderr.write(json ? `${JSON.stringify(object)}\n` : asText(lines));
    },
    async data(source, signal) {
      // A pipeline that is aborted still waits for a reader that is stuck.
      await Promise.race([sent(source, signal), once(signal, 'abort').then(() => signal.throwIfAborted())]);
    },
    warning(line) {
      if (!json && !quiet) process.stderr.write(asText([`volseal: ${line}`]));
    },
    failure({ code, message, hint, details }) {
      const lines = [`volseal: ${message}`, ...(hint === undefined ? [] : hintLines(hint))];
      process.stderr.write(json ? `${JSON.stringify({ error: { code, message, hint: hint ?? null, details } })}\n` : asText(lines));
    },
  };
}

/** An error of standard output. EPIPE stays as it is: it says that the reader has ended, and is no failure. */
const outputError = (error: unknown): unknown =>
  (error as NodeJS.ErrnoException).code === 'EPIPE' ? error : asVolsealError(error, STANDARD_OUTPUT);

/** The first line of a hint is labelled, the others are below it: commands that can be copied. */
const hintLines = (hint: string): string[] => hint.split('\n').map((line, index) => `${index === 0 ? 'hint: ' : '      '}${line}`);

/** What a command's help says below its options. */
interface HelpEnd {
  readonly examples: readonly string[];
  readonly remarks: readonly string[];
}

const HELP_ENDS = new WeakMap<Command, HelpEnd>();

/** What `withExamples` has added to the help of `command`: for its manual page. */
export const helpEndOf = (command: Command): HelpEnd => HELP_ENDS.get(command) ?? { examples: [], remarks: [] };

/** Adds examples to the end of a command's help: commands that work as they are, if the files they name exist. */
export function withExamples(command: Command, examples: readonly string[], remarks: readonly string[] = []): Command {
  HELP_ENDS.set(command, { examples, remarks });
  const lines = [...remarks.flatMap((remark) => [remark, '']), 'Example:', ...examples.map((example) => `  ${example}`)];
  return command.addHelpText('after', `\n${lines.join('\n')}`);
}

/** Lines of labels and values in two columns. An empty label continues the value above it. */
export function alignedRows(rows: readonly (readonly [label: string, value: string])[]): string[] {
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, value]) => `${label.padEnd(width)}  ${value}`);
}

/** The pairs of an encryption context, one a line. */
export const contextLines = (context: Readonly<Record<string, string>>): string[] =>
  Object.entries(context).map(([key, value]) => `${key}=${value}`);

const asText = (lines: readonly string[]): string => lines.map((line) => `${printable(line)}\n`).join('');

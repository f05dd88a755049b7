/**
 * What a command says: results on standard output, everything else on standard error. With `--json` one object each, else lines
 * for people.
 */
import type { Command } from 'commander';
import type { Failure } from './failure.js';

export interface Output {
  readonly json: boolean;
  /** The outcome of the command: `json` as one object, or `lines`. */
  result(json: object, lines: readonly string[]): void;
  /** A remark for people; nothing with `--json`. */
  note(line: string): void;
  failure(failure: Failure): void;
}

/** @param json whether programs read what is said */
export function openOutput(json: boolean): Output {
  return {
    json,
    result(object, lines) {
      process.stdout.write(json ? `${JSON.stringify(object)}\n` : asText(lines));
    },
    note(line) {
      if (!json) process.stderr.write(asText([`volseal: ${line}`]));
    },
    failure({ code, message, hint, details }) {
      const lines = [`volseal: ${message}`, ...(hint === undefined ? [] : [`hint: ${hint}`])];
      process.stderr.write(json ? `${JSON.stringify({ error: { code, message, hint: hint ?? null, details } })}\n` : asText(lines));
    },
  };
}

/** Ends a command's help with examples: commands that work as they stand, given the files they name. */
export function withExamples(command: Command, examples: readonly string[], remarks: readonly string[] = []): Command {
  const lines = [...remarks.flatMap((remark) => [remark, '']), 'Example:', ...examples.map((example) => `  ${example}`)];
  return command.addHelpText('after', `\n${lines.join('\n')}`);
}

/** Lines of labels and values, the values below each other. A label that is "" goes on with the value above it. */
export function alignedRows(rows: readonly (readonly [label: string, value: string])[]): string[] {
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, value]) => `${label.padEnd(width)}  ${value}`);
}

/** The pairs of an encryption context, one a line. */
export const contextLines = (context: Readonly<Record<string, string>>): string[] =>
  Object.entries(context).map(([key, value]) => `${key}=${value}`);

const asText = (lines: readonly string[]): string => lines.map((line) => `${printable(line)}\n`).join('');

/**
 * Headers, paths and replies are other people's texts: what would steer a terminal or turn the reading order (control and
 * format characters) is shown as its code.
 */
export const printable = (text: string): string =>
  text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`);

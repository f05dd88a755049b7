/** What the tests under sanitizers share. */

/** Whether all is run that can be: `VOLSEAL_SANITIZE=long`. The short form is what CI runs. */
export const LONG = process.env.VOLSEAL_SANITIZE === 'long';

/** Compiling takes some seven minutes of one processor; a machine may be busy. */
export const DEADLINE_MS = 45 * 60_000;

/** The first line of each report in what a program wrote. */
export const reportsIn = (text: string): string[] =>
  text.split('\n').filter((line) => /(ERROR|WARNING): \w+Sanitizer|: runtime error: /.test(line));

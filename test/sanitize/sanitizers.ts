/** What the tests under sanitizers share. */

/** Whether all is run that can be: `VOLSEAL_SANITIZE=long`. The short form is what CI runs. */
export const LONG = process.env.VOLSEAL_SANITIZE === 'long';

/** The first line of each report in what a program wrote. */
export const reportsIn = (text: string): string[] =>
  text.split('\n').filter((line) => /(ERROR|WARNING): \w+Sanitizer|: runtime error: /.test(line));

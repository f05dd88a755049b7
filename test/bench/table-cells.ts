/** What stands in the cells of the lines of a printed table, from the column `first` on, which counts from 0. */
export const cellsOf = (lines: readonly string[], first = 0): string[][] =>
  lines.map((line) =>
    line
      .split('|')
      .slice(1 + first, -1)
      .map((cell) => cell.trim()),
  );

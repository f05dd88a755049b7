/** Targets and what a run reached, as a table. */
import { MEASURED_SECTOR_SIZES } from '../src/bench/contenders.js';
import { table } from '../src/bench/tables.js';

/** A speed that volseal sets itself. */
export interface Target<Report> {
  what: string;
  wanted: string;
  /** What a run reached at this sector size, the worst of the measurements that count; undefined where it has none. */
  reached: (report: Report, sectorBytes: number) => { text: string; isMet: boolean } | undefined;
}

/** A row for each target, a column for each sector size; what was not measured stays empty. */
export function targetTable<Report>(targets: readonly Target<Report>[], report: Report): string[] {
  const rows = targets.map(({ what, wanted, reached }) => [
    what,
    wanted,
    ...MEASURED_SECTOR_SIZES.map((sectorBytes) => {
      const result = reached(report, sectorBytes);
      return result === undefined ? '' : `${result.text}${result.isMet ? '' : ' (missed)'}`;
    }),
  ]);
  return table(['target', '', ...MEASURED_SECTOR_SIZES.map((sectorBytes) => `sectors of ${sectorBytes}`)], rows, 1);
}

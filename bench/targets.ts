/**
 * The speeds that volseal sets itself, beside those of a run. Stated, not asserted: a busy machine must fail no test.
 */
import { type KernelReport, type Measurement, matching, type Subject } from '../src/bench/measurement.js';
import { type Target, targetTable } from './target-table.js';

const KIB = 1024;
const MIB = 1024 * KIB;

const TARGETS: readonly Target<KernelReport>[] = [
  ...(
    [
      ['vaes512', 512, 0.9],
      ['vaes256', 256, 0.85],
      ['aesni', 128, 0.9],
    ] as const
  ).map(([kernel, bits, wanted]) =>
    share(`${kernel}, 1 MiB in place, of the ${bits}-bit limit`, wanted, ({ measurements }) =>
      matching(measurements, { name: 'xts', kernel, bufferBytes: MIB, inPlace: true }),
    ),
  ),
  share('vaes512, one call of 64 KiB and more, of the 512-bit limit', 0.88, ({ measurements }) =>
    matching(measurements, { name: 'call', kernel: 'vaes512' }).filter(({ bufferBytes }) => bufferBytes! >= 64 * KIB),
  ),
  // Held against the copy whatever else the machine could not do faster.
  share('vaes512, large buffers out of place, of a non-temporal copy', 0.95, ({ measurements, largeBytes }) => {
    const [copy] = matching(measurements, { name: 'streamCopy', kernel: 'vaes512', bufferBytes: largeBytes });
    const runs = matching(measurements, { name: 'xts', kernel: 'vaes512', bufferBytes: largeBytes, inPlace: false });
    return copy === undefined ? [] : runs.map((run) => ({ ...run, ratio: run.gbps / copy.gbps }));
  }),
  ...(
    [
      [512, 150],
      [4096, 300],
    ] as const
  ).map(
    ([bufferBytes, wantedNs]): Target<KernelReport> => ({
      what: `one call of ${bufferBytes} bytes`,
      wanted: `<= ${wantedNs} ns`,
      reached({ measurements }, sectorBytes) {
        const [call] = matching(measurements, { name: 'call', bufferBytes, sectorBytes });
        return call?.nsPerCall === undefined ? undefined : { text: `${call.nsPerCall.toFixed(0)} ns`, isMet: call.nsPerCall <= wantedNs };
      },
    }),
  ),
  {
    what: 'portable, 1 MiB in place',
    wanted: 'to be told',
    reached({ measurements }, sectorBytes) {
      const wanted: Partial<Subject> = { name: 'xts', kernel: 'portable', bufferBytes: MIB, inPlace: true, sectorBytes };
      const rates = matching(measurements, wanted).map(({ gbps }) => gbps);
      return rates.length === 0 ? undefined : { text: `${Math.min(...rates).toFixed(2)} GB/s`, isMet: true };
    },
  },
];

function share(what: string, wanted: number, pick: (report: KernelReport) => Measurement[]): Target<KernelReport> {
  return {
    what,
    wanted: `>= ${wanted.toFixed(2)}`,
    reached(report, sectorBytes) {
      const ratios = matching(pick(report), { sectorBytes }).flatMap(({ ratio }) => ratio ?? []);
      const worst = Math.min(...ratios);
      return ratios.length === 0 ? undefined : { text: worst.toFixed(3), isMet: worst >= wanted };
    },
  };
}

/** A table of the targets; the lower of encryption and decryption counts. */
export const targetLines = (report: KernelReport): string[] => [
  'Targets, the lower of encryption and decryption:',
  '',
  ...targetTable(TARGETS, report),
];

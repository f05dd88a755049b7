import assert from 'node:assert/strict';
import { test } from 'vitest';
import { targetLines } from '../../bench/targets.js';
import type { KernelReport, Measurement } from '../../src/bench/measurement.js';
import { cellsOf } from './table-cells.js';

const MIB = 1024 * 1024;

/** Of vaes512: at 512 bytes 0.95 and 0.91 of the limit, at 4096 bytes 0.95 and 0.85. */
const ratios: readonly (readonly ['encrypt' | 'decrypt', number, number])[] = [
  ['encrypt', 512, 0.95],
  ['decrypt', 512, 0.91],
  ['encrypt', 4096, 0.95],
  ['decrypt', 4096, 0.85],
];

test('targets are held against the worse direction, and what was not measured stays empty', () => {
  const common = { kernel: 'vaes512', inPlace: true, gbps: 30, spread: 0.01, limitGbps: 36 } as const;
  const large = { bufferBytes: 256 * MIB, inPlace: false } as const;
  const measurements: Measurement[] = [
    ...ratios.map(([direction, sectorBytes, ratio]) => ({ ...common, name: 'xts', direction, sectorBytes, bufferBytes: MIB, ratio })),
    { ...common, ...large, name: 'xts', direction: 'encrypt', sectorBytes: 512, gbps: 19, limitGbps: 15, ratio: 1.27 },
    { ...common, ...large, name: 'xts', direction: 'encrypt', sectorBytes: 4096, gbps: 18, limitGbps: 15, ratio: 1.2 },
    { ...common, ...large, name: 'streamCopy', direction: null, sectorBytes: null, gbps: 20, limitGbps: null, ratio: null },
    { ...common, name: 'call', direction: 'encrypt', sectorBytes: 512, bufferBytes: 512, ratio: 0.1, nsPerCall: 149.6 },
    { ...common, name: 'call', direction: 'encrypt', sectorBytes: 4096, bufferBytes: 4096, ratio: 0.1, nsPerCall: 301 },
  ];
  const report = { measurements, largeBytes: 256 * MIB } as unknown as KernelReport;
  const cells = cellsOf(targetLines(report).slice(4));
  assert.deepEqual(cells, [
    ['vaes512, 1 MiB in place, of the 512-bit limit', '>= 0.90', '0.910', '0.850 (missed)'],
    ['vaes256, 1 MiB in place, of the 256-bit limit', '>= 0.85', '', ''],
    ['aesni, 1 MiB in place, of the 128-bit limit', '>= 0.90', '', ''],
    ['vaes512, one call of 64 KiB and more, of the 512-bit limit', '>= 0.88', '', ''],
    ['vaes512, large buffers out of place, of a non-temporal copy', '>= 0.95', '0.950', '0.900 (missed)'],
    ['one call of 512 bytes', '<= 150 ns', '150 ns', ''],
    ['one call of 4096 bytes', '<= 300 ns', '', '301 ns (missed)'],
    ['portable, 1 MiB in place', 'to be told', '', ''],
  ]);
});

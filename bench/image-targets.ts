/**
 * What volseal sets itself for whole images, beside what a run reached. Stated, not asserted: a busy machine must fail
 * no test.
 */
import { size } from '../src/bench/tables.js';
import {
  CACHED_DD,
  COPY,
  DIRECT_DD,
  FIO_WRITE,
  type ImageMeasurement,
  type ImageReport,
  type ImageSubject,
  imagesLike,
  PARALLEL_DD,
  QEMU,
} from './image-report.js';
import { type Target, targetTable } from './target-table.js';

const MIB = 1024 * 1024;

const TARGETS: readonly Target<ImageReport>[] = [
  atLeast('warm source, durable, of the speed of fio writing', 0.95, { scene: 'warm' }, FIO_WRITE),
  {
    what: 'the same, data alone by the own clock of each',
    wanted: '>= 0.95',
    reached(report, sectorBytes) {
      const ratios = both(report, { scene: 'warm', sectorBytes }).flatMap(({ dataRatio }) => dataRatio ?? []);
      if (ratios.length === 0) return undefined;
      const worst = Math.min(...ratios);
      return { text: worst.toFixed(2), isMet: worst >= 0.95 };
    },
  },
  atLeast('warm source, durable, of the speed of cp and sync', 4, { scene: 'warm' }, COPY),
  atLeast('warm source, durable, of the speed of qemu-img convert and sync', 5, { scene: 'warm' }, QEMU),
  atLeast('cold source, durable, of the speed of eight direct dd', 0.95, { scene: 'cold' }, PARALLEL_DD),
  atLeast('cached, target exists, of the speed of dd', 0.8, { scene: 'cached' }, CACHED_DD),
  {
    what: 'CPU seconds, of those of a direct dd',
    wanted: '<= 1.50',
    reached(report, sectorBytes) {
      const [dd] = ofLarge(report, { scene: 'cold', name: DIRECT_DD });
      const worst = highest(both(report, { scene: 'cold', sectorBytes }), ({ cpuSeconds }) => cpuSeconds);
      if (dd === undefined || worst === undefined || dd.cpuSeconds === 0) return undefined;
      return { text: (worst / dd.cpuSeconds).toFixed(2), isMet: worst <= 1.5 * dd.cpuSeconds };
    },
  },
  {
    what: 'resident memory, whatever the size',
    wanted: '<= 128 MiB',
    reached({ measurements }, sectorBytes) {
      const own = imagesLike(measurements, { sectorBytes }).filter(({ name }) => name.startsWith('volseal '));
      const worst = highest(own, ({ maxRssBytes }) => maxRssBytes);
      return worst === undefined ? undefined : { text: size(worst), isMet: worst <= 128 * MIB };
    },
  },
  within('volseal info', 150, { scene: 'start', name: 'volseal info' }),
  within('volseal encrypt of 1 MiB', 400, { scene: 'start', name: 'volseal encrypt' }),
];

const ofLarge = ({ measurements, imageBytes }: ImageReport, wanted: Partial<ImageSubject>): ImageMeasurement[] =>
  imagesLike(measurements, { imageBytes, ...wanted });

/** Encryption and decryption of the larger image into a full one. */
const both = (report: ImageReport, wanted: Partial<ImageSubject>): ImageMeasurement[] =>
  ofLarge(report, wanted).filter(({ name }) => /^volseal (en|de)crypt( --no-fsync)?$/.test(name));

/** Undefined of none. */
const highest = (all: readonly ImageMeasurement[], numberOf: (measurement: ImageMeasurement) => number): number | undefined =>
  all.length === 0 ? undefined : Math.max(...all.map(numberOf));

function atLeast(what: string, wanted: number, where: Partial<ImageSubject>, other: string): Target<ImageReport> {
  return {
    what,
    wanted: `>= ${wanted.toFixed(2)}`,
    reached(report, sectorBytes) {
      const [held] = ofLarge(report, { ...where, name: other });
      const slowest = highest(both(report, { ...where, sectorBytes }), ({ seconds }) => seconds.median);
      if (held === undefined || slowest === undefined) return undefined;
      const reached = held.seconds.median / slowest;
      return { text: reached.toFixed(2), isMet: reached >= wanted };
    },
  };
}

function within(what: string, wantedMs: number, where: Partial<ImageSubject>): Target<ImageReport> {
  return {
    what,
    wanted: `<= ${wantedMs} ms`,
    reached({ measurements }, sectorBytes) {
      // The commands of this scene run with the usual sectors only.
      const [found] = sectorBytes === 512 ? imagesLike(measurements, where) : [];
      if (found === undefined) return undefined;
      const ms = found.seconds.median * 1000;
      return { text: `${ms.toFixed(0)} ms`, isMet: ms <= wantedMs };
    },
  };
}

/** A table of the targets; the slower, or larger, of encryption and decryption counts. */
export const imageTargetLines = (report: ImageReport): string[] => [
  `Targets of ${size(report.imageBytes)}, the worse of encryption and decryption:`,
  '',
  ...targetTable(TARGETS, report),
];

/** What volseal sets itself for new keys of existing volumes, beside what a run reached. Stated, not asserted. */
import { size } from '../src/bench/tables.js';
import {
  CRYPTSETUP_REENCRYPT,
  type ImageMeasurement,
  type ImageReport,
  type ImageSubject,
  imagesLike,
  REENCRYPT_IN_PLACE,
  REENCRYPT_OUT,
} from './image-report.js';
import { type Target, targetTable } from './target-table.js';

const TARGETS: readonly Target<ImageReport>[] = [
  {
    what: 'reencrypt --out, of the rate of encrypt, data alone',
    ...atLeast(0.9, (of) => of({ scene: 'newKey', name: REENCRYPT_OUT })?.dataRatio),
  },
  {
    what: 'reencrypt in place, data alone, of eight dd that read and write in place',
    ...atLeast(0.6, (of) => of({ scene: 'inPlace', name: REENCRYPT_IN_PLACE })?.dataRatio),
  },
  {
    what: 'reencrypt in place, the whole command, of the speed of cryptsetup reencrypt',
    ...atLeast(1.5, (of) => {
      const [own, other] = [REENCRYPT_IN_PLACE, CRYPTSETUP_REENCRYPT].map((name) => of({ scene: 'inPlace', name })?.gbps);
      return own == null || other == null ? undefined : own / other;
    }),
  },
];

type Ratio = (of: (wanted: Partial<ImageSubject>) => ImageMeasurement | undefined) => number | null | undefined;

function atLeast(limit: number, ratio: Ratio): Omit<Target<ImageReport>, 'what'> {
  return {
    wanted: `>= ${limit.toFixed(2)}`,
    reached({ measurements, imageBytes }, sectorBytes) {
      const reached = ratio((wanted) => imagesLike(measurements, { imageBytes, sectorBytes, ...wanted })[0]);
      return reached == null ? undefined : { text: reached.toFixed(2), isMet: reached >= limit };
    },
  };
}

/** A table of the targets. */
export const reencryptTargetLines = (report: ImageReport): string[] => [
  `Targets of ${size(report.imageBytes)}:`,
  '',
  ...targetTable(TARGETS, report),
];

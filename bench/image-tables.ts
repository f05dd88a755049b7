/** A report on whole images for people: tables that read well on a terminal and are Markdown. */
import { groupedBy, machineLine, rate, size, table } from '../src/bench/tables.js';
import { type ImageMeasurement, type ImageReport, LIMITS, type Scene } from './image-report.js';

/** A report's lines: the machine, a table for each scene and size, and what is absent and why. */
export function imageLines(report: ImageReport): string[] {
  const { machine, node, date, fileSystem, measurements } = report;
  const scenes = groupedBy(measurements, ({ imageBytes, scene }) => [imageBytes, scene]);
  return [
    machineLine(machine),
    `Node ${node.slice(1)}; files on ${fileSystem}; ${date.slice(0, 10)}`,
    ...Object.values(report.programs).map((version) => `- ${version}`),
    ...scenes.flatMap((scene) => ['', `${titleOf(scene[0]!)}:`, '', ...sceneTable(scene[0]!.scene, scene)]),
    ...absentLines(report),
  ];
}

function titleOf({ scene, imageBytes }: ImageMeasurement): string {
  switch (scene) {
    case 'warm':
      return `${size(imageBytes)}, source in the page cache, onto the disk; the limit is ${LIMITS.warm}`;
    case 'cold':
      return `${size(imageBytes)}, source on the disk only, onto the disk; the limit is ${LIMITS.cold}`;
    case 'cached':
      return `${size(imageBytes)}, source in the page cache, target exists, no wait for the disk; the limit is ${LIMITS.cached}`;
    case 'sparse':
      return `${size(imageBytes)}, all but a little of it holes, onto the disk`;
    case 'newKey':
      return `${size(imageBytes)}, source in the page cache, a new volume, onto the disk; the limit is ${LIMITS.newKey}`;
    case 'inPlace':
      return `${size(imageBytes)}, read from the disk and overwritten there; the limit is ${LIMITS.inPlace}`;
    case 'start':
      return `Start-up, ${size(imageBytes)}`;
  }
}

function sceneTable(scene: Scene, measurements: readonly ImageMeasurement[]): string[] {
  const isMs = scene === 'start';
  const own = ownColumns(scene);
  return table(
    ['', 'sectors of', isMs ? 'ms' : 's', 'min-max', ...own.map(({ title }) => title), 'CPU s', 'memory', 'rounds'],
    measurements.map((measurement) => {
      const { median, min, max } = measurement.seconds;
      const time = (seconds: number): string => (isMs ? (seconds * 1000).toFixed(0) : seconds.toFixed(seconds < 10 ? 2 : 1));
      return [
        measurement.name,
        measurement.sectorBytes === null ? '' : String(measurement.sectorBytes),
        time(median),
        `${time(min)}-${time(max)}`,
        ...own.map(({ cell }) => cell(measurement)),
        measurement.cpuSeconds.toFixed(2),
        size(measurement.maxRssBytes),
        String(measurement.rounds),
      ];
    }),
    1,
  );
}

interface Column {
  title: string;
  cell: (measurement: ImageMeasurement) => string;
}

/** What only this scene has. */
function ownColumns(scene: Scene): Column[] {
  if (scene === 'start') return [];
  if (scene === 'sparse')
    return [{ title: 'on disk', cell: ({ allocatedBytes }) => (allocatedBytes === null ? '' : size(allocatedBytes)) }];
  return [
    { title: 'GB/s', cell: ({ gbps }) => (gbps === null ? '' : rate(gbps)) },
    { title: 'of the limit', cell: ({ ratio }) => (ratio === null ? '' : ratio.toFixed(2)) },
    { title: 'data alone', cell: ({ dataGbps }) => (dataGbps === null ? '' : rate(dataGbps)) },
    { title: 'of the limit', cell: ({ dataRatio }) => (dataRatio === null ? '' : dataRatio.toFixed(2)) },
  ];
}

/** A contender that failed in the same words in several places stands there once. */
function absentLines({ absent }: ImageReport): string[] {
  const groups = groupedBy(absent, ({ name, reason }) => [name, reason]);
  return groups.length === 0 ? [] : ['', 'Not measured:', '', ...groups.map(([first]) => `- ${first!.name}: ${first!.reason}`)];
}

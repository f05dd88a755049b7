/**
 * The picture of a kernel report: encryption at 1 MiB, a group of bars for each contender, the limit of each vector
 * width as a line.
 */
import { MEASURED_SECTOR_SIZES } from '../src/bench/contenders.js';
import { type KernelReport, type Measurement, matching } from '../src/bench/measurement.js';
import { contenderName } from '../src/bench/tables.js';
import { BAR_COLORS, LIMIT_COLOR, svgOf } from './chart.js';

const MIB = 1024 * 1024;

/** @returns an SVG document on white ground; the same report gives the same bytes */
export function kernelPicture(report: KernelReport): string {
  const shown = oneLayoutEach(report.measurements.filter(({ name, direction }) => name !== 'call' && direction === 'encrypt'));
  const names = [...new Set(shown.map(contenderName))];
  return svgOf(980, 520, {
    color: BAR_COLORS,
    title: {
      text: 'AES-256-XTS, one core: encryption of 1 MiB',
      subtext: subtitle(report),
      subtextStyle: { color: '#555' },
      left: 20,
      top: 12,
    },
    // The width of a text is guessed where there is no browser: said here, so that the two do not run into each other.
    legend: { right: 20, top: 14, itemGap: 20, textStyle: { width: 150, color: '#222' }, data: MEASURED_SECTOR_SIZES.map(seriesName) },
    grid: { left: 60, right: 150, top: 90, bottom: 50 },
    xAxis: {
      type: 'category',
      data: names,
      axisTick: { show: false },
      axisLabel: { interval: 0, color: '#222', formatter: (name: string) => name.replace(', ', ',\n') },
    },
    yAxis: { type: 'value', name: 'GB/s', max: topOf(report, shown), nameTextStyle: { color: '#222' }, axisLabel: { color: '#222' } },
    series: MEASURED_SECTOR_SIZES.map((sectorBytes, index) => ({
      type: 'bar',
      name: seriesName(sectorBytes),
      barMaxWidth: 46,
      label: { show: true, position: 'top', color: '#222', backgroundColor: '#ffffff', padding: [1, 2] },
      z: 10,
      // `cryptsetup benchmark` knows no sectors: its one bar stands under both.
      data: names.map((name) =>
        barOf(shown.filter((measurement) => contenderName(measurement) === name && fits(measurement, sectorBytes))),
      ),
      ...(index === 0 ? { markLine: limitLines(report) } : {}),
    })),
  });
}

const fits = (measurement: Measurement, sectorBytes: number): boolean =>
  measurement.sectorBytes === sectorBytes || measurement.sectorBytes === null;

/** The bar, with its number as text; nothing where nothing was measured. */
function barOf([measurement]: Measurement[]): object | null {
  if (measurement === undefined) return null;
  const { gbps } = measurement;
  return { value: gbps, label: { formatter: gbps.toFixed(gbps < 10 ? 2 : 1) } };
}

/** The end of the axis: the next 5 GB/s above everything that is shown. */
const topOf = ({ measurements }: KernelReport, shown: readonly Measurement[]): number =>
  5 * Math.ceil(Math.max(1, ...[...shown, ...matching(measurements, { name: 'limit' })].map(({ gbps }) => gbps * 1.03)) / 5);

const seriesName = (sectorBytes: number): string => `sectors of ${sectorBytes} bytes`;

const subtitle = ({ machine, kernels, node, date }: KernelReport): string =>
  `${machine.cpu}, Node ${node.slice(1)}, ${date.slice(0, 10)}; in use: ${kernels.find(({ inUse }) => inUse)?.name}. Lines: AES rounds alone, in registers`;

/** Of a contender's buffers: 1 MiB in place, else 1 MiB, else what it has. */
function oneLayoutEach(measurements: readonly Measurement[]): Measurement[] {
  const layouts = [{ bufferBytes: MIB, inPlace: true }, { bufferBytes: MIB, inPlace: false }, { bufferBytes: null }];
  const names = [...new Set(measurements.map(contenderName))];
  return names.flatMap((name) => {
    const own = measurements.filter((measurement) => contenderName(measurement) === name);
    return layouts.map((layout) => matching(own, layout)).find((found) => found.length > 0) ?? [];
  });
}

/** A dashed line for each vector width. */
function limitLines({ measurements, kernels }: KernelReport): object {
  const widths = new Map(
    matching(measurements, { name: 'limit' }).map(({ kernel, gbps }) => [kernels.find(({ name }) => name === kernel)?.vectorBits, gbps]),
  );
  return {
    symbol: 'none',
    z: 5,
    lineStyle: { color: LIMIT_COLOR, type: 'dashed', width: 1.5 },
    data: [...widths].map(([vectorBits, gbps]) => ({
      yAxis: gbps,
      label: { position: 'end', color: LIMIT_COLOR, formatter: `${vectorBits}-bit limit ${gbps.toFixed(1)}` },
    })),
  };
}

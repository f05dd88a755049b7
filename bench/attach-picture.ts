/** The picture of an attach report: copies through every NBD server, and small requests. */
import type { Machine } from '../src/bench/measurement.js';
import { BAR_COLORS, svgOf } from './chart.js';
import { copyName, fioName } from './nbd-accesses.js';
import type { NbdMeasurement, NbdReport } from './nbd-report.js';
import { VOLSEAL_SERVE } from './nbd-servers.js';

const WIDTH = 980;
const BAR_HEIGHT = 26;
const TOP = 100;
const BETWEEN = 86;

const PANELS = [
  { access: copyName('read', 4), title: 'nbdcopy, 4 connections, reading: GB/s', digits: 2 },
  { access: copyName('write', 4), title: 'nbdcopy, 4 connections, writing: GB/s', digits: 2 },
  { access: fioName('randread', 4, 32), title: 'fio, 4 KiB random reads, depth 32: a second', digits: 0 },
  { access: fioName('randwrite', 4, 32), title: 'fio, 4 KiB random writes, depth 32: a second', digits: 0 },
] as const;

/** What the picture says of the run. */
export interface PictureOf {
  machine: Machine;
  date: string;
  nbd: NbdReport;
}

/** @returns an SVG document on white ground; the same report gives the same bytes */
export function attachPicture({ machine, date, nbd }: PictureOf): string {
  let top = TOP;
  const panels = PANELS.map(({ access, title, digits }) => {
    // The lowest category of an axis is its first.
    const bars = nbd.measurements.filter((each) => each.scene === 'warm' && each.access === access).reverse();
    const panel = { title, digits, bars, top, height: bars.length * BAR_HEIGHT };
    top += panel.height + BETWEEN;
    return panel;
  });
  return svgOf(WIDTH, top, {
    title: [
      {
        text: `${nbd.sizeBytes / 2 ** 20} MiB over NBD, a unix socket, page cache warm`,
        subtext: `${machine.cpu}, ${machine.cores} cores, ${date.slice(0, 10)}; medians`,
        subtextStyle: { color: '#555' },
        left: 20,
        top: 12,
      },
      ...panels.map((panel) => ({ text: panel.title, left: 20, top: panel.top - 30, textStyle: { fontSize: 13, color: '#222' } })),
    ],
    grid: panels.map(({ top: panelTop, height }) => ({ left: 160, right: 80, top: panelTop, height })),
    xAxis: panels.map((_, gridIndex) => ({ type: 'value', gridIndex, axisLabel: { color: '#222' } })),
    yAxis: panels.map(({ bars }, gridIndex) => ({
      type: 'category',
      gridIndex,
      data: bars.map(({ server }) => server),
      axisTick: { show: false },
      axisLabel: { interval: 0, color: '#222' },
    })),
    series: panels.map(({ bars, digits }, index) => ({
      type: 'bar',
      xAxisIndex: index,
      yAxisIndex: index,
      barMaxWidth: 16,
      label: { show: true, position: 'right', color: '#222' },
      data: bars.map((bar) => barOf(bar, digits)),
    })),
  });
}

const barOf = ({ server, median }: NbdMeasurement, digits: number): object => ({
  value: median,
  label: { formatter: median.toFixed(digits) },
  itemStyle: { color: BAR_COLORS[server === VOLSEAL_SERVE ? 0 : 1] },
});

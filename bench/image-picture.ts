/**
 * The picture of an image report: the speed of each contender with the larger image, from a warm source and from a cold
 * one.
 */
import { size } from '../src/bench/tables.js';
import { BAR_COLORS, LIMIT_COLOR, svgOf } from './chart.js';
import { type ImageMeasurement, type ImageReport, imagesLike, LIMITS } from './image-report.js';

const WIDTH = 980;
const BAR_HEIGHT = 26;
const TOP = 100;
const BETWEEN = 60;
const LEFT = 240;

const PANELS = [
  { scene: 'warm', title: 'Source in the page cache' },
  { scene: 'cold', title: 'Source on the disk only' },
] as const;

/** @returns an SVG document on white ground; the same report gives the same bytes */
export function imagePicture(report: ImageReport): string {
  const { machine, node, date, imageBytes, measurements } = report;
  let top = TOP;
  const panels = PANELS.map(({ scene, title }) => {
    // The lowest category of an axis is its first.
    const bars = imagesLike(measurements, { scene, imageBytes })
      .filter(({ name }) => name !== LIMITS[scene])
      .reverse();
    const [limit] = imagesLike(measurements, { scene, imageBytes, name: LIMITS[scene]! });
    const height = bars.length * BAR_HEIGHT;
    const panel = { title, bars, limit, top, height };
    top += height + BETWEEN + BAR_HEIGHT;
    return panel;
  });
  const max = Math.ceil(Math.max(0.1, ...panels.flatMap(({ bars, limit }) => [...bars, ...(limit ? [limit] : [])]).map(speed)) * 11) / 10;
  return svgOf(WIDTH, top, {
    title: [
      {
        text: `Whole images: ${size(imageBytes)}, from command to disk`,
        subtext: `${machine.cpu}, ${machine.cores} cores, Node ${node.slice(1)}, ${date.slice(0, 10)}; GB/s, medians`,
        subtextStyle: { color: '#555' },
        left: 20,
        top: 12,
      },
      ...panels.map((panel) => ({ text: panel.title, left: 20, top: panel.top - 30, textStyle: { fontSize: 13, color: '#222' } })),
    ],
    grid: panels.map(({ top, height }) => ({ left: LEFT, right: 60, top, height })),
    xAxis: panels.map((_, gridIndex) => ({ type: 'value', gridIndex, max, axisLabel: { color: '#222' } })),
    yAxis: panels.map(({ bars }, gridIndex) => ({
      type: 'category',
      gridIndex,
      data: bars.map(label),
      axisTick: { show: false },
      axisLabel: { interval: 0, color: '#222' },
    })),
    series: panels.map(({ bars, limit }, index) => ({
      type: 'bar',
      xAxisIndex: index,
      yAxisIndex: index,
      barMaxWidth: 16,
      label: { show: true, position: 'right', color: '#222' },
      data: bars.map((bar) => ({
        value: speed(bar),
        label: { formatter: speed(bar).toFixed(2) },
        itemStyle: { color: BAR_COLORS[bar.name.startsWith('volseal') ? 0 : 1] },
      })),
      ...(limit === undefined ? {} : { markLine: limitLine(limit) }),
    })),
  });
}

const speed = ({ gbps }: ImageMeasurement): number => gbps ?? 0;

const label = ({ name, sectorBytes }: ImageMeasurement): string => (sectorBytes === null ? name : `${name}, ${sectorBytes}`);

const limitLine = (limit: ImageMeasurement): object => ({
  symbol: 'none',
  lineStyle: { color: LIMIT_COLOR, type: 'dashed', width: 1.5 },
  data: [{ xAxis: speed(limit), label: { position: 'end', color: LIMIT_COLOR, formatter: `${limit.name}: ${speed(limit).toFixed(2)}` } }],
});

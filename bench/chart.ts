/** Charts as SVG documents, and the colours that they share. */
import { BarChart, LineChart } from 'echarts/charts';
import { GridComponent, LegendComponent, MarkLineComponent, TitleComponent } from 'echarts/components';
import { type EChartsCoreOption, init, use } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';

use([BarChart, LineChart, GridComponent, LegendComponent, MarkLineComponent, TitleComponent, SVGRenderer]);

/** One blue and one orange that stay apart for every kind of colour vision, on white. */
export const BAR_COLORS = ['#1f5fa8', '#e08214'];
export const LIMIT_COLOR = '#555';

/**
 * @param width in pixels, as is `height`
 * @returns an SVG document on white ground; the same options give the same bytes
 */
export function svgOf(width: number, height: number, options: EChartsCoreOption): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width, height });
  chart.setOption({ animation: false, backgroundColor: '#ffffff', textStyle: { fontFamily: 'sans-serif' }, ...options });
  // It numbers the charts of a process in its class names.
  const svg = chart.renderToSVGString().replaceAll(/\bzr\d+-/g, '');
  chart.dispose();
  return `${svg}\n`;
}

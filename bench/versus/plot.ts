/** A picture of a family of workloads: how many times the second one's rate the first one has. */
import type { Line } from './summary.js';

const WIDTH = 760;
const LABELS = 330;
const ROW = 30;
const TOP = 54;
const RIGHT = 70;

export function plotOf(family: string, lines: readonly Line[], names: readonly string[]): string {
  const most = Math.max(2, ...lines.map(({ rate }) => rate.highest));
  const x = (ratio: number): number => LABELS + (ratio / most) * (WIDTH - LABELS - RIGHT);
  const height = TOP + lines.length * ROW + 30;
  const rows = lines.map(({ title, rate }, at) => {
    const y = TOP + at * ROW;
    const middle = y + 9;
    return [
      `<text x="${LABELS - 8}" y="${y + 14}" text-anchor="end">${escaped(title)}</text>`,
      `<rect x="${LABELS}" y="${y}" width="${(x(rate.median) - LABELS).toFixed(1)}" height="18" fill="${rate.median >= 1 ? '#3b7ea1' : '#b5543c'}"/>`,
      `<path d="M${x(rate.lowest).toFixed(1)} ${middle}H${x(rate.highest).toFixed(1)}" stroke="#222"/>`,
      `<text x="${(x(rate.highest) + 6).toFixed(1)}" y="${y + 14}">${rate.median.toFixed(2)}</text>`,
    ].join('\n');
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="13">
<title>${escaped(family)}: rate of ${escaped(names[0] ?? '')} over rate of ${escaped(names[1] ?? '')}</title>
<rect width="${WIDTH}" height="${height}" fill="#fff"/>
<text x="16" y="24" font-size="16">${escaped(family)}: rate of ${escaped(names[0] ?? '')} over rate of ${escaped(names[1] ?? '')}</text>
<text x="16" y="42" fill="#555">median of the pairs; the thin line spans all pairs</text>
${rows.join('\n')}
<path d="M${x(1).toFixed(1)} ${TOP - 6}V${height - 24}" stroke="#555" stroke-dasharray="4 3"/>
<text x="${x(1).toFixed(1)}" y="${height - 10}" text-anchor="middle" fill="#555">equal</text>
</svg>
`;
}

function escaped(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;');
}

export interface Series {
  readonly name: string;
  readonly color: string;
  readonly values: readonly number[];
}

const CHART = { width: 900, height: 300, left: 70, right: 20, top: 50, bottom: 40 };

/** Values over time, each series from zero to the largest of all. */
export function chartOf(
  title: string,
  unit: string,
  stepSeconds: number,
  series: readonly Series[],
): string {
  const { width, height, left, right, top, bottom } = CHART;
  const count = Math.max(2, ...series.map(({ values }) => values.length));
  const most = Math.max(1e-9, ...series.flatMap(({ values }) => [...values]));
  const x = (at: number): number => left + (at / (count - 1)) * (width - left - right);
  const y = (value: number): number => height - bottom - (value / most) * (height - top - bottom);
  const lines = series.map(({ values, color }) => {
    const points = values.map((value, at) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`);
    return `<polyline fill="none" stroke="${color}" points="${points.join(' ')}"/>`;
  });
  const legend = series.map(
    ({ name, color }, at) =>
      `<text x="${left + at * 130}" y="42" fill="${color}">${escaped(name)}</text>`,
  );
  const ticks = [0, 0.5, 1].map(
    (part) =>
      `<text x="${left - 8}" y="${(y(most * part) + 4).toFixed(1)}" text-anchor="end">${(most * part).toPrecision(3)}</text>`,
  );
  const minutes = Math.round(((count - 1) * stepSeconds) / 60);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="13">
<title>${escaped(title)} (${escaped(unit)})</title>
<rect width="${width}" height="${height}" fill="#fff"/>
<text x="${left}" y="22" font-size="16">${escaped(title)} (${escaped(unit)})</text>
${legend.join('\n')}
${ticks.join('\n')}
<path d="M${left} ${top}V${height - bottom}H${width - right}" fill="none" stroke="#555"/>
<text x="${width - right}" y="${height - 12}" text-anchor="end">${minutes} min</text>
${lines.join('\n')}
</svg>
`;
}

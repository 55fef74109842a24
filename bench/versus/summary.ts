/** From the results of rounds to one line per workload, as text and as Markdown. */
import { type Spread, spread, thousands } from '../report.js';
import type { Result } from './rounds.js';
import type { Family, Workload } from './workload.js';

type Figure = Exclude<keyof Result, 'workload' | 'contestant' | 'pair'>;

/** The first contestant next to the second one. */
export interface Line {
  readonly id: string;
  readonly family: Family;
  readonly title: string;
  readonly medians: readonly [Readonly<Record<Figure, number>>, Readonly<Record<Figure, number>>];
  /** Rate of the first over rate of the second, within a pair. */
  readonly rate: Spread;
  /** CPU of the second over CPU of the first, within a pair. */
  readonly cpu: Spread;
}

const FIGURES: readonly Figure[] = [
  'perSecond',
  'p50',
  'p99',
  'p999',
  'max',
  'serverCpuUs',
  'clientCpuUs',
  'bytesWritten',
  'syncs',
  'residentMb',
];

export function summarise(
  workloads: readonly Workload[],
  names: readonly [string, string],
  results: readonly Result[],
): Line[] {
  return workloads.map(({ id, family, title }) => {
    const own = results.filter(({ workload }) => workload === id);
    const of = (name: string): Result[] =>
      own.filter(({ contestant }) => contestant === name).sort((a, b) => a.pair - b.pair);
    const [first, second] = [of(names[0]), of(names[1])];
    const ratios = (figure: Figure): number[] =>
      first.map((result, at) => result[figure] / (second[at] as Result)[figure]);
    const medians = [mediansOf(first), mediansOf(second)] as const;
    return {
      id,
      family,
      title,
      medians,
      rate: spread(ratios('perSecond')),
      cpu: spread(ratios('serverCpuUs').map((ratio) => 1 / ratio)),
    };
  });
}

function mediansOf(results: readonly Result[]): Record<Figure, number> {
  const entries = FIGURES.map((figure) => [
    figure,
    spread(results.map((result) => result[figure])).median,
  ]);
  return Object.fromEntries(entries) as Record<Figure, number>;
}

/** One Markdown table. */
export function tableOf(lines: readonly Line[], names: readonly [string, string]): string {
  const [a, b] = names;
  const head = [
    'Workload',
    `${a}/s`,
    `${b}/s`,
    'ratio (spread)',
    `p50 ms ${a}, ${b}`,
    `p99 ms ${a}, ${b}`,
    `CPU us ${a}, ${b}`,
    'CPU ratio (spread)',
    `memory MB ${a}, ${b}`,
    `bytes written ${a}, ${b}`,
    `syncs ${a}, ${b}`,
  ];
  const rows = lines.map(({ title, medians: [own, other], rate, cpu }) => [
    title,
    thousands(own.perSecond),
    thousands(other.perSecond),
    ratio(rate),
    `${own.p50.toFixed(1)}, ${other.p50.toFixed(1)}`,
    `${own.p99.toFixed(1)}, ${other.p99.toFixed(1)}`,
    `${own.serverCpuUs.toFixed(1)}, ${other.serverCpuUs.toFixed(1)}`,
    ratio(cpu),
    `${thousands(own.residentMb)}, ${thousands(other.residentMb)}`,
    `${thousands(own.bytesWritten)}, ${thousands(other.bytesWritten)}`,
    `${own.syncs.toFixed(3)}, ${other.syncs.toFixed(3)}`,
  ]);
  const lineOf = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [lineOf(head), lineOf(head.map(() => '---')), ...rows.map(lineOf)].join('\n');
}

function ratio({ median, lowest, highest }: Spread): string {
  return `**${median.toFixed(2)}** (${lowest.toFixed(2)} to ${highest.toFixed(2)})`;
}

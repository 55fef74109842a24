/**
 * kvd and etcd side by side: `npm run bench:versus`. See docs/benchmarks.md for the method.
 *
 *   --quick           one pair, 2 s each: a look, no claim
 *   --pairs N         pairs of rounds, 7 by default
 *   --seconds N       of each workload in each round, 5 by default
 *   --only a,b        workloads by their ids or families
 *   --etcd PATH       another etcd than the one in PATH
 *   --out FOLDER      writes results.json, tables.md and a plot for each family
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { serverCommand } from '../../test/support/cluster-processes.js';
import { removeTempFolders } from '../../test/support/temp-folder.js';
import { describeRun } from '../report.js';
import { plotOf } from './plot.js';
import { playRounds } from './rounds.js';
import { contestants } from './site.js';
import { type Line, summarise, tableOf } from './summary.js';
import type { Workload } from './workload.js';
import { WORKLOADS } from './workloads.js';

class UsageError extends Error {}

interface Options {
  readonly pairs: number;
  readonly seconds: number;
  readonly warmSeconds: number;
  readonly workloads: readonly Workload[];
  readonly etcd: string;
  readonly out: string | undefined;
}

function optionsOf(args: string[]): Options {
  let values: Partial<Record<string, string | boolean>>;
  try {
    ({ values } = parseArgs({
      args,
      options: {
        quick: { type: 'boolean', default: false },
        pairs: { type: 'string' },
        seconds: { type: 'string' },
        only: { type: 'string' },
        etcd: { type: 'string', default: 'etcd' },
        out: { type: 'string' },
      },
    }));
  } catch (error) {
    const [sentence] = (error as Error).message.split('. ');
    throw new UsageError(`${sentence}; there are --quick --pairs --seconds --only --etcd --out`);
  }
  const isQuick = values['quick'] === true;
  return {
    pairs: wholeNumber('pairs', values['pairs'], isQuick ? 1 : 7),
    seconds: wholeNumber('seconds', values['seconds'], isQuick ? 2 : 5),
    warmSeconds: isQuick ? 1 : 2,
    workloads: chosen(values['only']),
    etcd: String(values['etcd']),
    out: values['out'] as string | undefined,
  };
}

function wholeNumber(name: string, text: string | boolean | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  if (/^[1-9]\d{0,3}$/.test(String(text))) return Number(text);
  throw new UsageError(`--${name} must be a whole number from 1 to 9999, not "${text}"`);
}

function chosen(only: string | boolean | undefined): readonly Workload[] {
  if (only === undefined) return WORKLOADS;
  const names = String(only).split(',');
  for (const name of names) {
    if (WORKLOADS.some(({ id, family }) => id === name || family === name)) continue;
    const known = WORKLOADS.map(({ id }) => id).join(' ');
    throw new UsageError(`no workload or family is called "${name}"; there are ${known}`);
  }
  return WORKLOADS.filter(({ id, family }) => names.includes(id) || names.includes(family));
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function write(folder: string, about: string, lines: readonly Line[], results: unknown): void {
  mkdirSync(folder, { recursive: true });
  const names = ['kvd', 'etcd'] as const;
  writeFileSync(join(folder, 'results.json'), `${JSON.stringify({ about, results }, null, 1)}\n`);
  writeFileSync(join(folder, 'tables.md'), `${about}\n\n${tableOf(lines, names)}\n`);
  for (const family of new Set(lines.map((line) => line.family))) {
    const own = lines.filter((line) => line.family === family);
    writeFileSync(join(folder, `${family}.svg`), plotOf(family, own, names));
  }
}

async function main(args: string[]): Promise<void> {
  const { etcd, out, ...plan } = optionsOf(args);
  const both = contestants(etcd);
  const versions = both.map(({ name, version }) => `${name} ${version}`).join(' and ');
  const { pairs, seconds } = plan;
  const about = `${versions}, three members each, ${pairs} pairs of ${seconds} s, ${describeRun(serverCommand())}`;
  say(about);
  const results = await playRounds({ ...plan, contestants: both, say });
  const lines = summarise(plan.workloads, ['kvd', 'etcd'], results);
  say(`\n${tableOf(lines, ['kvd', 'etcd'])}`);
  if (out !== undefined) write(out, about, lines, results);
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130));
try {
  await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`bench:versus: ${(error as Error).message}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
} finally {
  removeTempFolders();
}

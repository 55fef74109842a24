/**
 * kvd and etcd side by side: `npm run bench:versus`. See docs/benchmarks.md for the method.
 *
 * With a word instead of the workloads: `failover`, `million` (keys), `puts` (a million in a row), and of kvd alone
 * `stalls` or `soak`.
 *
 *   --quick           one pair, 2 s each: a look, no claim
 *   --pairs N         pairs of rounds, 7 by default
 *   --seconds N       of each workload in each round, 5 by default
 *   --only a,b        workloads by their ids or families; those of h2load run where it is installed
 *   --etcd PATH       another etcd than the one in PATH
 *   --rounds N        of failover, 10 by default
 *   --keys N          of million, puts and stalls, 1,000,000 by default
 *   --members N       of the cluster of stalls, 3 by default
 *   --minutes N       of soak, 60 by default
 *   --out FOLDER      writes results.json, tables.md and a plot for each family; the plots of a soak
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { serverCommand } from '../../test/support/cluster-processes.js';
import { removeTempFolders } from '../../test/support/temp-folder.js';
import { hasH2load } from '../h2load.js';
import { describeRun } from '../report.js';
import { UsageError, wholeNumber } from '../usage.js';
import { failover } from './failover.js';
import { manyPuts } from './many-puts.js';
import { million } from './million.js';
import { chartOf, plotOf, type Series } from './plot.js';
import { playRounds } from './rounds.js';
import { contestants } from './site.js';
import { SLICE_SECONDS, type Slice, soak } from './soak.js';
import { stalls } from './stalls.js';
import { type Line, summarise, tableOf } from './summary.js';
import type { Workload } from './workload.js';
import { WORKLOADS, workloadNamed } from './workloads.js';

const NAMES = ['kvd', 'etcd'] as const;
const WHAT = ['workloads', 'failover', 'million', 'puts', 'stalls', 'soak'] as const;
type What = (typeof WHAT)[number];

interface Options {
  readonly what: What;
  readonly rounds: number;
  readonly keys: number;
  readonly members: number;
  readonly minutes: number;
  readonly pairs: number;
  readonly seconds: number;
  readonly warmSeconds: number;
  readonly workloads: readonly Workload[];
  readonly etcd: string;
  readonly out: string | undefined;
}

function optionsOf(args: string[]): Options {
  let values: Partial<Record<string, string | boolean>>;
  let positionals: string[];
  try {
    ({ values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: {
        quick: { type: 'boolean', default: false },
        pairs: { type: 'string' },
        seconds: { type: 'string' },
        only: { type: 'string' },
        etcd: { type: 'string', default: 'etcd' },
        rounds: { type: 'string' },
        keys: { type: 'string' },
        members: { type: 'string' },
        minutes: { type: 'string' },
        out: { type: 'string' },
      },
    }));
  } catch (error) {
    const [sentence] = (error as Error).message.split('. ');
    throw new UsageError(`${sentence}; there are ${OPTIONS}`);
  }
  const [what = 'workloads', more] = positionals;
  if (!isWhat(what) || more !== undefined) {
    throw new UsageError(`nothing is called ${more ?? what}; there are ${WHAT.join(', ')}`);
  }
  const isQuick = values['quick'] === true;
  return {
    what,
    rounds: numberOf('rounds', values['rounds'], 10),
    keys: numberOf('keys', values['keys'], 1_000_000),
    members: numberOf('members', values['members'], 3),
    minutes: numberOf('minutes', values['minutes'], 60),
    pairs: numberOf('pairs', values['pairs'], isQuick ? 1 : 7),
    seconds: numberOf('seconds', values['seconds'], isQuick ? 2 : 5),
    warmSeconds: isQuick ? 1 : 2,
    workloads: chosen(values['only']),
    etcd: String(values['etcd']),
    out: values['out'] as string | undefined,
  };
}

const OPTIONS = '--quick --pairs --seconds --only --etcd --rounds --keys --members --minutes --out';

function isWhat(text: string): text is What {
  return (WHAT as readonly string[]).includes(text);
}

function numberOf(name: string, text: string | boolean | undefined, otherwise: number): number {
  return text === undefined ? otherwise : wholeNumber(name, String(text));
}

function chosen(only: string | boolean | undefined): readonly Workload[] {
  if (only === undefined)
    return WORKLOADS.filter(({ family }) => family !== 'h2load' || hasH2load());
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
  writeFileSync(join(folder, 'results.json'), `${JSON.stringify({ about, results }, null, 1)}\n`);
  writeFileSync(join(folder, 'tables.md'), `${about}\n\n${tableOf(lines, NAMES)}\n`);
  for (const family of new Set(lines.map((line) => line.family))) {
    const own = lines.filter((line) => line.family === family);
    writeFileSync(join(folder, `${family}.svg`), plotOf(family, own, NAMES));
  }
}

function drawSoak(slices: readonly Slice[], folder: string | undefined): void {
  if (folder === undefined) return;
  mkdirSync(folder, { recursive: true });
  const latencies = [
    { name: 'p50', color: '#3b7ea1', values: slices.map(({ p50 }) => p50) },
    { name: 'p99', color: '#b5543c', values: slices.map(({ p99 }) => p99) },
  ];
  const colors = ['#3b7ea1', '#b5543c', '#5a8f3c'];
  const memory = colors.map((color, at) => ({
    name: `member ${at + 1}`,
    color,
    values: slices.map(({ residentMb }) => residentMb[at] ?? 0),
  }));
  const draw = (name: string, title: string, unit: string, series: readonly Series[]): void =>
    writeFileSync(join(folder, name), chartOf(title, unit, SLICE_SECONDS, series));
  draw('soak-latency.svg', 'Latency under steady mixed load', 'ms', latencies);
  draw('soak-memory.svg', 'Memory under steady mixed load', 'MB', memory);
  writeFileSync(join(folder, 'soak.json'), `${JSON.stringify(slices)}\n`);
}

function machine(): string {
  return describeRun(serverCommand());
}

async function main(args: string[]): Promise<void> {
  const { what, etcd, out, rounds, keys, members, minutes, ...plan } = optionsOf(args);
  const both = contestants(etcd);
  const versions = both.map(({ name, version }) => `${name} ${version}`).join(' and ');
  const size = what === 'stalls' ? members : 3;
  const about = `${versions}, ${size === 1 ? 'one member' : `${size} members`} each, ${machine()}`;
  say(about);
  switch (what) {
    case 'failover':
      for (const each of both) await failover(each, rounds, say);
      break;
    case 'million':
      for (const each of both) await million(each, keys, say);
      break;
    case 'puts':
      for (const each of both) await manyPuts(each, keys, say);
      break;
    case 'stalls':
      await stalls(both[0], keys, members, say);
      break;
    case 'soak':
      drawSoak(await soak(both[0], minutes, say), out);
      break;
    case 'workloads': {
      const startUp = ['put-100', 'get-linearizable-100'].map(workloadNamed);
      const results = await playRounds({ ...plan, startUp, contestants: both, say });
      const lines = summarise(plan.workloads, NAMES, results);
      say(`\n${tableOf(lines, NAMES)}`);
      const length = `${plan.pairs} pairs of ${plan.seconds} s`;
      if (out !== undefined) write(out, `${about}, ${length}`, lines, results);
      break;
    }
  }
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

/**
 * `npm run test:sim`: runs many seeds, on several processes, and reports what they covered.
 *
 *   --seeds N         how many seeds, default 100
 *   --seed S          the first seed, default 1; alone (without --seeds) just this one
 *   --hours H         fresh seeds, from --seed on, until so many hours are simulated
 *   --json FILE       the totals, for other programs
 *   --seconds-each T  simulated seconds under faults per seed, default drawn from the seed
 *   --workers W       processes, default 2
 *   --size N          members at the start, default drawn from the seed
 *   --faults A,B      just these kinds of faults (plan.ts), default drawn from the seed
 *   --family walk     members go through 5, 7, 3, 1 and 3 voters
 *   --family graphs   five members, connected in one of all 34 ways, by the seed
 *   --family space    a small quota that fills up again and again, states compared often
 *   --family auth     users and rights that change all the time
 *   --script STEPS    just these steps instead of faults, as in "wait ms 700; crash member LEADER how
 *                     power; start member 1": script.ts has them all
 *   --timeline        with --seed: prints what happened, line by line
 *   --mutant NAME     runs a product with a planted bug (scripts/simulate.js); must end with failures
 *
 * Ends with 1 when a property is broken, with 2 for wrong options, and with 3 when something that must
 * happen in so many runs never did: a net with a hole is worth as much as a red one.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { FAMILIES, FAULTS, type Family, type Fault } from './plan.js';
import { type Step, stepsOf } from './script.js';
import { type RunReport, simulate } from './simulation.js';

const HOUR_US = 3.6e9;
/** What so many seeds must have met at least once. */
const MUST_SEEDS = 200;
const MUST_HIT = [
  'leader elected',
  'truncated',
  'append-rejected',
  'snapshot-installed',
  'snapshot sent',
  'entry applied halfway',
  'commit of an old term',
  'leadership transferred',
  'transfer aborted',
  'lease expired',
  'renewal of a lease that ended',
  'lock held',
  'old holder fenced off',
  'watcher behind a compaction',
  'old revision read',
  'damaged log refused',
  'damaged frame refused',
  'stopped by its disk',
  'outsider is deaf',
  'outsider is mute',
  'black box checked',
  'member joined',
  'member moved',
  'member-add done',
  'member-promote done',
  'member-remove done',
  'member-joint done',
  'removed member ended',
  'removed id tried again',
  'greeting refused: removed',
  'authentication enabled',
  'refused at apply: AUTH_OLD_REVISION',
  'rights taken from a snapshot',
  'watch cut off',
];
/** And so many seeds of a family. */
const MUST_FAMILY_SEEDS = 40;
const MUST_HIT_IN: Partial<Readonly<Record<Family, readonly string[]>>> = {
  auth: [
    ...['authentication enabled', 'authentication disabled', 'root kept root'],
    ...['refused at apply: AUTH_OLD_REVISION', 'refused at apply: USER_EMPTY'],
    ...['refused at the door: PERMISSION_DENIED', 'refused at the door: AUTH_OLD_REVISION'],
    ...['refused for its nested part alone', 'refused for its previous part alone'],
    'refused for the keys of its lease',
    ...['rights taken from a snapshot', 'rights taken from a checkpoint'],
    ...['watch cut off', 'watch refused', 'user logged in', 'token refused'],
  ],
};

interface Options {
  seeds: number;
  seed: number;
  /** 0: as many seeds as `seeds` says. */
  hours: number;
  json: string;
  secondsEach: number;
  workers: number;
  isTold: boolean;
  mutant: string;
  size: number;
  faults: readonly Fault[] | null;
  family: Family | null;
  /** As it was given, since workers and messages want it so. */
  script: string;
}

/** A report without what cannot be sent to another process. */
interface Summary {
  readonly seed: number;
  readonly violation: string | null;
  readonly simulatedUs: number;
  /** Of the process, all threads. */
  readonly cpuMs: number;
  readonly events: number;
  readonly calls: number;
  readonly entries: number;
  readonly marks: readonly (readonly [string, number])[];
  readonly faults: readonly (readonly [string, number])[];
}

class UsageError extends Error {}

function parse(args: readonly string[]): Options {
  const options: Options = {
    ...{
      hours: 0,
      json: '',
      seeds: 0,
      seed: 0,
      secondsEach: 0,
      workers: 2,
      isTold: false,
      mutant: '',
    },
    ...{ size: 0, faults: null, family: null, script: '' },
  };
  const numbers = {
    '--seeds': 'seeds',
    '--seed': 'seed',
    '--seconds-each': 'secondsEach',
    '--workers': 'workers',
    '--size': 'size',
  } as const;
  for (let at = 0; at < args.length; at += 1) {
    const name = args[at] as string;
    if (name === '--timeline') {
      options.isTold = true;
      continue;
    }
    const value = args[at + 1];
    at += 1;
    if (name === '--mutant' && value !== undefined) options.mutant = value;
    else if (name === '--hours') options.hours = hoursOf(value);
    else if (name === '--json' && value !== undefined) options.json = value;
    else if (name === '--faults') options.faults = faultsOf(value);
    else if (name === '--family') options.family = familyOf(value);
    else if (name === '--script') {
      scriptOf(value ?? '');
      options.script = value ?? '';
    } else if (name in numbers) {
      if (value === undefined || !/^[1-9]\d{0,8}$/.test(value)) {
        throw new UsageError(`${name} wants a whole number from 1, not "${value ?? ''}"`);
      }
      options[numbers[name as keyof typeof numbers]] = Number(value);
    } else {
      throw new UsageError(
        `unknown option ${name}; there are --seeds --seed --hours --json --seconds-each --workers --size --faults --family --script --timeline --mutant`,
      );
    }
  }
  if (options.isTold && (options.seed === 0 || options.seeds > 1)) {
    throw new UsageError('--timeline goes with one --seed');
  }
  if (options.hours > 0) {
    if (options.seeds > 0) throw new UsageError('--hours goes without --seeds');
    options.seeds = Number.MAX_SAFE_INTEGER;
  }
  if (options.seeds === 0) options.seeds = options.seed === 0 ? 100 : 1;
  if (options.seed === 0) options.seed = 1;
  return options;
}

function hoursOf(value: string | undefined): number {
  const hours = Number(value);
  if (hours > 0 && hours < 1e6) return hours;
  throw new UsageError(`--hours wants a number above 0, not "${value ?? ''}"`);
}

function faultsOf(value: string | undefined): Fault[] {
  return (value ?? '').split(',').map((name) => {
    const known = FAULTS.find((fault) => fault === name);
    if (known !== undefined) return known;
    throw new UsageError(`no fault "${name}"; there are: ${FAULTS.join(' ')}`);
  });
}

function scriptOf(value: string): Step[] {
  try {
    return stepsOf(value);
  } catch (error) {
    throw new UsageError(`--script: ${(error as Error).message}`);
  }
}

function familyOf(value: string | undefined): Family {
  const known = FAMILIES.find((family) => family === value);
  if (known !== undefined) return known;
  throw new UsageError(`no family "${value ?? ''}"; there are: ${FAMILIES.join(' ')}`);
}

async function runOne(seed: number, options: Options): Promise<RunReport> {
  const { secondsEach, isTold, size, faults, family, script } = options;
  return await simulate(seed, {
    ...(secondsEach > 0 ? { seconds: secondsEach } : {}),
    ...(size > 0 ? { size } : {}),
    ...(faults === null ? {} : { faults }),
    ...(family === null ? {} : { family }),
    ...(script === '' ? {} : { script: stepsOf(script) }),
    isTold,
  });
}

async function summarize(seed: number, options: Options): Promise<Summary> {
  const began = process.cpuUsage();
  const report = await runOne(seed, options);
  const { user, system } = process.cpuUsage(began);
  const { simulatedUs, events, calls, entries, marks, faults, violation } = report;
  return {
    ...{ seed, simulatedUs, events, calls, entries, marks: [...marks], faults: [...faults] },
    violation: violation?.message ?? null,
    cpuMs: (user + system) / 1000,
  };
}

/** Worker: every W-th seed, from its number on, until it is told to stop. */
async function work(options: Options, number: number): Promise<void> {
  let stopped = false;
  process.on('message', () => {
    stopped = true;
  });
  for (let at = number; at < options.seeds && !stopped; at += options.workers) {
    const summary = await summarize(options.seed + at, options);
    process.send?.(summary);
  }
  process.disconnect();
}

function commandOf(seed: number, options: Options): string {
  const { secondsEach, mutant, size, faults, family, script } = options;
  const words = [
    ...[`--seed ${seed}`, secondsEach > 0 ? `--seconds-each ${secondsEach}` : ''],
    ...[size > 0 ? `--size ${size}` : '', faults === null ? '' : `--faults ${faults.join(',')}`],
    ...[family === null ? '' : `--family ${family}`, script === '' ? '' : `--script "${script}"`],
    ...[mutant === '' ? '' : `--mutant ${mutant}`],
  ];
  return `npm run test:sim -- ${words.filter((word) => word !== '').join(' ')} --timeline`;
}

function runAll(options: Options): Promise<Summary[]> {
  const summaries: Summary[] = [];
  const workers = Math.min(options.workers, options.seeds);
  const began = performance.now();
  let simulatedUs = 0;
  let toldAt = 0;
  return new Promise((resolve, reject) => {
    let left = workers;
    const children: ChildProcess[] = [];
    const take = (summary: Summary): void => {
      summaries.push(summary);
      simulatedUs += summary.simulatedUs;
      const hours = simulatedUs / HOUR_US;
      if (options.hours > 0 && hours >= options.hours) {
        // Who is just ending cannot be told.
        for (const child of children) if (child.connected) child.send('stop', () => undefined);
      }
      const minutes = Math.floor((performance.now() - began) / 60_000);
      if (minutes > toldAt) {
        toldAt = minutes;
        console.log(`${minutes} min: ${summaries.length} seeds, ${hours.toFixed(2)} hours`);
      }
      if (summary.violation === null) return;
      const [line] = summary.violation.split('\n');
      console.log(
        `seed ${summary.seed}: ${line}\n  repeat with: ${commandOf(summary.seed, options)}`,
      );
    };
    for (let number = 0; number < workers; number += 1) {
      const child = fork(fileURLToPath(import.meta.url), process.argv.slice(2), {
        // Events leave little that lasts: a larger nursery halves the work of the garbage collector.
        execArgv: [...process.execArgv, '--max-semi-space-size=64', '--stack-trace-limit=2'],
        env: { ...process.env, KVD_SIM_WORKER: String(number), KVD_SIM_WORKERS: String(workers) },
      });
      children.push(child);
      child.on('message', (message) => take(message as Summary));
      child.on('error', reject);
      child.on('exit', (code) => {
        if (code !== 0) reject(new Error(`a worker ended with ${code}`));
        left -= 1;
        if (left === 0) resolve(summaries);
      });
    }
  });
}

function total(summaries: readonly Summary[], field: 'marks' | 'faults'): Map<string, number> {
  const totals = new Map<string, number>();
  for (const summary of summaries) {
    for (const [name, count] of summary[field]) totals.set(name, (totals.get(name) ?? 0) + count);
  }
  return new Map([...totals].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function table(title: string, totals: ReadonlyMap<string, number>): void {
  console.log(`${title}:`);
  for (const [name, count] of totals) console.log(`  ${String(count).padStart(10)}  ${name}`);
}

/** What so many seeds must have met. */
function mustHit(seeds: number, { mutant, family, script }: Options): readonly string[] {
  if (mutant !== '' || script !== '') return [];
  if (family === null) return seeds < MUST_SEEDS ? [] : MUST_HIT;
  return seeds < MUST_FAMILY_SEEDS ? [] : (MUST_HIT_IN[family] ?? []);
}

function report(summaries: readonly Summary[], options: Options, realMs: number): number {
  const sum = (pick: (summary: Summary) => number): number =>
    summaries.reduce((before, each) => before + pick(each), 0);
  const speeds = summaries
    .map(({ simulatedUs, cpuMs }) => simulatedUs / 1000 / cpuMs)
    .sort((a, b) => a - b);
  const marks = total(summaries, 'marks');
  table('faults', total(summaries, 'faults'));
  table('marks', marks);
  const failures = summaries.filter(({ violation }) => violation !== null);
  const missed = mustHit(summaries.length, options).filter((name) => !marks.has(name));
  const hours = sum(({ simulatedUs }) => simulatedUs) / HOUR_US;
  const median = speeds[Math.floor(speeds.length / 2)] ?? 0;
  const first = Math.min(...summaries.map(({ seed }) => seed));
  const last = Math.max(...summaries.map(({ seed }) => seed));
  if (options.json !== '') {
    const counts = { seeds: summaries.length, failures: failures.length, missed: missed.length };
    writeFileSync(options.json, `${JSON.stringify({ ...counts, first, last, hours, median })}\n`);
  }
  console.log(`seeds ${first} to ${last}`);
  console.log(
    `${summaries.length} seeds, ${hours.toFixed(2)} simulated hours in ${(realMs / 1000).toFixed(0)} s, ` +
      `median ${median.toFixed(0)} simulated s per second of CPU, ` +
      `${sum(({ events }) => events)} events, ${sum(({ calls }) => calls)} calls, ` +
      `${sum(({ entries }) => entries)} entries, ${failures.length} failures`,
  );
  if (failures.length > 0) {
    const seeds = failures.map(({ seed }) => seed).sort((a, b) => a - b);
    console.log(`failed: ${seeds.join(' ')}`);
    return 1;
  }
  if (missed.length === 0) return 0;
  console.log(`never happened: ${missed.join(', ')}`);
  return 3;
}

async function main(): Promise<number> {
  const options = parse(process.argv.slice(2));
  const worker = process.env['KVD_SIM_WORKER'];
  if (worker !== undefined) {
    const workers = Number(process.env['KVD_SIM_WORKERS']);
    await work({ ...options, workers }, Number(worker));
    return 0;
  }
  if (options.isTold) {
    const { lines, violation, traceHash } = await runOne(options.seed, options);
    for (const line of lines) console.log(line);
    console.log(`trace ${traceHash}: ${violation?.message ?? 'every property held'}`);
    return violation === null ? 0 : 1;
  }
  const began = performance.now();
  const summaries = await runAll(options);
  return report(summaries, options, performance.now() - began);
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
}

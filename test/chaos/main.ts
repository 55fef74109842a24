/**
 * `npm run chaos`: runs a plan or judges a saved run, prints the verdict, and ends with 0 (no
 * violation), 1 (violation), 2 (wrong flags) or 3 (could not run). Started by start.js.
 *
 * The run works with a copy of the compiled kvd, so that a build in between does not change the
 * program under test. What is left behind is the folder of --out, and, of a run with a violation
 * without it, a folder below .kvd/chaos.
 */
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { tempFolder } from '../support/temp-folder.js';
import { CannotRun } from './cannot-run.js';
import { judge } from './checks.js';
import { parseFlags, type RunFlags, repeatCommand, USAGE, UsageError } from './options.js';
import { measureOutages } from './outage.js';
import { makePlan } from './plan.js';
import { Progress } from './progress.js';
import { Recorder } from './recorder.js';
import { figuresOf, markdownReport, outageLines, type Verdict } from './report.js';
import { htmlReport } from './report-html.js';
import { run } from './run.js';
import { BadRun, FORMAT, RunWriter, readRun } from './run-folder.js';

const EXIT = { ok: 0, violation: 1, usage: 2, cannotRun: 3 } as const;

async function main(args: readonly string[]): Promise<number> {
  const flags = parseFlags(args, Date.now() % 2 ** 32);
  if (flags.command === 'help') {
    process.stdout.write(`${USAGE}\n`);
    return EXIT.ok;
  }
  if (flags.command === 'check') return conclude(flags.folder, flags.folder);
  return runPlan(flags);
}

async function runPlan(flags: RunFlags): Promise<number> {
  const { seed, members, tls, faults, out } = flags;
  if (out !== null && existsSync(out) && readdirSync(out).length > 0) {
    throw new UsageError(`--out: ${out} is not empty; name a new folder`);
  }
  const durationMs = Math.round(flags.minutes * 60_000);
  const plan = makePlan({ seed, members, tls, durationMs, faults });
  process.env['KVD_DIST'] = frozenProgram();
  const work = tempFolder('chaos');
  const folder = out ?? join(work, 'run');
  mkdirSync(folder, { recursive: true });
  const writer = new RunWriter(folder);
  const recorder = new Recorder(writer);
  const repeat = repeatCommand(flags);
  process.stdout.write(`seed ${seed}, ${plan.steps.length} faults; repeat with: ${repeat}\n`);
  const names = Array.from({ length: members }, (_, place) => `m${place + 1}`);
  writer.writeHead({
    format: FORMAT,
    plan,
    repeat,
    startedAt: new Date().toISOString(),
    node: process.version,
    kvd: (JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }).version,
    system: `Linux ${release()}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB`,
    members: Object.fromEntries(names.map((name) => [name, name])),
  });
  const progress = new Progress(recorder);
  const data = join(work, 'data');
  mkdirSync(data);
  try {
    const finals = await run({
      ...{ plan, recorder, folder: data, logs: join(folder, 'logs') },
      onArena: (arena) => {
        progress.arena = arena;
      },
    });
    writer.writeFinals(finals);
  } finally {
    progress.stop();
    await writer.close();
  }
  const kept = out ?? join('.kvd', 'chaos', `seed-${seed}-${Date.now()}`);
  return conclude(folder, kept, data);
}

/** Judges the run in `folder`, writes and prints the reports; keeps it in `kept` on a violation. */
function conclude(folder: string, kept: string, data: string | null = null): number {
  const saved = readRun(folder);
  const checks = judge(saved);
  const ok = checks.every(({ problems }) => problems.length === 0);
  const outages = measureOutages(saved.operations, saved.events);
  const verdict: Verdict = { ok, checks, outages };
  writeFileSync(join(folder, 'verdict.json'), `${JSON.stringify(verdict, null, 2)}\n`);
  writeFileSync(join(folder, 'report.md'), markdownReport(saved, verdict));
  writeFileSync(join(folder, 'report.html'), htmlReport(saved, verdict));
  if (!ok && data !== null) cpSync(data, join(folder, 'data'), { recursive: true });
  if (!ok && kept !== folder) {
    mkdirSync(kept, { recursive: true });
    cpSync(folder, kept, { recursive: true });
  }
  const figures = figuresOf(saved);
  const lines = [
    '',
    ...outageLines(outages),
    '',
    ...checks.map(({ name, examined, problems }) => {
      const state = problems.length > 0 ? 'VIOLATED' : examined === 0 ? 'nothing seen' : 'holds';
      return `${name.padEnd(14)} ${String(examined).padStart(8)}  ${state}`;
    }),
    '',
    ...checks.flatMap(({ name, problems }) => problems.map((problem) => `${name}: ${problem}\n`)),
    `${ok ? 'no violation' : 'VIOLATION'}: ${figures.operations} operations, ${figures.faultsInstalled} faults of ${figures.classes.length} classes, ${figures.terms} terms with a leader`,
    ...(ok ? [] : [`kept in ${kept}; repeat the plan with: ${saved.head.repeat}`]),
    ...(ok && existsSync(kept) ? [`report: ${join(kept, 'report.html')}`] : []),
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
  return ok ? EXIT.ok : EXIT.violation;
}

/** A copy of the compiled kvd, gone with the process: that of KVD_DIST, or of this checkout. */
function frozenProgram(): string {
  const dist = process.env['KVD_DIST'] || 'dist';
  if (dist === 'dist') {
    const prepare = join('scripts', 'prepare.js');
    const { status } = spawnSync(process.execPath, [prepare], { stdio: ['ignore', 2, 2] });
    if (status !== 0) throw new CannotRun('kvd does not compile: see above');
  }
  const folder = tempFolder('program');
  cpSync(dist, join(folder, 'dist'), { recursive: true });
  cpSync('package.json', join(folder, 'package.json'));
  symlinkSync(resolve('node_modules'), join(folder, 'node_modules'));
  return join(folder, 'dist');
}

function explain(error: unknown): number {
  if (error instanceof UsageError) {
    process.stderr.write(`chaos: ${error.message}\n`);
    return EXIT.usage;
  }
  if (error instanceof CannotRun || error instanceof BadRun) {
    process.stderr.write(`chaos: ${error.message}\n`);
    return EXIT.cannotRun;
  }
  process.stderr.write(`chaos: ${error instanceof Error ? error.stack : String(error)}\n`);
  return EXIT.cannotRun;
}

// The exit hooks kill what runs and remove the temporary folders.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => process.exit(EXIT.cannotRun));
}
process.exit(await main(process.argv.slice(2)).catch(explain));

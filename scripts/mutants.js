/**
 * `npm run test:mutants`: plants each wrong version of a rule (test/simulation/mutants) into a copy of
 * the sources, runs seeds until a property is broken, and prints which one it was.
 *
 *   --only NAME,NAME   just these
 *   --area AREA        consensus, storage, service or access
 *   --seeds N          give a mutant up after so many seeds, default 300
 *   --limit SECONDS    and after so many seconds, default 300
 *   --workers W        mutants at a time, default 2
 *   --markdown FILE    the table for docs/testing.md too
 *
 * Ends with 1 when a mutant survives: either the simulator does not reach the states in which the bug
 * shows, or no property looks there. Ends with 2 for wrong options and for mutants that do not fit the
 * sources any more.
 */
import { fork } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { mutants } from '../test/simulation/mutants/index.js';
import {
  buildSimulator,
  freeze,
  mainOf,
  PlantError,
  plant,
  plantedText,
} from './simulator-build.js';

/** A seed that takes longer than this runs for ever: the planted bug made a loop. */
const HANG_MS = 60_000;

class UsageError extends Error {}

function parse(args) {
  const options = { only: [], area: '', seeds: 300, limit: 300, workers: 2, markdown: '' };
  for (let at = 0; at < args.length; at += 2) {
    const name = args[at].replace(/^--/, '');
    const value = args[at + 1];
    if (!args[at].startsWith('--') || !Object.hasOwn(options, name)) {
      const known = Object.keys(options).map((each) => `--${each}`);
      throw new UsageError(`unknown option ${args[at]}; there are ${known.join(' ')}`);
    }
    if (value === undefined) throw new UsageError(`--${name} wants a value`);
    if (typeof options[name] === 'number') {
      if (!/^[1-9]\d{0,6}$/.test(value)) {
        throw new UsageError(`--${name} wants a whole number from 1, not "${value}"`);
      }
      options[name] = Number(value);
    } else options[name] = name === 'only' ? value.split(',') : value;
  }
  for (const name of options.only) {
    if (mutants.some((mutant) => mutant.name === name)) continue;
    const known = mutants.map((mutant) => mutant.name).join(', ');
    throw new UsageError(`no mutant "${name}"; there are: ${known}`);
  }
  const areas = new Set(mutants.map((mutant) => mutant.area));
  if (options.area !== '' && !areas.has(options.area)) {
    throw new UsageError(`no area "${options.area}"; there are: ${[...areas].join(', ')}`);
  }
  return options;
}

/** Runs seeds of one mutant until the first violation. */
function hunt(mutant, folder, options) {
  const began = performance.now();
  const args = ['--seeds', String(options.seeds), ...(mutant.options ?? [])];
  const child = fork(mainOf(folder), args, {
    env: { ...process.env, KVD_SIM_WORKER: '0', KVD_SIM_WORKERS: '1' },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  return new Promise((resolve) => {
    let seeds = 0;
    let errors = '';
    let hang;
    const end = (property, text = '') => {
      clearTimeout(hang);
      clearTimeout(limit);
      child.removeAllListeners();
      child.kill('SIGKILL');
      const seconds = (performance.now() - began) / 1000;
      resolve({ mutant, seeds, property, text, seconds });
    };
    const limit = setTimeout(() => end(null), options.limit * 1000);
    const watch = () => {
      clearTimeout(hang);
      hang = setTimeout(() => end('HANG', 'an event never ends'), HANG_MS);
    };
    watch();
    child.stderr.on('data', (bytes) => {
      errors = (errors + bytes).slice(-4000);
    });
    child.on('message', ({ violation }) => {
      seeds += 1;
      watch();
      if (violation === null) return;
      const [line] = violation.split('\n');
      end(/^[A-Z]+\d*(?=: )/.exec(line)?.[0] ?? 'BUG', line);
    });
    child.on('exit', (code) => {
      if (code === 0) end(null);
      else if (/SyntaxError|ERR_MODULE/.test(errors)) end('DOES NOT RUN', errors);
      else end('CRASH', errors.split('\n').find((line) => line.includes('Error')) ?? '');
    });
  });
}

function row({ mutant, seeds, property, seconds }) {
  const caught = property ?? 'SURVIVES';
  return `${mutant.name.padEnd(52)} ${String(seeds).padStart(5)} ${seconds.toFixed(0).padStart(5)} s  ${caught}`;
}

function markdown(results) {
  const lines = ['| Mutant | Rule | Seeds | Property |', '|---|---|---|---|'];
  for (const { mutant, seeds, property } of results) {
    lines.push(`| ${mutant.name} | ${mutant.rule} | ${seeds} | ${property ?? 'survives'} |`);
  }
  return `${lines.join('\n')}\n`;
}

async function main() {
  const options = parse(process.argv.slice(2));
  const wanted = mutants.filter(
    ({ name, area }) =>
      (options.only.length === 0 || options.only.includes(name)) &&
      (options.area === '' || options.area === area),
  );
  // The sources may change while this runs; what is tested may not.
  const texts = new Map(wanted.map((mutant) => [mutant, plantedText(mutant)]));
  const clean = freeze(buildSimulator());
  const results = [];
  const queue = [...wanted];
  const work = async () => {
    for (let mutant = queue.shift(); mutant !== undefined; mutant = queue.shift()) {
      const folder = plant(clean, mutant, texts.get(mutant));
      const result = await hunt(mutant, folder, options);
      rmSync(folder, { recursive: true, force: true });
      results.push(result);
      console.log(row(result));
      if (result.text !== '') console.log(`    ${result.text.slice(0, 160)}`);
    }
  };
  await Promise.all(Array.from({ length: options.workers }, work));
  rmSync(clean, { recursive: true, force: true });
  results.sort((a, b) => wanted.indexOf(a.mutant) - wanted.indexOf(b.mutant));
  const survivors = results.filter(({ property }) => property === null);
  const broken = results.filter(({ property }) => property === 'DOES NOT RUN');
  const seeds = results.map((result) => result.seeds).sort((a, b) => a - b);
  console.log(
    `${results.length} mutants, ${results.length - survivors.length - broken.length} caught, ` +
      `median ${seeds[Math.floor(seeds.length / 2)] ?? 0} seeds, most ${seeds.at(-1) ?? 0}`,
  );
  if (survivors.length > 0) {
    console.log(`survive: ${survivors.map(({ mutant }) => mutant.name).join(', ')}`);
  }
  if (options.markdown !== '') writeFileSync(options.markdown, markdown(results));
  if (broken.length > 0) return 2;
  return survivors.length > 0 ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof UsageError || error instanceof PlantError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
}

/**
 * Runs the simulator: `npm run test:sim -- --seeds 100`; its options are in test/simulation/main.ts.
 * `--mutant NAME` runs a product with a bug planted on purpose (test/simulation/mutants).
 */
import { pathToFileURL } from 'node:url';
import { mutants } from '../test/simulation/mutants/index.js';
import { buildSimulator, mainOf, PlantError, plant } from './simulator-build.js';

function fail(text) {
  process.stderr.write(`${text}\n`);
  process.exit(2);
}

const at = process.argv.indexOf('--mutant');
const name = at < 0 ? '' : (process.argv[at + 1] ?? '');
const mutant = mutants.find((each) => each.name === name);
if (at >= 0 && mutant === undefined) {
  fail(`no mutant "${name}"; there are: ${mutants.map((each) => each.name).join(', ')}`);
}
try {
  const clean = buildSimulator();
  const folder = mutant === undefined ? clean : plant(clean, mutant);
  await import(pathToFileURL(mainOf(folder)).href);
} catch (error) {
  if (!(error instanceof PlantError)) throw error;
  fail(error.message);
}

/**
 * Schedules that fast-check makes up: any order of crashes, pauses, cuts and transfers, for whole members.
 * And the proof that this is worth something: with a planted bug it finds a schedule that shows it, and
 * shrinks that to a few steps.
 */
import { rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { buildSimulator, mainOf, plant } from '../../scripts/simulator-build.js';
import { mutants } from './mutants/index.js';
import { LEADER, type Step, stepsOf, textOf } from './script.js';
import { simulate } from './simulation.js';

const RUNS_SCALE = Number(process.env['RUNS_SCALE'] ?? 1);
const SIZE = 3;

const member = fc.integer({ min: LEADER, max: SIZE });
const wait = fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 3000 }) });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: wait },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('crash' as const),
      member,
      how: fc.constantFrom('kill' as const, 'power' as const, 'torn' as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('start' as const), member }) },
  fc.record({ do: fc.constantFrom('freeze' as const, 'thaw' as const), member }),
  fc.record({ do: fc.constant('cut' as const), from: member, to: member }),
  fc.record({ do: fc.constant('isolate' as const), member }),
  fc.record({ do: fc.constant('heal' as const) }),
  fc.record({ do: fc.constant('transfer' as const), to: member }),
  fc.record({
    do: fc.constant('slow-disk' as const),
    member,
    ms: fc.integer({ min: 1, max: 900 }),
  }),
);
const scripts = fc.array(step, { maxLength: 14 });
const seeds = fc.integer({ min: 1, max: 2 ** 20 });

type Simulate = typeof simulate;

async function violationOf(run: Simulate, seed: number, script: readonly Step[]): Promise<string> {
  const { violation } = await run(seed, { script, size: SIZE });
  return violation?.message ?? '';
}

const folders: string[] = [];

afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** The simulator with a bug in the product. */
async function simulatorWith(name: string): Promise<Simulate> {
  const mutant = mutants.find((each) => each.name === name);
  if (mutant === undefined) return expect.fail(`no mutant ${name}`);
  const folder = plant(buildSimulator(), { ...mutant, name: `script-${process.pid}` });
  folders.push(folder);
  const path = join(dirname(mainOf(folder)), 'simulation.js');
  const module = (await import(pathToFileURL(path).href)) as { simulate: Simulate };
  return module.simulate;
}

describe('the text of a schedule', () => {
  it('says all of it', () => {
    fc.assert(
      fc.property(scripts, (script) => {
        expect(stepsOf(script.map(textOf).join('; '))).toEqual(script);
      }),
    );
  });

  it.each([
    ['fly', 'no step "fly"; there are: wait crash'],
    ['wait', 'ms is a number of milliseconds, not ""'],
    ['crash member x how kill', 'member is LEADER or the number of a member, from 1, not "x"'],
    ['crash member 1 how softly', 'how is kill, power or torn, not "softly"'],
    ['heal all', '"heal all" says too much'],
  ])('that is wrong gets one clear line: %s', (text, line) => {
    expect(() => stepsOf(text)).toThrow(line);
  });
});

describe('any schedule of faults', () => {
  it('leaves every promise kept', { timeout: 300_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(seeds, scripts, async (seed, script) => {
        const steps = script.map(textOf).join('; ');
        const repeat = `npm run test:sim -- --seed ${seed} --size ${SIZE} --script "${steps}" --timeline`;
        expect(await violationOf(simulate, seed, script), `repeat with: ${repeat}`).toBe('');
      }),
      { numRuns: 25 * RUNS_SCALE },
    );
  });

  it('that shows a bug is shrunk to a few steps', { timeout: 300_000 }, async () => {
    const run = await simulatorWith('wal-without-sync');
    const result = await fc.check(
      fc.asyncProperty(fc.constant(7), scripts, async (seed, script) => {
        expect(await violationOf(run, seed, script)).toBe('');
      }),
      { numRuns: 100, seed: 1 },
    );
    expect(result.failed).toBe(true);
    const [, shrunk] = result.counterexample as [number, Step[]];
    expect(shrunk.length).toBeLessThanOrEqual(4);
  });
});

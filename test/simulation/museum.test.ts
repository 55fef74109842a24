/**
 * Everything in the museum of other systems' bugs is guarded here: the mutants and tests that it names
 * exist, and its schedules leave every promise kept.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { EXHIBITS, type Exhibit, type Guard } from './museum.js';
import { mutants } from './mutants/index.js';
import { simulate } from './simulation.js';

const SEEDS = [11, 12];

function lookUp(guard: Exclude<Guard, { script: unknown }>): string | null {
  if ('mutant' in guard) {
    return mutants.some(({ name }) => name === guard.mutant) ? null : `no mutant ${guard.mutant}`;
  }
  const path = fileURLToPath(new URL(`../../${guard.file}`, import.meta.url));
  return readFileSync(path, 'utf8').includes(`('${guard.title}'`)
    ? null
    : `no test "${guard.title}"`;
}

async function playAll({ guards }: Exhibit): Promise<void> {
  for (const guard of guards) {
    if (!('script' in guard)) continue;
    for (const seed of SEEDS) {
      const { violation } = await simulate(seed, { script: guard.script, size: guard.size });
      expect(violation?.message ?? '', `seed ${seed}`).toBe('');
    }
  }
}

describe('the museum', () => {
  for (const exhibit of EXHIBITS) {
    it(`has a guard against "${exhibit.bug}" (${exhibit.where})`, { timeout: 60_000 }, async () => {
      expect(exhibit.guards.length > 0).toBe(exhibit.absent === undefined);
      for (const guard of exhibit.guards) {
        if (!('script' in guard)) expect(lookUp(guard)).toBeNull();
      }
      await playAll(exhibit);
    });
  }
});

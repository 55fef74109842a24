/**
 * Keeps the planted bugs fit for the sources: a refactoring that moves a rule would disarm its mutant
 * in silence. The mutants themselves run with `npm run test:mutants`.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { mutants } from './mutants/index.js';

describe('the mutants', () => {
  for (const { name, file, find, replace } of mutants) {
    it(`can plant ${name} at exactly one place`, () => {
      const path = fileURLToPath(new URL(`../../${file}`, import.meta.url));

      expect(readFileSync(path, 'utf8').split(find).length - 1).toBe(1);
      expect(replace).not.toBe(find);
    });
  }

  it('have names and rules of their own', () => {
    expect(new Set(mutants.map(({ name }) => name)).size).toBe(mutants.length);
    expect(mutants.length).toBeGreaterThanOrEqual(60);
  });
});

/**
 * Debian's etcd 3.4 takes and refuses the same values of the flags that docs/etcd-compatibility.md calls
 * `same` or `different`; test/node/etcd-flags.test.ts tries them on kvd. And the page has all flags of 3.4.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { FLAGS } from '../support/compatibility-page.js';
import { flagCase } from '../support/flag-cases.js';
import { removeTempFolders, tempFolder } from '../support/temp-folder.js';
import { ETCD } from './side-by-side.js';

afterAll(removeTempFolders);

/** Long enough to refuse; who is still there then has taken it. */
const REFUSED_MS = 20_000;

const known = new Set(
  [...String(spawnSync(ETCD, ['--help']).stdout).matchAll(/^ *--([a-z0-9-]+)/gm)].map(
    ([, name]) => name as string,
  ),
);

describe('docs/etcd-compatibility.md', () => {
  it('has every flag that etcd 3.4 prints', () => {
    const listed = new Set(FLAGS.map(({ name }) => name));

    expect(known.size).toBeGreaterThan(60);
    expect([...known].filter((name) => !listed.has(name))).toEqual([]);
  });

  const shared = FLAGS.filter(({ name, state }) => {
    return known.has(name) && (state === 'same' || state === 'different');
  }).flatMap(({ name }) => {
    const given = flagCase(name);
    return (given?.bad ?? []).map((value) => ({ name, value, more: given?.with ?? [] }));
  });

  it.each(shared)('is right that etcd refuses --$name=$value', ({ name, value, more }) => {
    const folder = join(tempFolder('refused'), 'data');
    const args = name === 'data-dir' ? [] : ['--data-dir', folder];
    const { status } = spawnSync(ETCD, [...args, ...more, `--${name}=${value}`], {
      timeout: REFUSED_MS,
      killSignal: 'SIGKILL',
      stdio: 'ignore',
    });

    expect(status).not.toBeNull();
    expect(status).not.toBe(0);
  });
});

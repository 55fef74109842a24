/**
 * The settings of etcd, as docs/etcd-compatibility.md lists them: each row is tried as a flag, in the
 * environment and in a file. That etcd refuses the same values is held by test/interop.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type Config, loadConfig } from '../../src/config.js';
import { ETCD_OPTIONS, FORMER_NAMES } from '../../src/etcd-options.js';
import { OPTIONS } from '../../src/options.js';
import { FLAGS, type FlagRow } from '../support/compatibility-page.js';
import { flagCase } from '../support/flag-cases.js';
import { removeTempFolders, tempFolder } from '../support/temp-folder.js';

/** Options of kvd that etcd does not have. */
const OWN = [
  ...['join', 'wal-segment-bytes', 'disk-reserve-bytes'],
  ...['backup-dir', 'backup-interval', 'backup-keep'],
  ...['max-connections-per-address', 'rate-per-user', 'max-range-bytes'],
  ...['audit-log', 'audit-log-reads', 'audit-log-max-bytes', 'audit-log-keep'],
];

interface Found {
  readonly config: Config | null;
  readonly problems: string;
}

function load(args: readonly string[], env: Record<string, string> = {}): Found {
  try {
    return { config: loadConfig({ args, env }), problems: '' };
  } catch (error) {
    return { config: null, problems: (error as Error).message };
  }
}

const folder = tempFolder('etcd-flags');
afterAll(removeTempFolders);

/** The same setting in each of its three places. */
function places(
  name: string,
  value: string,
  more: readonly string[] = [],
): [string, () => Found][] {
  const variable = name.toUpperCase().replaceAll('-', '_');
  const file = join(folder, `${name}.yaml`);
  return [
    ['flag', () => load([...more, `--${name}=${value}`])],
    ['environment', () => load(more, { [`ETCD_${variable}`]: value })],
    [
      'file',
      () => {
        writeFileSync(file, `${name}: ${JSON.stringify(value)}\n`);
        return load([...more, '--config-file', file]);
      },
    ],
  ];
}

/** Asks for something, whatever the option. */
function wanted({ name }: FlagRow): string {
  if (ETCD_OPTIONS.get(name)?.isSwitch !== true) return 'wanted';
  return ETCD_OPTIONS.get(name)?.harmless.has('true') ? 'false' : 'true';
}

const rows = (...states: readonly string[]): FlagRow[] =>
  FLAGS.filter(({ state }) => states.includes(state));

describe('the flags in docs/etcd-compatibility.md', () => {
  it('are all that kvd knows, each once', () => {
    const known = [...ETCD_OPTIONS.keys(), ...FORMER_NAMES.keys()];
    const shared = OPTIONS.map(({ name }) => name).filter((name) => !OWN.includes(name));

    expect(FLAGS.map(({ name }) => name)).toEqual([...new Set([...known, ...shared])].sort());
  });

  it.each(rows('absent'))('include --$name, refused with the reason', (row) => {
    const option = ETCD_OPTIONS.get(row.name);
    expect(option?.state).toBe('absent');
    expect(row.note).toContain(option?.reason);
    expect(row.isGrave).toBe(option?.isGrave);

    for (const [place, attempt] of places(row.name, wanted(row))) {
      const { config, problems } = attempt();
      if (place === 'environment' && !row.isGrave) {
        const variable = `ETCD_${row.name.toUpperCase().replaceAll('-', '_')}`;
        expect(config?.warnings).toEqual([expect.stringMatching(`: ${variable}$`)]);
      } else expect(problems, place).toContain(`kvd does not have: ${option?.reason}`);
    }
  });

  it.each(rows('absent'))('include --$name, taken when it asks for nothing', (row) => {
    const named = /; ([^;]*) (?:is|are) taken/.exec(row.note)?.[1] ?? '';
    const values = named.split(', ').map((value) => value.replaceAll('`', ''));

    for (const value of new Set(['', ...values])) {
      for (const [place, attempt] of places(row.name, value)) {
        // A switch is on or off as a flag; there is no third.
        if (value === '' && place !== 'environment') continue;
        const { config, problems } = attempt();
        expect(problems, `${place} ${value}`).toBe('');
        expect(config?.warnings, `${place} ${value}`).toEqual([]);
      }
    }
  });

  it.each(rows('ignored'))('include --$name, taken without a meaning', (row) => {
    expect(ETCD_OPTIONS.get(row.name)?.state).toBe('ignored');
    expect(row.note).toBe(ETCD_OPTIONS.get(row.name)?.reason);
    const before = load([]).config;

    for (const [place, attempt] of places(row.name, wanted(row))) {
      const { config, problems } = attempt();
      expect(problems, place).toBe('');
      expect(config, place).toEqual(before);
    }
  });

  const served = rows('same', 'different').map((row) => ({ ...row, given: flagCase(row.name) }));

  it.each(served.filter(({ given }) => given !== null))(
    'include --$name, with its effect',
    ({ name, given }) => {
      if (given === null) return;
      for (const [place, attempt] of places(name, given.good, given.with)) {
        if (name === 'config-file' && place === 'file') continue;
        const { config, problems } = attempt();
        expect(problems, place).toBe('');
        expect(given.seen(config as Config), place).toEqual(given.as);
      }
    },
  );

  it.each(served.filter(({ given }) => given !== null))(
    'include --$name, which refuses what it cannot use',
    ({ name, given }) => {
      for (const value of given?.bad ?? []) {
        for (const [place, attempt] of places(name, value, given?.with)) {
          if (value === '' && place !== 'flag') continue;
          if (name === 'config-file' && place === 'file') continue;
          expect(attempt().problems, `${place} ${value}`).not.toBe('');
        }
      }
    },
  );

  // Those that need files, certificates or a cluster to mean anything.
  it.each(served.filter(({ given }) => given === null))(
    'include --$name, tested elsewhere',
    (row) => {
      const tests = readdirSync('test', { recursive: true, encoding: 'utf8' })
        .filter((path) => path.endsWith('.test.ts'))
        .filter((path) => readFileSync(join('test', path), 'utf8').includes(row.name));

      expect(tests).not.toEqual([]);
    },
  );
});

/**
 * The examples, run as their first lines say, against a real cluster: what they print is what their
 * readers are promised. The code on the pages for programmers is run, too.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeEach, describe, expect, it } from 'vitest';
import { useClusters } from '../support/cluster-fixture.js';
import { clientEnvironment, TLS_BY_DEFAULT } from '../support/test-certificates.js';

const run = promisify(execFile);
const clusters = useClusters();
let env: NodeJS.ProcessEnv;

beforeEach(async () => {
  const cluster = await clusters.start({ size: 1 });
  const { clientUrl } = cluster.member(0);
  env = { ...process.env, KVD_ENDPOINTS: clientUrl, ...clientEnvironment('KVD') };
});

/** What a page leaves out because its reader may not need it. */
const FILES = { ca: 'CACERT', cert: 'CERT', key: 'KEY' };
const TLS = `tls: { ${Object.entries(FILES)
  .map(
    ([name, file]) =>
      `${name}: process.getBuiltinModule('fs').readFileSync(process.env.KVD_${file})`,
  )
  .join(', ')} }`;

const PROMISED: Readonly<Record<string, readonly string[]>> = {
  'configuration.js': [
    "now { 'example/config/limit': '10', 'example/config/mode': 'fast' }",
    'PUT example/config/limit 20',
    'DELETE example/config/mode ',
    "at the end { 'example/config/limit': '20' }",
  ],
  'discovery.js': ['both are there: 10.0.0.1:8080 10.0.0.2:8080', 'one is left: 10.0.0.2:8080'],
  'election.js': [
    'one leads, and has written',
    'three leads, and has written',
    'two leads, and has written',
  ],
  'lock.js': ['written: by the first', 'written: by the second', 'refused: by the first, late'],
  'transfer.js': ["[ 'done', 'done', 'done' ]", 'not enough', 'ann 10 bob 90', 'visits 10'],
};

describe('the examples', () => {
  it('are all here', () => {
    const files = readdirSync('examples').filter((name) => name !== 'connect.js');
    expect(files.sort()).toEqual(Object.keys(PROMISED).sort());
  });

  it.each(Object.keys(PROMISED))('print what they promise: %s', async (name) => {
    const file = join('examples', name);
    expect(readFileSync(file, 'utf8')).toContain(`node ${file}`);

    const { stdout, stderr } = await run(process.execPath, [file], { env, timeout: 60_000 });

    expect(stderr).toBe('');
    const lines = stdout.trimEnd().split('\n');
    // Who is elected first is a matter of chance.
    expect(name === 'election.js' ? lines.sort() : lines).toEqual(PROMISED[name]);
  });
});

describe('the pages', () => {
  it.each(['docs/sdk.md', 'docs/registry.md'])(
    '%s: its blocks, in order, are a program',
    async (page) => {
      const blocks = [...readFileSync(page, 'utf8').matchAll(/^```js\n(.*?)^```/gms)];
      const program = blocks.map(([, code]) => code).join('\n');
      expect(blocks.length).toBeGreaterThan(1);
      // Below the project, where `import ... from 'kvd'` finds this very package.
      const folder = mkdtempSync(join('examples', '.page-'));
      try {
        const file = join(folder, 'page.mjs');
        const endpoints = `endpoints: [process.env.KVD_ENDPOINTS]${TLS_BY_DEFAULT ? `, ${TLS}` : ''}`;
        writeFileSync(file, program.replaceAll(/endpoints: \[[^\]]*\]/g, endpoints));
        const { stderr } = await run(process.execPath, [file], { env, timeout: 60_000 });
        expect(stderr).toBe('');
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  );
});

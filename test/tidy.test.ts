/**
 * The house rules, held over the whole tree: who imports whom, what the machine must not touch, where
 * packages may be named, how files begin and are called, where links lead, what the page of packages
 * says. The rules are in support/tidy-rules.ts and support/dependency-page.ts; the second half of this file breaks each of them on purpose and sees it caught.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { dependencyProblems, type Manifest, type Tree } from './support/dependency-page.js';
import { addresses, importsOf, links, SOURCE_RULES, stripText } from './support/tidy-rules.js';

const FOLDERS = ['src', 'cli', 'bench', 'test', 'examples', 'scripts'];
const TEXT =
  /\.(ts|js|mjs|cjs|json|md|ya?ml|py|c|sh|txt|html|css|service)$|(^|\/)(run|Dockerfile|\.npmrc)$/;

function filesBelow(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (entry.name === 'node_modules') return [];
    const path = `${folder}/${entry.name}`;
    return entry.isDirectory() ? filesBelow(path) : [path];
  });
}

const sources = FOLDERS.flatMap(filesBelow)
  .filter((path) => /\.(ts|js)$/.test(path))
  .map((path) => ({ path, text: readFileSync(path, 'utf8') }));

/** Every file that git tracks; without git, everything that is not ignored by its place. */
function trackedFiles(): string[] {
  if (!existsSync('.git')) {
    const pages = readdirSync('.').filter((name) => name.endsWith('.md'));
    return [...pages, ...[...FOLDERS, 'docs', '.ci', 'deploy'].flatMap(filesBelow)];
  }
  const list = execFileSync('git', ['ls-files', '-z'], { encoding: 'utf8' });
  return list.split('\0').filter((path) => path !== '' && existsSync(path));
}

describe('the tree', () => {
  for (const [name, rule] of Object.entries(SOURCE_RULES)) {
    it(`keeps the rule "${name}"`, () => {
      const problems = sources.flatMap((file) => rule(file).map((what) => `${file.path} ${what}`));

      expect(problems).toEqual([]);
    });
  }

  it('keeps the rule "addresses"', () => {
    const problems = trackedFiles()
      .filter((path) => TEXT.test(path))
      .flatMap((path) => {
        const file = { path, text: readFileSync(path, 'utf8') };
        return addresses(file).map((what) => `${path} ${what}`);
      });

    expect(problems).toEqual([]);
  });

  it('asks for no package where the SDK is used', () => {
    const seen = new Set<string>();
    const packages: string[] = [];
    for (const waiting = ['src/index.ts']; waiting.length > 0; ) {
      const path = waiting.pop() as string;
      if (seen.has(path)) continue;
      seen.add(path);
      for (const target of runImports(path)) {
        if (!target.startsWith('node:') && !target.endsWith('.ts')) packages.push(target);
        if (target.endsWith('.ts')) waiting.push(target);
      }
    }

    expect(packages).toEqual([]);
    expect(seen.size).toBeGreaterThan(30);
  });

  it('keeps the rule "links"', () => {
    const read = (path: string): string | null => {
      if (!existsSync(path)) return null;
      return statSync(path).isDirectory() ? '' : readFileSync(path, 'utf8');
    };
    const pages = trackedFiles().filter((path) => path.endsWith('.md'));
    const problems = pages.flatMap((path) => {
      const file = { path, text: readFileSync(path, 'utf8') };
      return links(file, read).map((what) => `${path} ${what}`);
    });

    expect(pages.length).toBeGreaterThan(10);
    expect(problems).toEqual([]);
  });

  it('tells of every package why it is there, where it is named and its licence', () => {
    const page = readFileSync('docs/dependencies.md', 'utf8');

    const problems = dependencyProblems(page, readJson('package.json') as Manifest, {
      licenceOf: (name) => {
        return (readJson(`node_modules/${name}/package.json`) as { license: string }).license;
      },
      importersOf: (name) => {
        const product = sources.filter(({ path }) => /^(src|cli)\//.test(path));
        const names = ({ from }: { from: string }) => from === name || from.startsWith(`${name}/`);
        return product.filter(({ text }) => importsOf(text).some(names)).map(({ path }) => path);
      },
      exists: existsSync,
    });

    expect(problems).toEqual([]);
  });

  it('has no cycle of imports that run in the machine', () => {
    const graph = new Map<string, string[]>();
    for (const { path } of sources.filter((file) => file.path.startsWith('src/'))) {
      graph.set(
        path,
        runImports(path).filter((target) => target.endsWith('.ts')),
      );
    }

    const machine = [...graph.keys()].filter((path) =>
      /^src\/(raft|auth|kv|lease|watch)\//.test(path),
    );
    const cycles = machine.flatMap((path) => cycleFrom(path, graph) ?? []);

    // Role files and the state they act on know each other by design; nothing else does.
    expect(cycles.filter((cycle) => !cycle.includes('src/raft/raft.ts'))).toEqual([]);
  });
});

function readJson(path: string): unknown {
  return JSON.parse(readFileSync(path, 'utf8'));
}

/** What a file imports to run: files by their paths, packages by their names. */
function runImports(path: string): string[] {
  const text = sources.find((file) => file.path === path)?.text ?? '';
  return importsOf(text)
    .filter(({ typeOnly }) => !typeOnly)
    .map(({ from }) =>
      from.startsWith('.') ? join(path, '..', from).replace(/\.js$/, '.ts') : from,
    );
}

/** A way from the file back to itself, as text. */
function cycleFrom(start: string, graph: ReadonlyMap<string, readonly string[]>): string[] | null {
  const seen = new Set<string>();
  const stack: string[][] = [[start]];
  for (let path = stack.pop(); path !== undefined; path = stack.pop()) {
    for (const next of graph.get(path.at(-1) as string) ?? []) {
      if (next === start) return [[...path, start].join(' -> ')];
      if (seen.has(next)) continue;
      seen.add(next);
      stack.push([...path, next]);
    }
  }
  return null;
}

const HEADER = '/** What this is for. */\n';

describe('the rules', () => {
  /** path, code behind the header, the rule that must object. */
  const planted: readonly [string, string, string][] = [
    ['src/raft/log.ts', "import { Store } from '../kv/store.js';", 'arrows'],
    ['src/raft/log.ts', "import type { Store } from '../kv/store.js';", 'arrows'],
    ['src/raft/log.ts', "import { systemClock } from '../clock.js';", 'arrows'],
    ['src/raft/log.ts', "import { openWal } from './io/wal.js';", 'arrows'],
    ['src/lease/lessor.ts', "import { Store } from '../kv/store.js';", 'arrows'],
    ['src/watch/hub.ts', "import { Store } from '../kv/store.js';", 'arrows'],
    ['src/kv/store.ts', "import { Raft } from '../raft/raft.js';", 'arrows'],
    ['src/kv/store.ts', "import { a, type B } from '../raft/raft.js';", 'arrows'],
    ['src/raft/io/driver.ts', "import { Store } from '../../kv/store.js';", 'arrows'],
    ['src/rpc/peer/lane.ts', "import { Store } from '../../kv/store.js';", 'arrows'],
    ['src/rpc/services/kv.ts', "import { Raft } from '../../raft/raft.js';", 'arrows'],
    ['src/client/client.ts', "import { Raft } from '../raft/raft.js';", 'arrows'],
    ['src/client/client.ts', "import { Node } from '../cluster-node.js';", 'arrows'],
    ['src/node.ts', "import { tempFolder } from '../test/support/temp-folder.js';", 'arrows'],
    ['src/node.ts', "export { main } from '../cli/kvd.js';", 'arrows'],
    ['cli/commands/get.ts', "import { Raft } from '../../src/raft/raft.js';", 'arrows'],
    ['cli/kvd.ts', "await import('../src/raft/raft.js');", 'arrows'],
    ['src/raft/log.ts', "import { readFileSync } from 'node:fs';", 'packages'],
    ['src/kv/store.ts', "import { Level } from 'level';", 'packages'],
    ['src/server.ts', "import { Level } from 'level';", 'packages'],
    ['src/server.ts', "import fastify from 'fastify';", 'packages'],
    ['src/server.ts', "createRequire(import.meta.url)('fastify');", 'packages'],
    ['src/rpc/gateway/app.ts', "import { pack } from 'msgpackr';", 'packages'],
    ['src/client/client.ts', "import { Command } from 'commander';", 'packages'],
    ['src/cluster-node.ts', "import { pino } from 'pino';", 'packages'],
    ['src/rpc/gateway/app.ts', "import { Counter } from 'prom-client';", 'packages'],
    ['src/tls/acceptor.ts', "import { Certificate } from 'pkijs';", 'packages'],
    ['src/tls/acceptor.ts', "import { Raft } from '../raft/raft.js';", 'arrows'],
    ['src/rpc/gateway/app.ts', "import lodash from 'lodash';", 'packages'],
    ['src/raft/log.ts', 'export async function f() {}', 'purity'],
    ['src/raft/log.ts', 'export const now = () => Date.now();', 'purity'],
    ['src/raft/log.ts', 'export const now = () => performance.now();', 'purity'],
    ['src/kv/store.ts', 'export const r = () => Math.random();', 'purity'],
    ['src/kv/store.ts', 'setTimeout(() => {}, 1);', 'purity'],
    ['src/watch/hub.ts', 'queueMicrotask(f);', 'purity'],
    ['src/watch/hub.ts', 'export class Hub extends EventEmitter {}', 'purity'],
    ['src/lease/lessor.ts', 'console.log(1);', 'purity'],
    ['src/lease/lessor.ts', 'process.exit(1);', 'purity'],
    ['src/lease/lessor.ts', 'export const b = Buffer.alloc(1);', 'purity'],
    ['src/kv/store.ts', 'export const p: Promise<void> = f();', 'purity'],
    ['src/kv/store.ts', 'export const id = crypto.randomUUID();', 'purity'],
    ['src/kv/store.ts', 'list.sort();', 'purity'],
    ['src/kv/store.ts', 'list.sort((a, b) => a.localeCompare(b));', 'purity'],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the code inside must be seen
    ['src/kv/store.ts', 'export const t = `${Date.now()}`;', 'purity'],
    ['src/kv/store.ts', `// later: ${'TO'}${'DO'}`, 'unfinished'],
    ['src/kv/store.ts', `/* ${'FIX'}${'ME'} */`, 'unfinished'],
    ['src/kv/store.ts', 'try { f(); } catch {}', 'emptyCatch'],
    ['src/kv/store.ts', 'try { f(); } catch (error) {\n}', 'emptyCatch'],
    ['src/utils.ts', 'export const a = 1;', 'names'],
    ['test/support/helpers.ts', 'export const a = 1;', 'names'],
    ['src/raft/types.ts', 'export const a = 1;', 'names'],
    ['src/raft/RaftLog.ts', 'export const a = 1;', 'names'],
    ['src/raft/log.ts', 'export class LogManager {}', 'names'],
    ['src/raft/index.ts', "export * from './log.js';\nexport { A } from './a.js';", 'barrels'],
  ];
  for (const [path, code, name] of planted) {
    it(`"${name}" objects to ${JSON.stringify(code)} in ${path}`, () => {
      const problems = SOURCE_RULES[name]?.({ path, text: HEADER + code });

      expect(problems).toHaveLength(1);
    });
  }

  it('"header" objects to a file without one', () => {
    const check = (text: string): string[] => {
      return SOURCE_RULES['header']?.({ path: 'src/raft/log.ts', text }) ?? [];
    };

    expect(check('export const a = 1;')).toHaveLength(1);
    expect(check('/** no sentence */\nexport const a = 1;')).toHaveLength(1);
    expect(check("import 'x';\n/** Late. */")).toHaveLength(1);
    expect(check(`#!/usr/bin/env node\n${HEADER}`)).toEqual([]);
  });

  it('"addresses" objects to paths and registries of one machine', () => {
    const check = (text: string): string[] => addresses({ path: 'docs/a.md', text });

    expect(check(`see /${'home'}/someone/project`)).toHaveLength(1);
    expect(check(`cd /${'work'}/main`)).toHaveLength(1);
    expect(check(`https://registry.${'npmjs'}.org/level`)).toHaveLength(1);
    expect(check('POST /v3/kv/put, framework/home/x, ./work/x, /usr/bin/python3')).toEqual([]);
  });

  it('"links" objects to links that lead nowhere', () => {
    const tree: Readonly<Record<string, string>> = {
      'docs/b.md': '# One\n\n## Two `x`: 3\n',
      src: '',
    };
    const check = (text: string): string[] => {
      return links({ path: 'docs/a.md', text }, (path) => tree[path] ?? null);
    };

    expect(check('see [b](c.md)')).toHaveLength(1);
    expect(check('see [b](docs/b.md) and ![c](d.png)')).toHaveLength(2);
    expect(check('see [b]\n\n[b]: ../b.md')).toHaveLength(1);
    expect(check('see [b](b.md#three) and [here](#one)')).toHaveLength(2);
    expect(check('[b](b.md#two-x-3), [src](../src), [here](#own)\n# Own\n')).toEqual([]);
    expect(check('[b](https://example.org/x), `[c](d)`\n```\n[e](f)\n```\n')).toEqual([]);
  });

  it('of the page of packages object to each mistake on it', () => {
    const manifest = {
      dependencies: { level: '1' },
      devDependencies: { vitest: '1' },
      overrides: { cookie: '1' },
    };
    const tree: Tree = {
      licenceOf: () => 'MIT',
      importersOf: () => ['src/kv/io/a.ts'],
      exists: (path) => path !== 'gone.ts',
    };
    const level = '| `level` | values | `src/kv/io/` | MIT |';
    const vitest = '| `vitest` | tests | `test/` | MIT |';
    const page = `## At run time\n\n${level}\n\n## For development\n\n${vitest}\n\n\`cookie\` is old.\n`;
    const check = (text: string): string[] => dependencyProblems(text, manifest, tree);

    expect(check(page)).toEqual([]);
    expect(check(page.replace(level, ''))).toEqual(['level has no row']);
    expect(check(page.replace(vitest, `${vitest}\n${level}`))).toEqual([
      'level is not in devDependencies',
    ]);
    expect(check(page.replace('values', ''))).toEqual(['level has no reason']);
    expect(check(page.replace('`test/`', 'tests'))).toEqual(['vitest has no place']);
    expect(check(page.replace('`test/`', '`gone.ts`'))).toEqual([
      'vitest is named in gone.ts, which does not exist',
    ]);
    expect(check(page.replace('MIT', 'ISC'))).toEqual(['level has the licence MIT']);
    expect(check(page.replace('src/kv/io/', 'src/kv/io/b.ts'))).toEqual([
      'level is imported in src/kv/io/a.ts as well',
      'level is not imported in src/kv/io/b.ts',
    ]);
    expect(check(page.replace('`cookie`', 'it'))).toEqual([
      'cookie is overridden without a reason',
    ]);
  });

  it('let through what is allowed', () => {
    const allowed: readonly [string, string][] = [
      [
        'src/raft/log.ts',
        "import { assert } from '../assert.js';\nimport { A } from './entry.js';",
      ],
      ['src/kv/store.ts', "import { Lessor } from '../lease/lessor.js';"],
      ['src/watch/hub.ts', "import type { KvEvent } from '../kv/event.js';"],
      ['src/watch/hub.ts', "import { type KvEvent, type B } from '../kv/event.js';"],
      ['src/raft/log.ts', "// await Date.now() and process\nexport const a = 'Promise';"],
      ['src/raft/log.ts', 'export const a = /console|Date/.test(b); // async'],
      ['src/raft/log.ts', 'list.sort((a, b) => a - b);\nthis.process = x.Date;'],
      ['src/raft/log.ts', 'try { f(); } catch {\n  // Gone is what we want.\n}'],
      ['src/server.ts', "import { Raft } from './raft/raft.js';\nimport pino from 'pino';"],
      ['src/kv/io/level-store.ts', "import { Level } from 'level';"],
    ];
    for (const [path, code] of allowed) {
      const problems = Object.values(SOURCE_RULES).flatMap((rule) => {
        return rule({ path, text: HEADER + code });
      });
      expect(problems, `${path}: ${code}`).toEqual([]);
    }
  });

  it('see code and not text', () => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: this is the input
    const code = 'a("x//y", `t ${b(`${c}`)} u`, /[/"]/, d / e / f); // g\n/* h */ i';

    const stripped = stripText(code);

    for (const word of ['b', 'c', 'd', 'e', 'f', 'i']) expect(stripped).toContain(word);
    for (const word of ['x', 'y', 't ', 'u`', 'g', 'h']) expect(stripped).not.toContain(word);
  });
});

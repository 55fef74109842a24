/**
 * The house rules that a machine can hold, as functions from one file to a list of problems. Run over
 * the whole tree by test/tidy.test.ts, which also plants a violation of each to see it caught.
 *
 * The arrows (ARCHITECTURE.md has the picture): the machine (raft, auth, kv, lease, watch) is pure and
 * imports nothing but BASE; its io folders import it; the outward faces under rpc import the machine
 * they speak for; the shell files directly in src tie all together; nothing in src looks at cli,
 * bench or test.
 */
import { dirname, normalize } from 'node:path';

export interface SourceFile {
  /** From the root, with forward slashes. */
  readonly path: string;
  readonly text: string;
}

export type Rule = (file: SourceFile) => string[];

interface Import {
  readonly from: string;
  /** Only types: nothing of it runs. */
  readonly typeOnly: boolean;
}

/** BASE files without a clock, a file or a package in them: all that the machine may use. */
const PURE_BASE = ['assert', 'errors', 'int64', 'bytes', 'crc32c', 'prng', 'event-type'];
const BASE = [
  ...PURE_BASE,
  'address',
  'clock',
  'complaints',
  'codec',
  'config',
  'options',
  'tls-options',
  'logger',
  'version',
];

interface Arrows {
  /** Folders and files whose code may be used. */
  readonly values: readonly string[];
  /** Those of which only types may be named. */
  readonly types: readonly string[];
}

/** Who may import whom, besides the own folder. Folders not listed here are not checked. */
const ARROWS: Readonly<Record<string, Arrows>> = {
  'src/raft': { values: ['pure'], types: [] },
  'src/lease': { values: ['pure'], types: [] },
  // The state holds the members, so it names the types of configuration and entry identity.
  'src/auth': { values: ['pure'], types: [] },
  'src/kv': { values: ['pure', 'src/lease', 'src/auth'], types: ['src/raft'] },
  'src/watch': { values: ['pure'], types: ['src/kv'] },
  'src/auth/io': { values: ['base', 'src/auth'], types: [] },
  'src/raft/io': { values: ['base', 'src/raft'], types: [] },
  'src/kv/io': { values: ['base', 'src/kv', 'src/lease'], types: ['src/raft'] },
  'src/watch/io': { values: ['base', 'src/watch'], types: ['src/kv'] },
  'src/backup': {
    values: ['base', 'src/kv', 'src/kv/io', 'src/raft', 'src/raft/io', 'src/genesis-file.ts'],
    types: ['src/metrics.ts'],
  },
  'src/rpc/peer': { values: ['base', 'src/raft'], types: ['src/raft/io', 'src/peer-links.ts'] },
  'src/tls': { values: ['base', 'src/rpc/peer'], types: ['src/client/*'] },
  'src/rpc/api': { values: ['base', 'src/rpc', 'src/kv'], types: ['src/node.ts'] },
  'src/rpc': {
    values: ['base', 'src/rpc/*', 'src/auth', 'src/kv', 'src/watch'],
    types: ['src/node.ts', 'src/metrics.ts'],
  },
  'src/rpc/*': {
    values: [
      ...['base', 'src/rpc', 'src/rpc/*', 'src/auth', 'src/kv', 'src/watch', 'src/metrics.ts'],
      'src/tls/common-name.ts',
    ],
    types: ['src/node.ts', 'src/watch/io', 'src/backup'],
  },
  'src/client': { values: ['base', 'src/rpc/api', 'src/client/*'], types: [] },
  'src/client/*': {
    values: ['base', 'src/client', 'src/rpc/api', 'src/rpc/http2', 'src/rpc/grpc'],
    types: [],
  },
  cli: {
    values: ['base', 'cli/*', 'src/client', 'src/tls', 'src/server.ts'],
    types: ['src/client/*'],
  },
  // A backup is read and restored where no member runs.
  'cli/*': {
    values: ['base', 'cli', 'src/auth/key-spans.ts', 'src/client', 'src/tls', 'src/backup'],
    types: [],
  },
};

/** Packages, each with the only places that may name it. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  level: ['src/kv/io/'],
  msgpackr: ['src/codec.ts', 'src/rpc/peer/'],
  fastify: ['src/rpc/'],
  commander: ['cli/'],
  pino: ['src/logger.ts', 'src/audit-log.ts', 'src/server.ts'],
  'prom-client': ['src/metrics.ts'],
  jose: ['src/auth/io/jwt-tokens.ts'],
  yaml: ['src/option-values.ts'],
  pkijs: ['src/tls/x509.ts'],
  asn1js: ['src/tls/x509.ts'],
};

const IMPURE = [
  ...['async', 'await', 'Promise', 'Date', 'performance', 'crypto', 'process', 'console'],
  ...['setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask', 'EventEmitter', 'Buffer'],
  ...['globalThis', 'require', 'fetch', 'structuredClone', 'WeakRef', 'FinalizationRegistry'],
];

export function isMachine(path: string): boolean {
  return /^src\/(raft|auth|kv|lease|watch)\/[^/]+\.ts$/.test(path);
}

function isProduct(path: string): boolean {
  return path.startsWith('src/') || path.startsWith('cli/');
}

/**
 * The code without comments and with empty strings, so that words in them do not count. Code inside
 * `${}` stays.
 */
export function stripText(text: string): string {
  let out = '';
  let at = 0;
  const templates: number[] = [];
  let depth = 0;
  while (at < text.length) {
    const char = text[at] as string;
    const next = text[at + 1];
    if (char === '/' && next === '/') at = endOf(text, '\n', at);
    else if (char === '/' && next === '*') at = endOf(text, '*/', at + 2) + 2;
    else if (char === "'" || char === '"') {
      out += "''";
      at = skipQuoted(text, at, char);
    } else if (char === '`' || (char === '}' && templates.at(-1) === depth)) {
      if (char === '}') templates.pop();
      out += char === '`' ? "''" : ')';
      at = skipTemplate(text, at + 1);
      if (text[at - 1] === '{') {
        templates.push(depth);
        out += '(';
      }
    } else if (char === '/' && startsRegex(out)) {
      out += "''";
      at = skipRegex(text, at + 1);
    } else {
      if (char === '{') depth += 1;
      if (char === '}') depth -= 1;
      out += char;
      at += 1;
    }
  }
  return out;
}

function endOf(text: string, mark: string, from: number): number {
  const found = text.indexOf(mark, from);
  return found < 0 ? text.length : found;
}

function skipQuoted(text: string, from: number, quote: string): number {
  let at = from + 1;
  while (at < text.length && text[at] !== quote) at += text[at] === '\\' ? 2 : 1;
  return at + 1;
}

/** Goes to behind the closing back tick, or behind the opening brace of the next `${`. */
function skipTemplate(text: string, from: number): number {
  let at = from;
  while (at < text.length && text[at] !== '`') {
    if (text[at] === '$' && text[at + 1] === '{') return at + 2;
    at += text[at] === '\\' ? 2 : 1;
  }
  return at + 1;
}

/** A slash begins a regular expression where a value is expected. */
function startsRegex(before: string): boolean {
  const code = before.trimEnd();
  return /(^|[=(,[!&|?:;{}+\-*%<>~^]|\b(return|typeof|case|in|of))$/.test(code);
}

function skipRegex(text: string, from: number): number {
  let at = from;
  let inClass = false;
  while (at < text.length && text[at] !== '\n' && (inClass || text[at] !== '/')) {
    if (text[at] === '[') inClass = true;
    if (text[at] === ']') inClass = false;
    at += text[at] === '\\' ? 2 : 1;
  }
  return at + 1;
}

export function importsOf(text: string): Import[] {
  const found: Import[] = [];
  const withFrom = /\b(import|export)\s+(type\s+)?([^'";]*?)\bfrom\s*['"]([^'"]+)['"]/g;
  for (const [, , type, names, from] of text.matchAll(withFrom)) {
    const inline = /^\{(\s*type\s+\w+(\s+as\s+\w+)?\s*,?)+\s*\}\s*$/.test(names ?? '');
    found.push({ from: from as string, typeOnly: type !== undefined || inline });
  }
  for (const [, from] of text.matchAll(/\bimport\s*\(?\s*['"]([^'"]+)['"]/g)) {
    found.push({ from: from as string, typeOnly: false });
  }
  for (const [, from] of text.matchAll(
    /\b(?:require|createRequire\([^)]*\))\(['"]([^'"]+)['"]\)/g,
  )) {
    found.push({ from: from as string, typeOnly: false });
  }
  return found;
}

function resolveImport(file: SourceFile, from: string): string {
  return normalize(`${dirname(file.path)}/${from}`).replace(/\.js$/, '.ts');
}

/** The rule for a folder: its own, or that of `parent/*`. */
function arrowsFor(folder: string): Arrows | null {
  return ARROWS[folder] ?? ARROWS[`${dirname(folder)}/*`] ?? null;
}

function allows(list: readonly string[], target: string): boolean {
  const folder = dirname(target);
  const base = target.replace(/^src\/(.*)\.ts$/, '$1');
  return list.some((entry) => {
    if (entry === 'pure') return PURE_BASE.includes(base);
    if (entry === 'base') return BASE.includes(base);
    if (entry.endsWith('/*')) return dirname(folder) === entry.slice(0, -2);
    return entry === target || entry === folder;
  });
}

/** Folders import only what lies below them. */
export const arrows: Rule = (file) => {
  const folder = dirname(file.path);
  const rule = arrowsFor(folder);
  const problems: string[] = [];
  for (const { from, typeOnly } of importsOf(file.text)) {
    if (!from.startsWith('.')) continue;
    const target = resolveImport(file, from);
    if (isProduct(file.path) && /^(test|bench|examples)\//.test(target)) {
      problems.push(`imports ${target}: no product code depends on tests or benchmarks`);
    } else if (file.path.startsWith('src/') && target.startsWith('cli/')) {
      problems.push(`imports ${target}: src does not know the command line`);
    } else if (rule !== null && dirname(target) !== folder) {
      if (allows(rule.values, target)) continue;
      if (typeOnly && allows(rule.types, target)) continue;
      const types = allows(rule.types, target) ? ' for more than its types' : '';
      problems.push(`imports ${target}${types}: not an arrow of the architecture`);
    }
  }
  return problems;
};

/** Each package has its one place; the machine has none, and no built-in modules either. */
export const packages: Rule = (file) => {
  if (!isProduct(file.path)) return [];
  const problems: string[] = [];
  for (const { from } of importsOf(file.text)) {
    if (from.startsWith('.')) continue;
    if (isMachine(file.path)) {
      problems.push(`imports ${from}: the machine imports no module from outside`);
      continue;
    }
    if (from.startsWith('node:')) continue;
    const name = from.startsWith('@') ? from.split('/').slice(0, 2).join('/') : from.split('/')[0];
    const places = PACKAGES[name ?? ''];
    if (places === undefined) problems.push(`imports ${from}: not one of our packages`);
    else if (!places.some((place) => file.path.startsWith(place))) {
      problems.push(`imports ${from}: it belongs in ${places.join(', ')}`);
    }
  }
  return problems;
};

/** The machine knows no time, no chance, no waiting and no platform. */
export const purity: Rule = (file) => {
  if (!isMachine(file.path)) return [];
  const code = stripText(file.text);
  const problems = IMPURE.filter((word) => {
    return new RegExp(`(?<![\\w$.])${word}(?![\\w$]|\\s*[:?])`).test(code);
  }).map((word) => `uses ${word}: the machine is pure`);
  if (/\bMath\s*\.\s*random\b/.test(code)) problems.push('uses Math.random: the machine is pure');
  if (/\.(sort|toSorted)\(\s*\)/.test(code)) {
    problems.push('sorts without a comparator: the order would be that of strings');
  }
  if (/\blocaleCompare\b|\btoLocale\w*\b/.test(code)) {
    problems.push('depends on the locale: the order would differ between members');
  }
  return problems;
};

/** Every file opens with a comment that says what it is for. */
export const header: Rule = (file) => {
  const text = file.text.replace(/^#!.*\n/, '');
  const comment = /^\/\*[\s\S]*?\*\//.exec(text)?.[0];
  if (comment === undefined) return ['does not open with a comment that says what it is for'];
  const lines = comment.split('\n').length;
  if (!/\.(\s|$)/m.test(comment)) return ['opens with a comment without a sentence'];
  return lines > 60 ? [`opens with a comment of ${lines} lines: that is a chapter`] : [];
};

/** Marks of unfinished work, put together here so that this file does not hold them. */
const MARKS = new RegExp(
  `\\b(${['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', 'HA' + 'CK'].join('|')})\\b`,
);

export const unfinished: Rule = (file) => {
  const found = MARKS.exec(file.text);
  return found === null ? [] : [`says ${found[0]}: finish it or write it down elsewhere`];
};

/** A caught error is handled, passed on, or its disregard explained. */
export const emptyCatch: Rule = (file) => {
  const bare = /\bcatch\s*(\([^)]*\)\s*)?\{\s*\}/.test(file.text);
  return bare && /\bcatch\s*(\([^)]*\)\s*)?\{\s*\}/.test(stripText(file.text))
    ? ['has an empty catch']
    : [];
};

/** Files and classes are named after what they are. */
export const names: Rule = (file) => {
  const problems: string[] = [];
  const base = file.path.split('/').at(-1) ?? '';
  const stem = base.replace(/(\.test)?\.[a-z]+$/, '');
  if (/^(utils?|helpers?|types?|common|misc|shared)$/.test(stem)) {
    problems.push('has a name that says nothing: name it after what is in it');
  }
  if (!/^[a-z0-9]+([-.][a-z0-9]+)*$/.test(stem)) problems.push('is not named in kebab-case');
  const code = stripText(file.text);
  for (const [, kind, name] of code.matchAll(/\b(class|interface)\s+(\w+)/g)) {
    const empty = kind === 'class' ? /(Manager|Helper|Utils?|Base|Impl)$/ : /(Helper|Utils?|Impl)$/;
    if (empty.test(name ?? '')) {
      problems.push(`names a thing ${name}: say what it does`);
    }
  }
  return problems;
};

/** Names come from the file that owns them; only the public API is a list of exports. */
export const barrels: Rule = (file) => {
  if (!isProduct(file.path) || file.path === 'src/index.ts') return [];
  const code = stripText(file.text).trim();
  const rest = code.replace(/export\s+(type\s+)?(\*|\{[^}]*\})(\s+as\s+\w+)?\s+from\s+'';?/g, '');
  return code !== '' && rest.trim() === '' ? ['only passes on exports of other files'] : [];
};

/** Nothing in the tree depends on the machine or the registry it was written with. */
export const addresses: Rule = (file) => {
  const problems: string[] = [];
  const paths = new RegExp(`(?<![\\w.])/(${['work', 'home', 'Users', 'root'].join('|')})/[\\w.-]+`);
  const path = paths.exec(file.text);
  if (path !== null) problems.push(`names the path ${path[0]}, which is of one machine`);
  const registry = /\bregistry\.[a-z0-9-]+\.[a-z]+|"resolved":\s*"http/.exec(file.text);
  if (registry !== null) problems.push(`names the registry ${registry[0]}`);
  return problems;
};

/** The anchors that a page has: its headings, as GitHub makes names of them. */
function anchorsOf(text: string): string[] {
  const headings = text.replace(/^```[\s\S]*?^```/gm, '').matchAll(/^#{1,6} +(.+)$/gm);
  return [...headings].map(([, heading]) => {
    const words = (heading as string).toLowerCase().replace(/[^\p{L}\p{N}_ -]/gu, '');
    return words.trim().replaceAll(' ', '-');
  });
}

/**
 * Links of a page lead to files, folders and headings that are there. `read` gives the text of a path, ''
 * of a folder, null if there is nothing.
 */
export function links(file: SourceFile, read: (path: string) => string | null): string[] {
  const prose = file.text.replace(/^```[\s\S]*?^```/gm, '').replace(/`[^`\n]*`/g, '``');
  const inline = [...prose.matchAll(/\]\(<?([^)>\s]+)>?[^)]*\)/g)];
  const named = [...prose.matchAll(/^ {0,3}\[[^\]]+\]: *<?([^>\s]+)/gm)];
  return [...inline, ...named].flatMap(([, link]) => {
    const [path = '', anchor = ''] = (link as string).split('#');
    if (/^[a-z][a-z0-9+.-]*:/i.test(path)) return [];
    const text = path === '' ? file.text : read(normalize(`${dirname(file.path)}/${path}`));
    if (text === null) return [`links to ${link}, which does not exist`];
    const isThere = anchor === '' || anchorsOf(text).includes(anchor);
    return isThere ? [] : [`links to ${link}, where there is no such heading`];
  });
}

/** Rules for source files; `addresses` and `links` are for all text and for pages. */
export const SOURCE_RULES: Readonly<Record<string, Rule>> = {
  ...{ arrows, packages, purity, header, unfinished, emptyCatch, names, barrels },
};

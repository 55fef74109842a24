/**
 * Collects the text of every option from flags, environment and file; config.ts makes a Config of it.
 *
 * Flags win over environment (KVD_* over ETCD_*), environment over file, file over defaults. A variable that
 * is empty is not set. Flags are written as Go programs take them: `--name value`, `--name=value`, with one
 * dash or two, and switches alone or as `--name=false`.
 *
 * What no table knows is refused as a flag or in a file, and is nobody's business in the environment.
 */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { ETCD_OPTIONS, type EtcdOption, FORMER_NAMES } from './etcd-options.js';
import { OPTIONS } from './options.js';
import { TLS_GROUPS } from './tls-options.js';

export interface RawConfig {
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** What is wrong, and what is odd and does no harm: a line each. */
export interface Findings {
  readonly problems: string[];
  readonly warnings: string[];
}

type Values = Map<string, string>;

/** When there is a file to be read: it takes 30 ms of a start. */
function loadYaml(): typeof import('yaml') {
  return createRequire(import.meta.url)('yaml');
}

const KNOWN: ReadonlySet<string> = new Set(OPTIONS.map(({ name }) => name));
const SWITCHES: ReadonlySet<string> = new Set([
  ...OPTIONS.filter(({ value }) => value === '').map(({ name }) => name),
  ...[...ETCD_OPTIONS].filter(([, { isSwitch }]) => isSwitch).map(([name]) => name),
]);

/** A value for each name in OPTIONS. */
export function collectValues(raw: RawConfig, findings: Findings): ReadonlyMap<string, string> {
  const { problems } = findings;
  const flags = readFlags(raw.args, problems);
  const env = readEnvironment(raw.env, findings);
  const path = flags.get('config-file') ?? env.get('config-file') ?? '';
  const file = path === '' ? new Map<string, string>() : readFile(path, problems);
  return new Map(
    OPTIONS.map(({ name, fallback }) => {
      return [name, flags.get(name) ?? env.get(name) ?? file.get(name) ?? fallback];
    }),
  );
}

function readFlags(args: readonly string[], problems: string[]): Values {
  const flags: Values = new Map();
  for (let at = 0; at < args.length; at += 1) {
    const match = /^--?([a-z][a-z0-9-]*)(?:=(.*))?$/s.exec(args[at] as string);
    if (match === null) {
      problems.push(`unexpected argument "${args[at]}": options are --name VALUE; see kvd --help`);
      continue;
    }
    const [, given, inline] = match as unknown as [string, string, string | undefined];
    const name = FORMER_NAMES.get(given) ?? given;
    const next = args[at + 1];
    const isKnown = KNOWN.has(name) || ETCD_OPTIONS.has(name);
    if (!isKnown) {
      problems.push(`unknown option --${given}; see kvd --help`);
      if (inline === undefined && next !== undefined && !next.startsWith('-')) at += 1;
      continue;
    }
    let value = inline ?? 'true';
    if (inline === undefined && !SWITCHES.has(name)) {
      if (next === undefined) {
        problems.push(`--${given} needs a value`);
        continue;
      }
      value = next;
      at += 1;
    }
    take(flags, name, value, `--${given}`, problems);
  }
  return flags;
}

function readEnvironment(
  env: RawConfig['env'],
  { problems, warnings }: Findings,
): ReadonlyMap<string, string> {
  const values: Values = new Map();
  const without: string[] = [];
  const former = new Map([...FORMER_NAMES].map(([old, name]) => [name, old]));
  for (const name of new Set([...KNOWN, ...ETCD_OPTIONS.keys()])) {
    const names = [name, former.get(name) ?? name];
    const variables = ['KVD', 'ETCD'].flatMap((prefix) => {
      return names.map((each) => `${prefix}_${each.toUpperCase().replaceAll('-', '_')}`);
    });
    const variable = variables.find((each) => (env[each] ?? '') !== '');
    if (variable === undefined) continue;
    const value = env[variable] as string;
    const other = KNOWN.has(name) ? undefined : ETCD_OPTIONS.get(name);
    if (other === undefined || other.isGrave) take(values, name, value, variable, problems);
    else if (other.state === 'absent' && !isHarmless(other, value)) without.push(variable);
  }
  if (without.length > 0) {
    warnings.push(`without effect, because kvd does not have these options: ${without.join(', ')}`);
  }
  return values;
}

function readFile(path: string, problems: string[]): Values {
  const values: Values = new Map();
  if (!existsSync(path)) {
    problems.push(`--config-file ${path} does not exist`);
    return values;
  }
  const yaml = loadYaml();
  let content: unknown;
  try {
    content = yaml.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    problems.push(`--config-file ${path} is not YAML: ${(error as Error).message.split('\n')[0]}`);
    return values;
  }
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    problems.push(`--config-file ${path} must hold "name: value" lines`);
    return values;
  }
  for (const [given, value] of Object.entries(content)) {
    const group = TLS_GROUPS[given];
    if (group === undefined) setFromFile(FORMER_NAMES.get(given) ?? given, given, value);
    else {
      for (const [key, inner] of Object.entries(value ?? {})) {
        setFromFile(group[key] ?? '', `${given}: ${key}`, inner);
      }
    }
  }
  return values;

  function setFromFile(name: string, given: string, value: unknown): void {
    if (!KNOWN.has(name) && !ETCD_OPTIONS.has(name)) {
      problems.push(`${path}: unknown option "${given}"`);
    } else if (value !== null) {
      const text = Array.isArray(value) ? value.join(',') : String(value);
      take(values, name, text, `${path}: ${given}`, problems);
    }
  }
}

/** Keeps the value of an option of kvd, and says why there is none of etcd's. `where` it was set. */
function take(
  values: Values,
  name: string,
  value: string,
  where: string,
  problems: string[],
): void {
  const isSwitch = SWITCHES.has(name);
  const text = isSwitch ? switchText(value) : value;
  if (text === null) problems.push(`${where} ${value}: it is true or false`);
  else if (KNOWN.has(name)) values.set(name, text);
  else {
    const option = ETCD_OPTIONS.get(name) as EtcdOption;
    if (option.state === 'ignored' || isHarmless(option, text)) return;
    problems.push(`${where} is an option of etcd that kvd does not have: ${option.reason}`);
  }
}

function isHarmless(option: EtcdOption, value: string): boolean {
  return option.harmless.has(option.isSwitch ? (switchText(value) ?? value) : value);
}

/** Go's ways of writing them; null: none of them. */
function switchText(value: string): 'true' | 'false' | null {
  if (/^(?:1|t|T|TRUE|true|True)$/.test(value)) return 'true';
  return /^(?:0|f|F|FALSE|false|False)$/.test(value) ? 'false' : null;
}

/**
 * From flags, environment and file to one frozen Config. The only file that knows option names.
 *
 * Names are etcd's, so that its guides work: `--listen-client-urls`, `KVD_LISTEN_CLIENT_URLS` or
 * `ETCD_LISTEN_CLIENT_URLS`, `listen-client-urls:` in a YAML file. Flags win over environment
 * (KVD_* over ETCD_*), environment over file, file over defaults. All problems are reported together,
 * each in one line that says what to do. Milliseconds become ticks here and nowhere else. PreVote,
 * CheckQuorum and fsync have no switch: safety is not an option.
 */
import { existsSync, readFileSync } from 'node:fs';
import { parse } from 'yaml';
import type { CompactionPolicy } from './auto-compaction.js';
import { fromUtf8 } from './bytes.js';
import { crc32c } from './crc32c.js';
import { KvError } from './errors.js';
import { TLS_GROUPS, TLS_OPTIONS, type TlsSettings, tlsSettings } from './tls-options.js';

export interface InitialMember {
  readonly id: number;
  readonly name: string;
  readonly peerUrls: readonly string[];
}

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
  /** Spoken to with TLS. */
  readonly secure: boolean;
  readonly url: string;
}

/** A socket in the file system. */
export interface SocketAddress {
  readonly path: string;
  readonly url: string;
}

export type ClientAddress = ListenAddress | SocketAddress;

export interface Config {
  readonly name: string;
  readonly dataDir: string;
  readonly listenClient: readonly ClientAddress[];
  readonly advertiseClientUrls: readonly string[];
  readonly listenPeer: readonly ListenAddress[];
  readonly advertisePeerUrls: readonly string[];
  readonly initialMembers: readonly InitialMember[];
  readonly initialClusterState: 'new' | 'existing';
  /** Whom a member that joins dials until its own table is there. */
  readonly seedMembers: readonly InitialMember[];
  /** Client URLs of a running cluster that this member asks to be taken in; else empty. */
  readonly join: readonly string[];
  readonly clusterId: number;
  readonly memberId: number;
  readonly heartbeatMs: number;
  readonly electionMs: number;
  readonly tickMs: number;
  readonly heartbeatTicks: number;
  readonly electionTicks: number;
  readonly snapshotCount: number;
  readonly snapshotCatchupEntries: number;
  readonly maxRequestBytes: number;
  readonly maxTxnOps: number;
  /** 0 = none. */
  readonly quotaBackendBytes: number;
  /** With less free space on its disk the member stops writes; 0 = it does not look. */
  readonly diskReserveBytes: number;
  /** Between two comparisons of the members' states; 0 = only when a member starts. */
  readonly corruptCheckMs: number;
  /** Null: history is kept until a client compacts. */
  readonly autoCompaction: CompactionPolicy | null;
  /** Pings on connections of gRPC; 0 = none, or no rule. */
  readonly grpcKeepalive: {
    readonly minTimeMs: number;
    readonly intervalMs: number;
    readonly timeoutMs: number;
  };
  readonly watchProgressNotifyMs: number;
  readonly slowRequestMs: number;
  readonly segmentBytes: number;
  readonly logLevel: string;
  /** Null: nobody speaks TLS there. */
  readonly clientTls: TlsSettings | null;
  readonly peerTls: TlsSettings | null;
  /** What is odd and does no harm, to be logged. */
  readonly warnings: readonly string[];
}

/** Of the name in the address of a socket; there are systems that take four less. */
const SOCKET_PATH_BYTES_MAX = 107;

export interface Option {
  readonly name: string;
  /** Empty: a switch, on when it is there. */
  readonly value: string;
  readonly fallback: string;
  readonly meaning: string;
}

/** Every option once: name, what a value looks like, default, meaning. `--help` prints this table. */
export const OPTIONS: readonly Option[] = [
  {
    name: 'name',
    value: 'NAME',
    fallback: 'default',
    meaning: 'name of this member, as in --initial-cluster',
  },
  {
    name: 'data-dir',
    value: 'DIR',
    fallback: '',
    meaning: 'folder of this member (default NAME.kvd)',
  },
  {
    name: 'listen-client-urls',
    value: 'URL,...',
    fallback: 'http://127.0.0.1:2379',
    meaning: 'where clients are served: http://HOST:PORT, https://HOST:PORT, or unix:///PATH',
  },
  {
    name: 'advertise-client-urls',
    value: 'URL,...',
    fallback: '',
    meaning: 'what clients are told (default: the listen URLs)',
  },
  {
    name: 'listen-peer-urls',
    value: 'URL,...',
    fallback: 'http://127.0.0.1:2380',
    meaning: 'where other members are served',
  },
  {
    name: 'initial-advertise-peer-urls',
    value: 'URL,...',
    fallback: '',
    meaning: 'what other members are told (default: the listen URLs)',
  },
  {
    name: 'initial-cluster',
    value: 'NAME=URL,...',
    fallback: '',
    meaning: 'all members of a new cluster (default: this one alone)',
  },
  {
    name: 'initial-cluster-state',
    value: 'new|existing',
    fallback: 'new',
    meaning: 'form a cluster or join one',
  },
  {
    name: 'join',
    value: 'URL,...',
    fallback: '',
    meaning: 'client URLs of a running cluster: become a member of it',
  },
  {
    name: 'initial-cluster-token',
    value: 'TEXT',
    fallback: 'kvd-cluster',
    meaning: 'tells clusters apart that use the same addresses',
  },
  {
    name: 'heartbeat-interval',
    value: 'MS',
    fallback: '50',
    meaning: 'how often a leader shows itself',
  },
  {
    name: 'election-timeout',
    value: 'MS',
    fallback: '500',
    meaning: 'how long followers wait, randomised 1 to 2 times; at least 5 heartbeats',
  },
  {
    name: 'snapshot-count',
    value: 'N',
    fallback: '100000',
    meaning: 'entries between two checkpoints of the state',
  },
  {
    name: 'snapshot-catchup-entries',
    value: 'N',
    fallback: '10000',
    meaning: 'entries kept behind a checkpoint for members that lag',
  },
  { name: 'max-request-bytes', value: 'BYTES', fallback: '1572864', meaning: 'largest write' },
  { name: 'max-txn-ops', value: 'N', fallback: '128', meaning: 'most operations in a transaction' },
  {
    name: 'quota-backend-bytes',
    value: 'BYTES',
    fallback: '0',
    meaning: 'space for keys and history, by the flag of the leader; 0 = 2 GiB, -1 = no limit',
  },
  {
    name: 'disk-reserve-bytes',
    value: 'BYTES',
    fallback: '268435456',
    meaning: 'with less free space on its disk a member stops writes; 0 = never',
  },
  {
    name: 'auto-compaction-mode',
    value: 'periodic|revision',
    fallback: 'periodic',
    meaning: 'what the retention counts: time or revisions',
  },
  {
    name: 'auto-compaction-retention',
    value: 'DURATION|N',
    fallback: '',
    meaning:
      'history to keep: hours (a plain number) or a duration, or revisions; 0 = all of it (default 1h, or 10000 revisions)',
  },
  {
    name: 'corrupt-check-time',
    value: 'DURATION',
    fallback: '1m',
    meaning: 'how often the leader compares the states of all members; 0 = only when one starts',
  },
  {
    name: 'grpc-keepalive-min-time',
    value: 'DURATION',
    fallback: '0',
    meaning: 'gRPC clients that ping more often are sent away; 0 = they ping as they like',
  },
  {
    name: 'grpc-keepalive-interval',
    value: 'DURATION',
    fallback: '2h',
    meaning: 'gRPC clients that are silent for so long are asked for a sign of life; 0 = never',
  },
  {
    name: 'grpc-keepalive-timeout',
    value: 'DURATION',
    fallback: '20s',
    meaning: 'time for that sign, then the connection is closed; 0 = for ever',
  },
  {
    name: 'watch-progress-notify-interval',
    value: 'DURATION',
    fallback: '10m',
    meaning: 'rhythm of progress notifications (10m, 5s, 100ms)',
  },
  {
    name: 'warning-unary-request-duration',
    value: 'DURATION',
    fallback: '300ms',
    meaning: 'slower requests are logged',
  },
  {
    name: 'wal-segment-bytes',
    value: 'BYTES',
    fallback: '67108864',
    meaning: 'size of one file of the log',
  },
  {
    name: 'log-level',
    value: 'LEVEL',
    fallback: 'info',
    meaning: 'trace, debug, info, warn, error or silent',
  },
  ...TLS_OPTIONS,
  {
    name: 'config-file',
    value: 'FILE',
    fallback: '',
    meaning: 'YAML file with these names as keys',
  },
];

const SWITCHES: ReadonlySet<string> = new Set(
  OPTIONS.filter(({ value }) => value === '').map(({ name }) => name),
);

/** Flags of etcd that ask for what kvd does anyway; accepted so that its command lines work. */
const ACCEPTED: ReadonlySet<string> = new Set([
  'pre-vote',
  'enable-grpc-gateway',
  'logger',
  'log-outputs',
  'strict-reconfig-check',
  'enable-v2',
  'metrics',
  // These tune parts of etcd that kvd does not have.
  'max-wals',
  'max-snapshots',
  'backend-batch-interval',
  'backend-batch-limit',
  'backend-bbolt-freelist-type',
  'compaction-batch-limit',
  'compaction-sleep-interval',
  'experimental-compaction-batch-limit',
  'log-package-levels',
  // A member that starts always compares its state with the others.
  'experimental-initial-corrupt-check',
  'experimental-compact-hash-check-enabled',
  'experimental-compact-hash-check-time',
  'compact-hash-check-time',
  // What etcd's gates open is either always there or not at all.
  'feature-gates',
]);

/** Names of etcd up to 3.5. */
const OLD_NAMES: ReadonlyMap<string, string> = new Map([
  ['experimental-corrupt-check-time', 'corrupt-check-time'],
]);

export interface RawConfig {
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Throws KvError CONFIG_INVALID with one line per problem. */
export function loadConfig(raw: RawConfig): Config {
  const problems: string[] = [];
  const values = collect(raw, problems);
  const config = build(values, problems);
  if (problems.length > 0) throw new KvError('CONFIG_INVALID', problems.join('\n'));
  return Object.freeze(config);
}

function collect(raw: RawConfig, problems: string[]): Map<string, string> {
  const known = new Set(OPTIONS.map((option) => option.name));
  const flags = parseArgs(raw.args, known, problems);
  const inEnv = (name: string): string | undefined => {
    const suffix = name.toUpperCase().replaceAll('-', '_');
    return raw.env[`KVD_${suffix}`] ?? raw.env[`ETCD_${suffix}`];
  };
  const fromEnv = (name: string): string | undefined => {
    const [old] = [...OLD_NAMES].find(([, now]) => now === name) ?? [];
    return inEnv(name) ?? (old === undefined ? undefined : inEnv(old));
  };
  const file = flags.get('config-file') ?? fromEnv('config-file') ?? '';
  const fromFile = file === '' ? new Map<string, string>() : readFile(file, known, problems);
  const values = new Map<string, string>();
  for (const { name, fallback } of OPTIONS) {
    values.set(name, flags.get(name) ?? fromEnv(name) ?? fromFile.get(name) ?? fallback);
  }
  return values;
}

function parseArgs(
  args: readonly string[],
  known: ReadonlySet<string>,
  problems: string[],
): Map<string, string> {
  const flags = new Map<string, string>();
  for (let at = 0; at < args.length; at += 1) {
    const match = /^--?([a-z][a-z0-9-]*)(?:=(.*))?$/s.exec(args[at] as string);
    if (match === null) {
      problems.push(`unexpected argument "${args[at]}": options are --name VALUE; see kvd --help`);
      continue;
    }
    const [, written, inline] = match as unknown as [string, string, string | undefined];
    const name = OLD_NAMES.get(written) ?? written;
    const next = args[at + 1];
    if (ACCEPTED.has(name)) {
      if (inline === undefined && next !== undefined && !next.startsWith('-')) at += 1;
      continue;
    }
    if (!known.has(name)) {
      problems.push(`unknown option --${name}; see kvd --help`);
      if (inline === undefined && next !== undefined && !next.startsWith('-')) at += 1;
    } else if (inline !== undefined) flags.set(name, inline);
    else if (SWITCHES.has(name)) flags.set(name, 'true');
    else if (next === undefined) problems.push(`--${name} needs a value`);
    else {
      flags.set(name, next);
      at += 1;
    }
  }
  return flags;
}

function readFile(
  path: string,
  known: ReadonlySet<string>,
  problems: string[],
): Map<string, string> {
  const values = new Map<string, string>();
  if (!existsSync(path)) {
    problems.push(`--config-file ${path} does not exist`);
    return values;
  }
  let content: unknown;
  try {
    content = parse(readFileSync(path, 'utf8'));
  } catch (error) {
    problems.push(`--config-file ${path} is not YAML: ${(error as Error).message.split('\n')[0]}`);
    return values;
  }
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    problems.push(`--config-file ${path} must hold "name: value" lines`);
    return values;
  }
  for (const [written, value] of Object.entries(content)) {
    const name = OLD_NAMES.get(written) ?? written;
    const group = TLS_GROUPS[name];
    if (ACCEPTED.has(name)) continue;
    if (group !== undefined) {
      for (const [key, inner] of Object.entries(value ?? {})) {
        const option = group[key];
        if (option === undefined) problems.push(`${path}: unknown option "${name}: ${key}"`);
        else values.set(option, textOf(inner));
      }
    } else if (!known.has(name)) problems.push(`${path}: unknown option "${name}"`);
    else values.set(name, textOf(value));
  }
  return values;
}

function textOf(value: unknown): string {
  return Array.isArray(value) ? value.join(',') : String(value ?? '');
}

function build(values: ReadonlyMap<string, string>, problems: string[]): Config {
  const text = (name: string): string => values.get(name) as string;
  const count = (name: string, least: number, most: number): number => {
    const value = Number(text(name));
    if (Number.isSafeInteger(value) && value >= least && value <= most) return value;
    problems.push(`--${name} ${text(name)}: a whole number from ${least} to ${most} is wanted`);
    return least;
  };
  const duration = (name: string): number => {
    const ms = durationMs(text(name));
    if (ms !== null) return ms;
    problems.push(`--${name} ${text(name)}: a duration such as 300ms, 5s or 10m is wanted`);
    return 1;
  };
  const name = text('name');
  const listenClient = clientUrls(text('listen-client-urls'), 'listen-client-urls', problems).map(
    clientAddressOf,
  );
  const listenPeer = listen(text('listen-peer-urls'), 'listen-peer-urls', problems);
  const advertisePeerUrls = urls(
    text('initial-advertise-peer-urls') || text('listen-peer-urls'),
    'initial-advertise-peer-urls',
    problems,
  );
  const token = text('initial-cluster-token');
  const join = text('join') === '' ? [] : urls(text('join'), 'join', problems);
  const members = initialMembers(
    (join.length === 0 && text('initial-cluster')) ||
      advertisePeerUrls.map((url) => `${name}=${url}`).join(','),
    token,
    problems,
  );
  const self = members.find((member) => member.name === name);
  if (self === undefined) {
    problems.push(
      `--initial-cluster does not name this member: add ${name}=${advertisePeerUrls[0]}`,
    );
  } else if (self.peerUrls.join() !== [...advertisePeerUrls].sort(byText).join()) {
    problems.push(
      `--initial-cluster says ${name}=${self.peerUrls.join(',')}, but --initial-advertise-peer-urls is ${advertisePeerUrls.join(',')}: they must be the same`,
    );
  }
  const state = text('initial-cluster-state');
  if (state !== 'new' && state !== 'existing') {
    problems.push(`--initial-cluster-state ${state}: it is "new" or "existing"`);
  }
  const heartbeatMs = count('heartbeat-interval', 5, 10_000);
  const electionMs = count('election-timeout', 25, 50_000);
  if (electionMs < 5 * heartbeatMs) {
    problems.push(
      `--election-timeout ${electionMs} must be at least 5 times --heartbeat-interval ${heartbeatMs}`,
    );
  }
  const tickMs = Math.max(5, Math.floor(heartbeatMs / 5));
  const quota = count('quota-backend-bytes', -1, Number.MAX_SAFE_INTEGER);
  const level = text('log-level');
  if (!['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'].includes(level)) {
    problems.push(`--log-level ${level}: it is trace, debug, info, warn, error or silent`);
  }
  const warnings: string[] = [];
  const shared = { text, problems, warnings };
  const clientTls = tlsSettings({
    ...shared,
    prefix: '',
    listen: listenClient.map((each) => ({ secure: false, ...each })),
    isCaller: join.some((url) => addressOf(url).secure),
  });
  const peerTls = tlsSettings({
    ...shared,
    prefix: 'peer-',
    listen: listenPeer,
    isCaller: members.some(({ peerUrls }) => peerUrls.some((url) => addressOf(url).secure)),
  });
  return {
    name,
    dataDir: text('data-dir') || `${name}.kvd`,
    listenClient,
    advertiseClientUrls: clientUrls(
      text('advertise-client-urls') || text('listen-client-urls'),
      'advertise-client-urls',
      problems,
    ),
    listenPeer,
    advertisePeerUrls,
    initialMembers: members,
    initialClusterState: join.length > 0 ? 'existing' : (state as 'new' | 'existing'),
    join,
    seedMembers: [],
    clusterId: idOf(`${token}|${members.map((member) => member.id).join()}`),
    memberId: self?.id ?? 0,
    heartbeatMs,
    electionMs,
    tickMs,
    heartbeatTicks: Math.max(1, Math.round(heartbeatMs / tickMs)),
    electionTicks: Math.max(5, Math.round(electionMs / tickMs)),
    snapshotCount: count('snapshot-count', 1, 1e9),
    snapshotCatchupEntries: count('snapshot-catchup-entries', 0, 1e9),
    maxRequestBytes: count('max-request-bytes', 1024, 2 ** 27),
    maxTxnOps: count('max-txn-ops', 1, 1e6),
    quotaBackendBytes: quota === 0 ? 2 ** 31 : Math.max(0, quota),
    diskReserveBytes: count('disk-reserve-bytes', 0, Number.MAX_SAFE_INTEGER),
    autoCompaction: compactionPolicy(
      text('auto-compaction-mode'),
      text('auto-compaction-retention'),
      problems,
    ),
    corruptCheckMs: duration('corrupt-check-time'),
    grpcKeepalive: {
      minTimeMs: duration('grpc-keepalive-min-time'),
      intervalMs: duration('grpc-keepalive-interval'),
      timeoutMs: duration('grpc-keepalive-timeout'),
    },
    watchProgressNotifyMs: Math.max(100, duration('watch-progress-notify-interval')),
    slowRequestMs: duration('warning-unary-request-duration'),
    segmentBytes: count('wal-segment-bytes', 65_536, 2 ** 30),
    logLevel: level,
    clientTls,
    peerTls,
    warnings,
  };
}

/** Go's way of writing durations (`20s`, `2h0m0s`), or a plain number of ms; null: neither. */
function durationMs(text: string): number | null {
  if (/^\d+(?:\.\d+)?$/.test(text)) return Number(text);
  if (!/^(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+$/.test(text)) return null;
  const units = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  let ms = 0;
  for (const [, count, unit] of text.matchAll(/(\d+(?:\.\d+)?)([a-zµ]+)/g)) {
    ms += Number(count) * units[unit as keyof typeof units];
  }
  return ms;
}

/** etcd reads a plain number as hours in periodic mode. */
function compactionPolicy(
  mode: string,
  retention: string,
  problems: string[],
): CompactionPolicy | null {
  if (mode !== 'periodic' && mode !== 'revision') {
    problems.push(`--auto-compaction-mode ${mode}: it is "periodic" or "revision"`);
    return null;
  }
  if (retention === '') {
    return mode === 'periodic' ? { mode, periodMs: 3_600_000 } : { mode, revisions: 10_000 };
  }
  const count = Number(retention);
  if (retention === '0') return null;
  if (mode === 'revision') {
    if (Number.isSafeInteger(count) && count > 0) return { mode, revisions: count };
    problems.push(`--auto-compaction-retention ${retention}: a number of revisions is wanted`);
    return null;
  }
  const units = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, '': 3_600_000 };
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|)$/.exec(retention);
  const periodMs =
    match === null ? 0 : Number(match[1]) * units[(match[2] ?? '') as keyof typeof units];
  if (periodMs >= 1000) return { mode, periodMs };
  if (periodMs === 0 && match !== null) return null;
  problems.push(
    `--auto-compaction-retention ${retention}: hours or a duration of at least a second (30m, 12h) is wanted`,
  );
  return null;
}

/** Of the form that ports of members have. */
export function isMemberUrl(url: string): boolean {
  const form = /^https?:\/\/(?:[^/:\s[\]]+|\[[0-9a-f:]+\]):\d{1,5}\/?$/i;
  return form.test(url) && URL.canParse(url);
}

function urls(list: string, option: string, problems: string[]): string[] {
  const result: string[] = [];
  for (const url of list.split(',')) {
    if (isMemberUrl(url)) result.push(url.replace(/\/$/, ''));
    else {
      problems.push(
        `--${option}: "${url}" is not a URL of the form http://HOST:PORT or https://HOST:PORT`,
      );
    }
  }
  return result;
}

function listen(list: string, option: string, problems: string[]): ListenAddress[] {
  return urls(list, option, problems).map((url) => ({ ...addressOf(url), url }));
}

/** As for `urls`, and sockets in the file system. */
function clientUrls(list: string, option: string, problems: string[]): string[] {
  return list.split(',').flatMap((url) => {
    const path = socketPathOf(url);
    if (path === null) return urls(url, option, problems);
    if (path === '' || /[?#%\s]/.test(path)) {
      problems.push(`--${option}: "${url}" names no file; a socket is written unix:///PATH`);
    } else if (Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX) {
      problems.push(
        `--${option}: "${path}" is too long for a socket; the system takes ${SOCKET_PATH_BYTES_MAX} bytes`,
      );
    }
    return [url];
  });
}

/** What follows the scheme, `host:port` too, is the name of a file; null: no such URL. */
function socketPathOf(url: string): string | null {
  return /^unix:(?:\/\/)?(.*)$/is.exec(url)?.[1] ?? null;
}

function clientAddressOf(url: string): ClientAddress {
  const path = socketPathOf(url);
  return path === null ? { ...addressOf(url), url } : { path, url };
}

/** Where a URL leads that has been checked. */
export function addressOf(url: string): {
  readonly host: string;
  readonly port: number;
  readonly secure: boolean;
} {
  const parsed = new URL(url);
  const secure = parsed.protocol === 'https:';
  return {
    host: parsed.hostname.replace(/^\[|\]$/g, ''),
    // The URL class leaves out the port that its scheme has anyway.
    port: parsed.port === '' ? (secure ? 443 : 80) : Number(parsed.port),
    secure,
  };
}

function initialMembers(list: string, token: string, problems: string[]): InitialMember[] {
  const byName = new Map<string, string[]>();
  for (const item of list.split(',')) {
    const cut = item.indexOf('=');
    if (cut <= 0) {
      problems.push(`--initial-cluster: "${item}" is not of the form NAME=URL`);
      continue;
    }
    const url = urls(item.slice(cut + 1), 'initial-cluster', problems);
    byName.set(item.slice(0, cut), [...(byName.get(item.slice(0, cut)) ?? []), ...url]);
  }
  const members = [...byName].map(([name, peerUrls]) => {
    const sorted = peerUrls.sort(byText);
    return { id: idOf(`${token}|${name}|${sorted.join()}`), name, peerUrls: sorted };
  });
  const seen = new Map<string, string>();
  for (const { name, peerUrls } of members) {
    for (const url of peerUrls) {
      const other = seen.get(url);
      if (other !== undefined)
        problems.push(`--initial-cluster: ${other} and ${name} both have ${url}`);
      seen.set(url, name);
    }
  }
  return members.sort((a, b) => a.id - b.id);
}

function byText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** 48 bits from a text, never 0: every member derives the same ids from the same command line. */
function idOf(text: string): number {
  const bytes = fromUtf8(text);
  const low = crc32c(bytes);
  const high = crc32c(bytes, 0, bytes.length, 0x9e3779b9 ^ low) & 0xffff;
  return high * 2 ** 32 + low || 1;
}

/**
 * From the texts of all options to one frozen Config: what they mean, and whether they fit together.
 *
 * Names are etcd's, so that its guides work: `--listen-client-urls`, `KVD_LISTEN_CLIENT_URLS` or
 * `ETCD_LISTEN_CLIENT_URLS`, `listen-client-urls:` in a YAML file. options.ts lists them, option-values.ts
 * reads them, etcd-options.ts says what of etcd's there is not. All problems are reported together, each in
 * one line that says what to do. Milliseconds become ticks here and nowhere else. PreVote, CheckQuorum and
 * fsync have no switch: safety is not an option.
 */
import { JWT_ALGORITHMS, type JwtAlgorithm, type JwtOptions } from './auth/io/jwt-options.js';
import type { CompactionPolicy } from './auto-compaction.js';
import type { BackupPolicy } from './backup/schedule.js';
import { fromUtf8 } from './bytes.js';
import { crc32c } from './crc32c.js';
import { KvError } from './errors.js';
import { collectValues, type Findings, type RawConfig } from './option-values.js';
import { type TlsSettings, tlsSettings } from './tls-options.js';

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
  /** Metrics and health alone. */
  readonly listenMetrics: readonly ListenAddress[];
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
  /** Pairs of one answer; Infinity = no limit. */
  readonly maxRangeBytes: number;
  /** 0 = none. */
  readonly quotaBackendBytes: number;
  /** With less free space on its disk the member stops writes; 0 = it does not look. */
  readonly diskReserveBytes: number;
  /** Between two comparisons of the members' states; 0 = only when a member starts. */
  readonly corruptCheckMs: number;
  /** Null: history is kept until a client compacts. */
  readonly autoCompaction: CompactionPolicy | null;
  /** Null: nobody makes backups but whoever asks for one. */
  readonly backup: BackupPolicy | null;
  /** Pings on connections of gRPC; 0 = none, or no rule. */
  readonly grpcKeepalive: {
    readonly minTimeMs: number;
    readonly intervalMs: number;
    readonly timeoutMs: number;
  };
  /** Calls at once on one connection of a gRPC client. */
  readonly maxConcurrentStreams: number;
  /** Of clients over TCP; 0 = no limit. */
  readonly maxConnectionsPerAddress: number;
  /** Requests a second of one user; 0 = no limit. */
  readonly ratePerUser: number;
  /** Whose pages may call the JSON API, and by which names of this server; empty: all. */
  readonly corsOrigins: readonly string[];
  readonly hosts: readonly string[];
  readonly watchProgressNotifyMs: number;
  readonly slowRequestMs: number;
  readonly segmentBytes: number;
  readonly logLevel: string;
  readonly authToken: AuthTokenKind;
  /** How long a simple token is good behind its last use. */
  readonly authTokenTtlMs: number;
  /** log2 of the iterations behind a password. */
  readonly passwordCost: number;
  /** Null: no file tells who did what. */
  readonly audit: AuditPolicy | null;
  /** Null: nobody speaks TLS there. */
  readonly clientTls: TlsSettings | null;
  readonly peerTls: TlsSettings | null;
  /** What is odd and does no harm, to be logged. */
  readonly warnings: readonly string[];
}

export interface AuditPolicy {
  readonly path: string;
  readonly withReads: boolean;
  /** Of one file. */
  readonly maxBytes: number;
  /** Files besides the one that is written to. */
  readonly keep: number;
}

export type AuthTokenKind = { readonly kind: 'simple' } | ({ readonly kind: 'jwt' } & JwtOptions);

/** 32 MiB and some 80 ms of a core for each login. */
const PASSWORD_COST = 15;

/** Of the name in the address of a socket; there are systems that take four less. */
const SOCKET_PATH_BYTES_MAX = 107;

/** Each holds some memory. */
const STREAMS_MAX = 65_536;

/** Throws KvError CONFIG_INVALID with one line per problem. */
export function loadConfig(raw: RawConfig): Config {
  const findings: Findings = { problems: [], warnings: [] };
  const config = build(collectValues(raw, findings), findings);
  const { problems } = findings;
  if (problems.length > 0) throw new KvError('CONFIG_INVALID', problems.join('\n'));
  return Object.freeze(config);
}

function build(values: ReadonlyMap<string, string>, { problems, warnings }: Findings): Config {
  const text = (name: string): string => values.get(name) as string;
  const count = (name: string, least: number, most: number): number => {
    const value = wholeNumber(text(name));
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
  const metricsUrls = text('listen-metrics-urls');
  const listenMetrics =
    metricsUrls === '' ? [] : listen(metricsUrls, 'listen-metrics-urls', problems);
  const listenPeer = listen(text('listen-peer-urls'), 'listen-peer-urls', problems);
  const advertisePeerUrls = urls(
    text('initial-advertise-peer-urls') || text('listen-peer-urls'),
    'initial-advertise-peer-urls',
    problems,
  );
  checkPorts([...listenClient, ...listenMetrics, ...listenPeer], problems);
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
  const streams = count('max-concurrent-streams', 0, 2 ** 32 - 1);
  const level = text('log-level');
  if (!['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'].includes(level)) {
    problems.push(`--log-level ${level}: it is trace, debug, info, warn, error or silent`);
  }
  const shared = { text, problems, warnings };
  const clientTls = tlsSettings({
    ...shared,
    prefix: '',
    listen: listenClient.map((each) => ({ secure: false, ...each })),
    listenMetrics,
    isCaller: join.some((url) => addressOf(url).secure),
  });
  const peerTls = tlsSettings({
    ...shared,
    prefix: 'peer-',
    listen: listenPeer,
    listenMetrics: [],
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
    listenMetrics,
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
    // What is above it fits no answer in JSON, whose text is a third longer, nor clients of etcd.
    maxRangeBytes: count('max-range-bytes', 0, 2 ** 31 - 1) || Number.POSITIVE_INFINITY,
    quotaBackendBytes: quota === 0 ? 2 ** 31 : Math.max(0, quota),
    diskReserveBytes: count('disk-reserve-bytes', 0, Number.MAX_SAFE_INTEGER),
    autoCompaction: compactionPolicy(
      text('auto-compaction-mode'),
      text('auto-compaction-retention'),
      problems,
    ),
    corruptCheckMs: duration('corrupt-check-time'),
    backup: backupPolicy(text, problems),
    grpcKeepalive: {
      minTimeMs: duration('grpc-keepalive-min-time'),
      intervalMs: duration('grpc-keepalive-interval'),
      timeoutMs: duration('grpc-keepalive-timeout'),
    },
    maxConcurrentStreams: Math.min(streams === 0 ? STREAMS_MAX : streams, STREAMS_MAX),
    maxConnectionsPerAddress: count('max-connections-per-address', 0, 1e6),
    ratePerUser: count('rate-per-user', 0, 1e6),
    corsOrigins: origins(text('cors'), problems),
    hosts: listed(text('host-whitelist')),
    watchProgressNotifyMs: Math.max(100, duration('watch-progress-notify-interval')),
    slowRequestMs: duration('warning-unary-request-duration'),
    segmentBytes: count('wal-segment-bytes', 65_536, 2 ** 30),
    logLevel: level,
    authToken: authTokenKind(text('auth-token'), problems),
    authTokenTtlMs: count('auth-token-ttl', 1, 1e9) * 1000,
    passwordCost: PASSWORD_COST,
    audit: auditPolicy(text, count, problems),
    clientTls,
    peerTls,
    warnings,
  };
}

/** etcd's way of writing it: the kind, and what it needs, as NAME=VALUE between commas. */
function authTokenKind(given: string, problems: string[]): AuthTokenKind {
  const [kind, ...rest] = given.split(',');
  const simple = { kind: 'simple' } as const;
  const options = new Map<string, string>();
  for (const part of rest) {
    const cut = part.indexOf('=');
    const name = part.slice(0, Math.max(0, cut));
    if (['sign-method', 'pub-key', 'priv-key', 'ttl'].includes(name)) {
      options.set(name, part.slice(cut + 1));
    } else problems.push(`--auth-token: "${part}" is none of sign-method, pub-key, priv-key, ttl`);
  }
  if (kind === 'simple') return simple;
  if (kind !== 'jwt') {
    problems.push(`--auth-token ${kind}: it is "simple" or "jwt,sign-method=...,..."`);
    return simple;
  }
  const algorithm = options.get('sign-method') ?? '';
  if (!(JWT_ALGORITHMS as readonly string[]).includes(algorithm)) {
    problems.push(`--auth-token: sign-method=${algorithm} is none of ${JWT_ALGORITHMS.join(', ')}`);
    return simple;
  }
  const publicKeyFile = options.get('pub-key') ?? '';
  const privateKeyFile = options.get('priv-key') ?? '';
  const ttlMs = durationMs(options.get('ttl') ?? '5m');
  if (ttlMs === null || ttlMs < 1000) {
    problems.push('--auth-token: ttl is a duration of at least a second (30s, 5m)');
  }
  if (publicKeyFile === '' && privateKeyFile === '') {
    problems.push('--auth-token jwt: give pub-key=FILE, priv-key=FILE, or both');
  }
  return {
    kind: 'jwt',
    algorithm: algorithm as JwtAlgorithm,
    publicKeyFile,
    privateKeyFile,
    ttlMs: ttlMs ?? 0,
  };
}

/** In digits or as `0x...`; not a number: something else. */
function wholeNumber(text: string): number {
  return /^-?\d+$|^0x[0-9a-f]+$/i.test(text) ? Number(text) : Number.NaN;
}

/** Go's way of writing durations (`20s`, `2h0m0s`); null: another. Without a unit only 0 is clear: etcd takes
 *  no other as a flag, and nanoseconds in a file. */
function durationMs(text: string): number | null {
  if (text === '0') return 0;
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

function backupPolicy(text: (name: string) => string, problems: string[]): BackupPolicy | null {
  const dir = text('backup-dir');
  if (dir === '') {
    for (const name of ['backup-interval', 'backup-keep']) {
      if (text(name) !== '') problems.push(`--${name} is of no use without --backup-dir`);
    }
    return null;
  }
  const interval = text('backup-interval') || '1h';
  const intervalMs = durationMs(interval);
  if (intervalMs === null || intervalMs < 1000) {
    problems.push(
      `--backup-interval ${interval}: a duration of at least a second (10m, 24h) is wanted`,
    );
  }
  const keep = Number(text('backup-keep') || '24');
  if (!Number.isSafeInteger(keep) || keep < 1) {
    problems.push(`--backup-keep ${text('backup-keep')}: a number of at least 1 is wanted`);
  }
  return { dir, intervalMs: intervalMs ?? 0, keep };
}

function auditPolicy(
  text: (name: string) => string,
  count: (name: string, least: number, most: number) => number,
  problems: string[],
): AuditPolicy | null {
  const path = text('audit-log');
  const withReads = text('audit-log-reads') === 'true';
  if (path === '' && withReads) problems.push('--audit-log-reads is of no use without --audit-log');
  const maxBytes = count('audit-log-max-bytes', 65_536, Number.MAX_SAFE_INTEGER);
  const keep = count('audit-log-keep', 1, 10_000);
  return path === '' ? null : { path, withReads, maxBytes, keep };
}

/** Of the form that ports of members have. */
export function isMemberUrl(url: string): boolean {
  const form = /^https?:\/\/(?:[^/:\s[\]]+|\[[0-9a-f:]+\]):\d{1,5}\/?$/i;
  return form.test(url) && URL.canParse(url);
}

/** Empty: all. */
function origins(text: string, problems: string[]): string[] {
  const list = listed(text);
  for (const origin of list) {
    if (/^https?:\/\/[^/\s?#@]+$/i.test(origin) && URL.canParse(origin)) continue;
    problems.push(`--cors: "${origin}" is not an origin of the form https://HOST[:PORT], or *`);
  }
  return list;
}

/** What is between the commas; empty: all. */
function listed(text: string): string[] {
  const list = text.split(',').filter((each) => each !== '');
  return list.includes('*') ? [] : list;
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

/** etcd tells TLS from plain text on one port; a second listener here would find the port in use by the first. */
function checkPorts(listeners: readonly ClientAddress[], problems: string[]): void {
  const urls = new Map<string, string>();
  for (const listener of listeners) {
    if ('path' in listener || listener.port === 0) continue;
    const key = `${listener.host} ${listener.port}`;
    const other = urls.get(key);
    if (other === undefined) urls.set(key, listener.url);
    else problems.push(`${other} and ${listener.url} are the same port: each needs one of its own`);
  }
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
export function idOf(text: string): number {
  const bytes = fromUtf8(text);
  const low = crc32c(bytes);
  const high = crc32c(bytes, 0, bytes.length, 0x9e3779b9 ^ low) & 0xffff;
  return high * 2 ** 32 + low || 1;
}

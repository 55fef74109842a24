/**
 * What a client is told when it is made, and what is said about values that are wrong.
 *
 * A slip in a program would otherwise show far away: as a call that never leaves, or one that never ends.
 * So each option is looked at here, once, and what is wrong is a TypeError of one line: what was given,
 * and what is wanted. Of headers and keys only the kind is shown, since they are secrets.
 *
 * Called by caller.ts, which works with what `resolveOptions` returns.
 */
import { inspect } from 'node:util';
import { type Endpoint, parseEndpoint } from './endpoints.js';
import { MAX_TIMER_MS } from './limit.js';
import type { TlsOptions } from './transport/transport.js';

const PROTOCOLS = ['grpc', 'http', 'grpc-or-http'] as const;

export type Protocol = (typeof PROTOCOLS)[number];

export interface ClientOptions {
  /** `host:port`, URLs, or `unix:///path`. */
  readonly endpoints: readonly string[];
  /**
   * How to ask: gRPC (the default), the JSON gateway over HTTP/1.1, or the gateway where an endpoint
   * turns out not to speak HTTP/2.
   */
  readonly protocol?: Protocol | undefined;
  /** For one call, with all its tries. Default 5 s; Infinity = no deadline. */
  readonly timeoutMs?: number | undefined;
  /** For one connection. Default 2 s. */
  readonly dialTimeoutMs?: number | undefined;
  /** Keep trying until the deadline when no endpoint can be reached. Default true. */
  readonly waitForServer?: boolean | undefined;
  readonly tls?: TlsOptions | undefined;
  /** Logs in as this user, and anew when the token has ended. Needs `password`. */
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  /** Sent with every call, as metadata or headers. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Told about every try, for tracing. */
  readonly onTry?: ((line: string) => void) | undefined;
}

/** The options with everything in place. */
export interface ResolvedOptions {
  readonly endpoints: readonly Endpoint[];
  readonly protocol: Protocol;
  readonly timeoutMs: number;
  readonly dialTimeoutMs: number;
  readonly waitForServer: boolean;
  readonly tls: TlsOptions;
  readonly user: { readonly name: string; readonly password: string } | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly onTry: (line: string) => void;
  /** Endpoints without a scheme speak TLS. */
  readonly isSecure: boolean;
}

const OPTIONS = [
  ...['endpoints', 'protocol', 'timeoutMs', 'dialTimeoutMs'],
  ...['waitForServer', 'tls', 'username', 'password', 'headers', 'onTry'],
];
const TLS_OPTIONS = ['ca', 'cert', 'key', 'rejectUnauthorized', 'servername'];
const LIST = "a list such as ['127.0.0.1:2379']";

/** Throws TypeError for what no client can be made of. */
export function resolveOptions(options: ClientOptions): ResolvedOptions {
  if (!isRecord(options)) {
    throw new TypeError(`a client needs { endpoints: ['127.0.0.1:2379'] }, not ${shown(options)}`);
  }
  assertKnown('a client', options, OPTIONS);
  const { endpoints, protocol = 'grpc', tls = {}, headers = {} } = options;
  if (!Array.isArray(endpoints)) throw wrong('endpoints', LIST, shown(endpoints));
  if (endpoints.length === 0) throw wrong('endpoints', LIST, 'an empty one');
  if (!PROTOCOLS.includes(protocol)) {
    throw wrong('protocol', PROTOCOLS.map((each) => `'${each}'`).join(' or '), shown(protocol));
  }
  const { timeoutMs = 5_000, dialTimeoutMs = 2_000, waitForServer = true } = options;
  const { onTry = () => {} } = options;
  if (!isNumber(timeoutMs) || timeoutMs <= 0) {
    throw wrong('timeoutMs', 'a number of milliseconds above 0', shown(timeoutMs));
  }
  if (!isNumber(dialTimeoutMs) || dialTimeoutMs <= 0 || dialTimeoutMs > MAX_TIMER_MS) {
    const range = `a number of milliseconds above 0, at most ${MAX_TIMER_MS}`;
    throw wrong('dialTimeoutMs', range, shown(dialTimeoutMs));
  }
  if (typeof waitForServer !== 'boolean') {
    throw wrong('waitForServer', 'true or false', shown(waitForServer));
  }
  if (typeof onTry !== 'function') throw wrong('onTry', 'a function', shown(onTry));
  assertTls(tls);
  assertHeaders(headers);
  // Who brings certificates does not want to speak plain text, password and all, over a forgotten scheme.
  const isSecure = tls.ca !== undefined || tls.cert !== undefined;
  return {
    endpoints: endpoints.map((each) => parseEndpoint(each, isSecure)),
    isSecure,
    ...{ protocol, timeoutMs, dialTimeoutMs, waitForServer, tls, headers, onTry },
    user: userOf(options),
  };
}

function userOf({ username, password }: ClientOptions): ResolvedOptions['user'] {
  if (username === undefined && password === undefined) return null;
  if (typeof username !== 'string' || username === '') {
    throw wrong('username', 'the name of a user', shown(username));
  }
  if (typeof password !== 'string') throw wrong('password', 'a text', typeof password);
  return { name: username, password };
}

/** Of one call; what is left of a time may well be nothing. */
export function assertTime(name: string, ms: unknown): void {
  if (ms === undefined || isNumber(ms)) return;
  throw wrong(name, 'a number of milliseconds', shown(ms));
}

function assertTls(tls: TlsOptions): void {
  if (!isRecord(tls)) throw wrong('tls', 'an object with ca, cert and key', typeof tls);
  assertKnown('tls', tls, TLS_OPTIONS);
  for (const name of ['ca', 'cert', 'key'] as const) {
    const value = tls[name];
    if (value === undefined || typeof value === 'string' || Buffer.isBuffer(value)) continue;
    throw wrong(`tls.${name}`, 'the text or Buffer of a PEM file', typeof value);
  }
  const { rejectUnauthorized, servername } = tls;
  if (servername !== undefined && typeof servername !== 'string') {
    throw wrong('tls.servername', 'a name', shown(servername));
  }
  if (rejectUnauthorized === undefined || typeof rejectUnauthorized === 'boolean') return;
  throw wrong('tls.rejectUnauthorized', 'true or false', shown(rejectUnauthorized));
}

function assertHeaders(headers: Readonly<Record<string, string>>): void {
  if (!isRecord(headers)) throw wrong('headers', 'an object of texts', typeof headers);
  for (const [name, value] of Object.entries(headers) as [string, unknown][]) {
    if (!/^[\w.-]+$/.test(name)) throw new TypeError(`${shown(name)} cannot name a header`);
    if (typeof value === 'string' && /^[\t\x20-\x7e]*$/.test(value)) continue;
    const given = typeof value === 'string' ? 'text with other characters' : typeof value;
    throw wrong(`headers.${name}`, 'printable ASCII text', given);
  }
}

function assertKnown(what: string, options: object, known: readonly string[]): void {
  const unknown = Object.keys(options).find((name) => !known.includes(name));
  if (unknown === undefined) return;
  throw new TypeError(`${what} has no option ${shown(unknown)}, but ${known.join(', ')}`);
}

function wrong(name: string, wanted: string, given: string): TypeError {
  return new TypeError(`option "${name}" must be ${wanted}, not ${given}`);
}

function isRecord(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && !Number.isNaN(value);
}

function shown(value: unknown): string {
  return inspect(value, {
    ...{ depth: 0, maxArrayLength: 3, maxStringLength: 60 },
    ...{ breakLength: Number.POSITIVE_INFINITY, compact: true },
  });
}

/**
 * A small typed caller of the JSON API of one member, over keep-alive connections.
 *
 * Keys and values are strings here and base64 on the wire; 64-bit numbers that can be large (ids)
 * stay strings, revisions and counts become numbers. Every call has a deadline. A failure is an
 * ApiError that says what a client may conclude from it: `failed` is a proof that nothing was
 * applied, everything else is `unknown`.
 */
import { Agent, type ClientRequest, type IncomingMessage, request } from 'node:http';
import { Agent as SecureAgent, request as secureRequest } from 'node:https';
import { testCertificates } from './test-certificates.js';

export type ApiOutcome = 'failed' | 'unknown';

/** gRPC codes with which a server says that it refused a request before applying anything. */
const REFUSALS = new Set([3, 5, 6, 7, 8, 9, 11, 12, 16]);

export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  readonly code: number;
  readonly outcome: ApiOutcome;

  constructor(message: string, status: number, code: number, outcome: ApiOutcome) {
    super(message);
    this.status = status;
    this.code = code;
    this.outcome = outcome;
  }
}

export interface KeyValue {
  readonly key: string;
  readonly value: string;
  readonly createRevision: number;
  readonly modRevision: number;
  readonly version: number;
  readonly lease: string;
}

export interface Header {
  readonly clusterId: string;
  readonly memberId: string;
  readonly revision: number;
  readonly term: number;
}

export interface RangeOptions {
  readonly rangeEnd?: string;
  readonly limit?: number;
  readonly revision?: number;
  readonly serializable?: boolean;
  readonly keysOnly?: boolean;
  readonly countOnly?: boolean;
}

export interface RangeReply {
  readonly header: Header;
  readonly kvs: readonly KeyValue[];
  readonly count: number;
  readonly more: boolean;
}

export interface StatusReply {
  readonly header: Header;
  readonly leader: string;
  readonly raftTerm: number;
  readonly raftIndex: number;
  readonly appliedIndex: number;
  readonly dbSize: number;
}

export interface WatchEvent {
  readonly type: 'PUT' | 'DELETE';
  readonly kv: KeyValue;
}

export interface WatchMessage {
  readonly header: Header;
  readonly created: boolean;
  readonly canceled: boolean;
  readonly compactRevision: number;
  readonly cancelReason: string;
  readonly watchId: string;
  readonly events: readonly WatchEvent[];
}

export interface WatchOptions {
  readonly rangeEnd?: string;
  readonly startRevision?: number;
  readonly progressNotify?: boolean;
}

type Json = Record<string, unknown>;

export function toBase64(text: string): string {
  return Buffer.from(text, 'utf8').toString('base64');
}

export function fromBase64(text: unknown): string {
  return typeof text === 'string' ? Buffer.from(text, 'base64').toString('utf8') : '';
}

/** End of the range of all keys with this prefix. */
export function prefixEnd(prefix: string): string {
  const last = prefix.charCodeAt(prefix.length - 1);
  return prefix.slice(0, -1) + String.fromCharCode(last + 1);
}

function number(value: unknown): number {
  return value === undefined ? 0 : Number(value);
}

function toHeader(value: unknown): Header {
  const raw = (value ?? {}) as Json;
  return {
    clusterId: String(raw['cluster_id'] ?? '0'),
    memberId: String(raw['member_id'] ?? '0'),
    revision: number(raw['revision']),
    term: number(raw['raft_term']),
  };
}

export function toKeyValue(value: unknown): KeyValue {
  const raw = (value ?? {}) as Json;
  return {
    key: fromBase64(raw['key']),
    value: fromBase64(raw['value']),
    createRevision: number(raw['create_revision']),
    modRevision: number(raw['mod_revision']),
    version: number(raw['version']),
    lease: String(raw['lease'] ?? '0'),
  };
}

function toKeyValues(value: unknown): KeyValue[] {
  return ((value ?? []) as unknown[]).map(toKeyValue);
}

function toRangeReply(raw: Json): RangeReply {
  return {
    header: toHeader(raw['header']),
    kvs: toKeyValues(raw['kvs']),
    count: number(raw['count']),
    more: raw['more'] === true,
  };
}

function agentFor(url: string, options: { keepAlive: boolean; maxSockets?: number }): Agent {
  if (!url.startsWith('https:')) return new Agent(options);
  return new SecureAgent({ ...options, ...testCertificates().client });
}

export class HttpApi {
  readonly url: string;
  readonly timeoutMs: number;
  private readonly agent: Agent;

  constructor(url: string, options: { timeoutMs?: number; sockets?: number } = {}) {
    this.url = url;
    this.timeoutMs = options.timeoutMs ?? 5_000;
    this.agent = agentFor(url, { keepAlive: true, maxSockets: options.sockets ?? 64 });
  }

  /** Closes all connections; running calls fail. */
  close(): void {
    this.agent.destroy();
  }

  /** One POST with a JSON body; the parsed reply. Throws ApiError. */
  async call(path: string, body: unknown, timeoutMs = this.timeoutMs): Promise<Json> {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const { status, body: reply } = await this.exchange('POST', path, text, timeoutMs);
    let parsed: Json;
    try {
      parsed = JSON.parse(reply) as Json;
    } catch {
      throw new ApiError(`${path}: status ${status}, not JSON: ${reply}`, status, 0, 'unknown');
    }
    if (status === 200) return parsed;
    const code = number(parsed['code']);
    const message = String(parsed['message'] ?? parsed['error'] ?? reply);
    const refused = REFUSALS.has(code) || message === 'etcdserver: no leader';
    throw new ApiError(message, status, code, refused ? 'failed' : 'unknown');
  }

  /** One request as it is; any status is a result. */
  exchange(
    method: string,
    path: string,
    body: string | Uint8Array,
    timeoutMs = this.timeoutMs,
  ): Promise<{ status: number; body: string }> {
    return new Promise((resolve, reject) => {
      let sent = false;
      const outgoing = this.open(method, path, body, (incoming) => {
        const chunks: Buffer[] = [];
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
        incoming.on('error', (error) => fail(error.message));
        incoming.on('end', () => {
          clearTimeout(timer);
          resolve({ status: incoming.statusCode ?? 0, body: Buffer.concat(chunks).toString() });
        });
      });
      const timer = setTimeout(() => {
        fail(`no reply within ${timeoutMs} ms`);
        outgoing.destroy();
      }, timeoutMs);
      const fail = (reason: string): void => {
        clearTimeout(timer);
        const text = `${this.url}${path}: ${reason}`;
        reject(new ApiError(text, 0, 0, sent ? 'unknown' : 'failed'));
      };
      // Before the socket is connected not one byte of the request can have been seen.
      outgoing.on('socket', (socket) => {
        if (socket.connecting) socket.once('connect', () => (sent = true));
        else sent = true;
      });
      outgoing.on('error', (error) => fail(error.message));
    });
  }

  async put(key: string, value: string, options: { lease?: string } = {}): Promise<Header> {
    const body: Json = { key: toBase64(key), value: toBase64(value) };
    if (options.lease !== undefined) body['lease'] = options.lease;
    return toHeader((await this.call('/v3/kv/put', body))['header']);
  }

  async range(key: string, options: RangeOptions = {}, timeoutMs?: number): Promise<RangeReply> {
    const body: Json = { key: toBase64(key) };
    if (options.rangeEnd !== undefined) body['range_end'] = toBase64(options.rangeEnd);
    if (options.limit !== undefined) body['limit'] = String(options.limit);
    if (options.revision !== undefined) body['revision'] = String(options.revision);
    if (options.serializable) body['serializable'] = true;
    if (options.keysOnly) body['keys_only'] = true;
    if (options.countOnly) body['count_only'] = true;
    return toRangeReply(await this.call('/v3/kv/range', body, timeoutMs));
  }

  /** All keys with a prefix, page by page at one revision. */
  async prefix(prefix: string, pageSize = 5_000): Promise<RangeReply> {
    const end = prefixEnd(prefix);
    const first = await this.range(prefix, { rangeEnd: end, limit: pageSize });
    const kvs = [...first.kvs];
    let page = first;
    while (page.more) {
      const from = `${kvs[kvs.length - 1]?.key ?? ''}\0`;
      const revision = first.header.revision;
      page = await this.range(from, { rangeEnd: end, limit: pageSize, revision });
      kvs.push(...page.kvs);
    }
    return { header: first.header, kvs, count: first.count, more: false };
  }

  async delete(
    key: string,
    rangeEnd?: string,
  ): Promise<{ header: Header; deleted: number; previous: readonly KeyValue[] }> {
    const body: Json = { key: toBase64(key), prev_kv: true };
    if (rangeEnd !== undefined) body['range_end'] = toBase64(rangeEnd);
    const reply = await this.call('/v3/kv/deleterange', body);
    return {
      header: toHeader(reply['header']),
      deleted: number(reply['deleted']),
      previous: toKeyValues(reply['prev_kvs']),
    };
  }

  /**
   * Puts the value if the key still has this modification revision (0 = does not exist); reads the
   * key in the same transaction if not.
   */
  async compareAndSwap(
    key: string,
    modRevision: number,
    value: string,
  ): Promise<{ header: Header; succeeded: boolean; seen: KeyValue | null }> {
    const encoded = toBase64(key);
    const reply = await this.call('/v3/kv/txn', {
      compare: [
        { key: encoded, target: 'MOD', result: 'EQUAL', mod_revision: String(modRevision) },
      ],
      success: [{ request_put: { key: encoded, value: toBase64(value) } }],
      failure: [{ request_range: { key: encoded } }],
    });
    const responses = (reply['responses'] ?? []) as Json[];
    const range = (responses[0]?.['response_range'] ?? {}) as Json;
    return {
      header: toHeader(reply['header']),
      succeeded: reply['succeeded'] === true,
      seen: toKeyValues(range['kvs'])[0] ?? null,
    };
  }

  async compact(revision: number, physical = false): Promise<Header> {
    const reply = await this.call('/v3/kv/compaction', { revision: String(revision), physical });
    return toHeader(reply['header']);
  }

  async grantLease(ttl: number, id?: string): Promise<{ id: string; ttl: number }> {
    const reply = await this.call('/v3/lease/grant', { TTL: ttl, ID: id ?? '0' });
    return { id: String(reply['ID']), ttl: number(reply['TTL']) };
  }

  async revokeLease(id: string): Promise<void> {
    await this.call('/v3/lease/revoke', { ID: id });
  }

  /** The TTL that the renewal granted; 0 when the lease does not exist. */
  async renewLease(id: string): Promise<number> {
    const reply = await this.call('/v3/lease/keepalive', { ID: id });
    const result = reply['result'] as Json | undefined;
    if (result === undefined) {
      const text = `keepalive of ${id}: ${JSON.stringify(reply)}`;
      throw new ApiError(
        text,
        200,
        number((reply['error'] as Json | undefined)?.['code']),
        'unknown',
      );
    }
    return number(result['TTL']);
  }

  async leaseTimeToLive(id: string): Promise<number> {
    return number((await this.call('/v3/lease/timetolive', { ID: id }))['TTL']);
  }

  async status(timeoutMs = this.timeoutMs): Promise<StatusReply> {
    const reply = await this.call('/v3/maintenance/status', {}, timeoutMs);
    return {
      header: toHeader(reply['header']),
      leader: String(reply['leader'] ?? '0'),
      raftTerm: number(reply['raftTerm']),
      raftIndex: number(reply['raftIndex']),
      appliedIndex: number(reply['raftAppliedIndex']),
      dbSize: number(reply['dbSize']),
    };
  }

  /** Hash of the store at a revision (0 = the current one). */
  async hashKv(revision: number): Promise<{ hash: number; compactRevision: number }> {
    const body = { revision: String(revision) };
    const reply = await this.call('/v3/maintenance/hashkv', body, 30_000);
    return { hash: number(reply['hash']), compactRevision: number(reply['compact_revision']) };
  }

  async members(): Promise<readonly Json[]> {
    return ((await this.call('/v3/cluster/member/list', {}))['members'] ?? []) as Json[];
  }

  /** One figure of /metrics that has no labels. */
  async metric(name: string): Promise<number> {
    const { status, body } = await this.exchange('GET', '/metrics', '');
    if (status !== 200) throw new ApiError(`/metrics: status ${status}`, status, 0, 'failed');
    const found = new RegExp(`^${name} (\\S+)$`, 'm').exec(body);
    if (found === null) throw new ApiError(`no ${name} in /metrics`, status, 0, 'failed');
    return Number(found[1]);
  }

  /** Opens a watch on a connection of its own; resolves with the stream when it is created. */
  async watch(key: string, options: WatchOptions = {}): Promise<WatchStream> {
    const create: Json = { key: toBase64(key) };
    if (options.rangeEnd !== undefined) create['range_end'] = toBase64(options.rangeEnd);
    if (options.startRevision !== undefined) {
      create['start_revision'] = String(options.startRevision);
    }
    if (options.progressNotify) create['progress_notify'] = true;
    const stream = new WatchStream();
    const body = JSON.stringify({ create_request: create });
    const agent = agentFor(this.url, { keepAlive: false });
    const outgoing = this.open('POST', '/v3/watch', body, (reply) => stream.read(reply), agent);
    stream.attach(outgoing);
    const first = await stream.next(this.timeoutMs);
    if (first === null || !first.created) {
      stream.close();
      throw new ApiError(`the watch was not created: ${JSON.stringify(first)}`, 0, 0, 'failed');
    }
    if (first.canceled) stream.close();
    return stream;
  }

  private open(
    method: string,
    path: string,
    body: string | Uint8Array,
    onReply: (incoming: IncomingMessage) => void,
    agent = this.agent,
  ): ClientRequest {
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    };
    const ask = this.url.startsWith('https:') ? secureRequest : request;
    const outgoing = ask(`${this.url}${path}`, { method, agent, headers }, onReply);
    outgoing.setNoDelay(true);
    outgoing.end(body);
    return outgoing;
  }
}

/** The replies of one watch, in order. Holds at most QUEUE_MAX unread ones, then stops reading. */
export class WatchStream {
  static readonly QUEUE_MAX = 10_000;
  private readonly queue: WatchMessage[] = [];
  private outgoing: ClientRequest | null = null;
  private incoming: IncomingMessage | null = null;
  private rest = '';
  private ended: string | null = null;
  private wake: (() => void) | null = null;

  /** The next reply; null when the stream has ended. Throws when none comes in time. */
  async next(timeoutMs: number): Promise<WatchMessage | null> {
    const end = performance.now() + timeoutMs;
    for (;;) {
      const message = this.queue.shift();
      if (message !== undefined) {
        if (this.queue.length < WatchStream.QUEUE_MAX / 2) this.incoming?.resume();
        return message;
      }
      if (this.ended !== null) return null;
      const left = end - performance.now();
      if (left <= 0) throw new Error(`the watch sent nothing for ${timeoutMs} ms`);
      await this.changed(left);
    }
  }

  /** Why the stream ended; null while it runs. */
  get endReason(): string | null {
    return this.ended;
  }

  close(): void {
    this.finish('closed here');
    this.outgoing?.destroy();
  }

  attach(outgoing: ClientRequest): void {
    this.outgoing = outgoing;
    outgoing.on('error', (error) => this.finish(error.message));
  }

  read(incoming: IncomingMessage): void {
    this.incoming = incoming;
    incoming.setEncoding('utf8');
    incoming.on('data', (chunk: string) => this.take(chunk));
    incoming.on('error', (error) => this.finish(error.message));
    incoming.on('close', () => this.finish('the server ended the stream'));
  }

  private take(chunk: string): void {
    const lines = (this.rest + chunk).split('\n');
    this.rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line.length === 0) continue;
      const raw = JSON.parse(line) as Json;
      if (raw['result'] === undefined) {
        this.finish(line);
        return;
      }
      this.queue.push(toWatchMessage(raw['result'] as Json));
    }
    if (this.queue.length >= WatchStream.QUEUE_MAX) this.incoming?.pause();
    this.wake?.();
  }

  private finish(reason: string): void {
    this.ended ??= reason;
    this.wake?.();
  }

  private changed(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.wake = () => {
        clearTimeout(timer);
        this.wake = null;
        resolve();
      };
    });
  }
}

function toWatchMessage(raw: Json): WatchMessage {
  const events = ((raw['events'] ?? []) as Json[]).map((event): WatchEvent => {
    return { type: event['type'] === 'DELETE' ? 'DELETE' : 'PUT', kv: toKeyValue(event['kv']) };
  });
  return {
    header: toHeader(raw['header']),
    created: raw['created'] === true,
    canceled: raw['canceled'] === true,
    compactRevision: number(raw['compact_revision']),
    cancelReason: String(raw['cancel_reason'] ?? ''),
    watchId: String(raw['watch_id'] ?? '0'),
    events,
  };
}

/**
 * What all calls of clients have in common, whichever face they came through (gateway/, grpc/): their
 * context from what the request says, their counters, and their line in the log when they were slow.
 */
import { isUtf8 } from 'node:buffer';
import { KvError } from '../errors.js';
import type { Logger } from '../logger.js';
import type { Metrics, RpcCounters } from '../metrics.js';
import type { NodeFace, RequestContext } from '../node.js';
import type { Method } from './api/methods.js';
import type { CalledContext, Caller } from './caller.js';
import {
  codeName,
  DEADLINE_EXCEEDED,
  factsOf,
  type WireError,
  wireError,
} from './error-mapping.js';

/** What the parts of a face share. */
export interface CallScope {
  readonly node: NodeFace;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly slowRequestMs: number;
  /** An error that is no KvError: a bug or failed surroundings. */
  readonly onUnexpected: (error: unknown) => void;
}

export interface CallContext extends CalledContext {
  /** Monotonic ms at which the client's own deadline ends the call; Infinity without one. */
  readonly clientDeadline: number;
}

/** As after the deadline, but surely without an effect. */
export const NOT_BEGUN: WireError = { ...DEADLINE_EXCEEDED, facts: factsOf('TIMEOUT_NO_EFFECT') };

const NEVER = Number.POSITIVE_INFINITY;
const UNIT_MS: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1000,
  m: 1,
  u: 0.001,
  n: 0.000001,
};

/** Milliseconds of a `Grpc-Timeout` header (`5S`, `200m`); null if there is none. */
export function parseGrpcTimeout(text: string | undefined): number | null {
  if (text === undefined) return null;
  const match = /^(\d{1,8})([HMSmun])$/.exec(text);
  const unit = UNIT_MS[match?.[2] ?? ''];
  if (match === null || unit === undefined) {
    throw new KvError('INVALID_ARGUMENT', `invalid grpc-timeout: ${text}`);
  }
  return Number(match[1]) * unit;
}

/** What a request says about itself, outside its message. */
export interface CallWish {
  /** Text of `grpc-timeout`. */
  readonly timeout: string | undefined;
  /** The client wants an error rather than an answer of a member that knows no leader. */
  readonly requireLeader: boolean;
  readonly caller: Caller;
  /** For nothing but that etcd refuses it when it is no text. A byte is a character. */
  readonly clientApiVersion: string | undefined;
}

/** The client's deadline had passed before anything was done for it. */
class OverdueError extends Error {
  override readonly name = 'OverdueError';
}

/**
 * `endless` calls end by the client's deadline or its departure only. The deadline counts from `startedAt`:
 * what has taken its time to arrive is not done for nobody.
 */
export function callContext(
  node: NodeFace,
  wish: CallWish,
  startedAt: number,
  endless: boolean,
  signal: AbortSignal | null,
  mayBeLong?: () => Promise<number> | null,
): CallContext {
  const timeout = parseGrpcTimeout(wish.timeout);
  const clientDeadline = timeout === null ? NEVER : startedAt + timeout;
  if (clientDeadline <= node.now()) throw new OverdueError('the deadline has passed');
  const { requireLeader, caller } = wish;
  assertText(wish.clientApiVersion);
  // Refused here, because this holds for calls that never ask the node for a leader, too.
  if (requireLeader && !node.hasLeader) {
    throw new KvError(
      'NO_LEADER',
      'this member knows no leader, and the client has asked for one that does',
    );
  }
  const own = node.context(endless ? NEVER : undefined, signal, requireLeader);
  return {
    deadline: Math.min(own.deadline, clientDeadline),
    signal,
    requireLeader,
    actor: own.actor,
    caller,
    clientDeadline,
    mayBeLong,
  };
}

function assertText(clientApiVersion: string | undefined): void {
  if (clientApiVersion === undefined || isUtf8(Buffer.from(clientApiVersion, 'latin1'))) return;
  throw new KvError('INVALID_ARGUMENT', 'etcdserver: invalid client api version');
}

/**
 * Streams whose client requires a leader end when this member has had none for a while: the client then
 * asks a member that is on the side of the majority. To be called when the stream is over.
 */
export function endWithoutLeader(
  node: NodeFace,
  { requireLeader }: RequestContext,
  end: (error: KvError) => void,
): () => void {
  if (!requireLeader) return nothing;
  return node.onLeaderLost(() => {
    end(new KvError('NO_LEADER', 'this member has lost its leader; ask another member'));
  });
}

function nothing(): void {}

/** One call under way. */
export class Call {
  readonly scope: CallScope;
  readonly method: Method;
  readonly path: string;
  readonly startedAt: number;
  context: CallContext | null = null;
  private readonly counters: RpcCounters;
  private finished = false;

  constructor(scope: CallScope, method: Method, counters: RpcCounters, path: string) {
    this.scope = scope;
    this.method = method;
    this.counters = counters;
    this.path = path;
    this.startedAt = scope.node.now();
    counters.started += 1;
  }

  /** Counts a streamed answer. */
  sent(): void {
    this.counters.messagesSent += 1;
  }

  /** What the client is told of a failure; reports what no caller can act on. */
  explain(error: unknown): WireError {
    if (error instanceof OverdueError) return NOT_BEGUN;
    if (!(error instanceof KvError)) this.scope.onUnexpected(error);
    else if (this.isClientTimeout(error)) return { ...DEADLINE_EXCEEDED, facts: error };
    return wireError(error);
  }

  /** Counts the call, and logs it if it was slow. Only the first call of this counts. */
  finish(error: WireError | null, bytes: number): void {
    if (this.finished) return;
    this.finished = true;
    const { node, metrics, slowRequestMs } = this.scope;
    const ms = node.now() - this.startedAt;
    const code = codeName(error?.grpcCode ?? 0);
    this.counters.finish(code, ms / 1000);
    metrics.clientBytesSent.value += bytes;
    const { waits, isUnhurried, responseStream } = this.method;
    const mayTakeLong = waits || isUnhurried || responseStream;
    if (ms > slowRequestMs && !mayTakeLong) this.logSlow(ms, code, bytes);
  }

  private logSlow(ms: number, code: string, bytes: number): void {
    const { node, logger, metrics } = this.scope;
    metrics.slowRequests.value += 1;
    const { commitIndex, appliedIndex, role } = node.status();
    const behind = commitIndex - appliedIndex;
    const reason = !node.hasLeader
      ? 'no leader is known'
      : behind > 0
        ? `${behind} entries are committed and not applied here`
        : 'the leader, a quorum or the disk was slow';
    const { name: method } = this.method;
    logger.warn(
      { method, path: this.path, ms: Math.round(ms), code, bytes, role, reason },
      'slow request',
    );
  }

  /** Whether it was the client's deadline that the node went by. */
  private isClientTimeout({ code }: KvError): boolean {
    if (code !== 'TIMEOUT' && code !== 'TIMEOUT_NO_EFFECT') return false;
    const { deadline, clientDeadline } = this.context ?? { deadline: 0, clientDeadline: NEVER };
    return Number.isFinite(clientDeadline) && deadline === clientDeadline;
  }
}

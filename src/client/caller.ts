/**
 * One call on a cluster: which endpoint, how often, how long, and what a failure means.
 *
 * Under rpcs.ts, which knows the calls of the API; this file knows their delivery. A call goes to the
 * endpoint in use; if it fails in a way that allows a second try, the next endpoint has its turn, after
 * a pause once all have been tried.
 *
 * Invariants:
 * 1. A write is sent a second time only if the first is proved not to have been applied
 *    (ClientError.outcome). Otherwise the caller is told that the outcome is unknown.
 * 2. Every call ends by its deadline, and when the client is closed. Calls that wait (for a lock: `waits`
 *    of their method) and streams have none unless they are given one: their transport asks a silent
 *    server for a sign of life.
 */
import type { Method } from '../rpc/api/methods.js';
import type { CallKind, ClientErrorCode } from './client-error.js';
import { ClientError, errorFromAnswer } from './client-error.js';
import {
  assertTime,
  type ClientOptions,
  type Protocol,
  type ResolvedOptions,
  resolveOptions,
} from './client-options.js';
import type { Endpoint } from './endpoints.js';
import { EndpointRing } from './endpoints.js';
import { Limit, pauseMs, sleep, TimeLimitError } from './limit.js';
import { Login } from './login.js';
import { AUTHENTICATE } from './rpc-table.js';
import { FallbackTransport } from './transport/fallback-transport.js';
import { GatewayTransport } from './transport/gateway-transport.js';
import { GrpcTransport } from './transport/grpc-transport.js';
import type { Transport } from './transport/transport.js';
import {
  ExchangeError,
  StatusError,
  UnexpectedAnswerError,
  WrongProtocolError,
} from './transport/transport.js';

const TRANSPORTS = {
  grpc: GrpcTransport,
  http: GatewayTransport,
  'grpc-or-http': FallbackTransport,
} satisfies Record<Protocol, unknown>;

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Infinity = no deadline. */
  readonly timeoutMs?: number | undefined;
  /** Only this endpoint, no fail-over. */
  readonly endpoint?: string | undefined;
}

/** Failures of the endpoint, not of what was asked: the next call goes to another one. */
const ENDPOINT_FAULTS: ReadonlySet<ClientErrorCode> = new Set<ClientErrorCode>([
  'UNREACHABLE',
  'CONNECTION_LOST',
  'TIMEOUT',
  'UNEXPECTED_ANSWER',
  'STOPPED',
]);

interface Call {
  readonly method: Method;
  readonly request: object;
  readonly kind: CallKind;
  /** That the last try went with. */
  token: string | null;
}

/** How often a call may log in anew: users may change while it is on its way, but not for ever. */
const LOGINS_MAX = 3;

/** No token was to be had; the call itself was not sent. */
class LoginError extends Error {
  override readonly name = 'LoginError';
}

export class Caller {
  readonly ring: EndpointRing;
  private readonly transport: Transport;
  private readonly timeoutMs: number;
  private readonly dialTimeoutMs: number;
  private readonly waitForServer: boolean;
  private readonly onTry: (line: string) => void;
  private readonly user: ResolvedOptions['user'];
  private readonly login = new Login();
  isClosed = false;
  /** Wakes those who pause between tries. */
  private readonly closing = new AbortController();

  constructor(options: ClientOptions) {
    const { endpoints, protocol, tls, headers, ...rest } = resolveOptions(options);
    this.ring = new EndpointRing(endpoints, rest.isSecure);
    this.transport = new TRANSPORTS[protocol]({ tls, metadata: headers });
    this.timeoutMs = rest.timeoutMs;
    this.dialTimeoutMs = rest.dialTimeoutMs;
    this.waitForServer = rest.waitForServer;
    this.onTry = apart(rest.onTry);
    this.user = rest.user;
  }

  close(): void {
    this.isClosed = true;
    this.closing.abort();
    this.transport.close();
  }

  /** One call: the answer, as `read` shows it. */
  async call<T>(
    method: Method,
    request: object,
    kind: CallKind,
    read: (answer: object) => T,
    options: CallOptions,
  ): Promise<T> {
    assertTime('timeoutMs', options.timeoutMs);
    const usualMs = method.waits ? Number.POSITIVE_INFINITY : this.timeoutMs;
    const deadline = performance.now() + (options.timeoutMs ?? usualMs);
    const pinned = options.endpoint === undefined ? null : this.ring.named(options.endpoint);
    const perRound = pinned === null ? this.ring.all.length : 1;
    let tries = 0;
    let allUnreachable = true;
    let unsure = false;
    let logins = 0;
    let before: ClientError | null = null;
    const call: Call = { method, request, kind, token: null };
    for (;;) {
      const endpoint = pinned ?? this.ring.current;
      let failure: ClientError;
      try {
        return read(await this.attempt(call, endpoint, deadline, tries, options));
      } catch (error) {
        failure = this.failureOf(error, kind, endpoint, options.signal);
      }
      if (this.mayLogInAnew(failure, call.token) && logins < LOGINS_MAX) {
        logins += 1;
        continue;
      }
      // An earlier try of a repeatable call may have worked, whatever became of the last one.
      unsure ||= failure.outcome === 'unknown';
      if (unsure && failure.outcome !== 'unknown') failure = failure.withUnknownOutcome();
      tries += 1;
      if (failure.retryable || ENDPOINT_FAULTS.has(failure.code)) this.ring.failed(endpoint);
      allUnreachable &&= failure.code === 'UNREACHABLE';
      this.onTry(`${endpoint.name} ${method.name}: ${failure.code} ${failure.message}`);
      if (!failure.retryable) throw failure;
      // A call that waits may have a place in a queue by now (rpcs.ts), whatever ended it.
      if (method.waits && failure.code !== 'UNREACHABLE') {
        throw failure.withUnknownOutcome();
      }
      const roundOver = tries % perRound === 0;
      if (roundOver && allUnreachable && !this.waitForServer) throw failure;
      const pause = roundOver ? pauseMs(tries / perRound) : 0;
      if (performance.now() + pause >= deadline) {
        // A try that was cut short says less than the one before: that there is no leader.
        const isCut = failure.cause instanceof TimeLimitError && !unsure;
        throw isCut && before?.code === 'NO_LEADER' ? before : failure;
      }
      before = failure;
      const outer = options.signal === undefined ? [] : [options.signal];
      await sleep(pause, AbortSignal.any([this.closing.signal, ...outer]));
    }
  }

  /** One try of one call on one endpoint. */
  private async attempt(
    call: Call,
    endpoint: Endpoint,
    deadline: number,
    tries: number,
    options: CallOptions,
  ): Promise<object> {
    const isPatient = call.method.waits;
    const leftMs = Math.max(1, deadline - performance.now());
    // A read that may go elsewhere does not wait for a frozen server until the very end; but each time
    // it waits longer, since the answer may be large rather than lost.
    const alone = options.endpoint !== undefined || this.ring.all.length === 1;
    const limitMs =
      call.kind === 'write' || alone || isPatient
        ? leftMs
        : Math.min(leftMs, this.dialTimeoutMs * 1.25 * 2 ** tries);
    const limit = new Limit(limitMs, options.signal);
    try {
      call.token = await this.tokenAt(endpoint, limit.signal);
      const started = performance.now();
      const answer = await this.transport.ask({
        ...{ endpoint, method: call.method, request: call.request },
        serverLimitMs: isPatient ? null : serverLimit(limitMs),
        // Who waits at a member that is cut off holds its place against everybody else.
        requireLeader: isPatient,
        token: call.token,
        dialTimeoutMs: Math.min(this.dialTimeoutMs, limitMs),
        signal: limit.signal,
      });
      const took = (performance.now() - started).toFixed(1);
      this.onTry(`${endpoint.name} ${call.method.name}: answered in ${took} ms`);
      return answer;
    } catch (error) {
      if (limit.reason !== null && error instanceof ExchangeError) {
        throw new TimeLimitError(limit.reason, error.reached);
      }
      throw error;
    } finally {
      limit.clear();
    }
  }

  /** What a failed try means for the call. */
  private failureOf(
    error: unknown,
    kind: CallKind,
    endpoint: Endpoint,
    signal: AbortSignal | undefined,
  ): ClientError {
    const at = endpoint.name;
    if (error instanceof ClientError) return error;
    // Like a read that failed: the call itself has had no effect.
    if (error instanceof LoginError) return this.failureOf(error.cause, 'read', endpoint, signal);
    if (this.isClosed && error instanceof ExchangeError) {
      const outcome = error.reached && kind !== 'read' ? 'unknown' : 'not-applied';
      return new ClientError('CLOSED', 'the client is closed', { outcome, endpoint: at });
    }
    if (error instanceof StatusError) {
      return errorFromAnswer(error, kind, at);
    }
    if (error instanceof UnexpectedAnswerError) {
      const message = `${at} does not speak the API: ${error.message}`;
      const outcome = kind === 'read' ? 'not-applied' : 'unknown';
      return new ClientError('UNEXPECTED_ANSWER', message, { outcome, endpoint: at, cause: error });
    }
    if (error instanceof WrongProtocolError) {
      const message = `${at}: ${error.message}; the client's option "protocol" has a way around`;
      return new ClientError('UNEXPECTED_ANSWER', message, {
        outcome: 'not-applied',
        endpoint: at,
      });
    }
    if (!(error instanceof ExchangeError) && !(error instanceof TimeLimitError)) throw error;
    const outcome = error.reached && kind !== 'read' ? 'unknown' : 'not-applied';
    const retryable = outcome === 'not-applied' || kind === 'idempotent';
    if (signal?.aborted === true) {
      return new ClientError('CANCELED', 'the call was called off', { outcome, endpoint: at });
    }
    const options = { outcome, retryable, endpoint: at, grpcCode: 14, cause: error } as const;
    if (error instanceof TimeLimitError) {
      const message = `${at} did not answer in time (${error.message})`;
      return new ClientError('TIMEOUT', message, { ...options, grpcCode: 4 });
    }
    if (!error.reached) return new ClientError('UNREACHABLE', `${at}: ${error.message}`, options);
    return new ClientError('CONNECTION_LOST', `${at}: ${error.message}`, options);
  }

  /** Whether it was the token that the call failed for; it is asked for anew then. */
  mayLogInAnew(failure: ClientError, token?: string | null): boolean {
    if (this.user === null || !this.login.isVoid(failure)) return false;
    this.login.forget(token);
    return true;
  }

  /** Null for a client without a user, and where there are no users. */
  private async tokenAt(endpoint: Endpoint, signal: AbortSignal): Promise<string | null> {
    const { user } = this;
    if (user === null) return null;
    try {
      const token = this.login.token(() => this.logInAt(endpoint, user));
      return await orAborted(token, signal);
    } catch (error) {
      throw new LoginError('the login failed', { cause: error });
    }
  }

  private async logInAt(
    endpoint: Endpoint,
    { name, password }: NonNullable<ResolvedOptions['user']>,
  ): Promise<string> {
    const limit = new Limit(this.timeoutMs, undefined);
    try {
      const answer = await this.transport.ask({
        ...{ endpoint, method: AUTHENTICATE.method, request: { name, password } },
        serverLimitMs: serverLimit(this.timeoutMs),
        requireLeader: false,
        token: null,
        dialTimeoutMs: this.dialTimeoutMs,
        signal: limit.signal,
      });
      this.onTry(`${endpoint.name} Authenticate: logged in as ${name}`);
      return (answer as { readonly token: string }).token;
    } catch (error) {
      // Made here, so that those who share the login all understand it.
      throw this.failureOf(error, 'read', endpoint, undefined);
    } finally {
      limit.clear();
    }
  }

  /**
   * One streaming call on one endpoint: its answers. Ends when the server ends it, and throws
   * ClientError when it breaks or ends with an error.
   */
  async *stream<T>(
    method: Method,
    request: object,
    read: (answer: object) => T,
    options: {
      readonly signal?: AbortSignal | undefined;
      readonly endpoint: Endpoint;
      /** Default: an error rather than the answers of a member that knows no leader. */
      readonly requireLeader?: boolean;
    },
  ): AsyncGenerator<T> {
    const { endpoint, requireLeader = true } = options;
    const limit = new Limit(Number.POSITIVE_INFINITY, options.signal);
    try {
      const token = await this.tokenAt(endpoint, limit.signal);
      const answers = this.transport.stream({
        ...{ endpoint, method, request },
        serverLimitMs: null,
        requireLeader,
        token,
        dialTimeoutMs: this.dialTimeoutMs,
        signal: limit.signal,
      });
      for await (const answer of answers) yield read(answer);
    } catch (error) {
      throw this.failureOf(error, 'read', endpoint, options.signal);
    } finally {
      limit.clear();
    }
  }
}

/** The server is to give up a little earlier: it knows whether a write had an effect, we do not. */
function serverLimit(limitMs: number): number | null {
  if (limitMs === Number.POSITIVE_INFINITY) return null;
  return Math.max(1, Math.floor(limitMs - Math.min(250, limitMs / 10)));
}

/** The promise, or an ExchangeError that nothing was sent when the signal comes first. */
async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  let onAbort: () => void = () => undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(new ExchangeError('called off before it was sent', false));
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** What the listener throws is a mistake of its own, which must not change what a call has come to. */
function apart(listener: (line: string) => void): (line: string) => void {
  return (line) => {
    try {
      listener(line);
    } catch (error) {
      setImmediate(() => {
        throw error;
      });
    }
  };
}

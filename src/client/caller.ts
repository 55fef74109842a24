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
 * 2. Every call ends by its deadline. A patient call (a lock that waits) and a stream are watched:
 *    an endpoint that stays silent is asked for a sign of life every PROBE_EVERY_MS, and given up if
 *    it has no answer, so that a frozen server or a dead link cannot hold the caller for ever.
 */
import type { Method } from '../rpc/api/methods.js';
import type { CallKind } from './client-error.js';
import { ClientError, errorFromAnswer } from './client-error.js';
import type { Endpoint } from './endpoints.js';
import { EndpointRing, parseEndpoint } from './endpoints.js';
import { Limit, pauseMs, sleep, TimeLimitError } from './limit.js';
import { FallbackTransport } from './transport/fallback-transport.js';
import { GatewayTransport } from './transport/gateway-transport.js';
import { GrpcTransport } from './transport/grpc-transport.js';
import type { TlsOptions, Transport } from './transport/transport.js';
import {
  ExchangeError,
  StatusError,
  UnexpectedAnswerError,
  WrongProtocolError,
} from './transport/transport.js';

export const PROBE_EVERY_MS = 10_000;
const PROBE_TIMEOUT_MS = 5_000;

const TRANSPORTS = {
  grpc: GrpcTransport,
  http: GatewayTransport,
  'grpc-or-http': FallbackTransport,
};

export interface ClientOptions {
  /** `host:port`, URLs, or `unix:///path`. */
  readonly endpoints: readonly string[];
  /**
   * How to ask: gRPC (the default), the JSON gateway over HTTP/1.1, or the gateway where an endpoint
   * turns out not to speak HTTP/2.
   */
  readonly protocol?: keyof typeof TRANSPORTS | undefined;
  /** For one call, with all its tries. Default 5 s. */
  readonly timeoutMs?: number | undefined;
  /** For one connection. Default 2 s. */
  readonly dialTimeoutMs?: number | undefined;
  /** Keep trying until the deadline when no endpoint can be reached. Default true. */
  readonly waitForServer?: boolean | undefined;
  readonly tls?: TlsOptions | undefined;
  /** Sent with every call, as metadata or headers. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Told about every try, for tracing. */
  readonly onTry?: ((line: string) => void) | undefined;
}

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Infinity = no deadline. */
  readonly timeoutMs?: number | undefined;
  /** Only this endpoint, no fail-over. */
  readonly endpoint?: string | undefined;
  /**
   * The answer may take long although all is well (a lock): stay with the endpoint, but probe it.
   */
  readonly patient?: boolean | undefined;
}

interface Call {
  readonly method: Method;
  readonly request: object;
  readonly kind: CallKind;
}

export class Caller {
  readonly ring: EndpointRing;
  private readonly transport: Transport;
  private readonly timeoutMs: number;
  private readonly dialTimeoutMs: number;
  private readonly waitForServer: boolean;
  private readonly onTry: (line: string) => void;

  constructor(options: ClientOptions) {
    this.ring = new EndpointRing(options.endpoints.map(parseEndpoint));
    this.transport = new TRANSPORTS[options.protocol ?? 'grpc']({
      tls: options.tls ?? {},
      metadata: options.headers ?? {},
    });
    this.timeoutMs = options.timeoutMs ?? 5_000;
    this.dialTimeoutMs = options.dialTimeoutMs ?? 2_000;
    this.waitForServer = options.waitForServer ?? true;
    this.onTry = options.onTry ?? (() => {});
  }

  close(): void {
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
    const deadline = performance.now() + (options.timeoutMs ?? this.timeoutMs);
    const pinned = options.endpoint === undefined ? null : parseEndpoint(options.endpoint);
    const perRound = pinned === null ? this.ring.all.length : 1;
    let tries = 0;
    let allUnreachable = true;
    let unsure = false;
    for (;;) {
      const endpoint = pinned ?? this.ring.current;
      let failure: ClientError;
      try {
        return read(await this.attempt({ method, request, kind }, endpoint, deadline, options));
      } catch (error) {
        failure = this.failureOf(error, kind, endpoint, options.signal);
      }
      // An earlier try of a repeatable call may have worked, whatever became of the last one.
      unsure ||= failure.outcome === 'unknown';
      if (unsure && failure.outcome !== 'unknown') failure = failure.withUnknownOutcome();
      tries += 1;
      this.ring.failed(endpoint);
      allUnreachable &&= failure.code === 'UNREACHABLE';
      this.onTry(`${endpoint.name} ${method.name}: ${failure.code} ${failure.message}`);
      if (!failure.retryable) throw failure;
      const roundOver = tries % perRound === 0;
      if (roundOver && allUnreachable && !this.waitForServer) throw failure;
      const pause = roundOver ? pauseMs(tries / perRound) : 0;
      if (performance.now() + pause >= deadline) throw failure;
      await sleep(pause, options.signal);
    }
  }

  /** One try of one call on one endpoint. */
  private async attempt(
    call: Call,
    endpoint: Endpoint,
    deadline: number,
    options: CallOptions,
  ): Promise<object> {
    const leftMs = Math.max(1, deadline - performance.now());
    // A read that may go elsewhere does not wait for a frozen server until the very end.
    const alone = options.endpoint !== undefined || this.ring.all.length === 1;
    const limitMs =
      call.kind === 'write' || alone || options.patient === true
        ? leftMs
        : Math.min(leftMs, this.dialTimeoutMs);
    const limit = new Limit(limitMs, options.signal);
    const watchdog = options.patient === true ? this.watch(endpoint, limit) : null;
    try {
      const started = performance.now();
      const answer = await this.transport.ask({
        ...{ endpoint, method: call.method, request: call.request },
        serverLimitMs: options.patient === true ? null : serverLimit(limitMs),
        requireLeader: false,
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
      watchdog?.stop();
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
    if (error instanceof StatusError) {
      return errorFromAnswer(error, kind, at);
    }
    if (error instanceof UnexpectedAnswerError) {
      const message = `${at} does not speak the API: ${error.message}`;
      return new ClientError('UNEXPECTED_ANSWER', message, { endpoint: at, cause: error });
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

  /**
   * One streaming call on one endpoint: its answers. Ends when the server ends it, and throws
   * ClientError when it breaks or ends with an error.
   */
  async *stream<T>(
    method: Method,
    request: object,
    read: (answer: object) => T,
    options: { readonly signal?: AbortSignal | undefined; readonly endpoint: Endpoint },
  ): AsyncGenerator<T> {
    const { endpoint } = options;
    const limit = new Limit(Number.POSITIVE_INFINITY, options.signal);
    const watchdog = this.watch(endpoint, limit);
    try {
      const answers = this.transport.stream({
        ...{ endpoint, method, request },
        serverLimitMs: null,
        requireLeader: true,
        dialTimeoutMs: this.dialTimeoutMs,
        signal: limit.signal,
      });
      for await (const answer of answers) {
        watchdog.heard();
        yield read(answer);
      }
    } catch (error) {
      const isOurs = error instanceof ExchangeError && limit.reason !== null;
      const known = isOurs ? new TimeLimitError(limit.reason ?? '', true) : error;
      throw this.failureOf(known, 'read', endpoint, options.signal);
    } finally {
      limit.clear();
      watchdog.stop();
    }
  }

  /** Asks a silent endpoint for a sign of life, and ends the exchange if there is none. */
  private watch(endpoint: Endpoint, limit: Limit): { heard(): void; stop(): void } {
    let heardAt = performance.now();
    const probe = async (): Promise<void> => {
      if (performance.now() - heardAt < PROBE_EVERY_MS / 2) return;
      const probeLimit = new Limit(PROBE_TIMEOUT_MS, limit.signal);
      try {
        await this.transport.probe(endpoint, this.dialTimeoutMs, probeLimit.signal);
        heardAt = performance.now();
      } catch (error) {
        limit.expire(error instanceof Error ? `no sign of life: ${error.message}` : 'no sign');
      } finally {
        probeLimit.clear();
      }
    };
    const timer = setInterval(() => void probe(), PROBE_EVERY_MS);
    timer.unref();
    return {
      heard: () => {
        heardAt = performance.now();
      },
      stop: () => clearInterval(timer),
    };
  }
}

/** The server is to give up a little earlier: it knows whether a write had an effect, we do not. */
function serverLimit(limitMs: number): number | null {
  if (limitMs === Number.POSITIVE_INFINITY) return null;
  return Math.max(1, Math.floor(limitMs - Math.min(250, limitMs / 10)));
}

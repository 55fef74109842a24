/**
 * One call on a cluster: which endpoint, how often, how long, and what a failure means.
 *
 * Under HttpClient, which knows the calls of the API; this file knows their delivery. A call goes
 * to the endpoint in use; if it fails in a way that allows a second try, the next endpoint has its
 * turn, after a pause once all have been tried.
 *
 * Invariants:
 * 1. A write is sent a second time only if the first is proved not to have been applied
 *    (ClientError.outcome). Otherwise the caller is told that the outcome is unknown.
 * 2. Every call ends by its deadline. A patient call (a lock that waits) and a stream are watched:
 *    an endpoint that stays silent is asked for its version every PROBE_EVERY_MS, and given up if
 *    it has no answer, so that a frozen server or a dead link cannot hold the caller for ever.
 */
import type { CallKind } from './client-error.js';
import { ClientError, errorFromAnswer } from './client-error.js';
import type { Endpoint } from './endpoints.js';
import { EndpointRing, parseEndpoint } from './endpoints.js';
import type { JsonObject } from './gateway-json.js';
import { asObject, UnexpectedAnswerError } from './gateway-json.js';
import type { TlsOptions } from './http-exchange.js';
import { Connections, ExchangeError, readAll, readLines } from './http-exchange.js';
import { Limit, pauseMs, sleep, TimeLimitError } from './limit.js';

export const PROBE_EVERY_MS = 10_000;
const PROBE_TIMEOUT_MS = 5_000;

export interface HttpClientOptions {
  /** `host:port` or URLs. */
  readonly endpoints: readonly string[];
  /** For one call, with all its tries. Default 5 s. */
  readonly timeoutMs?: number | undefined;
  /** For one connection. Default 2 s. */
  readonly dialTimeoutMs?: number | undefined;
  /** Keep trying until the deadline when no endpoint can be reached. Default true. */
  readonly waitForServer?: boolean | undefined;
  readonly tls?: TlsOptions | undefined;
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
  readonly path: string;
  readonly body: JsonObject;
  readonly kind: CallKind;
}

export class Caller {
  readonly ring: EndpointRing;
  private readonly connections: Connections;
  private readonly timeoutMs: number;
  private readonly dialTimeoutMs: number;
  private readonly waitForServer: boolean;
  private readonly headers: Readonly<Record<string, string>>;
  private readonly onTry: (line: string) => void;

  constructor(options: HttpClientOptions) {
    this.ring = new EndpointRing(options.endpoints.map(parseEndpoint));
    this.connections = new Connections(options.tls ?? {});
    this.timeoutMs = options.timeoutMs ?? 5_000;
    this.dialTimeoutMs = options.dialTimeoutMs ?? 2_000;
    this.waitForServer = options.waitForServer ?? true;
    this.headers = options.headers ?? {};
    this.onTry = options.onTry ?? (() => {});
  }

  close(): void {
    this.connections.close();
  }

  /** One call: the answer as `decode` reads it. */
  async call<T>(
    path: string,
    body: JsonObject,
    kind: CallKind,
    decode: (answer: JsonObject) => T,
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
        const answer = await this.attempt({ path, body, kind }, endpoint, deadline, options);
        return decode(answer);
      } catch (error) {
        failure = this.failureOf(error, kind, endpoint, options.signal);
      }
      // An earlier try of a repeatable call may have worked, whatever became of the last one.
      unsure ||= failure.outcome === 'unknown';
      if (unsure && failure.outcome !== 'unknown') failure = failure.withUnknownOutcome();
      tries += 1;
      this.ring.failed(endpoint);
      allUnreachable &&= failure.code === 'UNREACHABLE';
      this.onTry(`${endpoint.name} ${path}: ${failure.code} ${failure.message}`);
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
  ): Promise<JsonObject> {
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
      const answer = await this.connections.ask({
        endpoint,
        method: 'POST',
        path: call.path,
        body: JSON.stringify(call.body),
        headers: options.patient === true ? this.headers : this.headersWithDeadline(limitMs),
        dialTimeoutMs: Math.min(this.dialTimeoutMs, limitMs),
        signal: limit.signal,
      });
      const took = (performance.now() - started).toFixed(1);
      this.onTry(`${endpoint.name} ${call.path}: ${answer.status} in ${took} ms`);
      return readAnswer(answer.status, answer.body, call.kind, endpoint);
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

  /** The server is to give up a little earlier: it knows whether a write had an effect, we do not. */
  private headersWithDeadline(limitMs: number): Readonly<Record<string, string>> {
    const serverMs = Math.max(1, Math.floor(limitMs - Math.min(250, limitMs / 10)));
    return { 'grpc-timeout': `${serverMs}m`, ...this.headers };
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
    if (error instanceof UnexpectedAnswerError || error instanceof SyntaxError) {
      const message = `${at} does not speak the API: ${error.message}`;
      return new ClientError('UNEXPECTED_ANSWER', message, { endpoint: at, cause: error });
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
   * One streaming call on one endpoint: the `result` of each line. Ends when the server ends it,
   * and throws ClientError when it breaks or carries an error.
   */
  async *stream(
    path: string,
    body: JsonObject,
    options: { readonly signal?: AbortSignal | undefined; readonly endpoint: Endpoint },
  ): AsyncGenerator<JsonObject> {
    const { endpoint } = options;
    const limit = new Limit(Number.POSITIVE_INFINITY, options.signal);
    const watchdog = this.watch(endpoint, limit);
    try {
      const response = await this.connections.open({
        endpoint,
        method: 'POST',
        path,
        body: JSON.stringify(body),
        headers: { 'grpc-metadata-hasleader': 'true', ...this.headers },
        dialTimeoutMs: this.dialTimeoutMs,
        signal: limit.signal,
      });
      const status = response.statusCode ?? 0;
      if (status !== 200) {
        readAnswer(status, await readAll(response), 'read', endpoint);
        throw new UnexpectedAnswerError(`status ${status}`);
      }
      for await (const line of readLines(response)) {
        watchdog.heard();
        yield streamResult(line, endpoint);
      }
    } catch (error) {
      const known = limit.reason === null ? error : new TimeLimitError(limit.reason, true);
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
        await this.connections.ask({
          endpoint,
          method: 'GET',
          path: '/version',
          body: '',
          headers: this.headers,
          dialTimeoutMs: this.dialTimeoutMs,
          signal: probeLimit.signal,
        });
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

/** The JSON of a good answer; throws what a bad one stands for. */
function readAnswer(status: number, body: string, kind: CallKind, endpoint: Endpoint): JsonObject {
  let parsed: JsonObject;
  try {
    parsed = asObject(JSON.parse(body));
  } catch (error) {
    if (status === 200) throw error;
    const text = body.length > 80 ? `${body.slice(0, 80)}...` : body.trim();
    throw new UnexpectedAnswerError(`status ${status}: ${text}`);
  }
  const nested = parsed['error'];
  if (status === 200 && nested === undefined) return parsed;
  const detail = typeof nested === 'object' ? asObject(nested) : parsed;
  const message = detail['message'] ?? detail['error'];
  const code = detail['code'] ?? detail['grpc_code'];
  if (typeof message !== 'string' || typeof code !== 'number') {
    throw new UnexpectedAnswerError(`status ${status} without an error text`);
  }
  throw errorFromAnswer(message, code, kind, endpoint.name);
}

function streamResult(line: string, endpoint: Endpoint): JsonObject {
  const message = readAnswer(200, line, 'read', endpoint);
  if (message['result'] === undefined) {
    throw new UnexpectedAnswerError('a line of a stream has no result');
  }
  return asObject(message['result']);
}

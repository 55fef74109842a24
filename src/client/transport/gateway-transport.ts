/**
 * Calls through the JSON gateway, HTTP/1.1: for endpoints behind proxies that do not let HTTP/2 through.
 *
 * A call of one answer is a POST with one answer; a stream is a POST whose answer is JSON lines, each with
 * a `result` or an `error`.
 */
import { KvError } from '../../errors.js';
import { decodeJson, encodeJson } from '../../rpc/api/json.js';
import type { Encodable } from '../../rpc/api/schema.js';
import { Connections, type ExchangeRequest, readAll, readLines } from './http-exchange.js';
import {
  type Exchange,
  grpcTimeout,
  SIGN_MS,
  SILENCE_MS,
  StatusError,
  type Transport,
  type TransportOptions,
  UnexpectedAnswerError,
} from './transport.js';

const UNAVAILABLE = 14;

type JsonObject = { readonly [field: string]: unknown };

export class GatewayTransport implements Transport {
  private readonly connections: Connections;
  private readonly metadata: Readonly<Record<string, string>>;

  constructor({ tls, metadata }: TransportOptions) {
    this.connections = new Connections(tls);
    this.metadata = metadata;
  }

  close(): void {
    this.connections.close();
  }

  async ask(exchange: Exchange): Promise<object> {
    const watched = this.watched(exchange);
    try {
      const { status, body } = await this.connections.ask(this.requestOf(watched.exchange));
      const { response, responseStream } = exchange.method;
      return read(() => {
        if (status !== 200) throw failureOf(status, body);
        // The decoder takes nothing at all for a message with nothing set.
        if (!responseStream && body.trim() !== '') return decodeJson(response, body);
        return decodeJson(response, JSON.stringify(resultOf(objectOf(body, status))));
      });
    } finally {
      watched.stop();
    }
  }

  async *stream(exchange: Exchange): AsyncGenerator<object> {
    const watched = this.watched(exchange);
    try {
      const response = await this.connections.open(this.requestOf(watched.exchange));
      const status = response.statusCode ?? 0;
      if (status !== 200) throw failureOf(status, await readAll(response));
      for await (const line of readLines(response)) {
        watched.heard();
        yield read(() => {
          const result = resultOf(objectOf(line, status));
          return decodeJson(exchange.method.response, JSON.stringify(result));
        });
      }
    } finally {
      watched.stop();
    }
  }

  /** The exchange, ended when its endpoint is silent and then does not even tell its version. */
  private watched(exchange: Exchange): {
    readonly exchange: Exchange;
    heard(): void;
    stop(): void;
  } {
    if (exchange.serverLimitMs !== null) return { exchange, heard: noop, stop: noop };
    const silent = new AbortController();
    const signal = AbortSignal.any([exchange.signal, silent.signal]);
    let heardAt = performance.now();
    const probe = async (): Promise<void> => {
      if (performance.now() - heardAt < SILENCE_MS) return;
      try {
        await this.connections.ask({
          ...{ endpoint: exchange.endpoint, method: 'GET', path: '/version', body: '' },
          headers: this.metadata,
          dialTimeoutMs: exchange.dialTimeoutMs,
          signal: AbortSignal.any([signal, AbortSignal.timeout(SIGN_MS)]),
        });
        heardAt = performance.now();
      } catch {
        silent.abort();
      }
    };
    const timer = setInterval(() => void probe(), SILENCE_MS);
    timer.unref();
    return {
      exchange: { ...exchange, signal },
      heard: () => {
        heardAt = performance.now();
      },
      stop: () => clearInterval(timer),
    };
  }

  private requestOf({
    endpoint,
    method,
    request,
    serverLimitMs,
    requireLeader,
    token,
    dialTimeoutMs,
    signal,
  }: Exchange): ExchangeRequest {
    const [path] = method.paths;
    if (path === undefined) {
      throw new UnexpectedAnswerError(`${method.service}/${method.name} has no path over HTTP/1.1`);
    }
    return {
      endpoint,
      method: 'POST',
      path: `/v3${path}`,
      body: encodeJson(method.request, request as Encodable<typeof method.request>),
      headers: {
        ...(serverLimitMs === null ? {} : { 'grpc-timeout': grpcTimeout(serverLimitMs) }),
        ...(requireLeader ? { 'grpc-metadata-hasleader': 'true' } : {}),
        ...this.metadata,
        ...(token === null ? {} : { authorization: token }),
      },
      dialTimeoutMs,
      signal,
    };
  }
}

/** What is no JSON of the API is somebody else's. */
function read(decode: () => object): object {
  try {
    return decode();
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
    throw new UnexpectedAnswerError(error.message);
  }
}

function objectOf(text: string, status: number): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = null;
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as JsonObject;
  }
  throw new UnexpectedAnswerError(`status ${status}: ${shortened(text.trim())}`);
}

/** What a line of a stream carries. */
function resultOf(line: JsonObject): JsonObject {
  const { result, error } = line;
  if (error !== undefined) throw failureIn(200, line);
  if (typeof result === 'object' && result !== null) return result as JsonObject;
  throw new UnexpectedAnswerError('a line of a stream has no result');
}

/** A failure as gateways write it: flat for single answers, below `error` in streams. */
function failureOf(status: number, body: string): StatusError {
  // What stands in between speaks HTML, and says with its status that it could not ask.
  if (status === 429 || (status >= 502 && status <= 504)) {
    const isOurs = body.trimStart().startsWith('{');
    if (!isOurs) return new StatusError(UNAVAILABLE, `status ${status}`);
  }
  return failureIn(status, objectOf(body, status));
}

function failureIn(status: number, answer: JsonObject): StatusError {
  const { error } = answer;
  const detail = typeof error === 'object' && error !== null ? (error as JsonObject) : answer;
  const message = detail['message'] ?? detail['error'];
  const code = detail['code'] ?? detail['grpc_code'];
  if (typeof message === 'string' && typeof code === 'number') {
    return new StatusError(code, message);
  }
  throw new UnexpectedAnswerError(`status ${status} without an error text`);
}

function noop(): void {}

function shortened(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}...` : text;
}

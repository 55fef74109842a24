/**
 * Calls through the JSON gateway, HTTP/1.1: for endpoints behind proxies that do not let HTTP/2 through.
 *
 * A call of one answer is a POST with one answer; a stream is a POST whose answer is JSON lines, each with
 * a `result` or an `error`.
 */
import { KvError } from '../../errors.js';
import { decodeJson, encodeJson } from '../../rpc/api/json.js';
import type { Encodable } from '../../rpc/api/schema.js';
import type { Endpoint } from '../endpoints.js';
import { Connections, type ExchangeRequest, readAll, readLines } from './http-exchange.js';
import {
  type Exchange,
  StatusError,
  type Transport,
  type TransportOptions,
  UnexpectedAnswerError,
} from './transport.js';

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
    const { status, body } = await this.connections.ask(this.requestOf(exchange));
    const { response, responseStream } = exchange.method;
    return read(() => {
      if (status !== 200) throw failureOf(status, objectOf(body, status));
      // The decoder takes nothing at all for a message with nothing set.
      if (!responseStream && body.trim() !== '') return decodeJson(response, body);
      return decodeJson(response, JSON.stringify(resultOf(objectOf(body, status))));
    });
  }

  async *stream(exchange: Exchange): AsyncGenerator<object> {
    const response = await this.connections.open(this.requestOf(exchange));
    const status = response.statusCode ?? 0;
    if (status !== 200) {
      const body = await readAll(response);
      throw failureOf(status, objectOf(body, status));
    }
    for await (const line of readLines(response)) {
      yield read(() => {
        const result = resultOf(objectOf(line, status));
        return decodeJson(exchange.method.response, JSON.stringify(result));
      });
    }
  }

  async probe(endpoint: Endpoint, dialTimeoutMs: number, signal: AbortSignal): Promise<void> {
    await this.connections.ask({
      endpoint,
      method: 'GET',
      path: '/version',
      body: '',
      headers: this.metadata,
      dialTimeoutMs,
      signal,
    });
  }

  private requestOf({
    endpoint,
    method,
    request,
    serverLimitMs,
    requireLeader,
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
        ...(serverLimitMs === null ? {} : { 'grpc-timeout': `${serverLimitMs}m` }),
        ...(requireLeader ? { 'grpc-metadata-hasleader': 'true' } : {}),
        ...this.metadata,
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
  if (error !== undefined) throw failureOf(200, line);
  if (typeof result === 'object' && result !== null) return result as JsonObject;
  throw new UnexpectedAnswerError('a line of a stream has no result');
}

/** A failure as gateways write it: flat for single answers, below `error` in streams. */
function failureOf(status: number, answer: JsonObject): StatusError {
  const { error } = answer;
  const detail = typeof error === 'object' && error !== null ? (error as JsonObject) : answer;
  const message = detail['message'] ?? detail['error'];
  const code = detail['code'] ?? detail['grpc_code'];
  if (typeof message === 'string' && typeof code === 'number') {
    return new StatusError(code, message);
  }
  throw new UnexpectedAnswerError(`status ${status} without an error text`);
}

function shortened(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}...` : text;
}

/**
 * One HTTP request to one endpoint: either a whole answer, or a stream of JSON lines.
 *
 * Called by gateway-transport.ts, which knows what is asked.
 *
 * Invariants:
 * 1. `reached: false` is said only if the socket never connected, so nothing was ever sent.
 * 2. A line of a stream is handed out only when its newline has arrived: a cut leaves no half
 *    message.
 * 3. A line is at most LINE_BYTES_MAX long, and an answer at most ANSWER_BYTES_MAX.
 */
import http from 'node:http';
import https from 'node:https';
import type { TLSSocket } from 'node:tls';
import type { Endpoint } from '../endpoints.js';
import { ExchangeError, givenTls, reasonOf, type TlsOptions } from './transport.js';

export const LINE_BYTES_MAX = 256 * 1024 * 1024;
export const ANSWER_BYTES_MAX = 512 * 1024 * 1024;

export interface ExchangeRequest {
  readonly endpoint: Endpoint;
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly body: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly dialTimeoutMs: number;
  /** Ends the exchange at any moment, also in the middle of the answer. */
  readonly signal: AbortSignal | null;
}

export interface Answer {
  readonly status: number;
  readonly body: string;
}

/** The connections of one client. Idle ones are kept for the next call. */
export class Connections {
  private readonly plain: http.Agent;
  private readonly secure: https.Agent;

  constructor(tls: TlsOptions) {
    // Idle sockets are dropped well before a server would: a request that meets a closing socket
    // has an unknown outcome, which is worse than a new connection.
    const pool = { keepAlive: true, maxFreeSockets: 16, timeout: 4_000 };
    this.plain = new http.Agent(pool);
    this.secure = new https.Agent({ ...pool, ...givenTls(tls) });
  }

  close(): void {
    this.plain.destroy();
    this.secure.destroy();
  }

  /** Sends the request; resolves when the head of the answer is here. */
  open(request: ExchangeRequest): Promise<http.IncomingMessage> {
    const { endpoint, signal } = request;
    if (signal?.aborted === true) {
      return Promise.reject(new ExchangeError('called off', false, signal.reason));
    }
    return new Promise((resolve, reject) => {
      let reached = false;
      const body = Buffer.from(request.body, 'utf8');
      const options: https.RequestOptions = {
        ...(endpoint.socketPath === null
          ? { host: endpoint.host, port: endpoint.port }
          : { socketPath: endpoint.socketPath }),
        method: request.method,
        path: request.path,
        agent: endpoint.secure ? this.secure : this.plain,
        headers: {
          ...request.headers,
          ...(request.method === 'POST'
            ? { 'content-type': 'application/json', 'content-length': body.length }
            : {}),
        },
      };
      const outgoing = endpoint.secure ? https.request(options) : http.request(options);
      const dialTimer = setTimeout(() => {
        outgoing.destroy(new Error(`no connection within ${request.dialTimeoutMs} ms`));
      }, request.dialTimeoutMs);
      const onConnected = (): void => {
        reached = true;
        clearTimeout(dialTimer);
      };
      const onAbort = (): void => {
        outgoing.destroy(new Error('called off'));
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      outgoing.on('socket', (socket) => {
        // A TLS socket has connected when its handshake is done; nothing is sent before that.
        if (!socket.connecting) onConnected();
        else socket.once(endpoint.secure ? 'secureConnect' : 'connect', onConnected);
        (socket as TLSSocket).setKeepAlive(true, 15_000);
      });
      outgoing.on('response', resolve);
      outgoing.on('error', (error) => {
        clearTimeout(dialTimer);
        reject(new ExchangeError(reasonOf(error), reached, error));
      });
      outgoing.on('close', () => {
        clearTimeout(dialTimer);
        signal?.removeEventListener('abort', onAbort);
        reject(new ExchangeError('the connection closed without an answer', reached));
      });
      outgoing.end(request.method === 'POST' ? body : undefined);
    });
  }

  /** The whole answer to one request. */
  async ask(request: ExchangeRequest): Promise<Answer> {
    const response = await this.open(request);
    return { status: response.statusCode ?? 0, body: await readAll(response) };
  }
}

/** Reads an answer to its end. Throws if it is cut short. */
export async function readAll(response: http.IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let size = 0;
  try {
    for await (const part of response) {
      const chunk = part as Buffer;
      size += chunk.length;
      if (size > ANSWER_BYTES_MAX) {
        response.destroy();
        throw new ExchangeError(`the answer is longer than ${ANSWER_BYTES_MAX} bytes`, true);
      }
      parts.push(chunk);
    }
  } catch (error) {
    if (error instanceof ExchangeError) throw error;
    throw new ExchangeError(reasonOf(error), true, error);
  }
  if (!response.complete) throw new ExchangeError('the answer was cut short', true);
  return Buffer.concat(parts).toString('utf8');
}

/** The lines of an answer as they arrive. The socket is paused while nobody asks for the next. */
export async function* readLines(response: http.IncomingMessage): AsyncGenerator<string> {
  let rest = '';
  response.setEncoding('utf8');
  try {
    for await (const part of response) {
      const text = rest + (part as string);
      let start = 0;
      // What `rest` holds has no newline, so the search need not read it again.
      let end = text.indexOf('\n', rest.length);
      while (end !== -1) {
        const line = text.slice(start, end).trim();
        start = end + 1;
        if (line !== '') yield line;
        end = text.indexOf('\n', start);
      }
      rest = text.slice(start);
      if (rest.length > LINE_BYTES_MAX) {
        throw new ExchangeError(`a line is longer than ${LINE_BYTES_MAX} bytes`, true);
      }
    }
  } catch (error) {
    if (error instanceof ExchangeError) throw error;
    throw new ExchangeError(reasonOf(error), true, error);
  } finally {
    response.destroy();
  }
  if (!response.complete) throw new ExchangeError('the stream was cut', true);
}

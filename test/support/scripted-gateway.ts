/**
 * An HTTP server for tests of the client: answers as a script says, call by call.
 *
 * A path has a queue of one-time answers and a standing answer after them. An answer is a function
 * of the request that writes to the real response, so that it can also cut the connection wherever
 * it likes. Every request is recorded.
 */
import http from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

export type Json = { readonly [field: string]: unknown };

export interface Received {
  readonly path: string;
  readonly body: Json;
  readonly response: http.ServerResponse;
  readonly request: http.IncomingMessage;
}

export type Answer = (received: Received) => void | Promise<void>;

export class ScriptedGateway {
  readonly received: Received[] = [];
  /** Connections that were made, ever. */
  connections = 0;
  private readonly server: http.Server;
  private readonly sockets = new Set<Socket>();
  private readonly queues = new Map<string, Answer[]>();
  private readonly standing = new Map<string, Answer>();

  private constructor() {
    this.server = http.createServer((request, response) => void this.onRequest(request, response));
    this.server.on('connection', (socket) => {
      this.connections += 1;
      this.sockets.add(socket);
      socket.on('close', () => this.sockets.delete(socket));
    });
  }

  static async start(port = 0): Promise<ScriptedGateway> {
    const gateway = new ScriptedGateway();
    await new Promise<void>((resolve, reject) => {
      gateway.server.once('error', reject);
      gateway.server.listen(port, '127.0.0.1', resolve);
    });
    return gateway;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  get endpoint(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Answers for the next calls of the path, one each. */
  next(path: string, ...answers: Answer[]): void {
    this.queues.set(path, [...(this.queues.get(path) ?? []), ...answers]);
  }

  /** The answer when no one-time answer is left. */
  always(path: string, answer: Answer): void {
    this.standing.set(path, answer);
  }

  requests(path: string): Json[] {
    return this.received.filter((one) => one.path === path).map(({ body }) => body);
  }

  cutAll(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  async stop(): Promise<void> {
    this.cutAll();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }

  private async onRequest(
    request: http.IncomingMessage,
    response: http.ServerResponse,
  ): Promise<void> {
    let text = '';
    for await (const part of request) text += String(part);
    const path = request.url ?? '';
    const received = { path, body: JSON.parse(text === '' ? '{}' : text), request, response };
    this.received.push(received);
    const answer = this.queues.get(path)?.shift() ?? this.standing.get(path) ?? refuse;
    try {
      await answer(received);
    } catch (error) {
      response.destroy(error as Error);
    }
  }
}

function refuse({ response, path }: Received): void {
  response.writeHead(404, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ code: 5, message: `Not Found: ${path}` }));
}

/** A good answer. */
export function ok(body: Json | ((request: Json) => Json)): Answer {
  return ({ response, body: request }) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(typeof body === 'function' ? body(request) : body));
  };
}

const HTTP_STATUS: Readonly<Record<number, number>> = { 3: 400, 5: 404, 7: 403, 11: 400, 14: 503 };

/** A failure, as servers of the API write it. */
export function failure(code: number, message: string): Answer {
  return ({ response }) => {
    response.writeHead(HTTP_STATUS[code] ?? 500, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ error: message, message, code }));
  };
}

/** Closes the connection without a word, after the request was read. */
export function hangUp(): Answer {
  return ({ request }) => {
    request.socket.destroy();
  };
}

/** Never answers. */
export function silence(): Answer {
  return () => {};
}

/** Writes the pieces as they are, each flushed, and then keeps the stream open. */
export function streaming(...pieces: string[]): Answer {
  return async ({ response }) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    for (const piece of pieces) await flush(response, piece);
  };
}

/** Writes the pieces, and cuts the connection when the client has had time to read them. */
export function streamingThenCut(...pieces: string[]): Answer {
  return async ({ response, request }) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    for (const piece of pieces) await flush(response, piece);
    request.socket.destroySoon();
  };
}

function flush(response: http.ServerResponse, piece: string): Promise<void> {
  return new Promise((resolve) => response.write(piece, () => setImmediate(resolve)));
}

export function base64(text: string): string {
  return Buffer.from(text, 'utf8').toString('base64');
}

export function header(revision: number): Json {
  return { cluster_id: '7', member_id: '8', revision: String(revision), raft_term: '2' };
}

export function keyValue(key: string, value: string, revision: number, more: Json = {}): Json {
  return {
    key: base64(key),
    create_revision: String(revision),
    mod_revision: String(revision),
    version: '1',
    value: base64(value),
    ...more,
  };
}

/** Lines of a watch stream. */
export function createdLine(revision: number): string {
  return line({ header: header(revision), created: true });
}

export function eventsLine(revision: number, ...kvs: Json[]): string {
  return line({ header: header(revision), events: kvs.map((kv) => ({ kv })) });
}

export function line(result: Json): string {
  return `${JSON.stringify({ result })}\n`;
}

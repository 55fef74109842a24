/**
 * A gateway on a real port, and a client that sees HTTP as it is: raw sockets for what no library
 * sends, `node:http` for chunks as they arrive.
 */
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { pino } from 'pino';
import type { NodeFace } from '../../src/node.js';
import { buildGateway, type Gateway, type GatewayOptions } from '../../src/rpc/gateway/gateway.js';

export interface ServedGateway {
  readonly gateway: Gateway;
  readonly port: number;
  /** Lines of the log, parsed. */
  readonly log: Record<string, unknown>[];
  /** Connections that are open now. */
  readonly sockets: Set<net.Socket>;
  stop(): Promise<void>;
}

export async function serveGateway(
  node: NodeFace,
  options: Partial<GatewayOptions> = {},
  greet: (socket: net.Socket) => void = () => undefined,
): Promise<ServedGateway> {
  const log: Record<string, unknown>[] = [];
  const logger = pino(
    { level: 'debug' },
    { write: (line: string) => void log.push(JSON.parse(line) as Record<string, unknown>) },
  );
  const gateway = buildGateway(node, {
    logger,
    maxRequestBytes: 1_572_864,
    maxTxnOps: 128,
    slowRequestMs: 300,
    etcdVersion: '3.6.0',
    kvdVersion: '0.1.0',
    ...options,
  });
  await gateway.ready();
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    greet(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => sockets.delete(socket));
    // As the real port does: look at the first bytes, then hand the connection over with them.
    socket.once('data', (first: Buffer) => {
      socket.pause();
      gateway.attach(socket, first);
      socket.resume();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    gateway,
    port: (server.address() as net.AddressInfo).port,
    log,
    sockets,
    stop: async () => {
      server.close();
      await gateway.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

export interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
  readonly json: unknown;
}

const agent = new http.Agent({ keepAlive: true });

/** One exchange. `body` is sent as it is; no content type unless the headers have one. */
export async function exchange(
  port: number,
  path: string,
  body: string | Buffer = '',
  options: { method?: string; headers?: Record<string, string> } = {},
): Promise<Answer> {
  const { method = 'POST', headers = {} } = options;
  const request = http.request({ host: '127.0.0.1', port, path, method, headers, agent });
  request.end(body);
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  const parts: Buffer[] = [];
  for await (const part of response) parts.push(part as Buffer);
  const text = Buffer.concat(parts).toString('utf8');
  let json: unknown = null;
  try {
    json = JSON.parse(text);
  } catch {
    json = null;
  }
  return { status: response.statusCode as number, headers: response.headers, text, json };
}

/** Sends a message as JSON. */
export function post(
  port: number,
  path: string,
  message: unknown = {},
  headers: Record<string, string> = {},
): Promise<Answer> {
  return exchange(port, path, JSON.stringify(message), { headers });
}

/** A connection that speaks bytes and keeps what came back. */
export class RawClient {
  readonly socket: net.Socket;
  received = '';
  closed = false;

  constructor(port: number) {
    this.socket = net.connect(port, '127.0.0.1');
    this.socket.on('data', (data) => {
      this.received += data.toString('latin1');
    });
    this.socket.on('error', () => undefined);
    this.socket.once('close', () => {
      this.closed = true;
    });
  }

  write(text: string | Buffer): void {
    this.socket.write(text);
  }

  /** Payloads of the HTTP chunks that have arrived whole. */
  chunks(): string[] {
    const at = this.received.indexOf('\r\n\r\n');
    const chunks: string[] = [];
    let rest = at < 0 ? '' : this.received.slice(at + 4);
    for (;;) {
      const line = /^([0-9a-f]+)\r\n/i.exec(rest);
      if (line === null) return chunks;
      const size = Number.parseInt(line[1] as string, 16);
      const start = line[0].length;
      if (size === 0 || rest.length < start + size + 2) return chunks;
      chunks.push(rest.slice(start, start + size));
      rest = rest.slice(start + size + 2);
    }
  }
}

/** A watch whose request body stays open. */
export function openStream(port: number, path: string, headers = ''): RawClient {
  const client = new RawClient(port);
  client.write(`POST ${path} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n${headers}\r\n`);
  return client;
}

export function chunk(text: string): string {
  return `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;
}

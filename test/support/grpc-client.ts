/**
 * A gRPC client on Node's own HTTP/2, which shares no line with the product, and a server for it to talk
 * to: the real one on a real port, in front of any NodeFace.
 */
import { once } from 'node:events';
import http2 from 'node:http2';
import net from 'node:net';
import { pino } from 'pino';
import { Metrics } from '../../src/metrics.js';
import type { NodeFace } from '../../src/node.js';
import type { Handlers } from '../../src/rpc/api/handler.js';
import { GrpcServer, type GrpcServerOptions } from '../../src/rpc/grpc/grpc-server.js';
import { apiHandlers } from '../../src/rpc/handlers.js';
import type { Member } from './cluster-processes.js';
import { testCertificates } from './test-certificates.js';

const LIMITS = { maxRequestBytes: 1_572_864, maxTxnOps: 128 };

export interface ServedGrpc {
  readonly server: GrpcServer;
  readonly metrics: Metrics;
  readonly port: number;
  readonly unexpected: unknown[];
  stop(): Promise<void>;
}

export async function serveGrpc(
  node: NodeFace,
  handlers?: Handlers,
  more: Partial<GrpcServerOptions> = {},
  greet: (socket: net.Socket) => void = () => undefined,
): Promise<ServedGrpc> {
  const metrics = new Metrics();
  const unexpected: unknown[] = [];
  const server = new GrpcServer(node, {
    logger: pino({ level: 'silent' }),
    metrics,
    handlers: handlers ?? apiHandlers(LIMITS),
    maxRequestBytes: LIMITS.maxRequestBytes,
    slowRequestMs: 300,
    onUnexpected: (error) => unexpected.push(error),
    ...more,
  });
  const listener = net.createServer((socket) => {
    greet(socket);
    socket.once('data', (first: Buffer) => server.attach(socket, first));
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  return {
    server,
    metrics,
    port: (listener.address() as net.AddressInfo).port,
    unexpected,
    stop: async () => {
      server.close();
      await new Promise((resolve) => listener.close(resolve));
    },
  };
}

export interface Outcome {
  readonly messages: Buffer[];
  readonly status: number;
  readonly text: string;
  readonly httpStatus: number;
}

export class GrpcClient {
  readonly session: http2.ClientHttp2Session;

  /** Over a port of this machine, or a session that is there. */
  constructor(to: number | http2.ClientHttp2Session) {
    this.session = typeof to === 'number' ? http2.connect(`http://127.0.0.1:${to}`) : to;
    this.session.on('error', () => undefined);
  }

  /** As the member wants to be called. */
  static of(member: Member): GrpcClient {
    const tls = member.isSecure ? testCertificates().client : {};
    return new GrpcClient(http2.connect(member.clientUrl, tls));
  }

  open(path: string, headers: Readonly<Record<string, string>> = {}): GrpcExchange {
    return new GrpcExchange(
      this.session.request({
        ':method': 'POST',
        ':path': path,
        'content-type': 'application/grpc',
        te: 'trailers',
        ...headers,
      }),
    );
  }

  /** One message, and all that comes back. */
  async call(
    path: string,
    message: Uint8Array,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Outcome> {
    const exchange = this.open(path, headers);
    exchange.send(message);
    exchange.end();
    return await exchange.outcome;
  }

  close(): void {
    this.session.destroy();
  }
}

export class GrpcExchange {
  readonly stream: http2.ClientHttp2Stream;
  readonly messages: Buffer[] = [];
  readonly outcome: Promise<Outcome>;
  private rest = Buffer.alloc(0);

  constructor(stream: http2.ClientHttp2Stream) {
    this.stream = stream;
    let headers: http2.IncomingHttpHeaders = {};
    let trailers: http2.IncomingHttpHeaders = {};
    stream.on('response', (received) => {
      headers = received;
    });
    stream.on('trailers', (received) => {
      trailers = received;
    });
    stream.on('data', (bytes: Buffer) => this.take(bytes));
    stream.on('error', () => undefined);
    this.outcome = new Promise((resolve) => {
      stream.on('close', () => {
        const last = { ...headers, ...trailers };
        resolve({
          messages: this.messages,
          status: Number(last['grpc-status'] ?? -1),
          text: decodeURIComponent(String(last['grpc-message'] ?? '')),
          httpStatus: Number(headers[':status'] ?? 0),
        });
      });
    });
  }

  send(message: Uint8Array, flag = 0): void {
    const head = Buffer.alloc(5);
    head[0] = flag;
    head.writeUInt32BE(message.length, 1);
    this.stream.write(Buffer.concat([head, message]));
  }

  end(): void {
    this.stream.end();
  }

  cancel(): void {
    this.stream.close(http2.constants.NGHTTP2_CANCEL);
  }

  private take(bytes: Buffer): void {
    this.rest = Buffer.concat([this.rest, bytes]);
    while (this.rest.length >= 5) {
      const end = 5 + this.rest.readUInt32BE(1);
      if (this.rest.length < end) return;
      this.messages.push(this.rest.subarray(5, end));
      this.rest = this.rest.subarray(end);
    }
  }
}

/**
 * A gRPC server for tests of the client, on the HTTP/2 server of Node: answers as a script says, call by
 * call, also with what no good server would say. A method has a queue of one-time answers and a standing
 * answer after them. Every call is recorded.
 */
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import type { Encodable, MessageName } from '../../src/rpc/api/schema.js';

export interface ReceivedCall {
  readonly path: string;
  readonly headers: http2.IncomingHttpHeaders;
  readonly stream: http2.ServerHttp2Stream;
  /** The bytes of the first message. */
  readonly message: Buffer;
}

export type GrpcAnswer = (call: ReceivedCall) => void | Promise<void>;

export class ScriptedGrpc {
  readonly received: ReceivedCall[] = [];
  /** Connections that were made, ever. */
  connections = 0;
  readonly sessions = new Set<http2.ServerHttp2Session>();
  private readonly server: http2.Http2Server;
  private readonly queues = new Map<string, GrpcAnswer[]>();
  private readonly standing = new Map<string, GrpcAnswer>();

  private constructor(settings: http2.Settings) {
    this.server = http2.createServer({ settings });
    this.server.on('session', (session) => {
      this.connections += 1;
      this.sessions.add(session);
      session.on('error', () => undefined);
      session.on('close', () => this.sessions.delete(session));
    });
    this.server.on('stream', (stream, headers) => void this.onStream(stream, headers));
  }

  static async start(port = 0, settings: http2.Settings = {}): Promise<ScriptedGrpc> {
    const scripted = new ScriptedGrpc(settings);
    await new Promise<void>((resolve, reject) => {
      scripted.server.once('error', reject);
      scripted.server.listen(port, '127.0.0.1', resolve);
    });
    return scripted;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  get endpoint(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Answers for the next calls of the method (`KV/Put`), one each. */
  next(method: string, ...answers: GrpcAnswer[]): void {
    this.queues.set(method, [...(this.queues.get(method) ?? []), ...answers]);
  }

  /** The answer when no one-time answer is left. */
  always(method: string, answer: GrpcAnswer): void {
    this.standing.set(method, answer);
  }

  calls(method: string): ReceivedCall[] {
    return this.received.filter(({ path }) => path.endsWith(`.${method}`));
  }

  async stop(): Promise<void> {
    for (const session of this.sessions) session.destroy();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }

  private async onStream(
    stream: http2.ServerHttp2Stream,
    headers: http2.IncomingHttpHeaders,
  ): Promise<void> {
    stream.on('error', () => undefined);
    const path = String(headers[':path']);
    const method = path.slice(path.lastIndexOf('.') + 1);
    let read = Buffer.alloc(0);
    for await (const part of stream.iterator({ destroyOnReturn: false })) {
      read = Buffer.concat([read, part as Buffer]);
      if (read.length >= 5 && read.length >= 5 + read.readUInt32BE(1)) break;
    }
    const call = { path, headers, stream, message: read.subarray(5) };
    this.received.push(call);
    const answer = this.queues.get(method)?.shift() ?? this.standing.get(method);
    if (answer === undefined) status(12, `no script for ${method}`)(call);
    else await answer(call);
  }
}

export function framed(message: Buffer, flag = 0): Buffer {
  const head = Buffer.alloc(5);
  head[0] = flag;
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

export function messageOf<N extends MessageName>(name: N, message: Encodable<N>): Buffer {
  return framed(encodeProtobuf(name, message));
}

/** Begins an answer; `trailers` come behind its data. */
export function respond(
  stream: http2.ServerHttp2Stream,
  trailers: http2.OutgoingHttpHeaders | null = { 'grpc-status': '0' },
  more: http2.OutgoingHttpHeaders = {},
): void {
  stream.respond(
    { ':status': 200, 'content-type': 'application/grpc', ...more },
    { waitForTrailers: trailers !== null },
  );
  if (trailers !== null) stream.on('wantTrailers', () => stream.sendTrailers(trailers));
}

/** A good answer of one message. */
export function reply<N extends MessageName>(name: N, message: Encodable<N>): GrpcAnswer {
  return ({ stream }) => {
    respond(stream);
    stream.end(messageOf(name, message));
  };
}

/** A failure: the whole answer is one block. */
export function status(code: number, text: string): GrpcAnswer {
  return ({ stream }) => {
    const fields = { 'grpc-status': String(code), 'grpc-message': encodeURIComponent(text) };
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc', ...fields },
      { endStream: true },
    );
  };
}

/** Resets the stream. */
export function resetWith(code: number): GrpcAnswer {
  return ({ stream }) => stream.close(code);
}

/** Closes the connection without a word. */
export function hangUp(): GrpcAnswer {
  return ({ stream }) => stream.session?.destroy();
}

/** Never answers. */
export function silence(): GrpcAnswer {
  return () => undefined;
}

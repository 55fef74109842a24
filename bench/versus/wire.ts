/**
 * A gRPC client that costs as little as it can: one connection, header blocks made once, messages
 * handed over as bytes that are complete with their prefix. The same for every server that is measured.
 *
 * A call ends with null, or with one sentence: whoever measures treats a failure as the end of the run.
 * Everything that is said within one turn of the event loop leaves in one write.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import type { Encodable, MessageName } from '../../src/rpc/api/schema.js';
import { MessageAssembler } from '../../src/rpc/grpc/message-assembler.js';
import { type ClientEvents, Http2ClientConnection } from '../../src/rpc/http2/client-connection.js';
import type { HeaderField } from '../../src/rpc/http2/header-table.js';
import { encodeHeaders } from '../../src/rpc/http2/hpack-encoder.js';
import type { ResponseHead } from '../../src/rpc/http2/message-head.js';
import type { Http2Stream } from '../../src/rpc/http2/stream.js';

const ANSWER_BYTES_MAX = 256 * 1024 * 1024;
const PREFIX_BYTES = 5;

export interface Listener {
  /** The bytes may be a view of what the socket has read. */
  onMessage(bytes: Buffer): void;
  onEnd(failure: string | null): void;
}

const UNCOUNTED = { keep: (): void => undefined, unzipped: (): void => undefined };

class Exchange {
  readonly listener: Listener;
  readonly assembler = new MessageAssembler(ANSWER_BYTES_MAX, '', UNCOUNTED);

  constructor(listener: Listener) {
    this.listener = listener;
  }
}

/** A message as it stands on the wire. */
export function framed(message: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  bytes[0] = 0;
  bytes.writeUInt32BE(message.length, 1);
  message.copy(bytes, PREFIX_BYTES);
  return bytes;
}

export function message<N extends MessageName>(name: N, fields: Encodable<N>): Buffer {
  return framed(encodeProtobuf(name, fields));
}

/** The header block of a method. */
export function methodHead(path: string): Buffer {
  const fields = {
    ':method': 'POST',
    ':scheme': 'http',
    ':path': path,
    ':authority': 'bench',
    'content-type': 'application/grpc',
    te: 'trailers',
  };
  return encodeHeaders(Object.entries(fields).map(([name, value]) => ({ name, value })));
}

export class Wire implements ClientEvents<Exchange> {
  private readonly socket: Socket;
  private readonly http2: Http2ClientConnection<Exchange>;
  private isMarked = false;

  static async connect(port: number): Promise<Wire> {
    const socket = connect({ port, host: '127.0.0.1' });
    await once(socket, 'connect');
    return new Wire(socket);
  }

  private constructor(socket: Socket) {
    this.socket = socket;
    this.http2 = new Http2ClientConnection<Exchange>(this, performance.now());
    socket.setNoDelay(true);
    socket.on('data', (bytes: Buffer) => {
      this.http2.receive(bytes, performance.now());
      this.mark();
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.http2.lost());
    this.mark();
  }

  /** One message there, any number back. */
  call(head: Buffer, request: Buffer, listener: Listener): void {
    const stream = this.begin(head, listener);
    this.http2.write(stream, request);
    this.http2.finish(stream, null);
    this.mark();
  }

  /** Any number both ways; `send` takes messages with their prefix. */
  open(head: Buffer, listener: Listener): (request: Buffer) => void {
    const stream = this.begin(head, listener);
    this.mark();
    return (request) => {
      this.http2.write(stream, request);
      this.mark();
    };
  }

  /** The one message that answers. */
  async ask(head: Buffer, request: Buffer): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      let answer: Buffer = Buffer.alloc(0);
      this.call(head, request, {
        onMessage: (bytes) => {
          answer = Buffer.from(bytes);
        },
        onEnd: (failure) => (failure === null ? resolve(answer) : reject(new Error(failure))),
      });
    });
  }

  close(): void {
    this.socket.destroy();
  }

  onHeaders(stream: Http2Stream<Exchange>, head: ResponseHead, isEnd: boolean): void {
    if (head.status === 200 && !isEnd) return;
    this.end(stream, ended(head.fields, head.status));
  }

  onData(stream: Http2Stream<Exchange>, bytes: Buffer, isEnd: boolean): void {
    const { owner } = stream;
    if (owner === null) return;
    owner.assembler.feed(bytes, (each) => owner.listener.onMessage(each));
    if (isEnd) this.end(stream, 'an answer without a status');
  }

  onTrailers(stream: Http2Stream<Exchange>, fields: readonly HeaderField[]): void {
    this.end(stream, ended(fields, 200));
  }

  onReset(stream: Http2Stream<Exchange>, code: number): void {
    this.end(stream, `the call was broken off (HTTP/2 code ${code})`);
  }

  onDrained(): void {}

  private begin(head: Buffer, listener: Listener): Http2Stream<Exchange> {
    return this.http2.open(head, new Exchange(listener));
  }

  private end(stream: Http2Stream<Exchange>, failure: string | null): void {
    const { owner } = stream;
    stream.owner = null;
    owner?.listener.onEnd(failure);
  }

  private mark(): void {
    if (this.isMarked) return;
    this.isMarked = true;
    setImmediate(this.flush);
  }

  private readonly flush = (): void => {
    this.isMarked = false;
    const { socket } = this;
    const pieces = this.http2.output.take();
    if (socket.destroyed || pieces.length === 0) return;
    socket.cork();
    for (const piece of pieces) socket.write(piece);
    socket.uncork();
  };
}

function ended(fields: readonly HeaderField[], httpStatus: number): string | null {
  const textOf = (name: string): string | undefined =>
    fields.find((field) => field.name === name)?.value;
  const status = textOf('grpc-status');
  if (status === '0') return null;
  return `status ${status ?? `of HTTP ${httpStatus}`}: ${textOf('grpc-message') ?? ''}`;
}

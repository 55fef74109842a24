/**
 * A client of gRPC that says what no library says, frame by frame, and keeps what comes back: for tests of
 * clients that stall, flood or do not read.
 */
import net from 'node:net';
import { FrameType } from '../../src/rpc/http2/frame.js';
import { HpackDecoder } from '../../src/rpc/http2/hpack-decoder.js';
import { type Frame, frame, hello, request, u32 } from './http2-frames.js';

export class RawHttp2 {
  readonly socket: net.Socket;
  readonly frames: Frame[] = [];
  isClosed = false;
  private rest: Buffer = Buffer.alloc(0);
  private readonly decoder = new HpackDecoder(4096, 65_536);
  private readonly heads = new Map<number, Record<string, string>>();

  /** `settings` are pairs of numbers. */
  constructor(port: number, ...settings: readonly (readonly [number, number])[]) {
    this.socket = net.connect(port, '127.0.0.1');
    this.socket.on('error', () => undefined);
    this.socket.on('data', (bytes: Buffer) => this.take(bytes));
    this.socket.on('close', () => {
      this.isClosed = true;
    });
    this.socket.write(hello(...settings));
  }

  write(...parts: readonly Buffer[]): void {
    this.socket.write(Buffer.concat(parts));
  }

  /** Opens a stream; `isEnd`: the message is all of it. */
  ask(
    id: number,
    path: string,
    message: Uint8Array,
    isEnd = true,
    headers: Readonly<Record<string, string>> = {},
  ): void {
    this.write(
      request(id, { ':path': path, 'content-type': 'application/grpc', ...headers }),
      frame(FrameType.Data, isEnd ? 1 : 0, id, prefixed(message)),
    );
  }

  /** Gives the server so many bytes more, of the connection and, unless it is 0, of a stream. */
  widen(id: number, bytes: number): void {
    this.write(frame(FrameType.WindowUpdate, 0, 0, u32(bytes)));
    if (id !== 0) this.write(frame(FrameType.WindowUpdate, 0, id, u32(bytes)));
  }

  /** All header fields and trailers of a stream so far. */
  headersOf(id: number): Readonly<Record<string, string>> {
    return this.heads.get(id) ?? {};
  }

  dataOf(id: number): number {
    let bytes = 0;
    for (const { type, streamId, payload } of this.frames) {
      if (type === FrameType.Data && streamId === id) bytes += payload.length;
    }
    return bytes;
  }

  /** The code with which the server has reset a stream; -1 = it has not. */
  resetOf(id: number): number {
    const reset = this.frames.find(
      ({ type, streamId }) => type === FrameType.ResetStream && streamId === id,
    );
    return reset?.payload.readUInt32BE(0) ?? -1;
  }

  /** Code and text of the last GOAWAY. */
  get goodbye(): { readonly code: number; readonly text: string } | null {
    const last = this.frames.findLast(({ type }) => type === FrameType.GoAway);
    if (last === undefined) return null;
    const { payload } = last;
    return { code: payload.readUInt32BE(4), text: payload.subarray(8).toString('latin1') };
  }

  close(): void {
    this.socket.destroy();
  }

  private take(bytes: Buffer): void {
    this.rest = this.rest.length === 0 ? bytes : Buffer.concat([this.rest, bytes]);
    let at = 0;
    while (this.rest.length - at >= 9) {
      const end = at + 9 + this.rest.readUIntBE(at, 3);
      if (this.rest.length < end) break;
      const next = {
        type: this.rest[at + 3] as number,
        flags: this.rest[at + 4] as number,
        streamId: this.rest.readUInt32BE(at + 5),
        payload: Buffer.from(this.rest.subarray(at + 9, end)),
      };
      this.frames.push(next);
      if (next.type === FrameType.Headers) this.decode(next);
      at = end;
    }
    this.rest = this.rest.subarray(at);
  }

  private decode({ streamId, payload }: Frame): void {
    const known = this.heads.get(streamId) ?? {};
    for (const { name, value } of this.decoder.decode(payload).fields) known[name] = value;
    this.heads.set(streamId, known);
  }
}

/** A message of gRPC with what stands in front of it. */
export function prefixed(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

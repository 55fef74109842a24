/**
 * A server of HTTP/2 that says only what it is told to, frame by frame, and keeps what clients say: for
 * tests of what the client does on connections that are silent, half dead or unfriendly.
 */
import net, { type AddressInfo, type Socket } from 'node:net';
import { CLIENT_PREFACE, Flag, FrameType } from '../../src/rpc/http2/frame.js';
import { encodeHeaders } from '../../src/rpc/http2/hpack-encoder.js';
import { type Frame, frame, framesOf, settings, u32 } from './http2-frames.js';

export interface RawConnection {
  readonly socket: Socket;
  /** What the client has sent, behind its preface. */
  readonly frames: Frame[];
  /** The client has ended its side. */
  isEnded: boolean;
  isClosed: boolean;
}

export class RawHttp2Server {
  readonly connections: RawConnection[] = [];
  /** Told of every frame of a client. */
  onFrame: (frame: Frame, connection: RawConnection) => void = () => undefined;
  private readonly server: net.Server;

  private constructor(greeting: Buffer) {
    // Half open: this server closes nothing by itself.
    this.server = net.createServer({ allowHalfOpen: true }, (socket) => {
      const connection: RawConnection = { socket, frames: [], isEnded: false, isClosed: false };
      this.connections.push(connection);
      let rest = Buffer.alloc(0);
      let skip = CLIENT_PREFACE.length;
      socket.on('error', () => undefined);
      socket.on('end', () => {
        connection.isEnded = true;
      });
      socket.on('close', () => {
        connection.isClosed = true;
      });
      socket.on('data', (bytes: Buffer) => {
        rest = Buffer.concat([rest, bytes]);
        if (rest.length < skip) return;
        rest = rest.subarray(skip);
        skip = 0;
        const whole = wholeFrames(rest);
        for (const each of framesOf(rest.subarray(0, whole))) {
          connection.frames.push(each);
          this.onFrame(each, connection);
        }
        rest = rest.subarray(whole);
      });
      socket.write(greeting);
    });
  }

  /** Greets with these settings. */
  static async start(...pairs: readonly (readonly [number, number])[]): Promise<RawHttp2Server> {
    const raw = new RawHttp2Server(settings(...pairs));
    await new Promise<void>((resolve, reject) => {
      raw.server.once('error', reject);
      raw.server.listen(0, '127.0.0.1', resolve);
    });
    return raw;
  }

  get endpoint(): string {
    return `127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Frames of one type, from all connections; of pings and settings those that are no answers. */
  framesOf(type: number): Frame[] {
    return this.connections
      .flatMap(({ frames }) => frames)
      .filter((each) => each.type === type && !isAnswer(each));
  }

  async stop(): Promise<void> {
    for (const { socket } of this.connections) socket.destroy();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }
}

export const PING = frame(FrameType.Ping, 0, 0, Buffer.alloc(8));

/** The answer to a ping of a client. */
export function pongTo({ payload }: Frame): Buffer {
  return frame(FrameType.Ping, Flag.Ack, 0, payload);
}

export function goAway(lastStream: number): Buffer {
  return frame(FrameType.GoAway, 0, 0, Buffer.concat([u32(lastStream), u32(0)]));
}

/** The whole good answer of one message to a call of gRPC. */
export function goodAnswer(streamId: number, message: Buffer): Buffer {
  const head = { ':status': '200', 'content-type': 'application/grpc' };
  return Buffer.concat([
    headers(streamId, head),
    frame(FrameType.Data, 0, streamId, message),
    headers(streamId, { 'grpc-status': '0' }, Flag.EndStream),
  ]);
}

function headers(streamId: number, fields: Readonly<Record<string, string>>, flags = 0): Buffer {
  const block = encodeHeaders(Object.entries(fields).map(([name, value]) => ({ name, value })));
  return frame(FrameType.Headers, Flag.EndHeaders | flags, streamId, block);
}

function isAnswer({ type, flags }: Frame): boolean {
  const canAnswer = type === FrameType.Ping || type === FrameType.Settings;
  return canAnswer && (flags & Flag.Ack) !== 0;
}

function wholeFrames(bytes: Buffer): number {
  let at = 0;
  while (at + 9 <= bytes.length) {
    const end = at + 9 + bytes.readUIntBE(at, 3);
    if (end > bytes.length) break;
    at = end;
  }
  return at;
}

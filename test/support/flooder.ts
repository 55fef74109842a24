/**
 * A program that floods a port in one of several ways, from many connections, as fast as it can; and
 * one that reads and forgets, to be flooded instead. For test/long/floods.test.ts.
 *
 *   node flooder.js sink                     prints its port
 *   node flooder.js flood KIND CONNECTIONS [CA CERT KEY]
 *
 * `flood` reads ports from its input, one a line: floods that one; 0 = rest. With files it speaks TLS.
 * Every flood is made of frames that are well-formed one by one. A connection that is ended is made anew.
 */
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { createInterface } from 'node:readline';
import tls from 'node:tls';
import { gzipSync } from 'node:zlib';
import { encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { Flag, FrameType } from '../../src/rpc/http2/frame.js';
import { frame, hello, request, requestBlock, settings, u32 } from './http2-frames.js';

const BATCH_BYTES = 64 * 1024;
const FRAME_BYTES = 16 * 1024;
const NO_BYTES = Buffer.alloc(0);
const KEEP_ALIVE = '/etcdserverpb.Lease/LeaseKeepAlive';
const WATCH = '/etcdserverpb.Watch/Watch';
const REFLECTION = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
/** 1.9 MB that the schema does not know: 1,900 bytes when they are zipped. */
const UNKNOWN_FIELD = Buffer.concat([
  Buffer.from([0x7a, 0xe0, 0xfb, 0x73]),
  Buffer.alloc(1_900_000),
]);
const RANGE = { ':path': '/etcdserverpb.KV/Range', 'content-type': 'application/grpc' };

/** What one connection says: a beginning, then batches until it is ended. */
interface Flood {
  readonly begin: () => Buffer;
  readonly batch: (from: number) => Buffer;
  /** Streams that a batch uses. */
  readonly streams: number;
  /** Reads nothing that comes back. */
  readonly isDeaf?: boolean;
  /** Of a batch, if they need a window: the next ones wait until the peer has widened it for as many. */
  readonly bytes?: number;
  /** Batches before it goes away by itself. */
  readonly batchesMax?: number;
}

function many(one: Buffer): Buffer {
  return Buffer.concat(Array.from({ length: Math.ceil(BATCH_BYTES / one.length) }, () => one));
}

function message(bytes: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

/** `count` requests for a key, from stream `from` on. */
function asking(from: number, count: number, key: string, isReset: boolean): Buffer {
  const body = message(encodeProtobuf('RangeRequest', { key, serializable: true }));
  const parts: Buffer[] = [];
  for (let at = 0; at < count; at += 1) {
    const id = from + 2 * at;
    parts.push(request(id, RANGE), frame(FrameType.Data, Flag.EndStream, id, body));
    if (isReset) parts.push(frame(FrameType.ResetStream, 0, id, u32(8)));
  }
  return Buffer.concat(parts);
}

/** A table entry of 4,000 bytes, named again and again: 60 bytes that stand for 64 KB of headers. */
function bomb(id: number): Buffer {
  const name = Buffer.from([0x40, 0x01, 0x78]);
  const value = Buffer.alloc(3900, 0x61);
  const length = Buffer.from([0x7f, 0xbd, 0x1d]);
  const entry = Buffer.concat([name, length, value]);
  const block = Buffer.concat([requestBlock(RANGE), entry, Buffer.alloc(12_000, 0xbe)]);
  return frame(FrameType.Headers, Flag.EndHeaders, id, block);
}

function streaming(streams: number, build: (from: number) => Buffer): Flood {
  return { begin: hello, batch: build, streams };
}

function repeating(one: Buffer, begin: () => Buffer = hello): Flood {
  const bytes = many(one);
  return { begin, batch: () => bytes, streams: 0 };
}

/** One stream of such messages, as large as the windows of the peer let it be. */
function within(path: string, one: Buffer, first: Buffer = NO_BYTES): Flood {
  const head = { ':path': path, 'content-type': 'application/grpc', 'grpc-encoding': 'gzip' };
  const count = Math.ceil(FRAME_BYTES / one.length) * one.length;
  const bytes = Buffer.concat(Array.from({ length: count / one.length }, () => one));
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += FRAME_BYTES) {
    parts.push(frame(FrameType.Data, 0, 1, bytes.subarray(at, at + FRAME_BYTES)));
  }
  const begin = (): Buffer =>
    Buffer.concat([
      hello([4, 2 ** 30]),
      frame(FrameType.WindowUpdate, 0, 0, u32(2 ** 30)),
      request(1, head),
      frame(FrameType.Data, 0, 1, first),
    ]);
  const batch = Buffer.concat(parts);
  return { begin, batch: () => batch, streams: 0, bytes: bytes.length + first.length };
}

function zipped(bytes: Buffer): Buffer {
  const whole = message(gzipSync(bytes));
  whole[0] = 1;
  return whole;
}

const FLOODS: Readonly<Record<string, Flood>> = {
  settings: repeating(settings()),
  pings: repeating(frame(FrameType.Ping, 0, 0, Buffer.alloc(8))),
  'empty frames': repeating(frame(FrameType.Data, 0, 1), () =>
    Buffer.concat([hello(), request(1, RANGE)]),
  ),
  continuation: repeating(frame(FrameType.Continuation, 0, 1, Buffer.alloc(1)), () =>
    Buffer.concat([hello(), frame(FrameType.Headers, 0, 1, requestBlock(RANGE))]),
  ),
  'rapid reset': streaming(500, (from) => asking(from, 500, 'k', true)),
  'header bombs': streaming(4, (from) =>
    Buffer.concat([0, 2, 4, 6].map((more) => bomb(from + more))),
  ),
  'slow readers': {
    begin: () =>
      Buffer.concat([hello([4, 2 ** 30]), frame(FrameType.WindowUpdate, 0, 0, u32(2 ** 30))]),
    batch: (from) => asking(from, 5, 'large', false),
    streams: 5,
    isDeaf: true,
  },
  connections: { begin: hello, batch: () => Buffer.alloc(0), streams: 0, batchesMax: 1 },
};

/** Messages that are cheap to send, inside one stream. */
const WITHIN_STREAMS: Readonly<Record<string, Flood>> = {
  renewals: within(KEEP_ALIVE, message(encodeProtobuf('LeaseKeepAliveRequest', { ID: 5 }))),
  'watches created and cancelled': within(
    WATCH,
    Buffer.concat([
      message(encodeProtobuf('WatchRequest', { createRequest: { key: 'k', watchId: 7 } })),
      message(encodeProtobuf('WatchRequest', { cancelRequest: { watchId: 7 } })),
    ]),
  ),
  'progress requests': within(
    WATCH,
    message(encodeProtobuf('WatchRequest', { progressRequest: {} })),
    message(encodeProtobuf('WatchRequest', { createRequest: { key: 'k' } })),
  ),
  'gzip bombs': within(KEEP_ALIVE, zipped(UNKNOWN_FIELD)),
  reflection: within(
    REFLECTION,
    message(encodeProtobuf('ServerReflectionRequest', { fileContainingSymbol: 'etcdserverpb.KV' })),
  ),
};

export const FLOOD_KINDS: readonly string[] = Object.keys(FLOODS);
export const STREAM_FLOOD_KINDS: readonly string[] = Object.keys(WITHIN_STREAMS);

const BATCHES_A_TURN = 50;
/** Who floods is to be told when it cannot connect, not to spin. */
const AGAIN_MS = 5;

/** What the peer lets stream 1 send, counted in batches: a legal stream is what these floods are made of. */
class Room {
  private readonly bytes: number;
  /** As this server begins. */
  private readonly windows = [2 ** 24, 2 ** 20];
  private rest = NO_BYTES;
  private isWaiting = false;

  constructor(bytes: number) {
    this.bytes = bytes;
  }

  /** Room for a batch. */
  take(): boolean {
    this.isWaiting = !this.hasRoom;
    if (this.isWaiting) return false;
    for (const id of [0, 1]) this.windows[id] = (this.windows[id] as number) - this.bytes;
    return true;
  }

  /** There is room for who was told to wait. */
  get isNews(): boolean {
    return this.isWaiting && this.hasRoom;
  }

  /** Takes the windows from what the peer says. True: it has ended the stream. */
  heard(bytes: Buffer): boolean {
    this.rest = Buffer.concat([this.rest, bytes]);
    let isEnded = false;
    while (this.rest.length >= 9 && this.rest.length >= 9 + this.rest.readUIntBE(0, 3)) {
      const end = 9 + this.rest.readUIntBE(0, 3);
      const [type, flags] = [this.rest[3], this.rest[4] as number];
      const id = this.rest.readUInt32BE(5);
      if (type === FrameType.WindowUpdate && id < 2) {
        this.windows[id] = (this.windows[id] as number) + this.rest.readUInt32BE(9);
      }
      const isLast = type === FrameType.Headers && (flags & Flag.EndStream) !== 0;
      if (isLast || type === FrameType.ResetStream) isEnded = true;
      this.rest = this.rest.subarray(end);
    }
    return isEnded;
  }

  private get hasRoom(): boolean {
    return this.windows.every((window) => window >= this.bytes);
  }
}

class Flooder {
  private readonly flood: Flood;
  private readonly sockets = new Set<net.Socket>();
  private readonly certificates: tls.SecureContextOptions | null;
  private port = 0;

  constructor(flood: Flood, certificates: tls.SecureContextOptions | null) {
    this.flood = flood;
    this.certificates = certificates;
  }

  aim(port: number, connections: number): void {
    this.port = port;
    for (const socket of this.sockets) socket.destroy();
    if (port === 0) return;
    for (let at = 0; at < connections; at += 1) this.connect(port);
  }

  private connect(port: number): void {
    const { flood } = this;
    const to = { port, host: '127.0.0.1' };
    const socket =
      this.certificates === null
        ? net.connect(to)
        : tls.connect({ ...to, ...this.certificates, ALPNProtocols: ['h2'] });
    this.sockets.add(socket);
    let from = 3;
    let batches = 0;
    const room = flood.bytes === undefined ? null : new Room(flood.bytes);
    const say = (): void => {
      // A while at a time: a peer that takes all at once would keep this process from anything else.
      for (let turn = 0; turn < BATCHES_A_TURN && !socket.destroyed; turn += 1) {
        if (batches === flood.batchesMax) {
          socket.destroy();
          return;
        }
        // Goes on when there is room again.
        if (room?.take() === false) return;
        batches += 1;
        const bytes = flood.batch(from);
        from += 2 * flood.streams;
        if (!socket.write(bytes)) return;
        if (bytes.length === 0) break;
      }
      if (!socket.destroyed) setTimeout(say, 1);
    };
    socket.on(this.certificates === null ? 'connect' : 'secureConnect', () => {
      socket.write(flood.begin());
      say();
    });
    socket.on('drain', say);
    if (room !== null) {
      socket.on('data', (bytes: Buffer) => {
        if (room.heard(bytes)) socket.destroy();
        else if (room.isNews) say();
      });
    }
    if (flood.isDeaf === true) socket.pause();
    else socket.resume();
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.sockets.delete(socket);
      if (this.port !== port) return;
      setTimeout(() => {
        if (this.port === port) this.connect(port);
      }, AGAIN_MS);
    });
  }
}

function sink(): void {
  const server = net.createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.resume();
  });
  server.listen(0, '127.0.0.1', () => {
    process.stdout.write(`${(server.address() as net.AddressInfo).port}\n`);
  });
}

const [role, kind = '', connections = '1', ...files] = process.argv.slice(2);
if (role === 'sink') sink();
if (role === 'flood') {
  const [ca, cert, key] = files.map((file) => readFileSync(file));
  const certificates = ca === undefined ? null : { ca, cert, key };
  const flooder = new Flooder({ ...FLOODS, ...WITHIN_STREAMS }[kind] as Flood, certificates);
  createInterface({ input: process.stdin })
    .on('line', (line) => flooder.aim(Number(line), Number(connections)))
    .on('close', () => process.exit(0));
}

/**
 * The connection of HTTP/2, fed by hand: what RFC 9113 says of frames, streams and windows, what floods
 * cost, and that garbage in any pieces ends in a GOAWAY and nothing worse. Conformance as a whole is held
 * by clients of other people (test/interop).
 */
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { Flag, FrameType, Http2Code, Setting } from '../../src/rpc/http2/frame.js';
import { encodeHeaders } from '../../src/rpc/http2/hpack-encoder.js';
import { newPots } from '../../src/rpc/http2/pace.js';
import { Http2ServerConnection, type ServerEvents } from '../../src/rpc/http2/server-connection.js';
import type { Http2Stream } from '../../src/rpc/http2/stream.js';
import {
  type Frame,
  frame,
  framesOf,
  hello,
  request,
  requestBlock,
  settings,
  u32,
} from '../support/http2-frames.js';
import { checkProperty } from '../support/property.js';

const FILE = 'test/rpc/http2-connection.test.ts';
const ANSWER = encodeHeaders([{ name: ':status', value: '200' }]);

class Served implements ServerEvents {
  readonly told: string[] = [];
  readonly streams = new Map<number, Http2Stream>();

  onHeaders(stream: Http2Stream, { path }: { path: string }, isEnd: boolean): void {
    this.streams.set(stream.id, stream);
    this.told.push(`${stream.id} ${path}${isEnd ? ' end' : ''}`);
  }

  onData(stream: Http2Stream, bytes: Buffer, isEnd: boolean): void {
    this.told.push(`${stream.id} data ${bytes.length}${isEnd ? ' end' : ''}`);
  }

  onReset(stream: Http2Stream, code: number): void {
    this.told.push(`${stream.id} reset ${code}`);
  }

  onDrained(stream: Http2Stream): void {
    this.told.push(`${stream.id} drained`);
  }
}

let served: Served;
let connection: Http2ServerConnection;

function sent(): Frame[] {
  return framesOf(Buffer.concat(connection.output.take()));
}

function say(...parts: readonly Buffer[]): Frame[] {
  connection.receive(Buffer.concat(parts), 0);
  return sent();
}

/** The code of the GOAWAY among frames, or of the reset of a stream. */
function codeIn(frames: readonly Frame[]): string {
  for (const { type, payload, streamId } of frames) {
    if (type === FrameType.GoAway) return `goaway ${payload.readUInt32BE(4)}`;
    if (type === FrameType.ResetStream) return `reset ${streamId} ${payload.readUInt32BE(0)}`;
  }
  return 'nothing';
}

function dataOf(frames: readonly Frame[], streamId: number): number {
  return frames
    .filter((each) => each.type === FrameType.Data && each.streamId === streamId)
    .reduce((sum, { payload }) => sum + payload.length, 0);
}

beforeEach(() => {
  served = new Served();
  connection = new Http2ServerConnection(served, 0);
  sent();
});

const pingOnce = frame(FrameType.Ping, 0, 0, Buffer.alloc(8));
const stream = (id: number): Http2Stream => served.streams.get(id) as Http2Stream;
const data = (id: number, length: number, flags = 0): Buffer =>
  frame(FrameType.Data, flags, id, Buffer.alloc(length));

describe('a connection', () => {
  it('begins with its settings and a wide window', () => {
    const first = framesOf(Buffer.concat(new Http2ServerConnection(served, 0).output.take()));
    expect(first.map(({ type }) => type)).toEqual([FrameType.Settings, FrameType.WindowUpdate]);
  });

  it('acknowledges settings and pings', () => {
    const frames = say(hello(), frame(FrameType.Ping, 0, 0, Buffer.from('abcdefgh')));
    expect(frames.map(({ type, flags }) => [type, flags])).toEqual([
      [FrameType.Settings, Flag.Ack],
      [FrameType.Ping, Flag.Ack],
    ]);
    expect(frames[1]?.payload.toString()).toBe('abcdefgh');
  });

  it('shows a request that comes byte by byte as one that comes whole', () => {
    const bytes = Buffer.concat([hello(), request(1), data(1, 10), data(1, 5, Flag.EndStream)]);
    for (const byte of bytes) connection.receive(Buffer.from([byte]), 0);
    expect(served.told).toEqual(['1 /a/B', '1 data 10', '1 data 5 end']);
  });

  it('puts a header block together again, and takes padding and priority off', () => {
    const block = requestBlock();
    const padded = Buffer.concat([
      Buffer.from([3]),
      u32(0),
      Buffer.from([9]),
      block.subarray(0, 4),
    ]);
    const flags = Flag.Padded | Flag.Priority;
    say(
      hello(),
      frame(FrameType.Headers, flags, 1, Buffer.concat([padded, Buffer.alloc(3)])),
      frame(FrameType.Continuation, 0, 1, block.subarray(4, 6)),
      frame(FrameType.Continuation, Flag.EndHeaders, 1, block.subarray(6)),
    );
    expect(served.told).toEqual(['1 /a/B']);
  });

  it('ignores frames and settings that it does not know', () => {
    const frames = say(hello([99, 7]), frame(77, 255, 3, Buffer.alloc(4)), request(1));
    expect(codeIn(frames)).toBe('nothing');
    expect(served.told).toEqual(['1 /a/B']);
  });

  it('tells a peer that wants no table that it uses none', () => {
    say(hello([Setting.HeaderTableSize, 0]), request(1, {}, true));
    connection.respond(stream(1), ANSWER, true);
    expect(sent()[0]?.payload[0]).toBe(0x20);
  });
});

describe('what breaks the connection', () => {
  it.each<[string, string, () => Buffer[]]>([
    ['no preface', 'goaway 1', () => [Buffer.from('GET / HTTP/1.1\r\n\r\n')]],
    [
      'a first frame that is no SETTINGS',
      'goaway 1',
      () => [hello().subarray(0, 24), frame(6, 0, 0, Buffer.alloc(8))],
    ],
    [
      'a frame that is too large',
      'goaway 6',
      () => [hello(), frame(0, 0, 1, Buffer.alloc(16_385))],
    ],
    ['a stream of the server', 'goaway 1', () => [hello(), request(2)]],
    ['DATA on stream 0', 'goaway 1', () => [hello(), data(0, 1)]],
    ['DATA on an idle stream', 'goaway 1', () => [hello(), data(1, 1)]],
    ['WINDOW_UPDATE of 0', 'goaway 1', () => [hello(), frame(8, 0, 0, u32(0))]],
    ['a window above 2^31-1', 'goaway 3', () => [hello(), frame(8, 0, 0, u32(0x7fffffff))]],
    ['a ping of seven bytes', 'goaway 6', () => [hello(), frame(6, 0, 0, Buffer.alloc(7))]],
    ['a push', 'goaway 1', () => [hello(), frame(5, 4, 1, Buffer.alloc(8))]],
    [
      'a header block that is interrupted',
      'goaway 1',
      () => [hello(), frame(1, 0, 1, requestBlock()), data(1, 1)],
    ],
    ['CONTINUATION of nothing', 'goaway 1', () => [hello(), frame(9, 4, 1, requestBlock())]],
    [
      'a header block that is no HPACK',
      'goaway 9',
      () => [hello(), frame(1, 4, 1, Buffer.from([0x80]))],
    ],
    [
      'more padding than payload',
      'goaway 1',
      () => [hello(), request(1), frame(0, 8, 1, Buffer.from([9, 1]))],
    ],
    [
      'a stream that depends on itself',
      'goaway 1',
      () => [hello(), frame(2, 0, 3, Buffer.concat([u32(3), Buffer.alloc(1)]))],
    ],
    ['a setting out of its bounds', 'goaway 1', () => [hello([Setting.MaxFrameSize, 1])]],
    [
      'a window setting out of its bounds',
      'goaway 3',
      () => [hello([Setting.InitialWindowSize, 2 ** 31])],
    ],
  ])('is %s', (_what, code, bytes) => {
    expect(codeIn(say(...bytes()))).toBe(code);
    expect(connection.isOver).toBe(true);
  });

  it('ends the streams that were under way', () => {
    say(hello(), request(1), request(3), frame(FrameType.Ping, 0, 1, Buffer.alloc(8)));
    expect(served.told.slice(2)).toEqual(['1 reset 8', '3 reset 8']);
  });
});

describe('what breaks a stream', () => {
  it.each<[string, string, () => Buffer[]]>([
    ['a header in upper case', 'reset 1 1', () => [request(1, { 'X-A': 'b' })]],
    ['a header of HTTP/1.1', 'reset 1 1', () => [request(1, { connection: 'close' })]],
    ['a pseudo-header that is not known', 'reset 1 1', () => [request(1, { ':other': '1' })]],
    ['an empty path', 'reset 1 1', () => [request(1, { ':path': '' })]],
    [
      'less data than promised',
      'reset 1 1',
      () => [request(1, { 'content-length': '5' }), data(1, 4, 1)],
    ],
    [
      'more data than promised',
      'reset 1 1',
      () => [request(1, { 'content-length': '5' }), data(1, 6)],
    ],
    [
      'trailers that do not end it',
      'reset 1 1',
      () => [request(1), frame(1, 4, 1, encodeHeaders([]))],
    ],
    ['data behind its end', 'reset 1 5', () => [request(1, {}, true), data(1, 1)]],
    ['a window that grows by 0', 'reset 1 1', () => [request(1), frame(8, 0, 1, u32(0))]],
    ['a window above 2^31-1', 'reset 1 3', () => [request(1), frame(8, 0, 1, u32(0x7fffffff))]],
    ['headers of 70 KB', 'reset 1 11', () => largeRequest(1, 70_000)],
  ])('is %s', (_what, code, bytes) => {
    expect(codeIn(say(hello(), ...bytes()))).toBe(code);
    expect(connection.isOver).toBe(false);
    say(request(3));
    expect(served.told.at(-1)).toBe('3 /a/B');
  });

  it('a stream that was reset here takes what was on its way', () => {
    say(hello(), request(1, { 'content-length': '1' }), data(1, 2));
    expect(codeIn(say(data(1, 10), frame(8, 0, 1, u32(5))))).toBe('nothing');
    expect(connection.isOver).toBe(false);
  });

  it('more streams than are allowed at a time', () => {
    connection = new Http2ServerConnection(served, 0, { maxStreams: 2 });
    const frames = say(hello(), request(1), request(3), request(5));
    expect(codeIn(frames)).toBe(`reset 5 ${Http2Code.RefusedStream}`);
  });
});

function largeRequest(id: number, bytes: number): Buffer[] {
  const block = requestBlock({ large: 'ü'.repeat(bytes) });
  const parts = [frame(FrameType.Headers, 0, id, block.subarray(0, 16_000))];
  for (let at = 16_000; at < block.length; at += 16_000) {
    const isLast = at + 16_000 >= block.length;
    const flags = isLast ? Flag.EndHeaders : 0;
    parts.push(frame(FrameType.Continuation, flags, id, block.subarray(at, at + 16_000)));
  }
  return parts;
}

describe('answers', () => {
  it('send what the windows allow, and the rest when they open', () => {
    say(hello([Setting.InitialWindowSize, 100]), request(1, {}, true));
    connection.respond(stream(1), ANSWER, false);
    connection.write(stream(1), Buffer.alloc(250));
    connection.finish(stream(1), ANSWER);

    expect(dataOf(sent(), 1)).toBe(100);
    expect(dataOf(say(frame(FrameType.WindowUpdate, 0, 1, u32(120))), 1)).toBe(120);
    const rest = say(settings([Setting.InitialWindowSize, 130]));
    expect(dataOf(rest, 1)).toBe(30);
    expect(rest.at(-1)).toMatchObject({ type: FrameType.Headers, flags: 5 });
    expect(connection.openStreams).toBe(0);
  });

  it('share the window of the connection among the streams that wait for it', () => {
    say(hello([Setting.InitialWindowSize, 2 ** 20]), request(1, {}, true), request(3, {}, true));
    for (const id of [1, 3]) {
      connection.respond(stream(id), ANSWER, false);
      connection.write(stream(id), Buffer.alloc(60_000));
      connection.finish(stream(id), null);
    }
    const first = sent();
    expect(dataOf(first, 1) + dataOf(first, 3)).toBe(65_535);
    const rest = say(frame(FrameType.WindowUpdate, 0, 0, u32(100_000)));
    expect(dataOf(first, 3) + dataOf(rest, 3)).toBe(60_000);
    expect(connection.openStreams).toBe(0);
    expect(connection.waitingBytes).toBe(0);
  });

  it('tell their writer to wait, and when it may go on', () => {
    say(hello([Setting.InitialWindowSize, 0]), request(1, {}, true));
    connection.respond(stream(1), ANSWER, false);

    expect(connection.write(stream(1), Buffer.alloc(300_000))).toBe(false);
    expect(served.told).not.toContain('1 drained');
    say(frame(8, 0, 0, u32(2 ** 20)), frame(8, 0, 1, u32(2 ** 20)));

    expect(served.told).toContain('1 drained');
  });

  it('given before their requests had come leave the connection alone, however many', () => {
    say(hello());
    for (let id = 1; id < 3000; id += 2) {
      say(request(id));
      connection.respond(stream(id), ANSWER, true);
    }
    for (let id = 1; id < 3000; id += 2) say(data(id, 5));
    expect(connection.isOver).toBe(false);
  });

  it('that are complete before their request tell the peer to send no more of it', () => {
    say(hello(), request(1));
    connection.respond(stream(1), ANSWER, true);
    expect(codeIn(sent())).toBe(`reset 1 ${Http2Code.NoError}`);
    expect(codeIn(say(data(1, 5)))).toBe('nothing');
  });

  it('of a stream that the peer has reset go nowhere', () => {
    say(hello(), request(1), frame(FrameType.ResetStream, 0, 1, u32(8)));
    connection.respond(stream(1), ANSWER, false);
    connection.write(stream(1), Buffer.alloc(10));
    connection.finish(stream(1), null);
    expect(sent()).toEqual([]);
    expect(served.told.at(-1)).toBe('1 reset 8');
  });
});

describe('received data', () => {
  it('opens the windows again as it is taken', () => {
    say(hello(), request(1));
    const frames: Frame[] = [];
    for (let at = 0; at < 1000; at += 1) frames.push(...say(data(1, 16_000)));
    const updates = frames.filter(({ type }) => type === FrameType.WindowUpdate);
    expect(new Set(updates.map(({ streamId }) => streamId))).toEqual(new Set([0, 1]));
    expect(connection.isOver).toBe(false);
  });

  it('beyond the window of its stream breaks the stream', () => {
    say(hello(), request(1), request(3));
    // Padding counts, and is never given back while the stream has half of its window.
    const chunk = frame(FrameType.Data, 0, 1, Buffer.alloc(16_384));
    connection.receive(Buffer.concat(Array.from({ length: 31 }, () => chunk)), 0);
    expect(codeIn(sent())).toBe('nothing');
    stream(3).receiveWindow = 10;
    expect(codeIn(say(data(3, 11)))).toBe(`reset 3 ${Http2Code.FlowControlError}`);
  });
});

describe('a flood', () => {
  it.each<[string, () => Buffer]>([
    ['pings', () => frame(FrameType.Ping, 0, 0, Buffer.alloc(8))],
    ['settings', () => settings()],
    ['empty data', () => data(1, 0)],
    ['priorities', () => frame(FrameType.Priority, 0, 3, Buffer.concat([u32(1), Buffer.alloc(1)]))],
    ['frames that nobody knows', () => frame(99, 0, 0)],
  ])('of %s ends the connection, and costs a bounded amount', (_what, one) => {
    say(hello(), request(1));
    const many = Buffer.concat(Array.from({ length: 1000 }, one));
    let rounds = 0;
    while (!connection.isOver && rounds < 1000) {
      connection.receive(many, 0);
      rounds += 1;
    }
    expect(rounds).toBeLessThan(30);
    expect(codeIn(sent())).toBe(`goaway ${Http2Code.EnhanceYourCalm}`);
  });

  it('of streams that are opened and reset ends the connection', () => {
    say(hello());
    let id = 1;
    while (!connection.isOver && id < 100_000) {
      say(request(id), frame(FrameType.ResetStream, 0, id, u32(8)));
      id += 2;
    }
    expect(id).toBeLessThan(60_000);
    expect(connection.openStreams).toBe(0);
  });

  it('is none when 5,000 calls are cancelled at once, and again a second later', () => {
    say(hello());
    for (let id = 1; id < 10_000; id += 2) {
      say(request(id), frame(FrameType.ResetStream, 0, id, u32(8)));
    }
    expect(connection.isOver).toBe(false);
  });

  it('of windows named again and again in one frame moves them once', () => {
    connection = new Http2ServerConnection(served, 0, { maxStreams: 10_000 });
    say(hello());
    for (let id = 1; id < 20_000; id += 2) say(request(id));
    const pairs = Array.from({ length: 2700 }, (_, at) => [4, 1000 + (at % 7)] as const);
    const began = performance.now();
    while (!connection.isOver && performance.now() - began < 10_000) say(settings(...pairs));
    expect(connection.isOver).toBe(true);
    expect(performance.now() - began).toBeLessThan(5000);
  });

  it('of fields that stand for many ends the connection before they are read', () => {
    const entry = Buffer.concat([
      Buffer.from([0x40, 1, 0x78, 0x7f, 0xbd, 0x1d]),
      Buffer.alloc(3900),
    ]);
    const block = Buffer.concat([requestBlock(), entry, Buffer.alloc(12_000, 0xbe)]);
    say(hello());
    const began = performance.now();
    let bombs = 0;
    while (!connection.isOver && bombs < 1000) {
      say(frame(FrameType.Headers, Flag.EndHeaders, 2 * bombs + 1, block));
      bombs += 1;
    }
    expect(bombs).toBe(1);
    expect(performance.now() - began).toBeLessThan(1000);
  });

  it('of a few large requests is none, they are refused one by one', () => {
    say(hello());
    for (let id = 1; id < 20; id += 2) {
      expect(codeIn(say(...largeRequest(id, 100_000)))).toBe(`reset ${id} 11`);
    }
  });

  it('of parts of one header block ends the connection', () => {
    say(hello(), frame(FrameType.Headers, 0, 1, requestBlock()));
    let parts = 0;
    while (!connection.isOver && parts < 10_000) {
      say(frame(FrameType.Continuation, 0, 1, Buffer.alloc(100)));
      parts += 1;
    }
    expect(parts).toBeLessThan(100);
  });
});

describe('pings of a client', () => {
  const MIN_MS = 5000;
  const HOUR_MS = 3_600_000;
  const pingFrame = frame(FrameType.Ping, 0, 0, Buffer.alloc(8));

  function pingAt(ms: number): string {
    connection.receive(pingFrame, ms);
    return codeIn(sent());
  }

  function limited(...parts: readonly Buffer[]): void {
    connection = new Http2ServerConnection(served, 0, { pingMinMs: MIN_MS });
    say(hello(), ...parts);
    // What the hello and the requests are answered is sent before the first ping.
    pingAt(-HOUR_MS);
  }

  it('are its own business where there is no rule', () => {
    say(hello());
    for (let at = 0; at < 1000; at += 1) expect(pingAt(at)).toBe('nothing');
  });

  it('that come too soon are allowed twice, the third ends the connection', () => {
    limited(request(1));
    const codes = [0, 1000, 2000, 3000].map(pingAt);
    expect(codes).toEqual(['nothing', 'nothing', 'nothing', 'goaway 11']);
    expect(connection.isOver).toBe(true);
    expect(served.told.at(-1)).toBe('1 reset 8');
  });

  it('name the reason that clients of gRPC know', () => {
    limited(request(1));
    for (const at of [0, 1, 2]) pingAt(at);
    connection.receive(pingFrame, 3);
    const goaway = sent().find(({ type }) => type === FrameType.GoAway);
    expect(goaway?.payload.subarray(8).toString()).toBe('too_many_pings');
  });

  it('are counted as too soon until an answer is sent, not only in a row', () => {
    limited(request(1));
    const codes = [0, 1000, 10_000, 11_000, 20_000, 21_000].map(pingAt);
    expect(codes.at(-1)).toBe('goaway 11');
    expect(codes.filter((code) => code !== 'nothing')).toHaveLength(1);
  });

  it.each(['head', 'data', 'data that waited'])('are free behind the %s of an answer', (what) => {
    limited(request(1));
    if (what !== 'head') connection.respond(stream(1), ANSWER, false);
    if (what === 'data that waited') {
      connection.write(stream(1), Buffer.alloc(70_000));
      pingAt(-1);
    }
    for (let at = 0; at < 100; at += 1) {
      if (what === 'head') {
        say(request(3 + 2 * at, {}, true));
        connection.respond(stream(3 + 2 * at), ANSWER, true);
      } else if (what === 'data') connection.write(stream(1), Buffer.alloc(1));
      else say(frame(8, 0, 0, u32(1)), frame(8, 0, 1, u32(1)));
      expect(pingAt(at)).toBe('nothing');
    }
  });

  it('at the right rhythm are welcome for ever', () => {
    limited(request(1));
    for (let at = 0; at < 100; at += 1) expect(pingAt(at * MIN_MS)).toBe('nothing');
  });

  it('without streams are wanted every two hours at most', () => {
    limited();
    const codes = [0, 1, 2].map((at) => pingAt(at * HOUR_MS));
    expect(codes).toEqual(['nothing', 'nothing', 'goaway 11']);
    limited();
    for (let at = 0; at < 20; at += 1) expect(pingAt(at * 2 * HOUR_MS)).toBe('nothing');
  });

  it('that answer ours do not count', () => {
    limited(request(1));
    const pong = frame(FrameType.Ping, Flag.Ack, 0, Buffer.alloc(8));
    for (let at = 0; at < 100; at += 1) {
      connection.ping();
      connection.receive(pong, at);
    }
    expect(codeIn(sent())).toBe('nothing');
  });
});

describe('a stream that is gone', () => {
  it('cannot be opened again', () => {
    say(hello(), request(1, {}, true));
    connection.respond(stream(1), ANSWER, true);
    sent();
    expect(codeIn(say(request(1)))).toBe(`goaway ${Http2Code.StreamClosed}`);
  });

  it('counts as gone when its number was passed over', () => {
    say(hello(), request(5, {}, true));
    expect(codeIn(say(request(3)))).toBe(`goaway ${Http2Code.ProtocolError}`);
  });
});

describe('how fast a peer is read', () => {
  const reset = (id: number): Buffer => frame(FrameType.ResetStream, 0, id, u32(8));
  const pings = (count: number): Buffer =>
    Buffer.concat(
      Array.from({ length: count }, () => frame(FrameType.Ping, 0, 0, Buffer.alloc(8))),
    );

  it.each<[string, () => void]>([
    [
      'asks and is answered, however much',
      () => {
        for (let id = 1; id < 20_000; id += 2) {
          say(request(id, {}, true));
          connection.respond(stream(id), ANSWER, true);
        }
      },
    ],
    ['has pinged a thousand times', () => void say(pings(1000))],
    [
      'has called off a thousand calls at once',
      () => {
        for (let id = 1; id < 2000; id += 2) say(request(id), reset(id));
      },
    ],
    [
      'gives windows for what it reads',
      () => {
        say(request(1));
        for (let at = 0; at < 5000; at += 1)
          say(frame(8, 0, 1, u32(100)), frame(8, 0, 0, u32(100)));
      },
    ],
  ])('is as fast as it goes when it %s', (_what, does) => {
    say(hello());
    does();
    expect(connection.waitMs(0)).toBe(0);
  });

  /** Ms until nothing is owed. */
  function waitAll(): number {
    let now = 0;
    for (let ms = connection.waitMs(now); ms > 0; ms = connection.waitMs(now)) now += ms + 1;
    return now;
  }

  it('is less the more it asks for nothing', () => {
    say(hello(), pings(14_000));
    const owed = waitAll();
    expect(owed).toBeGreaterThan(1000);
    expect(owed).toBeLessThan(1500);
  });

  it('is less when calls are made to be called off', () => {
    say(hello());
    for (let id = 1; id < 10_000; id += 2) say(request(id), reset(id));
    expect(waitAll()).toBeGreaterThan(500);
    expect(connection.isOver).toBe(false);
  });

  it('is as fast as it goes for calls that were worked on and are called off, all at once', () => {
    say(hello());
    for (let id = 1; id < 10_000; id += 2) say(request(id));
    connection.newTurn();
    for (let id = 1; id < 10_000; id += 2) say(reset(id));
    expect(connection.waitMs(0)).toBe(0);
    expect(connection.openStreams).toBe(0);
  });

  // Made once: to make it half a million times takes longer than to read it.
  const BLOCK = requestBlock({});
  it.each<[string, (at: number) => Buffer]>([
    ['pings', () => pings(1)],
    ['says its settings', () => settings()],
    ['sends nothing', () => data(1, 0)],
    [
      'begins calls to call them off',
      (at) =>
        Buffer.concat([
          frame(FrameType.Headers, Flag.EndHeaders, 2 * at + 3, BLOCK),
          reset(2 * at + 3),
        ]),
    ],
  ])('never comes to its end, however long it %s', (_what, one) => {
    say(hello(), request(1));
    let now = 0;
    let said = 0;
    while (now < 600_000) {
      connection.receive(Buffer.concat(Array.from({ length: 50 }, () => one(said++))), now);
      connection.newTurn();
      connection.output.take();
      now += connection.waitMs(now) + 0.01;
    }
    expect(connection.isOver).toBe(false);
    // It had asked for more: what it was slowed down to is what it got.
    expect(said).toBeGreaterThan(500_000);
    expect(said).toBeLessThan(6_000_000);
  });

  it('is more when nobody else has been there lately, and has a bound all the same', () => {
    const pots = newPots(0);
    connection = new Http2ServerConnection(served, 0, { pots });
    const modest = new Http2ServerConnection(served, 0, { pots });
    say(hello());
    connection.worked(1_000_000, true);
    const alone = connection.waitMs(0);
    expect(alone).toBeGreaterThan(100);
    modest.waitMs(0);
    expect(connection.waitMs(0)).toBeGreaterThan(3 * alone);
    expect(connection.waitMs(900)).toBeGreaterThan(2 * alone);
    expect(connection.waitMs(1100)).toBeLessThan(alone);
  });

  it('is less when it asks for much that is cheap to ask for', () => {
    const pots = newPots(0);
    connection = new Http2ServerConnection(served, 0, { pots });
    const modest = new Http2ServerConnection(served, 0, { pots });
    modest.waitMs(0);
    say(hello());
    connection.worked(350_000, true);
    expect(connection.waitMs(0)).toBe(0);
    connection.worked(5_000_000, false);
    expect(connection.waitMs(0)).toBe(0);
    connection.worked(307_000, true);
    expect(connection.waitMs(0)).toBe(1000);
    expect(connection.waitMs(1001)).toBe(0);
  });

  it('does not matter any more when the connection is over', () => {
    say(hello(), pings(30_000));
    expect(connection.isOver).toBe(true);
    expect(connection.waitMs(0)).toBe(0);
  });
});

describe('a turn', () => {
  /** In the next one. */
  function goOn(one = connection): void {
    one.newTurn();
    one.proceed(0);
  }

  const calls = (count: number): Buffer =>
    Buffer.concat(Array.from({ length: count }, (_, at) => request(2 * at + 1, {}, true)));

  function turned(bytes: Buffer): number {
    let turns = 1;
    connection.receive(bytes, 0);
    for (; connection.isBusy; turns += 1) goOn();
    return turns;
  }

  it('does what it has time for, few things at first, and leaves the rest in its order', () => {
    connection = new Http2ServerConnection(served, 0, { turnUnits: 2000 });
    connection.receive(Buffer.concat([hello(), calls(500)]), 0);
    const first = served.told.length;
    expect(first).toBeGreaterThan(5);
    expect(first).toBeLessThan(20);
    expect(connection.isBusy).toBe(true);
    let turns = 1;
    for (; connection.isBusy; turns += 1) goOn();
    expect(turns).toBeGreaterThan(6);
    expect(turns).toBeLessThan(14);
    expect(served.told).toEqual(Array.from({ length: 500 }, (_, at) => `${2 * at + 1} /a/B end`));
  });

  it('is over for all that is read in one turn of the loop, in however many pieces', () => {
    connection = new Http2ServerConnection(served, 0, { turnUnits: 2000 });
    say(hello());
    const all = calls(500);
    let pieces = 0;
    for (; !connection.isBusy; pieces += 1) say(all.subarray(pieces * 100, (pieces + 1) * 100));
    expect(served.told.length).toBeLessThan(20);
    connection.newTurn();
    connection.proceed(0);
    expect(served.told.length).toBeLessThan(20);
    for (; served.told.length < 15; pieces += 1)
      say(all.subarray(pieces * 100, (pieces + 1) * 100));
    expect(connection.isBusy).toBe(false);
  });

  it('is over sooner when there was other work for the peer', () => {
    connection = new Http2ServerConnection(served, 0, { turnUnits: 2000 });
    say(hello());
    connection.worked(190, false);
    say(calls(5));
    expect(served.told).toEqual(['1 /a/B end']);
    expect(connection.isTurnOver).toBe(true);
  });

  it('does fewer calls when they are known to be dear', () => {
    connection = new Http2ServerConnection(served, 0, { turnUnits: 2000 });
    say(hello());
    connection.callUnits = 1000;
    expect(turned(calls(50))).toBeGreaterThan(20);
    expect(served.told).toHaveLength(50);
  });

  it('is not needed when nothing but half a frame is left', () => {
    connection = new Http2ServerConnection(served, 0, { turnUnits: 20 });
    say(hello());
    connection.receive(Buffer.concat([request(1, {}, true), request(3).subarray(0, 12)]), 0);
    while (connection.isBusy) goOn();
    say(request(3).subarray(12));
    while (connection.isBusy) goOn();
    expect(served.told).toEqual(['1 /a/B end', '3 /a/B']);
  });

  it('more or less makes no difference to what happens', () => {
    const one = fc.oneof(
      fc.nat(20).map((at) => request(2 * at + 1)),
      fc.nat(20).map((at) => data(2 * at + 1, 10)),
      fc.nat(20).map((at) => data(2 * at + 1, 3, Flag.EndStream)),
      fc.nat(20).map((at) => frame(FrameType.ResetStream, 0, 2 * at + 1, u32(8))),
      fc.constant(pingOnce),
    );
    void checkProperty(
      fc.property(
        fc.array(one, { maxLength: 60 }),
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 1, max: 300 }),
        (frames, turnUnits, piece) => {
          const bytes = Buffer.concat([hello(), ...frames]);
          const [whole, parted] = [new Served(), new Served()];
          const all = new Http2ServerConnection(whole, 0);
          all.receive(bytes, 0);
          const turns = new Http2ServerConnection(parted, 0, { turnUnits });
          for (let at = 0; at < bytes.length; at += piece) {
            turns.receive(bytes.subarray(at, at + piece), 0);
            while (turns.isBusy) goOn(turns);
          }
          expect(parted.told).toEqual(whole.told);
          expect(Buffer.concat(turns.output.take())).toEqual(Buffer.concat(all.output.take()));
        },
      ),
      { file: FILE, runs: 500 },
    );
  });
});

describe('a client that says goodbye', () => {
  it('is served on: it takes no streams of the server, and may open some itself', () => {
    const goodbye = frame(FrameType.GoAway, 0, 0, Buffer.concat([u32(0), u32(0)]));
    say(hello(), goodbye, request(1, {}, true));
    expect(connection.isOver).toBe(false);
    connection.respond(served.streams.get(1) as Http2Stream, ANSWER, true);
    say(request(3, {}, true));
    expect(served.told).toEqual(['1 /a/B end', '3 /a/B end']);
    connection.shutdown();
    expect(connection.isGoodbyeHeard).toBe(false);
  });
});

describe('the end', () => {
  const pong = frame(FrameType.Ping, Flag.Ack, 0, Buffer.alloc(8));
  const lastOf = (frames: readonly Frame[]): number | undefined =>
    frames.find(({ type }) => type === FrameType.GoAway)?.payload.readUInt32BE(0);

  it('serves what left the client before it heard, then takes nothing new', () => {
    say(hello(), request(1, {}, true));
    connection.shutdown();
    expect(lastOf(sent())).toBe(2 ** 31 - 1);

    say(request(3, {}, true));
    expect(served.told).toEqual(['1 /a/B end', '3 /a/B end']);

    expect(lastOf(say(pong))).toBe(3);
    say(request(5));
    expect(served.told).toHaveLength(2);
    connection.respond(stream(1), ANSWER, true);
    expect(connection.isOver).toBe(false);
    connection.respond(stream(3), ANSWER, true);
    expect(connection.isOver).toBe(true);
  });

  it('is not taken for known because an earlier ping was answered', () => {
    say(hello());
    connection.ping();
    connection.shutdown();
    sent();

    expect(lastOf(say(pong))).toBeUndefined();
    expect(lastOf(say(pong))).toBe(0);
    expect(connection.isOver).toBe(true);
  });

  it('does not hurt the calls under way when new ones were on their way already', () => {
    say(hello(), request(1, {}, true));
    connection.shutdown();
    say(pong);
    say(request(3), data(3, 5), frame(FrameType.ResetStream, 0, 3, u32(8)));
    expect(connection.isOver).toBe(false);
    expect(served.told).toEqual(['1 /a/B end']);
  });

  it('of the socket resets what was under way, once', () => {
    say(hello(), request(1));
    connection.lost();
    connection.lost();
    expect(served.told).toEqual(['1 /a/B', `1 reset ${Http2Code.Cancel}`]);
  });
});

describe('what comes cut', () => {
  class Bodies extends Served {
    readonly bytes: Buffer[] = [];
    override onData(stream: Http2Stream, bytes: Buffer, isEnd: boolean): void {
      super.onData(stream, bytes, isEnd);
      this.bytes.push(bytes);
    }
  }

  it('tells the same, wherever it is cut', () => {
    const body = Buffer.from(Array.from({ length: 700 }, (_, at) => at & 255));
    const parts = [hello(), request(1)];
    for (let at = 0; at < 700; at += 100) {
      parts.push(frame(FrameType.Data, 0, 1, body.subarray(at, at + 100)));
    }
    parts.push(data(1, 0, Flag.EndStream), request(3, {}, true));
    const all = Buffer.concat(parts);
    for (let piece = 1; piece <= all.length; piece += 1) {
      const bodies = new Bodies();
      const other = new Http2ServerConnection(bodies, 0);
      for (let at = 0; at < all.length; at += piece) {
        other.receive(Buffer.from(all.subarray(at, at + piece)), 0);
      }
      expect(Buffer.concat(bodies.bytes).equals(body)).toBe(true);
      expect(bodies.told.at(-1)).toBe('3 /a/B end');
      expect(bodies.told).toHaveLength(10);
    }
  });

  it('is copied as far as the frame goes that was cut, and no further', () => {
    const bodies = new Bodies();
    const other = new Http2ServerConnection(bodies, 0);
    other.receive(Buffer.concat([hello(), request(1)]), 0);
    const all = Buffer.concat([data(1, 5000), data(1, 6000), data(1, 7000)]);
    const second = Buffer.from(all.subarray(3000));

    other.receive(Buffer.from(all.subarray(0, 3000)), 0);
    other.receive(second, 0);

    expect(bodies.bytes.map(({ length }) => length)).toEqual([5000, 6000, 7000]);
    // Not by the ArrayBuffer alone: Node 24 cuts small Buffers, copies too, out of one pool of 64 KiB.
    const isView = bodies.bytes.map(
      ({ buffer, byteOffset }) =>
        buffer === second.buffer &&
        byteOffset >= second.byteOffset &&
        byteOffset < second.byteOffset + second.length,
    );
    expect(isView).toEqual([false, true, true]);
  });
});

describe('garbage', () => {
  it('in any pieces ends in a GOAWAY, or in nothing', () => {
    const good = Buffer.concat([
      hello(),
      request(1),
      data(1, 30),
      request(3, { 'content-length': '7' }),
      data(3, 7, Flag.EndStream),
      frame(FrameType.WindowUpdate, 0, 1, u32(100)),
      frame(FrameType.Ping, 0, 0, Buffer.alloc(8)),
    ]);
    const mutation = fc.record({ at: fc.nat(good.length - 25), value: fc.nat(255) });
    void checkProperty(
      fc.property(
        fc.array(mutation, { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 1, max: 60 }),
        (mutations, piece) => {
          const bytes = Buffer.from(good);
          for (const { at, value } of mutations) bytes[24 + at] = value;
          const fuzzed = new Http2ServerConnection(new Served(), 0);
          for (let at = 0; at < bytes.length; at += piece) {
            fuzzed.receive(Buffer.from(bytes.subarray(at, at + piece)), 0);
          }
          framesOf(Buffer.concat(fuzzed.output.take()));
        },
      ),
      { file: FILE, runs: 3000 },
    );
  });
});

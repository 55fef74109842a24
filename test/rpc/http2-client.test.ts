/**
 * The client's end of HTTP/2: fed by hand where a rule is about single frames, and against the server of
 * Node, which was written by others, for whole exchanges.
 */
import http2 from 'node:http2';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ClientEvents, Http2ClientConnection } from '../../src/rpc/http2/client-connection.js';
import { CLIENT_PREFACE, Flag, FrameType, Http2Code, Setting } from '../../src/rpc/http2/frame.js';
import type { HeaderField } from '../../src/rpc/http2/header-table.js';
import { encodeHeaders } from '../../src/rpc/http2/hpack-encoder.js';
import type { ResponseHead } from '../../src/rpc/http2/message-head.js';
import type { Http2Stream } from '../../src/rpc/http2/stream.js';
import {
  type Frame,
  frame,
  framesOf,
  requestBlock,
  settings,
  u32,
} from '../support/http2-frames.js';
import { waitFor } from '../support/wait.js';

/** Node refuses requests that do not say whom they are for. */
const REQUEST = requestBlock({ ':authority': 'localhost' });

class Told implements ClientEvents {
  readonly lines: string[] = [];
  bytes = 0;

  onHeaders({ id }: Http2Stream, { status }: ResponseHead, isEnd: boolean): void {
    this.lines.push(`${id} ${status}${isEnd ? ' end' : ''}`);
  }

  onData({ id }: Http2Stream, bytes: Buffer, isEnd: boolean): void {
    this.bytes += bytes.length;
    this.lines.push(`${id} data ${bytes.length}${isEnd ? ' end' : ''}`);
  }

  onTrailers({ id }: Http2Stream, fields: readonly HeaderField[]): void {
    this.lines.push(`${id} trailers ${fields.map(({ name, value }) => `${name}=${value}`).join()}`);
  }

  onReset({ id }: Http2Stream, code: number): void {
    this.lines.push(`${id} reset ${code}`);
  }

  onDrained({ id }: Http2Stream): void {
    this.lines.push(`${id} drained`);
  }

  onPong(): void {
    this.lines.push('pong');
  }
}

let told: Told;
let client: Http2ClientConnection;

beforeEach(() => {
  told = new Told();
  client = new Http2ClientConnection(told, 0);
});

const block = (fields: Readonly<Record<string, string>>): Buffer =>
  encodeHeaders(Object.entries(fields).map(([name, value]) => ({ name, value })));
const answer = (
  streamId: number,
  isEnd = false,
  fields: Readonly<Record<string, string>> = { ':status': '200' },
): Buffer => {
  const flags = Flag.EndHeaders | (isEnd ? Flag.EndStream : 0);
  return frame(FrameType.Headers, flags, streamId, block(fields));
};
const data = (streamId: number, bytes: number, flags = 0): Buffer =>
  frame(FrameType.Data, flags, streamId, Buffer.alloc(bytes));
const goAway = (last: number): Buffer =>
  frame(FrameType.GoAway, 0, 0, Buffer.concat([u32(last), u32(0)]));

function sent(): Frame[] {
  return framesOf(Buffer.concat(client.output.take()));
}

function say(...parts: readonly Buffer[]): Frame[] {
  client.receive(Buffer.concat(parts), 0);
  return sent();
}

/** Greeted, with a request on stream 1 that has been sent as a whole. */
function asked(): Http2Stream {
  client.output.take();
  say(settings());
  const stream = client.open(requestBlock(), null);
  client.finish(stream, null);
  client.output.take();
  return stream;
}

describe('frames by hand', () => {
  it('says the preface and its settings first, and refuses pushes', () => {
    const bytes = Buffer.concat(client.output.take());
    expect(bytes.subarray(0, CLIENT_PREFACE.length)).toEqual(CLIENT_PREFACE);
    const [first] = framesOf(bytes.subarray(CLIENT_PREFACE.length));
    expect(first?.type).toBe(FrameType.Settings);
    expect(first?.payload.subarray(0, 6)).toEqual(Buffer.from([0, Setting.EnablePush, 0, 0, 0, 0]));
  });

  it('numbers its streams 1, 3, 5', () => {
    asked();
    expect(client.open(requestBlock(), null).id).toBe(3);
    expect(client.open(requestBlock(), null).id).toBe(5);
  });

  it('hears an answer with data and trailers and forgets the stream', () => {
    asked();
    say(answer(1), data(1, 7), answer(1, true, { 'grpc-status': '0' }));
    expect(told.lines).toEqual(['1 200', '1 data 7', '1 trailers grpc-status=0']);
    expect(client.openStreams).toBe(0);
  });

  it('hears an answer that is nothing but its head', () => {
    asked();
    say(answer(1, true, { ':status': '200', 'grpc-status': '5' }));
    expect(told.lines).toEqual(['1 200 end']);
    expect(client.openStreams).toBe(0);
  });

  it('skips interim answers', () => {
    asked();
    say(answer(1, false, { ':status': '103' }), answer(1), data(1, 1, Flag.EndStream));
    expect(told.lines).toEqual(['1 200', '1 data 1 end']);
  });

  it('counts interim answers as what asks for nothing, and ends a connection that has too many', () => {
    asked();
    const early = answer(1, false, { ':status': '103' });
    const flood = Buffer.concat(Array.from({ length: 50_000 }, () => early));
    const frames = say(flood);
    const bye = frames.find(({ type }) => type === FrameType.GoAway);
    expect(bye?.payload.readUInt32BE(4)).toBe(Http2Code.EnhanceYourCalm);
    expect(client.isOver).toBe(true);
  });

  it('stops sending a request that the server has answered already', () => {
    asked();
    const stream = client.open(requestBlock(), null);
    client.output.take();
    const frames = say(answer(3, true));
    expect(frames.map(({ type, payload }) => [type, payload.readUInt32BE(0)])).toEqual([
      [FrameType.ResetStream, Http2Code.Cancel],
    ]);
    expect(client.write(stream, Buffer.alloc(9))).toBe(true);
    expect(sent()).toEqual([]);
  });

  it('sends nothing more on a stream that it has ended, however large its window grows', () => {
    asked();
    const update = frame(FrameType.WindowUpdate, 0, 1, u32(1000));
    const whole = frame(FrameType.WindowUpdate, 0, 0, u32(1000));
    const larger = settings([Setting.InitialWindowSize, 100_000]);
    expect(say(update, whole, larger, update).map(({ type }) => type)).toEqual([
      FrameType.Settings,
    ]);
    expect(client.openStreams).toBe(1);
  });

  it('keeps to the number of streams that the server allows', () => {
    client.output.take();
    say(settings([Setting.MaxConcurrentStreams, 1]));
    expect(client.canOpen).toBe(true);
    const stream = client.open(requestBlock(), null);
    client.finish(stream, null);
    expect(client.canOpen).toBe(false);
    say(answer(1, true));
    expect(client.canOpen).toBe(true);
  });

  it('learns from GOAWAY which requests were not looked at', () => {
    asked();
    client.finish(client.open(requestBlock(), null), null);
    say(goAway(1));
    expect(told.lines).toEqual([`3 reset ${Http2Code.RefusedStream}`]);
    expect(client.isSpent).toBe(true);
    expect(client.isOver).toBe(false);
    say(answer(1, true));
    expect(client.isOver).toBe(true);
  });

  it('serves on behind a GOAWAY that refuses nothing yet, until the second one', () => {
    asked();
    client.finish(client.open(requestBlock(), null), null);
    say(goAway(2 ** 31 - 1));
    expect(told.lines).toEqual([]);
    expect(client.canOpen).toBe(false);
    say(goAway(1));
    expect(told.lines).toEqual([`3 reset ${Http2Code.RefusedStream}`]);
  });

  it('gives no window for what its reader does not take', () => {
    const stream = asked();
    client.hold(stream);
    say(answer(1));
    const windowUpdates = (frames: readonly Frame[]): Frame[] =>
      frames.filter(({ type, streamId }) => type === FrameType.WindowUpdate && streamId === 1);
    for (let at = 0; at < 60; at += 1) expect(windowUpdates(say(data(1, 16_384)))).toEqual([]);
    client.resume(stream);
    const [update] = windowUpdates(sent());
    expect(update?.payload.readUInt32BE(0)).toBe(60 * 16_384);
  });

  it('is told of pongs', () => {
    asked();
    client.ping();
    expect(sent().map(({ type }) => type)).toEqual([FrameType.Ping]);
    say(frame(FrameType.Ping, Flag.Ack, 0, Buffer.alloc(8)));
    expect(told.lines).toEqual(['pong']);
  });

  const refused: [string, number, () => Buffer[]][] = [
    ['a server that says HTTP/1.1', 6, () => [Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')]],
    ['an answer on a stream that was never opened', 1, () => [settings(), answer(7)]],
    ['a stream of the server', 1, () => [settings(), answer(2)]],
    ['a push', 1, () => [settings(), frame(FrameType.PushPromise, 4, 1, Buffer.alloc(8))]],
    ['a server that enables push', 1, () => [settings([Setting.EnablePush, 1])]],
  ];
  it.each(refused)('ends the connection after %s', (_name, code, bytes) => {
    client.finish(client.open(requestBlock(), null), null);
    client.output.take();
    const last = say(...bytes()).at(-1);
    expect(last?.type).toBe(FrameType.GoAway);
    expect(last?.payload.readUInt32BE(4)).toBe(code);
    expect(client.isOver).toBe(true);
    expect(told.lines).toEqual([`1 reset ${Http2Code.Cancel}`]);
  });

  const malformed: [string, () => Buffer[]][] = [
    ['an answer without a status', () => [answer(1, false, { server: 'x' })]],
    ['a status of two digits', () => [answer(1, false, { ':status': '20' })]],
    ['an interim answer that ends the stream', () => [answer(1, true, { ':status': '100' })]],
    ['trailers that do not end', () => [answer(1), answer(1, false, { a: 'b' })]],
    ['trailers with a status', () => [answer(1), answer(1, true)]],
    [
      'less data than was announced',
      () => [answer(1, false, { ':status': '200', 'content-length': '9' }), data(1, 3, 1)],
    ],
  ];
  it.each(malformed)('resets the stream of %s', (_name, bytes) => {
    asked();
    const frames = say(...bytes());
    expect(told.lines.at(-1)).toBe(`1 reset ${Http2Code.ProtocolError}`);
    expect(frames.map(({ type, streamId }) => [type, streamId])).toEqual([
      [FrameType.ResetStream, 1],
    ]);
    expect(client.isOver).toBe(false);
  });
});

describe('against the server of Node', () => {
  let server: http2.Http2Server;
  let socket: Socket;

  beforeEach(async () => {
    server = http2.createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    socket.on('data', (bytes: Buffer) => {
      client.receive(bytes, 0);
      flush();
    });
    flush();
  });

  afterEach(async () => {
    socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });

  function flush(): void {
    for (const piece of client.output.take()) socket.write(piece);
  }

  it('sends a megabyte up and gets it back, with trailers', async () => {
    server.on('stream', (stream) => {
      stream.respond({ ':status': 200 }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.pipe(stream);
    });
    const stream = client.open(REQUEST, null);
    for (let at = 0; at < 16; at += 1) client.write(stream, Buffer.alloc(65_536, at));
    client.finish(stream, null);
    flush();

    await waitFor('the end', 5000, () => told.lines.at(-1)?.includes('trailers') === true);
    expect(told.bytes).toBe(1024 * 1024);
    expect(client.openStreams).toBe(0);
  });

  it('has a hundred calls under way at once', async () => {
    server.on('stream', (stream) => {
      stream.respond({ ':status': 200 });
      stream.end('hello');
    });
    for (let at = 0; at < 100; at += 1) client.finish(client.open(REQUEST, null), null);
    flush();

    await waitFor('the answers', 5000, () => client.openStreams === 0);
    expect(told.bytes).toBe(500);
    expect(told.lines.filter((line) => line.includes('reset'))).toEqual([]);
  });

  it('takes back a request', async () => {
    const codes: number[] = [];
    server.on('stream', (stream) => {
      stream.on('error', () => undefined);
      stream.on('close', () => codes.push(stream.rstCode));
    });
    const stream = client.open(REQUEST, null);
    flush();
    client.reset(stream, Http2Code.Cancel);
    flush();
    await waitFor('the reset', 5000, () => codes.length === 1);
    expect(codes).toEqual([Http2Code.Cancel]);
  });
});

/**
 * The invariants of stream-sender.ts, held by any order of writes, ends, resets and grants.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Flag, FrameOutput, FrameType, MAX_31 } from '../../src/rpc/http2/frame.js';
import { Http2Stream } from '../../src/rpc/http2/stream.js';
import { StreamSender } from '../../src/rpc/http2/stream-sender.js';
import { framesOf } from '../support/http2-frames.js';
import { checkProperty } from '../support/property.js';

const FILE = 'test/rpc/stream-sender.test.ts';
const STREAMS = 3;
const INITIAL_WINDOW = 40_000;
const CONNECTION_WINDOW = 65_535;
const TRAILERS = Buffer.from('trailers');

/** What a stream was told to send, what it was allowed, and what has left of it. */
interface Account {
  readonly stream: Http2Stream;
  window: number;
  written: number;
  sent: number;
  isFinished: boolean;
  hasTrailers: boolean;
  /** The last frame has left. */
  hasEnded: boolean;
  isReset: boolean;
  isDrainOwed: boolean;
}

/** A sender, and beside it what a peer that keeps books would let it do. */
class Books {
  readonly output = new FrameOutput();
  readonly accounts: Account[];
  readonly streams: Map<number, Http2Stream>;
  private readonly sender: StreamSender<unknown>;
  private window = CONNECTION_WINDOW;

  constructor() {
    this.sender = new StreamSender(this.output, {
      onDrained: (stream) => {
        const account = this.of(stream.id);
        expect(account).toMatchObject({ isDrainOwed: true, isFinished: false, isReset: false });
        account.isDrainOwed = false;
      },
      onLocalEnd: (stream) => this.close(stream),
    });
    this.accounts = Array.from({ length: STREAMS }, (_, at) => ({
      stream: new Http2Stream(2 * at + 1, INITIAL_WINDOW, 0),
      ...{ window: INITIAL_WINDOW, written: 0, sent: 0, isDrainOwed: false },
      ...{ isFinished: false, hasTrailers: false, hasEnded: false, isReset: false },
    }));
    for (const { stream } of this.accounts.slice(1)) stream.isPatient = true;
    this.streams = new Map(this.accounts.map(({ stream }) => [stream.id, stream]));
  }

  of(streamId: number): Account {
    return this.accounts[(streamId - 1) / 2] as Account;
  }

  write(account: Account, length: number): void {
    const { stream, written } = account;
    const bytes = Buffer.alloc(length);
    for (let at = 0; at < length; at += 1) bytes[at] = contentAt(stream.id, written + at);
    const isTaken = !account.isFinished && !stream.isClosed;
    if (isTaken) account.written += length;
    if (!this.sender.write(stream, bytes)) account.isDrainOwed = true;
  }

  finish(account: Account, hasTrailers: boolean): void {
    if (!account.isFinished) account.hasTrailers = hasTrailers;
    account.isFinished = true;
    this.sender.finish(account.stream, hasTrailers ? TRAILERS : null);
  }

  reset(account: Account): void {
    if (account.stream.isClosed) return;
    account.isReset = true;
    this.close(account.stream);
  }

  grow(bytes: number): void {
    this.window += bytes;
    this.sender.grow(bytes);
  }

  growStream(account: Account, bytes: number): void {
    if (account.stream.isClosed) return;
    account.window += bytes;
    expect(this.sender.growStream(account.stream, bytes)).toBe(true);
  }

  move(bytes: number): void {
    for (const account of this.accounts) account.window += bytes;
    this.sender.moveWindows(this.streams, bytes);
  }

  limitFrames(bytes: number): void {
    this.sender.limitFrames(bytes);
  }

  /** Books what has left, and compares. */
  check(): void {
    for (const { type, flags, streamId, payload } of framesOf(Buffer.concat(this.output.take()))) {
      const account = this.of(streamId);
      expect(account).toMatchObject({ hasEnded: false, isReset: false });
      if (type === FrameType.Data) {
        for (const [at, byte] of payload.entries()) {
          if (byte !== contentAt(streamId, account.sent + at)) expect.fail('out of order');
        }
        account.sent += payload.length;
        account.window -= payload.length;
        this.window -= payload.length;
        expect(payload.length === 0 || account.window >= 0).toBe(true);
        expect(this.window).toBeGreaterThanOrEqual(0);
      } else expect([type, account.sent]).toEqual([FrameType.Headers, account.written]);
      account.hasEnded = (flags & Flag.EndStream) !== 0;
      if (account.hasEnded) expect(type === FrameType.Headers).toBe(account.hasTrailers);
    }
    let [waiting, patient] = [0, 0];
    for (const account of this.accounts) {
      if (account.isReset) continue;
      const left = account.written - account.sent;
      waiting += left;
      if (account.stream.isPatient) patient += left;
      // Nothing waits that might go.
      expect(left > 0 && account.window > 0 && this.window > 0).toBe(false);
      expect(account.hasEnded).toBe(account.isFinished && left === 0);
      if (left === 0 && !account.isFinished) expect(account.isDrainOwed).toBe(false);
    }
    expect(this.sender).toMatchObject({ waitingBytes: waiting, patientBytes: patient });
  }

  /** As connection.ts does. */
  private close(stream: Http2Stream): void {
    this.streams.delete(stream.id);
    stream.isClosed = true;
    this.sender.drop(stream);
  }
}

function contentAt(streamId: number, at: number): number {
  return (at + 7 * streamId) % 251;
}

type Step = (books: Books) => void;

const account = fc.nat(STREAMS - 1);
const size = fc.integer({ min: 1, max: 40_000 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.tuple(account, fc.nat(150_000)).map(
      ([at, length]): Step =>
        (books) =>
          books.write(books.accounts[at] as Account, length),
    ),
  },
  fc.tuple(account, fc.boolean()).map(
    ([at, has]): Step =>
      (books) =>
        books.finish(books.accounts[at] as Account, has),
  ),
  account.map(
    (at): Step =>
      (books) =>
        books.reset(books.accounts[at] as Account),
  ),
  {
    weight: 3,
    arbitrary: size.map(
      (bytes): Step =>
        (books) =>
          books.grow(bytes),
    ),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(account, size).map(
      ([at, bytes]): Step =>
        (books) =>
          books.growStream(books.accounts[at] as Account, bytes),
    ),
  },
  fc.integer({ min: -50_000, max: 50_000 }).map(
    (bytes): Step =>
      (books) =>
        books.move(bytes),
  ),
  fc.integer({ min: 16_384, max: 100_000 }).map(
    (bytes): Step =>
      (books) =>
        books.limitFrames(bytes),
  ),
);

describe('what leaves of the streams of a connection', () => {
  it('leaves in order, within both windows, and as soon as they allow', () => {
    void checkProperty(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const books = new Books();
        for (const take of steps) {
          take(books);
          books.check();
        }
        books.grow(2 ** 24);
        for (const each of books.accounts) books.growStream(each, 2 ** 24);
        books.check();
        for (const { isReset, written, sent } of books.accounts) {
          if (!isReset) expect(sent).toBe(written);
        }
      }),
      { file: FILE, runs: 300 },
    );
  });

  it('is nothing of a stream that was reset while it waited for the window of the connection', () => {
    const books = new Books();
    const [account] = books.accounts as [Account];
    books.growStream(account, 2 ** 24);
    books.write(account, 2 * CONNECTION_WINDOW);
    books.finish(account, false);
    books.check();

    books.reset(account);
    books.grow(CONNECTION_WINDOW);
    expect(books.output.length).toBe(0);
  });

  it('is told once when it has left after a write that was too much', () => {
    const books = new Books();
    const [account] = books.accounts as [Account];
    books.growStream(account, 2 ** 24);
    for (const length of [2 ** 20, 100_000]) {
      // The books take it ill to be told of what is not owed.
      books.write(account, length);
      expect(account.isDrainOwed).toBe(length === 2 ** 20);
      books.grow(length);
      books.check();
    }
  });

  it('is no window above 2^31-1, whoever makes it so large', () => {
    const none = { onDrained: () => undefined, onLocalEnd: () => undefined };
    const sender = new StreamSender(new FrameOutput(), none);
    const stream = new Http2Stream(1, 0, 0);
    const streams = new Map([[1, stream]]);

    expect(sender.growStream(stream, MAX_31)).toBe(true);
    expect(() => sender.moveWindows(streams, 1)).toThrow('a window is too large');
    expect(sender.growStream(stream, 1)).toBe(false);
    expect(() => sender.grow(MAX_31)).toThrow('a window is too large');
  });
});

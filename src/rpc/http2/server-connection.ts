/**
 * The server's end of an HTTP/2 connection: requests come in, answers go out (connection.ts has what
 * both ends share).
 *
 *   request:  HEADERS [DATA ...] END_STREAM       answer:  respond [write ...] finish
 *
 * A stream ends when its answer is complete: what is still to come of its request has no reader (8.1).
 * `shutdown` takes two steps (6.8), because requests that left the client before it heard are served,
 * too: a GOAWAY that refuses nothing and a ping; when the ping is answered, the client has read both, and
 * the GOAWAY that names the last stream follows.
 *
 * Bound: `MAX_STREAMS` under way.
 */

import type { StreamEvents } from './connection.js';
import { Http2Connection, MAX_HEADER_LIST_BYTES, STREAM_WINDOW } from './connection.js';
import { ConnectionError } from './connection-error.js';
import { CLIENT_PREFACE, Http2Code, MAX_31, Setting } from './frame.js';
import type { HeaderField } from './header-table.js';
import { areTrailers, type RequestHead, requestHead } from './message-head.js';
import type { Pots } from './pace.js';
import { Http2Stream } from './stream.js';

export interface ServerEvents<Owner = unknown> extends StreamEvents<Owner> {
  /** A request begins. `isEnd`: it has no body. */
  onHeaders(stream: Http2Stream<Owner>, head: RequestHead, isEnd: boolean): void;
}

export interface ServerLimits {
  readonly maxStreams?: number | undefined;
  /** Between two pings of the client while it has streams; 0 = it pings as it likes. */
  readonly pingMinMs?: number;
  /** Of work in one turn (turn.ts); a call is about 20 of them. */
  readonly turnUnits?: number;
  /** Of all connections. */
  readonly pots?: Pots;
}

/** Locks that wait for others hold a stream each, and the renewals of their leases must get through. */
const MAX_STREAMS = 65_536;
/** Between two pings of a client without streams. */
const IDLE_PING_MIN_MS = 2 * 3600 * 1000;
const PING_STRIKES_MAX = 2;
const NO_BYTES = Buffer.alloc(0);

export class Http2ServerConnection<Owner = unknown> extends Http2Connection<Owner> {
  private readonly served: ServerEvents<Owner>;
  private readonly maxStreams: number;
  private readonly pingMinMs: number;
  private pingedAt = Number.NEGATIVE_INFINITY;
  private pingStrikes = 0;
  private prefaceLeft = CLIENT_PREFACE.length;
  /** The last one that is served, and the last one that was opened. */
  private lastStream = 0;
  private highestStream = 0;
  private isShuttingDown = false;

  constructor(events: ServerEvents<Owner>, now: number, limits: ServerLimits = {}) {
    super(events, now, limits.turnUnits, limits.pots);
    this.served = events;
    this.maxStreams = limits.maxStreams ?? MAX_STREAMS;
    this.pingMinMs = limits.pingMinMs ?? 0;
    this.sayHello([
      [Setting.MaxConcurrentStreams, this.maxStreams],
      [Setting.InitialWindowSize, STREAM_WINDOW],
      [Setting.MaxHeaderListSize, MAX_HEADER_LIST_BYTES],
    ]);
  }

  /** The header block of an answer, made by hpack-encoder.ts. */
  respond(stream: Http2Stream<Owner>, block: Buffer, isEnd: boolean): void {
    if (stream.isClosed) return;
    stream.hasAnswer = true;
    this.sender.headers(stream.id, block, isEnd);
    if (isEnd) this.localEnded(stream);
  }

  /** Takes no new streams and ends when those under way have ended. */
  shutdown(): void {
    if (this.isShuttingDown || this.isLeaving || this.isOver) return;
    this.isShuttingDown = true;
    this.goAway(Http2Code.NoError, '', MAX_31);
    this.ping();
  }

  /** After `shutdown`: what the client sends from now on, it sends knowing of it. */
  get isGoodbyeHeard(): boolean {
    return this.isLeaving || this.isOver;
  }

  protected override pong(): void {
    if (!this.isShuttingDown || this.isLeaving || this.unansweredPings > 0) return;
    this.isLeaving = true;
    this.goAway(Http2Code.NoError, '');
    this.maybeEnd();
  }

  /**
   * gRFC A8, as servers of gRPC in Go do it: a ping that comes too soon is a strike, and three in a row end
   * the connection. Pings behind answers are free: clients measure the bandwidth with them.
   */
  protected override pinged(): void {
    if (this.pingMinMs <= 0) return;
    const sinceMs = this.now - this.pingedAt;
    this.pingedAt = this.now;
    if (this.sender.hasSent) {
      this.sender.hasSent = false;
      this.pingStrikes = 0;
      return;
    }
    if (sinceMs < (this.streams.size > 0 ? this.pingMinMs : IDLE_PING_MIN_MS)) {
      this.pingStrikes += 1;
    }
    // The text is part of the protocol: clients that know it ping less often from then on.
    if (this.pingStrikes <= PING_STRIKES_MAX) return;
    throw new ConnectionError(Http2Code.EnhanceYourCalm, 'too_many_pings');
  }

  protected override preface(input: Buffer): Buffer {
    if (this.prefaceLeft === 0) return input;
    const done = CLIENT_PREFACE.length - this.prefaceLeft;
    const length = Math.min(this.prefaceLeft, input.length);
    if (CLIENT_PREFACE.compare(input, 0, length, done, done + length) !== 0) {
      throw new ConnectionError(Http2Code.ProtocolError, 'this is not HTTP/2');
    }
    this.prefaceLeft -= length;
    return input.subarray(length);
  }

  protected override headersComplete(
    streamId: number,
    fields: readonly HeaderField[],
    isEnd: boolean,
    isTruncated: boolean,
  ): void {
    const known = this.streams.get(streamId);
    if (known !== undefined && !known.isRemoteEnded) {
      this.onTrailers(known, fields, isEnd);
      return;
    }
    if (known !== undefined || (streamId <= this.highestStream && this.crossedNews(streamId))) {
      this.onClosedStream(streamId, known);
      return;
    }
    if (streamId <= this.highestStream) {
      // 5.1 and 5.1.1: a stream that has ended, or a number that was passed over.
      const code =
        streamId === this.highestStream ? Http2Code.StreamClosed : Http2Code.ProtocolError;
      throw new ConnectionError(code, `HEADERS on stream ${streamId}, which is closed`);
    }
    // 5.1.1: odd and ascending.
    if (streamId % 2 === 0) {
      throw new ConnectionError(Http2Code.ProtocolError, `a client opens stream ${streamId}`);
    }
    this.highestStream = streamId;
    // Told so by GOAWAY: the client asks elsewhere (6.8).
    if (this.isLeaving) return;
    this.lastStream = streamId;
    if (this.streams.size >= this.maxStreams) {
      this.charge(1);
      this.sendReset(streamId, Http2Code.RefusedStream);
      return;
    }
    const head = isTruncated ? null : requestHead(fields);
    const hasLostData = head !== null && isEnd && head.contentLength > 0;
    if (head === null || hasLostData) {
      this.charge(1);
      this.sendReset(streamId, isTruncated ? Http2Code.EnhanceYourCalm : Http2Code.ProtocolError);
      return;
    }
    const stream = new Http2Stream<Owner>(streamId, this.sender.initialWindow, STREAM_WINDOW);
    stream.bornIn = this.turn.count;
    stream.isRemoteEnded = isEnd;
    stream.owed = head.contentLength;
    this.streams.set(streamId, stream);
    this.served.onHeaders(stream, head, isEnd);
  }

  private onTrailers(
    stream: Http2Stream<Owner>,
    fields: readonly HeaderField[],
    isEnd: boolean,
  ): void {
    if (!isEnd || !areTrailers(fields) || stream.owed > 0) {
      this.breakStream(stream, Http2Code.ProtocolError);
      return;
    }
    stream.isRemoteEnded = true;
    this.served.onData(stream, NO_BYTES, true);
  }

  protected override wasOpened(streamId: number): boolean {
    return streamId !== 0 && streamId <= this.highestStream && streamId % 2 === 1;
  }

  /** What is opened after GOAWAY is not served. */
  protected override crossedNews(streamId: number): boolean {
    return super.crossedNews(streamId) || streamId > this.lastStream;
  }

  protected override get lastTaken(): number {
    return this.lastStream;
  }

  protected override localEnded(stream: Http2Stream<Owner>): void {
    if (!stream.isRemoteEnded) this.sendReset(stream.id, Http2Code.NoError);
    this.forget(stream);
  }

  protected override remoteEnded(): void {}

  /** 6.8: a client says that it takes no streams, of which a server opens none. Its own are served. */
  protected override leave(): void {}

  protected override ownSetting(name: number, value: number): void {
    if (name === Setting.EnablePush && value > 1) {
      throw new ConnectionError(Http2Code.ProtocolError, 'ENABLE_PUSH is 0 or 1');
    }
  }
}

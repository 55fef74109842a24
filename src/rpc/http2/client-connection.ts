/**
 * The client's end of an HTTP/2 connection: requests go out, answers come in (connection.ts has what both
 * ends share).
 *
 *   request:  open [write ...] finish       answer:  HEADERS [DATA ...] [HEADERS] END_STREAM
 *
 * What a caller may conclude: `onReset` with REFUSED_STREAM means that the server has not looked at the
 * request (8.7), be it that it said so for this stream, or that its GOAWAY names an earlier one as the
 * last. A stream that the server ends while the request is still going out is reset: nobody reads it.
 *
 * `open` is to be called only when `canOpen`; who wants more waits for streams to end.
 */

import type { StreamEvents } from './connection.js';
import { Http2Connection, MAX_HEADER_LIST_BYTES, STREAM_WINDOW } from './connection.js';
import { ConnectionError } from './connection-error.js';
import { CLIENT_PREFACE, Http2Code, MAX_31, Setting } from './frame.js';
import type { HeaderField } from './header-table.js';
import { areTrailers, type ResponseHead, responseHead } from './message-head.js';
import { Http2Stream } from './stream.js';

export interface ClientEvents<Owner = unknown> extends StreamEvents<Owner> {
  /** The answer begins. `isEnd`: it is nothing but this. */
  onHeaders(stream: Http2Stream<Owner>, head: ResponseHead, isEnd: boolean): void;
  /** The answer ends with these fields; comes instead of `onData` with `isEnd`. */
  onTrailers(stream: Http2Stream<Owner>, fields: readonly HeaderField[]): void;
}

export class Http2ClientConnection<Owner = unknown> extends Http2Connection<Owner> {
  private readonly asking: ClientEvents<Owner>;
  private nextStream = 1;
  /** 6.5.2: no limit until the server names one. */
  private maxStreams = Number.POSITIVE_INFINITY;

  constructor(events: ClientEvents<Owner>, now: number) {
    super(events, now);
    this.asking = events;
    this.output.bytes(CLIENT_PREFACE);
    this.sayHello([
      [Setting.EnablePush, 0],
      [Setting.InitialWindowSize, STREAM_WINDOW],
      [Setting.MaxHeaderListSize, MAX_HEADER_LIST_BYTES],
    ]);
  }

  /** The server takes another stream now. */
  get canOpen(): boolean {
    return !this.isSpent && this.openStreams < this.maxStreams;
  }

  /** It will never take another one: ask on another connection. */
  get isSpent(): boolean {
    return this.isLeaving || this.isOver || this.nextStream > MAX_31;
  }

  /** Begins a request with a header block of hpack-encoder.ts. */
  open(block: Buffer, owner: Owner): Http2Stream<Owner> {
    const stream = new Http2Stream<Owner>(
      this.nextStream,
      this.sender.initialWindow,
      STREAM_WINDOW,
    );
    this.nextStream += 2;
    stream.owner = owner;
    this.streams.set(stream.id, stream);
    this.sender.headers(stream.id, block, false);
    return stream;
  }

  protected override preface(input: Buffer): Buffer {
    return input;
  }

  protected override headersComplete(
    streamId: number,
    fields: readonly HeaderField[],
    isEnd: boolean,
    isTruncated: boolean,
  ): void {
    const stream = this.streams.get(streamId);
    if (stream === undefined || stream.isRemoteEnded) {
      this.onClosedStream(streamId, stream);
      return;
    }
    if (isTruncated) {
      this.breakStream(stream, Http2Code.EnhanceYourCalm);
      return;
    }
    if (stream.hasAnswer) {
      this.trailers(stream, fields, isEnd);
      return;
    }
    const head = responseHead(fields);
    const isInterim = head !== null && head.status < 200;
    if (head === null || (isInterim && isEnd)) {
      this.breakStream(stream, Http2Code.ProtocolError);
      return;
    }
    if (isInterim) {
      this.charge(1);
      return;
    }
    stream.hasAnswer = true;
    stream.owed = head.contentLength;
    if (!isEnd) {
      this.asking.onHeaders(stream, head, false);
      return;
    }
    stream.isRemoteEnded = true;
    this.asking.onHeaders(stream, head, true);
    this.remoteEnded(stream);
  }

  private trailers(
    stream: Http2Stream<Owner>,
    fields: readonly HeaderField[],
    isEnd: boolean,
  ): void {
    if (!isEnd || !areTrailers(fields) || stream.owed > 0) {
      this.breakStream(stream, Http2Code.ProtocolError);
      return;
    }
    stream.isRemoteEnded = true;
    this.asking.onTrailers(stream, fields);
    this.remoteEnded(stream);
  }

  protected override wasOpened(streamId: number): boolean {
    return streamId !== 0 && streamId < this.nextStream && streamId % 2 === 1;
  }

  protected override pong(): void {
    this.asking.onPong?.();
  }

  protected override pinged(): void {}

  /** A server opens no streams here. */
  protected override get lastTaken(): number {
    return 0;
  }

  protected override localEnded(stream: Http2Stream<Owner>): void {
    stream.isLocalEnded = true;
    if (stream.isRemoteEnded) this.forget(stream);
  }

  protected override remoteEnded(stream: Http2Stream<Owner>): void {
    if (stream.isClosed) return;
    if (!stream.isLocalEnded) this.sendReset(stream.id, Http2Code.Cancel);
    this.forget(stream);
  }

  protected override leave(lastStream: number): void {
    this.isLeaving = true;
    for (const stream of [...this.streams.values()]) {
      if (stream.id <= lastStream) continue;
      this.forget(stream);
      this.asking.onReset(stream, Http2Code.RefusedStream);
    }
    this.maybeEnd();
  }

  protected override ownSetting(name: number, value: number): void {
    if (name === Setting.MaxConcurrentStreams) this.maxStreams = value;
    // 6.5.2: a server may say nothing but 0.
    if (name === Setting.EnablePush && value !== 0) {
      throw new ConnectionError(Http2Code.ProtocolError, 'a server does not enable push');
    }
  }
}

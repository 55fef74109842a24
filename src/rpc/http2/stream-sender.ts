/**
 * What leaves of the streams of one connection: header blocks, and data as the windows of the peer allow
 * (RFC 9113, 5.2 and 6.9). Called by connection.ts, which says what the peer grants; no I/O, as there.
 *
 *   headers -------------------------------------------------------------> output
 *   write, finish -> all fits? ------------------------------------------> output
 *                       \-> waits in its stream -> window of the stream
 *                              -> window of the connection, in `queue` --> output
 *
 * Bounds: none of its own. `write` says false when FULL_BYTES wait in a stream, and who writes on in spite
 * of it pays in `waitingBytes`, which its owner bounds.
 *
 * Invariants: 1. No data leaves beyond the window of its stream or of the connection; the latter never is
 * negative. 2. Frames of a stream leave in the order of their calls, trailers behind all data, nothing
 * behind the end. 3. A stream is in `queue` only while it has data and a window and the connection has none.
 * 4. `waitingBytes` and `patientBytes` are sums over all streams. 5. After a `write` that said false comes one `onDrained`,
 * unless the stream ends first.
 */
import { ConnectionError } from './connection-error.js';
import {
  DEFAULT_WINDOW,
  Flag,
  type FrameOutput,
  FrameType,
  Http2Code,
  MAX_31,
  MIN_FRAME_SIZE,
} from './frame.js';
import type { Http2Stream } from './stream.js';

export interface SenderEvents<Owner> {
  /** After `write` said false: the peer has taken what waited. */
  onDrained(stream: Http2Stream<Owner>): void;
  /** The last frame of this side is in the output. */
  onLocalEnd(stream: Http2Stream<Owner>): void;
}

/** Data of one stream that may wait for its reader before `write` says false. */
const FULL_BYTES = 256 * 1024;
/** Larger frames would keep those of other streams waiting. */
const FRAME_BYTES_MAX = 1024 * 1024;
/** 4.2 of RFC 7541: told in front of the first block after the peer made its table smaller. */
const TABLE_OF_NOTHING = Buffer.from([0x20]);

export class StreamSender<Owner> {
  /** Bytes that wait for windows. */
  waitingBytes = 0;
  /** Of these, on streams that may be left unread. */
  patientBytes = 0;
  /** Headers or data were sent since somebody took this back. */
  hasSent = false;
  /** Bytes that a new stream may send. */
  initialWindow = DEFAULT_WINDOW;
  private readonly output: FrameOutput;
  private readonly events: SenderEvents<Owner>;
  private window = DEFAULT_WINDOW;
  private frameBytes = MIN_FRAME_SIZE;
  private isTableSmall = false;
  /** Streams with data and a window that wait for the window of the connection. */
  private readonly queue = new Set<Http2Stream<Owner>>();

  constructor(output: FrameOutput, events: SenderEvents<Owner>) {
    this.output = output;
    this.events = events;
  }

  // ---------------------------------------------------------------- what the peer grants

  /** The peer takes larger frames, or smaller ones. */
  limitFrames(bytes: number): void {
    this.frameBytes = Math.min(bytes, FRAME_BYTES_MAX);
  }

  /** The peer keeps a smaller table than the one that header blocks are made for; they use none of it. */
  shrinkTable(): void {
    this.isTableSmall = true;
  }

  /** The window of the connection grows: each stream that waits has its turn. */
  grow(bytes: number): void {
    this.window += bytes;
    if (this.window > MAX_31) throw tooLarge();
    for (const stream of this.queue) {
      if (this.window <= 0) return;
      this.queue.delete(stream);
      this.flow(stream);
    }
  }

  /** False: the window of the stream is larger than one may be. */
  growStream(stream: Http2Stream<Owner>, bytes: number): boolean {
    stream.sendWindow += bytes;
    if (stream.sendWindow > MAX_31) return false;
    this.flow(stream);
    return true;
  }

  /** 6.9.2: the windows of all streams there are move as that of new ones does, down to below 0. */
  moveWindows(streams: ReadonlyMap<number, Http2Stream<Owner>>, bytes: number): void {
    for (const stream of streams.values()) {
      stream.sendWindow += bytes;
      if (stream.sendWindow > MAX_31) throw tooLarge();
    }
    for (const stream of streams.values()) if (stream.waitingBytes > 0) this.flow(stream);
  }

  // ---------------------------------------------------------------- what is to leave

  headers(streamId: number, block: Buffer, isEnd: boolean): void {
    const { output, frameBytes } = this;
    this.hasSent = true;
    let rest = block;
    if (this.isTableSmall) {
      this.isTableSmall = false;
      rest = Buffer.concat([TABLE_OF_NOTHING, block]);
    }
    let type: number = FrameType.Headers;
    let flags = isEnd ? Flag.EndStream : 0;
    for (;;) {
      const part = rest.subarray(0, frameBytes);
      rest = rest.subarray(part.length);
      if (rest.length === 0) flags |= Flag.EndHeaders;
      output.header(part.length, type, flags, streamId);
      output.bytes(part);
      if (rest.length === 0) return;
      type = FrameType.Continuation;
      flags = 0;
    }
  }

  /** False: wait for `onDrained` before the next. `bytes` are not to be changed any more. */
  write(stream: Http2Stream<Owner>, bytes: Buffer): boolean {
    if (stream.isClosed || stream.endsAfterData) return true;
    if (bytes.length > 0 && !this.sendAtOnce(stream, bytes)) {
      stream.waiting.push(bytes);
      this.count(stream, bytes.length);
      this.flow(stream);
    }
    if (stream.waitingBytes < FULL_BYTES) return true;
    stream.isFull = true;
    return false;
  }

  /** Ends this side behind all data that was written, with trailers or without. */
  finish(stream: Http2Stream<Owner>, trailers: Buffer | null): void {
    if (stream.isClosed || stream.endsAfterData) return;
    stream.trailers = trailers;
    stream.endsAfterData = true;
    this.flow(stream);
  }

  /** The stream is gone, and what waits of it has no reader. */
  drop(stream: Http2Stream<Owner>): void {
    this.queue.delete(stream);
    stream.waiting.length = 0;
    this.count(stream, -stream.waitingBytes);
    stream.trailers = null;
  }

  /** So many bytes more, or less, wait on it. */
  private count(stream: Http2Stream<Owner>, bytes: number): void {
    stream.waitingBytes += bytes;
    this.waitingBytes += bytes;
    if (stream.isPatient) this.patientBytes += bytes;
  }

  /** The usual case: nothing waits, and all fits one frame and the windows. */
  private sendAtOnce(stream: Http2Stream<Owner>, bytes: Buffer): boolean {
    const { length } = bytes;
    const isFree = stream.waitingBytes === 0 && length <= this.frameBytes;
    if (!isFree || length > stream.sendWindow || length > this.window) return false;
    this.output.header(length, FrameType.Data, 0, stream.id);
    this.output.bytes(bytes);
    this.hasSent = true;
    stream.sendWindow -= length;
    this.window -= length;
    return true;
  }

  /** Sends of a stream what its windows allow. */
  private flow(stream: Http2Stream<Owner>): void {
    // 5.1: a client's stream lives on behind its own end, and its window may still grow.
    if (stream.isLocalEnded) return;
    const { output } = this;
    while (stream.waiting.length > 0) {
      const allowed = Math.min(stream.sendWindow, this.frameBytes);
      if (allowed <= 0) return;
      if (this.window <= 0) {
        this.queue.add(stream);
        return;
      }
      const first = stream.waiting[0] as Buffer;
      const length = Math.min(first.length - stream.offset, allowed, this.window);
      const end = stream.offset + length;
      const isLast = stream.waiting.length === 1 && end === first.length;
      const isEnd = isLast && stream.endsAfterData && stream.trailers === null;
      output.header(length, FrameType.Data, isEnd ? Flag.EndStream : 0, stream.id);
      output.bytes(length === first.length ? first : first.subarray(stream.offset, end));
      stream.sendWindow -= length;
      this.window -= length;
      stream.sentLate += length;
      this.hasSent = true;
      this.count(stream, -length);
      if (end === first.length) {
        stream.waiting.shift();
        stream.offset = 0;
      } else stream.offset = end;
      if (isEnd) {
        this.events.onLocalEnd(stream);
        return;
      }
    }
    if (stream.endsAfterData) {
      if (stream.trailers !== null) this.headers(stream.id, stream.trailers, true);
      else output.header(0, FrameType.Data, Flag.EndStream, stream.id);
      this.events.onLocalEnd(stream);
    } else if (stream.isFull) {
      stream.isFull = false;
      this.events.onDrained(stream);
    }
  }
}

function tooLarge(): ConnectionError {
  return new ConnectionError(Http2Code.FlowControlError, 'a window is too large');
}

/**
 * One HTTP/2 connection (RFC 9113), without I/O: bytes in, events out; calls in, bytes out. Here is what
 * both ends do alike with what comes in: frames, header blocks, windows, floods. What goes out on streams
 * is the business of stream-sender.ts, how they begin and end that of server-connection.ts and
 * client-connection.ts. Who owns the socket feeds `receive` and writes what `output` holds, once a turn.
 * Nothing here waits, and nothing knows of gRPC.
 *
 *   socket -> receive -> frames -> HPACK, stream states, windows -> events
 *   write, finish -> stream-sender.ts -> output -> socket
 *
 * Errors: what breaks a stream resets it (`onReset` if it was shown); what breaks the connection sends
 * GOAWAY, and `isOver` tells the owner to write what is left and close.
 *
 * Bounds: header blocks by `HeaderBlock` and `MAX_HEADER_LIST_BYTES`; data that was received is its
 * stream's business (it is shown at once and not kept here; `hold` stops its window); how fast a peer is read
 * that asks for nothing, or for much, by `Pace`, and how much of it at all by `FloodBudget`; one turn of the
 * event loop does the work of a `Turn` and leaves the rest for the next.
 *
 * Invariants: 1. A stream is in `streams` from its beginning until both sides have ended or one has reset.
 * 2. No frame leaves for a stream that has ended. 3. `onHeaders` is the first event of a stream, at most
 * one `onReset` the last; none follows the end of the peer's side but `onDrained` and `onReset`.
 */
import { ConnectionError } from './connection-error.js';
import { DEFAULT_FLOOD_LIMITS, FloodBudget } from './flood-budget.js';
import {
  DEFAULT_WINDOW,
  Flag,
  FRAME_HEADER_BYTES,
  FrameOutput,
  FrameType,
  Http2Code,
  MAX_31,
  MAX_FRAME_SIZE,
  MIN_FRAME_SIZE,
  Setting,
} from './frame.js';
import { HeaderBlock } from './header-block.js';
import type { HeaderField } from './header-table.js';
import { HpackDecoder, HpackError } from './hpack-decoder.js';
import { newPots, Pace, type Pots } from './pace.js';
import type { Http2Stream } from './stream.js';
import { StreamSender } from './stream-sender.js';
import { Turn } from './turn.js';

/** What both ends hear of their streams. */
export interface StreamEvents<Owner = unknown> {
  /** May be empty with `isEnd`. */
  onData(stream: Http2Stream<Owner>, bytes: Buffer, isEnd: boolean): void;
  /** The peer, or an error of the peer, has ended the stream: answers have no reader. */
  onReset(stream: Http2Stream<Owner>, code: number): void;
  /** After `write` said false: the peer has taken what waited. */
  onDrained(stream: Http2Stream<Owner>): void;
  /** The peer has answered a `ping`. */
  onPong?(): void;
}

const HEADER_TABLE_BYTES = 4096;
export const MAX_HEADER_LIST_BYTES = 64 * 1024;
/** What a frame that asks for nothing costs. So a peer at its pace spends less than its flood budget. */
const WASTE_UNITS = 2.5;
/** What a call costs that was called off before anything was done for it. */
const ABORTED_UNITS = 6;
/** What it costs to end a call under way. */
const RESET_UNITS = 10;
export const STREAM_WINDOW = 1024 * 1024;
const CONNECTION_WINDOW = 16 * 1024 * 1024;
/** Streams reset by this side whose last frames may still be on their way. */
const RESET_KEPT = 1000;
const NO_BYTES = Buffer.alloc(0);
/** Of pings: nobody reads it. */
const PING_BYTES = Buffer.alloc(8);

export abstract class Http2Connection<Owner = unknown> {
  readonly output = new FrameOutput();
  /** Write what is left and close: nothing more is received. */
  isOver = false;
  protected readonly streams = new Map<number, Http2Stream<Owner>>();
  /** No new streams: GOAWAY was sent, or came from the end that takes them. */
  protected isLeaving = false;
  protected unansweredPings = 0;
  protected readonly sender: StreamSender<Owner>;
  private readonly events: StreamEvents<Owner>;
  private readonly floods: FloodBudget;
  /** Of what asks for nothing, and of what asks for much. */
  private readonly waste: Pace;
  private readonly work: Pace;
  /** What the beginning of a call costs beside a frame; its owner may know better. */
  callUnits = 20;
  protected readonly turn: Turn;
  /** The turn was over before all of `rest` was read. */
  private isCut = false;
  private readonly decoder = new HpackDecoder(HEADER_TABLE_BYTES, MAX_HEADER_LIST_BYTES);
  /** Reset here a moment ago: what still comes for them is dropped. */
  private readonly resetHere = new Set<number>();
  private rest: Buffer = NO_BYTES;
  private hasSettings = false;
  protected now = 0;
  private receiveWindow = CONNECTION_WINDOW;
  private readonly block = new HeaderBlock();

  constructor(
    events: StreamEvents<Owner>,
    now: number,
    turnUnitsMax: number = Number.POSITIVE_INFINITY,
    pots: Pots = newPots(now),
  ) {
    this.events = events;
    this.sender = new StreamSender(this.output, {
      onDrained: (stream) => this.events.onDrained(stream),
      onLocalEnd: (stream) => this.localEnded(stream),
    });
    this.floods = new FloodBudget(DEFAULT_FLOOD_LIMITS, now);
    this.waste = new Pace(pots.waste, now);
    this.work = new Pace(pots.work, now);
    this.turn = new Turn(turnUnitsMax);
  }

  /** There is more to be done than one turn had time for: call `proceed`, and `receive` nothing before. */
  get isBusy(): boolean {
    return this.isCut && !this.isOver;
  }

  /** Whatever else is to be done for the peer is to be done in another turn. */
  get isTurnOver(): boolean {
    return this.turn.isOver;
  }

  /** The event loop has turned: to be called once in each turn that had work for this peer. */
  newTurn(): void {
    this.turn.renew();
  }

  /** Work for the peer beside its frames. `isCheap`: to ask for; who asks for too much of it is read slowly. */
  worked(units: number, isCheap: boolean): void {
    this.turn.spend(units, isCheap);
    if (isCheap) this.work.spend(units);
  }

  /** Ms for which the peer is not to be read, because it costs more than its share. */
  waitMs(now: number): number {
    return this.isOver ? 0 : Math.max(this.waste.waitMs(now), this.work.waitMs(now));
  }

  /** The peer has said what every peer says first. */
  get isGreeted(): boolean {
    return this.hasSettings;
  }

  /** Of the streams under way. */
  *owners(): Iterable<Owner> {
    for (const { owner } of this.streams.values()) if (owner !== null) yield owner;
  }

  underWay(): Iterable<Http2Stream<Owner>> {
    return this.streams.values();
  }

  /** Streams whose last data, or trailers, wait for windows of the peer. */
  get isFinishing(): boolean {
    for (const { endsAfterData } of this.streams.values()) if (endsAfterData) return true;
    return false;
  }

  /** Bytes of answers that wait for windows. */
  get waitingBytes(): number {
    return this.sender.waitingBytes;
  }

  /** Of these, on streams that may be left unread. */
  get patientBytes(): number {
    return this.sender.patientBytes;
  }

  get openStreams(): number {
    return this.streams.size;
  }

  // ---------------------------------------------------------------- received

  /** Bytes from the socket, cut anywhere. Nobody may write to them later: views of them are handed on. */
  receive(bytes: Buffer, now: number): void {
    if (this.isOver) return;
    this.now = now;
    this.isCut = false;
    try {
      const fresh = this.preface(bytes);
      const { rest } = this;
      this.rest = NO_BYTES;
      let left = fresh;
      if (rest.length > 0) {
        // Of what came only the end of the frame that was cut is copied: a body of 64 KiB comes in one or two
        // pieces, and each of them begins inside a frame.
        const used = bytesToEnd(rest, fresh);
        left = fresh.subarray(used);
        const begun = this.frames(
          used === 0 ? rest : Buffer.concat([rest, fresh.subarray(0, used)]),
        );
        if (begun.length > 0) left = left.length === 0 ? begun : Buffer.concat([begun, left]);
      }
      if (!this.isCut && !this.isOver) left = this.frames(left);
      // A copy of what waits for the peer: a few bytes must not hold all that came with them.
      this.rest = this.isCut ? left : Buffer.from(left);
    } catch (error) {
      this.fail(error);
    }
  }

  /** All frames that are complete, or those that the turn has time for; what is left. */
  private frames(input: Buffer): Buffer {
    let at = 0;
    while (!this.isOver && input.length - at >= FRAME_HEADER_BYTES) {
      const length = payloadLength(input, at);
      if (length > MIN_FRAME_SIZE) {
        throw new ConnectionError(Http2Code.FrameSizeError, `a frame of ${length} bytes`);
      }
      const end = at + FRAME_HEADER_BYTES + length;
      if (end > input.length) break;
      if (this.turn.isOver) {
        this.isCut = true;
        break;
      }
      const streamId = input.readUInt32BE(at + 5) & MAX_31;
      this.frame(
        input[at + 3] as number,
        input[at + 4] as number,
        streamId,
        input.subarray(at + FRAME_HEADER_BYTES, end),
      );
      at = end;
    }
    return input.subarray(at);
  }

  /** Goes on with what was received, in another turn; there may be nothing. */
  proceed(now: number): void {
    if (this.isBusy) this.receive(NO_BYTES, now);
  }

  /** The socket is gone. */
  lost(): void {
    this.isOver = true;
    this.waste.leave();
    this.work.leave();
    const open = [...this.streams.values()];
    this.streams.clear();
    for (const stream of open) {
      this.close(stream);
      this.events.onReset(stream, Http2Code.Cancel);
    }
  }

  // ---------------------------------------------------------------- sent

  /** False: wait for `onDrained` before the next. `bytes` are not to be changed any more. */
  write(stream: Http2Stream<Owner>, bytes: Buffer): boolean {
    return this.sender.write(stream, bytes);
  }

  /** Ends this side behind all data that was written, with trailers or without. */
  finish(stream: Http2Stream<Owner>, trailers: Buffer | null): void {
    this.sender.finish(stream, trailers);
  }

  /** Ends the stream at once, in both directions. */
  reset(stream: Http2Stream<Owner>, code: Http2Code): void {
    if (stream.isClosed) return;
    this.sendReset(stream.id, code);
    this.forget(stream);
  }

  /** Lets the peer send nothing more on this stream than its window has left, until `resume`. */
  hold(stream: Http2Stream<Owner>): void {
    stream.isHeld = true;
  }

  resume(stream: Http2Stream<Owner>): void {
    stream.isHeld = false;
    if (!stream.isClosed && !stream.isRemoteEnded) this.widen(stream);
  }

  /** Asks the peer for a sign of life: `onPong`. */
  ping(): void {
    if (this.isOver) return;
    this.unansweredPings += 1;
    this.output.header(PING_BYTES.length, FrameType.Ping, 0, 0);
    this.output.bytes(PING_BYTES);
  }

  // ---------------------------------------------------------------- what the two ends do differently

  /** What comes in front of the first frame is read here; the rest of the input is returned. */
  protected abstract preface(input: Buffer): Buffer;
  /** A header block is complete. `isTruncated`: its fields are more than is taken. */
  protected abstract headersComplete(
    streamId: number,
    fields: readonly HeaderField[],
    isEnd: boolean,
    isTruncated: boolean,
  ): void;
  /** Whether this number was ever a stream. */
  protected abstract wasOpened(streamId: number): boolean;
  /** The last stream of the peer that this side has taken on, for GOAWAY. */
  protected abstract get lastTaken(): number;
  /** This side has sent the end of the stream. */
  protected abstract localEnded(stream: Http2Stream<Owner>): void;
  /** The peer has sent the end of the stream; its events have been told. */
  protected abstract remoteEnded(stream: Http2Stream<Owner>): void;
  /** GOAWAY has come: the peer takes no streams any more behind this one. */
  protected abstract leave(lastStream: number): void;
  protected abstract pong(): void;
  /** The peer has sent a ping, and its answer is on its way. */
  protected abstract pinged(): void;
  /** A setting that only one of the ends may send, or that only one wants to know. */
  protected abstract ownSetting(name: number, value: number): void;
  /** Frames of a stream that is gone mean nothing: they crossed the news. */
  protected crossedNews(streamId: number): boolean {
    return this.resetHere.has(streamId);
  }

  // ---------------------------------------------------------------- frames in

  /** The first frame of this side. */
  protected sayHello(settings: readonly (readonly [name: number, value: number])[]): void {
    const { output } = this;
    output.header(settings.length * 6, FrameType.Settings, 0, 0);
    for (const [name, value] of settings) {
      output.u16(name);
      output.u32(value);
    }
    this.sendWindowUpdate(0, CONNECTION_WINDOW - DEFAULT_WINDOW);
  }

  private frame(type: number, flags: number, streamId: number, payload: Buffer): void {
    this.turn.spend(1);
    if (!this.hasSettings && type !== FrameType.Settings) {
      throw new ConnectionError(Http2Code.ProtocolError, 'the first frame is no SETTINGS');
    }
    // 6.10: nothing comes between the parts of a header block.
    const { streamId: blockOf } = this.block;
    if (blockOf !== 0 && (type !== FrameType.Continuation || streamId !== blockOf)) {
      throw new ConnectionError(Http2Code.ProtocolError, 'a header block was interrupted');
    }
    switch (type) {
      case FrameType.Data:
        this.onData(flags, streamId, payload);
        return;
      case FrameType.Headers:
        this.onHeaders(flags, streamId, payload);
        return;
      case FrameType.Priority:
        this.onPriority(streamId, payload);
        return;
      case FrameType.ResetStream:
        this.onResetStream(streamId, payload);
        return;
      case FrameType.Settings:
        this.onSettings(flags, streamId, payload);
        return;
      case FrameType.PushPromise:
        throw new ConnectionError(Http2Code.ProtocolError, 'nothing is pushed here');
      case FrameType.Ping:
        this.onPing(flags, streamId, payload);
        return;
      case FrameType.GoAway:
        this.onGoAway(streamId, payload);
        return;
      case FrameType.WindowUpdate:
        this.onWindowUpdate(streamId, payload);
        return;
      case FrameType.Continuation:
        this.onContinuation(flags, payload);
        return;
      default:
        // 5.5: what is not known is ignored.
        this.charge(1);
    }
  }

  private onData(flags: number, streamId: number, payload: Buffer): void {
    if (streamId === 0) throw new ConnectionError(Http2Code.ProtocolError, 'DATA on stream 0');
    const data = unpadded(flags, payload, 0);
    this.receiveWindow -= payload.length;
    if (this.receiveWindow < 0) {
      throw new ConnectionError(
        Http2Code.FlowControlError,
        'the window of the connection is used up',
      );
    }
    if (this.receiveWindow < CONNECTION_WINDOW / 2) {
      this.sendWindowUpdate(0, CONNECTION_WINDOW - this.receiveWindow);
      this.receiveWindow = CONNECTION_WINDOW;
    }
    const isEnd = (flags & Flag.EndStream) !== 0;
    if (data.length === 0 && !isEnd) this.charge(1);
    const stream = this.streams.get(streamId);
    if (stream === undefined || stream.isRemoteEnded) {
      this.onClosedStream(streamId, stream);
      return;
    }
    stream.receiveWindow -= payload.length;
    stream.received += payload.length;
    if (stream.receiveWindow < 0) {
      this.breakStream(stream, Http2Code.FlowControlError);
      return;
    }
    if (stream.owed >= 0) {
      stream.owed -= data.length;
      if (stream.owed < 0 || (isEnd && stream.owed !== 0)) {
        this.breakStream(stream, Http2Code.ProtocolError);
        return;
      }
    }
    if (isEnd) stream.isRemoteEnded = true;
    else if (!stream.isHeld) this.widen(stream);
    this.events.onData(stream, data, isEnd);
    if (isEnd) this.remoteEnded(stream);
  }

  private widen(stream: Http2Stream<Owner>): void {
    if (stream.receiveWindow >= STREAM_WINDOW / 2) return;
    this.sendWindowUpdate(stream.id, STREAM_WINDOW - stream.receiveWindow);
    stream.receiveWindow = STREAM_WINDOW;
  }

  private onHeaders(flags: number, streamId: number, payload: Buffer): void {
    if (streamId === 0) throw new ConnectionError(Http2Code.ProtocolError, 'HEADERS on stream 0');
    const hasPriority = (flags & Flag.Priority) !== 0;
    const block = unpadded(flags, payload, hasPriority ? 5 : 0);
    if (hasPriority) {
      const at = (flags & Flag.Padded) === 0 ? 0 : 1;
      if ((payload.readUInt32BE(at) & MAX_31) === streamId) {
        throw new ConnectionError(Http2Code.ProtocolError, 'a stream depends on itself');
      }
    }
    this.block.begin(streamId, (flags & Flag.EndStream) !== 0);
    this.takeBlock(block, (flags & Flag.EndHeaders) !== 0);
  }

  private onContinuation(flags: number, payload: Buffer): void {
    if (this.block.streamId === 0) {
      throw new ConnectionError(Http2Code.ProtocolError, 'CONTINUATION of nothing');
    }
    this.charge(1);
    this.takeBlock(payload, (flags & Flag.EndHeaders) !== 0);
  }

  private takeBlock(part: Buffer, isLast: boolean): void {
    const { streamId, isEnd } = this.block;
    if (!this.block.add(part, isLast)) {
      throw new ConnectionError(Http2Code.EnhanceYourCalm, 'a header block is too large');
    }
    if (!isLast) return;
    const block = this.block.take();
    this.turn.spend(this.callUnits);
    const { fields, isTruncated, isBomb } = this.decoder.decode(block);
    if (isBomb) {
      throw new ConnectionError(Http2Code.EnhanceYourCalm, 'a header block stands for too much');
    }
    if (isTruncated) this.waste.spend(block.length / 10);
    this.headersComplete(streamId, fields, isEnd, isTruncated);
  }

  private onPriority(streamId: number, payload: Buffer): void {
    if (streamId === 0) throw new ConnectionError(Http2Code.ProtocolError, 'PRIORITY on stream 0');
    this.charge(1);
    if (payload.length !== 5) {
      const stream = this.streams.get(streamId);
      if (stream === undefined) this.sendReset(streamId, Http2Code.FrameSizeError);
      else this.breakStream(stream, Http2Code.FrameSizeError);
      return;
    }
    if ((payload.readUInt32BE(0) & MAX_31) === streamId) {
      throw new ConnectionError(Http2Code.ProtocolError, 'a stream depends on itself');
    }
  }

  private onResetStream(streamId: number, payload: Buffer): void {
    if (payload.length !== 4) {
      throw new ConnectionError(Http2Code.FrameSizeError, 'RST_STREAM has four bytes');
    }
    this.assertNotIdle(streamId, 'RST_STREAM');
    const stream = this.streams.get(streamId);
    if (stream === undefined) {
      this.charge(1);
      return;
    }
    // Called off in the turn of its beginning: it was for nothing. One that was worked on was paid for as
    // every call is, and to call off many of them at once is everyone's right.
    if (stream.bornIn === this.turn.count) this.charge(ABORTED_UNITS / WASTE_UNITS);
    this.turn.spend(RESET_UNITS);
    this.forget(stream);
    this.events.onReset(stream, payload.readUInt32BE(0));
  }

  private onSettings(flags: number, streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw new ConnectionError(Http2Code.ProtocolError, 'SETTINGS of a stream');
    const isAck = (flags & Flag.Ack) !== 0;
    if (payload.length % 6 !== 0 || (isAck && payload.length > 0)) {
      throw new ConnectionError(Http2Code.FrameSizeError, `SETTINGS of ${payload.length} bytes`);
    }
    if (!this.hasSettings && isAck) {
      throw new ConnectionError(Http2Code.ProtocolError, 'the first frame is no SETTINGS');
    }
    if (isAck) return;
    // The first settings are owed, later ones are a matter of taste.
    if (this.hasSettings) this.charge(5);
    this.hasSettings = true;
    const { sender } = this;
    const window = sender.initialWindow;
    for (let at = 0; at < payload.length; at += 6) {
      this.setting(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
    }
    this.output.header(0, FrameType.Settings, Flag.Ack, 0);
    if (sender.initialWindow === window) return;
    // Once per frame, which may name the window thousands of times, and behind the acknowledgement, since
    // data that needs the new windows would look like too much.
    this.charge(this.streams.size / 100);
    sender.moveWindows(this.streams, sender.initialWindow - window);
  }

  /** 6.5.2 */
  private setting(name: number, value: number): void {
    switch (name) {
      case Setting.HeaderTableSize:
        if (value < HEADER_TABLE_BYTES) this.sender.shrinkTable();
        return;
      case Setting.InitialWindowSize: {
        if (value > MAX_31) {
          throw new ConnectionError(Http2Code.FlowControlError, `a window of ${value} bytes`);
        }
        this.sender.initialWindow = value;
        return;
      }
      case Setting.MaxFrameSize:
        if (value < MIN_FRAME_SIZE || value > MAX_FRAME_SIZE) {
          throw new ConnectionError(Http2Code.ProtocolError, `frames of ${value} bytes`);
        }
        this.sender.limitFrames(value);
        return;
      default:
        this.ownSetting(name, value);
    }
  }

  private onPing(flags: number, streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw new ConnectionError(Http2Code.ProtocolError, 'PING of a stream');
    if (payload.length !== 8) {
      throw new ConnectionError(Http2Code.FrameSizeError, 'PING has eight bytes');
    }
    this.charge(1);
    if ((flags & Flag.Ack) !== 0) {
      this.unansweredPings = Math.max(0, this.unansweredPings - 1);
      this.pong();
      return;
    }
    this.output.header(8, FrameType.Ping, Flag.Ack, 0);
    this.output.bytes(payload);
    this.pinged();
  }

  private onGoAway(streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw new ConnectionError(Http2Code.ProtocolError, 'GOAWAY of a stream');
    if (payload.length < 8) {
      throw new ConnectionError(Http2Code.FrameSizeError, 'GOAWAY has eight bytes or more');
    }
    this.leave(payload.readUInt32BE(0) & MAX_31);
  }

  private onWindowUpdate(streamId: number, payload: Buffer): void {
    if (payload.length !== 4) {
      throw new ConnectionError(Http2Code.FrameSizeError, 'WINDOW_UPDATE has four bytes');
    }
    const more = payload.readUInt32BE(0) & MAX_31;
    this.charge(0.1);
    if (streamId === 0) {
      if (more === 0) throw new ConnectionError(Http2Code.ProtocolError, 'a window grows by 0');
      this.sender.grow(more);
      return;
    }
    this.assertNotIdle(streamId, 'WINDOW_UPDATE');
    const stream = this.streams.get(streamId);
    if (stream === undefined) return;
    if (more === 0) {
      this.breakStream(stream, Http2Code.ProtocolError);
      return;
    }
    if (!this.sender.growStream(stream, more)) {
      this.breakStream(stream, Http2Code.FlowControlError);
    }
  }

  /** 5.1: an idle stream takes nothing but HEADERS and PRIORITY. */
  private assertNotIdle(streamId: number, what: string): void {
    if (this.wasOpened(streamId)) return;
    throw new ConnectionError(
      Http2Code.ProtocolError,
      `${what} on stream ${streamId}, which is idle`,
    );
  }

  /** Data or headers for a stream whose peer has ended its side, or that was never opened. */
  protected onClosedStream(streamId: number, stream: Http2Stream<Owner> | undefined): void {
    this.assertNotIdle(streamId, 'a frame');
    this.charge(1);
    if (stream !== undefined) {
      this.breakStream(stream, Http2Code.StreamClosed);
      return;
    }
    // What was on its way when the stream was reset here means nothing (5.1). Whatever else comes is a
    // mistake of one stream.
    if (this.crossedNews(streamId)) return;
    this.sendReset(streamId, Http2Code.StreamClosed);
  }

  /** Frames that cost the peer nothing. */
  protected charge(tokens: number): void {
    this.waste.spend(tokens * WASTE_UNITS);
    if (this.floods.spend(tokens, this.now)) return;
    throw new ConnectionError(Http2Code.EnhanceYourCalm, 'too many frames that ask for nothing');
  }

  // ---------------------------------------------------------------- frames out

  private sendWindowUpdate(streamId: number, bytes: number): void {
    this.output.header(4, FrameType.WindowUpdate, 0, streamId);
    this.output.u32(bytes);
  }

  protected sendReset(streamId: number, code: Http2Code): void {
    this.output.header(4, FrameType.ResetStream, 0, streamId);
    this.output.u32(code);
    this.resetHere.add(streamId);
    if (this.resetHere.size <= RESET_KEPT) return;
    for (const oldest of this.resetHere) {
      this.resetHere.delete(oldest);
      break;
    }
  }

  protected goAway(code: Http2Code, text: string, lastStream = this.lastTaken): void {
    const debug = Buffer.from(text, 'latin1');
    this.output.header(8 + debug.length, FrameType.GoAway, 0, 0);
    this.output.u32(lastStream);
    this.output.u32(code);
    this.output.bytes(debug);
  }

  // ---------------------------------------------------------------- ends

  protected forget(stream: Http2Stream<Owner>): void {
    this.streams.delete(stream.id);
    this.close(stream);
    this.maybeEnd();
  }

  private close(stream: Http2Stream<Owner>): void {
    stream.isClosed = true;
    this.sender.drop(stream);
  }

  /** The peer broke a rule of a stream. */
  protected breakStream(stream: Http2Stream<Owner>, code: Http2Code): void {
    this.charge(1);
    this.reset(stream, code);
    this.events.onReset(stream, code);
  }

  protected maybeEnd(): void {
    if (this.isLeaving && this.streams.size === 0) this.isOver = true;
  }

  private fail(error: unknown): void {
    if (this.isOver) return;
    const isKnown = error instanceof ConnectionError || error instanceof HpackError;
    const code =
      error instanceof ConnectionError
        ? error.code
        : error instanceof HpackError
          ? Http2Code.CompressionError
          : Http2Code.InternalError;
    this.goAway(code, isKnown ? error.message : 'internal error');
    this.lost();
    if (!isKnown) throw error;
  }
}

function payloadLength(bytes: Buffer, at: number): number {
  return (
    ((bytes[at] as number) << 16) | ((bytes[at + 1] as number) << 8) | (bytes[at + 2] as number)
  );
}

/** How many of the bytes that follow `rest` belong to the frame that it begins with, or to its header. */
function bytesToEnd(rest: Buffer, following: Buffer): number {
  const most = following.length;
  const toHeader = Math.max(0, FRAME_HEADER_BYTES - rest.length);
  if (toHeader >= most) return most;
  const head = toHeader === 0 ? rest : Buffer.concat([rest, following.subarray(0, toHeader)]);
  const wanted = FRAME_HEADER_BYTES + payloadLength(head, 0) - rest.length;
  return Math.min(most, Math.max(0, wanted));
}

/** Without padding (6.1, 6.2) and the first `skipped` bytes behind its length. */
function unpadded(flags: number, payload: Buffer, skipped: number): Buffer {
  const isPadded = (flags & Flag.Padded) !== 0;
  if (!isPadded && skipped === 0) return payload;
  const start = (isPadded ? 1 : 0) + skipped;
  if (payload.length < start) {
    throw new ConnectionError(Http2Code.FrameSizeError, 'a frame is too short for its flags');
  }
  const end = payload.length - (isPadded ? (payload[0] as number) : 0);
  if (end < start) throw new ConnectionError(Http2Code.ProtocolError, 'more padding than payload');
  return payload.subarray(start, end);
}

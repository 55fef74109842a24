/**
 * One connection of a gRPC client: its socket, its HTTP/2 state, and the calls on its streams.
 *
 * What is said while sockets are read leaves in one write when all of them were; what is said later, right
 * behind the step that says it: whoever has something to say marks the connection, and the server flushes all
 * marked ones.
 *
 * Bounds: a socket that takes nothing is not read either, and is closed when it takes nothing of answers
 * for long; calls whose answers may be large wait while `CROWD_BYTES` of answers are not read, `PARKED_MAX` of
 * them, and long answers are made one by one; answers that nobody reads are bounded by `UNREAD_BYTES_MAX`, above
 * which new calls are refused; streams are told to wait; what is left half done is ended by `sweep`.
 */
import type { Socket } from 'node:net';
import { KvError } from '../../errors.js';
import { commonNameOf } from '../../tls/common-name.js';
import type { CallScope } from '../call.js';
import { type Caller, callerOn } from '../caller.js';
import { factsOf, GrpcCode, wireErrorOf } from '../error-mapping.js';
import { Http2Code } from '../http2/frame.js';
import type { RequestHead } from '../http2/message-head.js';
import type { Pots } from '../http2/pace.js';
import { Http2ServerConnection, type ServerEvents } from '../http2/server-connection.js';
import type { Http2Stream } from '../http2/stream.js';
import type { LongAnswers } from '../long-answers.js';
import { type ServerLoad, SHARE_BYTES } from '../server-load.js';
import { callHead } from './call-head.js';
import {
  type CallWire,
  StreamGrpcCall,
  type StreamOwner,
  UNREAD,
  UnaryGrpcCall,
} from './grpc-call.js';
import { MessageError } from './message-assembler.js';
import { Pulse, type PulseLimits } from './pulse.js';
import { type ServedMethod, unknownMethod } from './served-method.js';
import { ANSWER_HEAD, errorHead, httpHead, OK_TRAILERS } from './status.js';

/** What the socket holds before streams are told to wait. */
const FULL_BYTES = 256 * 1024;
/** What it holds before we stop to read its requests. */
const UNSENT_BYTES_MAX = 4 * 1024 * 1024;
/** Answers that wait for windows or for the socket before new calls and large answers are refused. */
const UNREAD_BYTES_MAX = 64 * 1024 * 1024;
/** Answers that wait before further large ones do; watches, which may wait for ever, do not count. */
const CROWD_BYTES = 8 * 1024 * 1024;
const PARKED_MAX = 1000;
/** Of messages that are not complete, or not answered yet, over all calls. */
const KEPT_BYTES_MAX = 64 * 1024 * 1024;
/** For the preface and the settings of a client. */
const GREETING_MS = 10_000;
/** To write what is left of a connection that ends. */
const LINGER_MS = 2000;

const UNFINISHED = wireErrorOf(
  GrpcCode.RESOURCE_EXHAUSTED,
  'too many requests of this connection are not complete',
  factsOf('OVERLOADED'),
);

/** How long a client may leave something half done, in ms. */
export interface StallLimits {
  /** For a request to be complete, or to go on. */
  readonly requestMs: number;
  /** For an answer to be read, or to be read on. Those that never end, like watches, have no limit. */
  readonly answerMs: number;
}

/** Pings in both directions. */
export interface Keepalive extends PulseLimits {
  /** Between two pings of a client; 0 = as it likes. */
  readonly minTimeMs: number;
}

/** What has to move within these times, to count as going on. */
const PROGRESS_BYTES = 16 * 1024;
/** What is done for one client before the others have their turn: about 100 calls. */
const TURN_UNITS = 2000;
const CALL_UNITS = 20;
const BYTES_PER_UNIT = 1024;
/** To unzip a KiB, and one of what becomes so much larger that nobody has sent it to be read. */
const UNZIP_UNITS = 3;
const BOMB_UNITS = 60;
const BOMB_RATIO = 50;
/** Smaller answers cost what calls cost. */
const LARGE_BYTES = 16 * 1024;
/** Of what a client still sends when it has been told that it is over, before it is not read any more. */
const LATE_BYTES_MAX = 16 * 1024;
/** Then it is cut off. */
const LATE_MS = 500;

export interface ConnectionOptions {
  readonly scope: CallScope;
  readonly methods: ReadonlyMap<string, ServedMethod>;
  readonly messageBytesMax: number;
  readonly longAnswers: LongAnswers;
  readonly limits: StallLimits;
  readonly keepalive: Keepalive;
  /** Calls at once; default: that of HTTP/2. */
  readonly maxStreams: number | undefined;
  /** Of all connections. */
  readonly unread: ServerLoad;
  readonly unfinished: ServerLoad;
  readonly pots: Pots;
  /** Calls `flush`, when all has been said that is being said now. */
  readonly mark: (connection: GrpcConnection) => void;
  /** A socket was read, and others may be in the same turn of the event loop. */
  readonly reads: () => void;
}

export class GrpcConnection implements ServerEvents<StreamOwner> {
  private readonly socket: Socket;
  private readonly options: ConnectionOptions;
  private readonly http2: Http2ServerConnection<StreamOwner>;
  /** Told to wait because the socket is full. */
  private readonly paused = new Set<StreamOwner>();
  private readonly pulse: Pulse;
  /** Calls that ask for another turn. */
  private readonly behind = new Set<StreamOwner>();
  /** Calls that wait for the client to read. */
  private readonly parked = new Set<StreamOwner>();
  /** Calls that wait for their long answer to be the one that is made. */
  private readonly line = new Set<StreamOwner>();
  /** A long answer is being read or made. */
  private isLongMade = false;
  private readonly caller: Caller;
  private suspects: ReadonlyMap<Http2Stream<StreamOwner>, Suspicion> = new Map();
  private isFull = false;
  /** Of calls that end, since the socket was empty: what else fills it are watches, which may wait. */
  private hasAnswers = false;
  /** Not read, because it takes too little, or because it asks for too much at once. */
  private isStuffed = false;
  private isReined = false;
  /** On average, of the last calls. */
  private answerBytes = 0;
  private lateBytes = 0;
  private keptBytes = 0;
  /** As told to `options.unread`. */
  private unreadBytes = 0;
  private isMarked = false;
  private isEnding = false;

  constructor(socket: Socket, firstBytes: Buffer, options: ConnectionOptions) {
    this.socket = socket;
    this.caller = callerOn(socket, commonNameOf(socket));
    this.options = options;
    const now = performance.now();
    const { keepalive } = options;
    this.pulse = new Pulse(keepalive, now);
    const pingMinMs = keepalive.minTimeMs;
    this.http2 = new Http2ServerConnection<StreamOwner>(this, now, {
      maxStreams: options.maxStreams,
      pingMinMs,
      turnUnits: TURN_UNITS,
      pots: options.pots,
    });
    socket.on('data', (bytes: Buffer) => this.receive(bytes));
    socket.on('drain', () => this.onSocketDrain());
    socket.on('timeout', () => {
      if (this.hasAnswers) socket.destroy();
    });
    socket.on('error', () => socket.destroy());
    // A client that shuts its side down has gone: nobody reads what would still be written.
    socket.on('end', () => {
      this.http2.lost();
      socket.destroySoon();
    });
    socket.on('close', () => {
      clearTimeout(greeting);
      this.http2.lost();
      this.http2.output.take();
      this.countUnread();
    });
    const greeting = setTimeout(() => {
      if (!this.http2.isGreeted) socket.destroy();
    }, GREETING_MS);
    this.receive(firstBytes);
  }

  /** Calls under way that end by themselves: no watches, no locks that wait. They end when their answer
   *  is out. */
  get hasShortCalls(): boolean {
    for (const { isShort } of this.http2.owners()) if (isShort) return true;
    return this.http2.isFinishing;
  }

  /** After `shutdown`: no call of this client is on its way here that did not know of it. */
  get isGoodbyeHeard(): boolean {
    return this.http2.isGoodbyeHeard;
  }

  /** Takes no new calls; ends when those under way have ended. */
  shutdown(): void {
    this.http2.shutdown();
    this.mark();
  }

  /** Writes what was said since the last time. */
  flush(): void {
    this.isMarked = false;
    const { socket, http2 } = this;
    http2.newTurn();
    if (http2.output.length > 0 && !socket.destroyed && socket.writable) {
      const pieces = http2.output.take();
      if (pieces.length > 1) socket.cork();
      let isTaken = true;
      for (const piece of pieces) isTaken = socket.write(piece);
      if (pieces.length > 1) socket.uncork();
      // Node says so from 16 KiB on, which one turn of a busy watcher has.
      if (!isTaken && socket.writableLength > FULL_BYTES) {
        this.isFull = true;
        if (socket.writableLength > UNSENT_BYTES_MAX) {
          this.isStuffed = true;
          socket.pause();
          // Neither read nor, if it comes to this, written to.
          socket.setTimeout(this.options.limits.answerMs);
        }
      }
    }
    this.countUnread();
    if (this.hasMore) this.rein(0);
    if (http2.isOver) this.endSocket();
  }

  /** To be called every now and then, with the time in ms, when what lies in the socket was read. */
  sweep(now: number): void {
    this.endStalled(now);
    // Who is not read now cannot be heard.
    if (this.socket.isPaused()) this.pulse.heard(now);
    const todo = this.pulse.look(now);
    if (todo === 'give up') this.socket.destroy();
    else if (todo === 'ask') {
      this.http2.ping();
      // Now: the time to answer runs.
      this.flush();
    }
  }

  /**
   * Ends streams whose client owes a request, or the reading of an answer, and lets it be: it would hold
   * their memory for ever.
   */
  private endStalled(now: number): void {
    const { http2, suspects, options } = this;
    const { requestMs, answerMs } = options.limits;
    const still = new Map<Http2Stream<StreamOwner>, Suspicion>();
    for (const stream of [...http2.underWay()]) {
      const { owner } = stream;
      const isRequestOwed = owner?.isRequestOwed === true;
      const isAnswerOwed =
        stream.waitingBytes > 0 && (stream.endsAfterData || owner?.isShort === true);
      if (!isRequestOwed && !isAnswerOwed) continue;
      const bytes = isRequestOwed ? stream.received : stream.sentLate;
      const before = suspects.get(stream);
      const isOld =
        before?.isRequestOwed === isRequestOwed && bytes - before.bytes < PROGRESS_BYTES;
      const suspicion = isOld ? before : { isRequestOwed, bytes, since: now };
      if (now - suspicion.since < (isRequestOwed ? requestMs : answerMs)) {
        still.set(stream, suspicion);
      } else if (isRequestOwed) owner.onOverdue();
      else this.abandon(stream);
    }
    this.suspects = still;
  }

  /** Says what is left to be said, and ends. */
  close(): void {
    this.flush();
    this.endSocket();
  }

  // ---------------------------------------------------------------- events of HTTP/2

  onHeaders(stream: Http2Stream<StreamOwner>, head: RequestHead, isEnd: boolean): void {
    const { http2 } = this;
    const { scope, methods, messageBytesMax, longAnswers } = this.options;
    const outcome = callHead(head, this.caller);
    if (!outcome.ok) {
      // Not before the request has ended: an answer in the middle of an upload looks like a broken one.
      const { httpStatus, error } = outcome;
      stream.owner = new Refusal(() => {
        http2.respond(stream, httpHead(httpStatus, error), false);
        http2.write(stream, Buffer.from(`${error.message}\n`));
        http2.finish(stream, null);
        this.mark();
      });
      if (isEnd) stream.owner.onData(NO_BYTES, true);
      return;
    }
    const served = methods.get(head.path);
    if (this.isUnread() || served === undefined) {
      const error = served === undefined ? unknownMethod(methods, head.path) : UNREAD;
      http2.respond(stream, errorHead(error, outcome.head.wantsDetails), true);
      return;
    }
    const options = {
      scope,
      served,
      path: head.path,
      head: outcome.head,
      wire: new StreamWire(this, stream),
      messageBytesMax,
      longAnswers,
    };
    const { handler, method } = served;
    stream.isPatient = !method.isShort;
    if (handler.kind === 'unary') stream.owner = new UnaryGrpcCall(options, handler.call);
    else {
      const call = new StreamGrpcCall(options);
      stream.owner = call;
      call.start(handler.open);
    }
    if (isEnd) stream.owner.onData(NO_BYTES, true);
  }

  onData(stream: Http2Stream<StreamOwner>, bytes: Buffer, isEnd: boolean): void {
    stream.owner?.onData(bytes, isEnd);
  }

  onReset(stream: Http2Stream<StreamOwner>): void {
    const call = stream.owner;
    if (call === null) return;
    this.drop(call);
    call.onReset();
  }

  onDrained(stream: Http2Stream<StreamOwner>): void {
    const call = stream.owner;
    if (call === null) return;
    if (this.isFull && call.wantsDrain) this.paused.add(call);
    else call.onDrained();
  }

  // ---------------------------------------------------------------- what calls say (StreamWire)

  /** False: wait for `onDrained`. */
  write(stream: Http2Stream<StreamOwner>, bytes: Buffer): boolean {
    return this.isRoomLeft(stream, bytes.length, this.http2.write(stream, bytes));
  }

  /** One answer in several pieces. */
  writeAll(stream: Http2Stream<StreamOwner>, pieces: readonly Buffer[]): boolean {
    let bytes = 0;
    let isTaken = true;
    for (const piece of pieces) {
      bytes += piece.length;
      isTaken = this.http2.write(stream, piece);
    }
    return this.isRoomLeft(stream, bytes, isTaken);
  }

  /** Behind an answer. */
  private isRoomLeft(stream: Http2Stream<StreamOwner>, bytes: number, isTaken: boolean): boolean {
    this.noteAnswer(stream, bytes);
    this.mark();
    if (isTaken && this.isFull && stream.owner?.wantsDrain === true) this.paused.add(stream.owner);
    return isTaken && !this.isFull;
  }

  /** Calls that bring large answers are begun a few at a time: nobody can tell beforehand. */
  private noteAnswer(stream: Http2Stream<StreamOwner>, bytes: number): void {
    if (stream.owner?.isShort !== true) return;
    this.hasAnswers = true;
    if (bytes + this.answerBytes <= LARGE_BYTES) return;
    this.answerBytes += (bytes - this.answerBytes) / 8;
    this.http2.callUnits = CALL_UNITS + this.answerBytes / BYTES_PER_UNIT;
  }

  respond(stream: Http2Stream<StreamOwner>, block: Buffer, isEnd: boolean): void {
    this.http2.respond(stream, block, isEnd);
    if (isEnd) this.forget(stream);
    this.mark();
  }

  finish(stream: Http2Stream<StreamOwner>, trailers: Buffer): void {
    this.http2.finish(stream, trailers);
    this.forget(stream);
    this.mark();
  }

  /** KeptBytes, over all calls. */
  keep(bytes: number): void {
    const { unfinished } = this.options;
    const kept = this.keptBytes + bytes;
    if (bytes > 0 && (kept > KEPT_BYTES_MAX || !unfinished.hasRoom(kept))) {
      throw new MessageError(UNFINISHED);
    }
    this.keptBytes = kept;
    unfinished.add(bytes);
  }

  worked(units: number, isCheap: boolean): void {
    this.http2.worked(units, isCheap);
  }

  isTurnOver(): boolean {
    return this.http2.isTurnOver;
  }

  later(stream: Http2Stream<StreamOwner>): void {
    if (stream.owner === null) return;
    this.behind.add(stream.owner);
    this.rein(0);
  }

  hold(stream: Http2Stream<StreamOwner>): void {
    this.http2.hold(stream);
  }

  resume(stream: Http2Stream<StreamOwner>): void {
    this.http2.resume(stream);
    this.mark();
  }

  isCrowded(): boolean {
    return this.unread() - this.http2.patientBytes > CROWD_BYTES;
  }

  park(stream: Http2Stream<StreamOwner>): boolean {
    if (stream.owner === null || this.parked.size >= PARKED_MAX) return false;
    this.parked.add(stream.owner);
    return true;
  }

  claim(stream: Http2Stream<StreamOwner>): boolean {
    if (!this.isLongMade && this.line.size === 0 && !this.isCrowded()) {
      this.isLongMade = true;
      return true;
    }
    if (stream.owner === null || this.line.size >= PARKED_MAX) {
      throw new KvError('OVERLOADED', 'too many answers of this connection wait for each other');
    }
    this.line.add(stream.owner);
    return false;
  }

  leave(): void {
    this.isLongMade = false;
    if (this.hasMore) this.rein(0);
  }

  isUnread(): boolean {
    const bytes = this.unread();
    // Nearly always: this is asked for each call.
    if (bytes <= SHARE_BYTES) return false;
    this.countUnread();
    return bytes > UNREAD_BYTES_MAX || !this.options.unread.hasRoom(bytes);
  }

  // ---------------------------------------------------------------- inside

  /** The call is over, though its answer may not have been read. */
  private forget(stream: Http2Stream<StreamOwner>): void {
    if (stream.owner !== null) this.drop(stream.owner);
    stream.owner = null;
  }

  /** It waits for nothing any more. */
  private drop(call: StreamOwner): void {
    this.paused.delete(call);
    this.behind.delete(call);
    this.parked.delete(call);
    this.line.delete(call);
  }

  /** Calls wait for another turn, or the client has read what they waited for. */
  private get hasMore(): boolean {
    if (this.behind.size > 0) return true;
    const isNextLong = this.line.size > 0 && !this.isLongMade;
    return (isNextLong || this.parked.size > 0) && !this.isCrowded();
  }

  /** Nobody reads what is left of the answer. */
  private abandon(stream: Http2Stream<StreamOwner>): void {
    const { owner } = stream;
    this.http2.reset(stream, Http2Code.Cancel);
    this.forget(stream);
    owner?.onReset();
    this.mark();
  }

  /** Bytes of answers. */
  private unread(): number {
    const { http2, socket } = this;
    return (
      http2.waitingBytes + http2.output.length + (socket.destroyed ? 0 : socket.writableLength)
    );
  }

  private countUnread(): void {
    const bytes = this.unread();
    this.options.unread.add(bytes - this.unreadBytes);
    this.unreadBytes = bytes;
  }

  private receive(bytes: Buffer): void {
    const { http2 } = this;
    this.options.reads();
    if (http2.isOver) {
      this.lateBytes += bytes.length;
      if (this.lateBytes > LATE_BYTES_MAX) this.stopReading();
      return;
    }
    const now = performance.now();
    this.pulse.heard(now);
    try {
      http2.receive(bytes, now);
    } catch (error) {
      this.options.scope.onUnexpected(error);
    }
    this.endTurn(now);
  }

  private readonly goOn = (): void => {
    this.isReined = false;
    const { http2 } = this;
    if (this.socket.destroyed) return;
    const now = performance.now();
    const waitMs = http2.waitMs(now);
    if (waitMs > 0) {
      this.rein(waitMs);
      return;
    }
    http2.newTurn();
    for (const call of this.behind) {
      if (http2.isTurnOver) break;
      this.behind.delete(call);
      call.goOn();
    }
    for (const call of this.line) {
      if (this.isLongMade || this.isCrowded()) break;
      this.line.delete(call);
      this.isLongMade = true;
      call.goOn();
    }
    for (const call of this.parked) {
      if (http2.isTurnOver || this.isCrowded()) break;
      this.parked.delete(call);
      http2.worked(http2.callUnits, false);
      call.goOn();
    }
    try {
      http2.proceed(now);
    } catch (error) {
      this.options.scope.onUnexpected(error);
    }
    this.endTurn(now);
    if (!this.isReined && !this.isStuffed) this.socket.resume();
  };

  /** The others have their turn when there is more to do, and who asks for too much has to wait. */
  private endTurn(now: number): void {
    // In any case: the turn is over at the flush.
    this.mark();
    const waitMs = this.http2.waitMs(now);
    if (waitMs > 0 || this.http2.isBusy || this.hasMore) this.rein(waitMs);
  }

  /** Reads nothing until `goOn`, in a later turn or in so many ms. */
  private rein(waitMs: number): void {
    if (this.isReined) return;
    this.isReined = true;
    this.socket.pause();
    if (waitMs > 0) setTimeout(this.goOn, waitMs);
    else setImmediate(this.goOn);
  }

  private mark(): void {
    if (this.isMarked) return;
    this.isMarked = true;
    this.options.mark(this);
  }

  private onSocketDrain(): void {
    this.isFull = false;
    this.hasAnswers = false;
    if (this.isStuffed) {
      this.isStuffed = false;
      this.socket.setTimeout(0);
      if (!this.isReined) this.socket.resume();
    }
    this.countUnread();
    if (this.hasMore) this.rein(0);
    const calls = [...this.paused];
    this.paused.clear();
    for (const call of calls) call.onDrained();
  }

  /** It was told that it is over, and sends on: what it says has no reader, but it may read what is left. */
  private stopReading(): void {
    if (this.socket.isPaused()) return;
    this.socket.pause();
    setTimeout(() => this.socket.destroy(), LATE_MS).unref();
  }

  private endSocket(): void {
    if (this.isEnding) return;
    this.isEnding = true;
    const { socket } = this;
    socket.end();
    setTimeout(() => socket.destroy(), LINGER_MS).unref();
  }
}

const NO_BYTES = Buffer.alloc(0);

/** What a stream owed when it was looked at, and how far it had come. */
interface Suspicion {
  readonly isRequestOwed: boolean;
  readonly bytes: number;
  readonly since: number;
}

/** The stream of one call, as the call sees it. */
class StreamWire implements CallWire {
  private readonly connection: GrpcConnection;
  private readonly stream: Http2Stream<StreamOwner>;

  constructor(connection: GrpcConnection, stream: Http2Stream<StreamOwner>) {
    this.connection = connection;
    this.stream = stream;
  }

  head(): void {
    this.connection.respond(this.stream, ANSWER_HEAD, false);
  }

  message(bytes: Buffer): boolean {
    return this.connection.write(this.stream, bytes);
  }

  pieces(pieces: readonly Buffer[]): boolean {
    return this.connection.writeAll(this.stream, pieces);
  }

  isUnread(): boolean {
    return this.connection.isUnread();
  }

  isCrowded(): boolean {
    return this.connection.isCrowded();
  }

  park(): boolean {
    return this.connection.park(this.stream);
  }

  keep(bytes: number): void {
    this.connection.keep(bytes);
  }

  unzipped(from: number, to: number): void {
    const units = to > BOMB_RATIO * from ? BOMB_UNITS : UNZIP_UNITS;
    this.connection.worked((units * to) / 1024, true);
  }

  worked(units: number, isCheap: boolean): void {
    this.connection.worked(units, isCheap);
  }

  claim(): boolean {
    return this.connection.claim(this.stream);
  }

  leave(): void {
    this.connection.leave();
  }

  isTurnOver(): boolean {
    return this.connection.isTurnOver();
  }

  later(): void {
    this.connection.later(this.stream);
  }

  hold(): void {
    this.connection.hold(this.stream);
  }

  resume(): void {
    this.connection.resume(this.stream);
  }

  ok(): void {
    this.connection.finish(this.stream, OK_TRAILERS);
  }

  status(block: Buffer): void {
    if (this.stream.hasAnswer) this.connection.finish(this.stream, block);
    else this.connection.respond(this.stream, block, true);
  }
}

/** A request that is no gRPC. */
class Refusal implements StreamOwner {
  readonly wantsDrain = false;
  readonly isShort = true;
  readonly isRequestOwed = true;
  private readonly refuse: () => void;

  constructor(refuse: () => void) {
    this.refuse = refuse;
  }

  onData(_bytes: Buffer, isEnd: boolean): void {
    if (isEnd) this.refuse();
  }

  onOverdue(): void {
    this.refuse();
  }

  goOn(): void {}

  onReset(): void {}

  onDrained(): void {}
}

/**
 * One gRPC call on its stream: messages in, messages out, a status at the end. Unary and streaming calls
 * share how they begin, fail and end; what differs is whether the answer is one or many.
 *
 * The connection (grpc-connection.ts) feeds `onData`, `onReset` and `onDrained`. A call ends once: with a
 * status it has sent, or because nobody listens any more.
 */
import { MalformedBytesError } from '../../bytes.js';
import { KvError } from '../../errors.js';
import type { NodeFace, RequestContext } from '../../node.js';
import type { ResponseSink, StreamHandler, StreamSession, UnaryHandler } from '../api/handler.js';
import { decodeProtobuf } from '../api/protobuf.js';
import { Call, type CallScope, callContext, endWithoutLeader, NOT_BEGUN } from '../call.js';
import {
  DEADLINE_EXCEEDED,
  factsOf,
  GrpcCode,
  type WireError,
  wireErrorOf,
} from '../error-mapping.js';
import type { LongAnswers } from '../long-answers.js';
import { StreamAnswers } from '../stream-answers.js';
import type { CallHead } from './call-head.js';
import { type MessageAccount, MessageAssembler, MessageError } from './message-assembler.js';
import type { ServedMethod } from './served-method.js';
import { errorHead, errorTrailers } from './status.js';

/** What a call says to its peer. */
export interface CallWire extends MessageAccount {
  /** The first message, or the only block of a call without one. */
  head(): void;
  /** False: wait for `onDrained`. */
  message(bytes: Buffer): boolean;
  /** One message whose bytes lie in several places. False: wait for `onDrained`. */
  pieces(pieces: readonly Buffer[]): boolean;
  /** The client leaves more unread than is kept for one. */
  isUnread(): boolean;
  /** It leaves so much unread that large answers wait until it has read some of it. */
  isCrowded(): boolean;
  /** Asks for `goOn` when that has changed. False: too many wait. */
  park(): boolean;
  /** Takes the place of the one call whose answer may be long. False: wait for `goOn`, the place is yours then. */
  claim(): boolean;
  /** Gives it back. */
  leave(): void;
  /** Work for this call, in units (turn.ts). `isCheap`: to ask for. */
  worked(units: number, isCheap: boolean): void;
  /** Others are to have their turn. */
  isTurnOver(): boolean;
  /** Asks for another turn: `goOn`. */
  later(): void;
  /** Lets the peer send no more than the window of the stream has left, until `resume`. */
  hold(): void;
  resume(): void;
  /** Ends a call that went well. */
  ok(): void;
  /** Ends it with a status: behind messages, or as the whole answer. */
  status(block: Buffer): void;
}

export interface CallOptions {
  readonly scope: CallScope;
  readonly served: ServedMethod;
  readonly path: string;
  readonly head: CallHead;
  readonly wire: CallWire;
  readonly messageBytesMax: number;
  readonly longAnswers: LongAnswers;
}

/** Units (turn.ts) of a message on a stream; those of a single one are in what a call costs. */
const MESSAGE_UNITS = 25;
/** The same if the service had its answer at hand: a renewal on a leader that was confirmed a moment ago takes about
 *  4 us with its bytes, for which half a unit is charged besides. With 6 a leader that did nothing else was idle for a third
 *  of the time, while renewals waited. */
const QUICK_MESSAGE_UNITS = 3;
/** To make sense of a KiB of a message. */
const DECODE_UNITS = 10;
/** To make a KiB of an answer and to send it. */
const ANSWER_UNITS = 10;

/** Single answers up to this size are given in any case: they may tell of a write. */
const SMALL_BYTES = 64 * 1024;

/** In the words of the gateway. */
const OVERDUE: WireError = wireErrorOf(
  GrpcCode.DEADLINE_EXCEEDED,
  'the request took too long to arrive',
  factsOf('TIMEOUT_NO_EFFECT'),
);

export const UNREAD: WireError = wireErrorOf(
  GrpcCode.RESOURCE_EXHAUSTED,
  'too many answers of this connection wait to be read',
  factsOf('OVERLOADED'),
);
/** The same, when it is the answer that is not given. */
const UNANSWERED: WireError = {
  ...UNREAD,
  facts: { ...factsOf('OVERLOADED'), outcome: 'unknown', retryable: false },
};

/** Of all lists in one request: no service takes nearly as many, and a byte makes one. */
const ELEMENTS_MAX = 65_536;

/** The longest timer that Node knows; longer deadlines are as good as none. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** What happens on a stream, for whoever serves it. */
export interface StreamOwner {
  /** Data of the peer; `isEnd`: it sends nothing more. */
  onData(bytes: Buffer, isEnd: boolean): void;
  /** Nobody listens any more. */
  onReset(): void;
  /** The peer has taken what waited. */
  onDrained(): void;
  /** Whether `onDrained` means anything to it. */
  readonly wantsDrain: boolean;
  /** It ends by itself, soon. */
  readonly isShort: boolean;
  /** A request, or the rest of one, must come before anything else can happen. */
  readonly isRequestOwed: boolean;
  /** What is owed has not come. */
  onOverdue(): void;
  /** The turn that it asked for by `later`. */
  goOn(): void;
}

export abstract class GrpcCall implements StreamOwner {
  protected readonly call: Call;
  protected readonly served: ServedMethod;
  protected readonly head: CallHead;
  protected readonly wire: CallWire;
  protected isOver = false;
  protected bytes = 0;
  /** Of the last message. */
  protected messageBytes = 0;
  protected departure: AbortController | null = null;
  private deadlineTimer: NodeJS.Timeout | null = null;
  private readonly assembler: MessageAssembler;
  private requests = 0;
  /** Messages that have come were not taken yet: there was no time, or the service wants no more for now. */
  private isBehind = false;
  /** The client has sent its last byte, and its last message was taken. */
  private areBytesOver = false;
  private areRequestsOver = false;
  private hasHead = false;
  /** A message of a stream is being taken: what is answered now was asked for by it. */
  private isAsked = false;

  constructor({ scope, served, path, head, wire, messageBytesMax }: CallOptions) {
    this.call = new Call(scope, served.method, served.counters, path);
    this.served = served;
    this.head = head;
    this.wire = wire;
    this.assembler = new MessageAssembler(messageBytesMax, head.encoding, wire);
  }

  onData(bytes: Buffer, isEnd: boolean): void {
    this.attempt(() => {
      this.areBytesOver = isEnd;
      this.assembler.push(bytes);
      if (!this.isBehind) this.takeMessages();
    });
  }

  goOn(): void {
    this.attempt(() => {
      if (this.areRequestsOver) this.requestsEnded();
      else this.takeMessages();
    });
  }

  onReset(): void {
    if (this.isOver) return;
    this.release();
    this.call.finish(wireErrorOf(GrpcCode.CANCELLED, 'the client went away'), this.bytes);
  }

  /** A unary call begins at the end of its request, a stream with its first message; one of many messages
   *  may well be silent between them. */
  get isRequestOwed(): boolean {
    if (this.isOver || this.areRequestsOver) return false;
    const { requestStream, responseStream } = this.served.method;
    if (requestStream) return this.assembler.isInside && !this.isBehind;
    return !responseStream || this.requests === 0;
  }

  onOverdue(): void {
    this.end(OVERDUE);
  }

  abstract readonly wantsDrain: boolean;
  /** Whoever serves the call takes no more messages for now. */
  protected abstract readonly isFull: boolean;

  get isShort(): boolean {
    return this.served.method.isShort;
  }

  abstract onDrained(): void;
  protected abstract request(message: object): void;
  protected abstract requestsEnded(): void;

  /** Of the message that was taken last. */
  protected get wasQuick(): boolean {
    return false;
  }

  /** Runs a step of the call; what it throws ends the call. */
  protected attempt(step: () => void): void {
    if (this.isOver) return;
    try {
      step();
    } catch (error) {
      this.fail(error);
    }
  }

  protected fail(error: unknown): void {
    if (error instanceof MessageError) this.end(error.wire);
    else if (error instanceof MalformedBytesError) this.end(malformed(error.message).wire);
    else this.end(this.call.explain(error));
  }

  /** False: wait for `onDrained`. */
  protected answer(response: object): boolean {
    const bytes = this.served.encode(response);
    this.beginAnswer(bytes.length);
    return this.wire.message(bytes);
  }

  /** The pieces of one message. */
  protected answerInPieces(pieces: readonly Buffer[]): boolean {
    this.beginAnswer(pieces.reduce((sum, piece) => sum + piece.length, 0));
    return this.wire.pieces(pieces);
  }

  /** Throws when the client leaves too much unread to get more. */
  protected assertRead(): void {
    if (this.wire.isUnread()) throw new MessageError(UNANSWERED);
  }

  private beginAnswer(bytes: number): void {
    const mayBeRefused = bytes > SMALL_BYTES || this.call.method.responseStream;
    if (mayBeRefused) this.assertRead();
    this.bytes += bytes;
    if (this.isAsked) this.wire.worked((ANSWER_UNITS * bytes) / 1024, true);
    if (!this.hasHead) this.wire.head();
    this.hasHead = true;
  }

  protected end(error: WireError | null): void {
    if (this.isOver) return;
    this.release();
    this.call.finish(error, this.bytes);
    if (error !== null) {
      const block = this.hasHead ? errorTrailers : errorHead;
      this.wire.status(block(error, this.head.wantsDetails));
    } else {
      if (!this.hasHead) this.wire.head();
      this.wire.ok();
    }
  }

  protected release(): void {
    this.isOver = true;
    this.assembler.drop();
    this.disarmDeadline();
    this.departure?.abort();
  }

  /** Ends the call when the client's deadline has passed, in `ms`. */
  protected armDeadline(ms: number, error = DEADLINE_EXCEEDED): void {
    this.disarmDeadline();
    if (ms > MAX_TIMER_MS) return;
    this.deadlineTimer = setTimeout(() => this.end(error), Math.max(0, ms));
  }

  protected disarmDeadline(): void {
    if (this.deadlineTimer !== null) clearTimeout(this.deadlineTimer);
    this.deadlineTimer = null;
  }

  /** At least one, then as many as the turn has time for and the service wants. */
  private takeMessages(): void {
    const { assembler, wire } = this;
    this.isBehind = false;
    for (let taken = 0; ; taken += 1) {
      if (this.isFull) {
        this.isBehind = true;
        assembler.keepRest();
        wire.hold();
        return;
      }
      if (taken > 0 && wire.isTurnOver()) {
        this.isBehind = true;
        wire.later();
        return;
      }
      const message = assembler.next();
      if (message === null) break;
      this.take(message);
      if (this.isOver) return;
    }
    if (!this.areBytesOver) return;
    if (assembler.isInside) throw malformed('the stream ends inside a message');
    this.areRequestsOver = true;
    this.requestsEnded();
  }

  private take(message: Buffer): void {
    const { method } = this.call;
    this.requests += 1;
    this.messageBytes = message.length;
    if (!method.requestStream && this.requests > 1) throw malformed('this call takes one message');
    this.call.scope.metrics.clientBytesReceived.value += message.length;
    const units = (DECODE_UNITS * message.length) / 1024;
    this.wire.worked(method.requestStream ? units + MESSAGE_UNITS : units, method.requestStream);
    this.isAsked = method.requestStream;
    this.request(decodeProtobuf(method.request, message, ELEMENTS_MAX));
    this.isAsked = false;
    if (this.wasQuick) this.wire.worked(QUICK_MESSAGE_UNITS - MESSAGE_UNITS, true);
  }

  /** The service takes messages again. */
  protected takeAgain(): void {
    if (this.isOver || !this.isBehind) return;
    this.wire.resume();
    this.wire.later();
  }
}

export class UnaryGrpcCall extends GrpcCall {
  readonly wantsDrain = false;
  protected readonly isFull = false;
  private readonly handler: UnaryHandler;
  private readonly longAnswers: LongAnswers;
  private message: object | null = null;
  /** Bytes of a message that waits for the client to read. */
  private parkedBytes = 0;
  private unfollowLeader: (() => void) | null = null;
  private hasPlace = false;
  /** Waits for the answers in front of its own. */
  private place: { take(): void; refuse(error: KvError): void } | null = null;

  constructor(options: CallOptions, handler: UnaryHandler) {
    super(options);
    this.handler = handler;
    this.longAnswers = options.longAnswers;
  }

  override onDrained(): void {}

  protected override request(message: object): void {
    this.message = message;
  }

  protected override requestsEnded(): void {
    const { message, wire } = this;
    if (message === null) throw malformed('the call has no message');
    if (wire.isUnread()) throw new MessageError(UNREAD);
    const { scope, method } = this.call;
    // Only calls that may last for long are worth the cost of a signal.
    const mayLast = method.waits || method.isUnhurried;
    if (mayLast) this.departure = new AbortController();
    const signal = this.departure?.signal ?? null;
    this.call.context = callContext(
      scope.node,
      this.head,
      this.call.startedAt,
      mayLast,
      signal,
      method.isLarge ? () => this.mayBeLong() : undefined,
    );
    const leftMs = this.call.context.clientDeadline - scope.node.now();
    if (method.isLarge && wire.isCrowded()) {
      if (!wire.park()) throw new MessageError(UNREAD);
      this.keepParked(this.messageBytes);
      this.armDeadline(leftMs, NOT_BEGUN);
      return;
    }
    this.disarmDeadline();
    this.keepParked(0);
    // Not to be kept until the answer is read.
    this.message = null;
    // All others are ended by the deadline of the node.
    if (mayLast) this.armDeadline(leftMs);
    if (method.waits) {
      const end = (error: KvError): void => this.fail(error);
      this.unfollowLeader = endWithoutLeader(scope.node, this.call.context, end);
    }
    const serve = this.handler as (
      node: NodeFace,
      request: object,
      context: RequestContext,
    ) => Promise<object>;
    serve(scope.node, message, this.call.context).then(
      (response) => {
        if (this.longAnswers.isLong(method.response, response)) {
          void this.answerInTurns(response).finally(() => this.leavePlace());
          return;
        }
        this.leavePlace();
        this.attempt(() => {
          this.answer(response);
          this.end(null);
        });
      },
      (error: unknown) => {
        this.leavePlace();
        this.attempt(() => this.fail(error));
      },
    );
  }

  override goOn(): void {
    if (this.place === null) super.goOn();
    else this.place.take();
  }

  /**
   * Long answers of a connection are read and made one by one: a hundred at once would be in memory a hundred times
   * before the client could leave one of them unread. The place is kept until nothing is read any more, whether
   * or not somebody still waits for it.
   */
  private mayBeLong(): Promise<number> | null {
    if (this.isOver) throw new KvError('CANCELED', 'nobody waits for the answer any more');
    if (this.hasPlace) return null;
    if (!this.wire.claim()) return this.waitInLine();
    this.hasPlace = true;
    return null;
  }

  private async waitInLine(): Promise<number> {
    const { node } = this.call.scope;
    const clientDeadline = this.call.context?.clientDeadline ?? Number.POSITIVE_INFINITY;
    this.keepParked(this.messageBytes);
    this.armDeadline(clientDeadline - node.now(), NOT_BEGUN);
    await new Promise<void>((take, refuse) => {
      this.place = { take, refuse };
    });
    this.hasPlace = true;
    this.place = null;
    this.keepParked(0);
    // From here on it has begun, and ends by the deadline of the node.
    this.disarmDeadline();
    return Math.min(node.context().deadline, clientDeadline);
  }

  private leavePlace(): void {
    if (this.hasPlace) this.wire.leave();
    this.hasPlace = false;
  }

  private async answerInTurns(response: object): Promise<void> {
    try {
      const pieces = await this.longAnswers.make(this.served.encodeInPieces(response), () => {
        if (!this.isOver) this.assertRead();
        return !this.isOver;
      });
      if (pieces === null) return;
      this.attempt(() => {
        this.answerInPieces(pieces);
        this.end(null);
      });
    } catch (error) {
      this.attempt(() => this.fail(error));
    }
  }

  protected override release(): void {
    super.release();
    this.keepParked(0);
    this.unfollowLeader?.();
    this.place?.refuse(new KvError('CANCELED', 'nobody waits for the answer any more'));
  }

  private keepParked(bytes: number): void {
    const more = bytes - this.parkedBytes;
    if (more === 0) return;
    this.wire.keep(more);
    this.parkedBytes = bytes;
  }
}

export class StreamGrpcCall extends GrpcCall implements ResponseSink {
  readonly wantsDrain = true;
  private readonly answers: StreamAnswers<Buffer>;
  private session: StreamSession<object> | null = null;
  private unfollowLeader: (() => void) | null = null;

  constructor(options: CallOptions) {
    super(options);
    const call = this;
    const { served, longAnswers } = options;
    this.answers = new StreamAnswers(served.method.response, longAnswers, {
      write: (response) => this.answer(response),
      inPieces: (response) => served.encodeInPieces(response),
      writePieces: (pieces) => this.answerInPieces(pieces),
      get isOver() {
        return call.isOver;
      },
      takeMore: () => this.attempt(() => this.session?.drained()),
      fail: (error) => this.attempt(() => this.fail(error)),
    });
  }

  protected get isFull(): boolean {
    return this.session?.isFull === true;
  }

  /** Opens the stream of the service, before the first request. */
  start(open: StreamHandler): void {
    this.attempt(() => {
      const { scope } = this.call;
      this.departure = new AbortController();
      this.call.context = callContext(
        scope.node,
        this.head,
        this.call.startedAt,
        true,
        this.departure.signal,
      );
      this.armDeadline(this.call.context.clientDeadline - scope.node.now());
      const session = open(scope.node, this.call.context, this as ResponseSink<never>);
      this.session = session as StreamSession<object>;
      const end = (error: KvError): void => this.end(error);
      this.unfollowLeader = endWithoutLeader(scope.node, this.call.context, end);
      if (this.isOver) this.close();
    });
  }

  send(response: object): boolean {
    if (this.isOver) return true;
    this.call.sent();
    // Whoever sends serves many streams: what is wrong with this one must not reach it.
    try {
      return this.answers.send(response);
    } catch (error) {
      this.fail(error);
      return true;
    }
  }

  resume(): void {
    this.takeAgain();
  }

  override end(error: WireError | Error | null): void {
    super.end(error instanceof Error ? this.call.explain(error) : error);
  }

  override onDrained(): void {
    this.answers.drained();
  }

  protected override request(message: object): void {
    this.session?.handle(message);
  }

  protected override requestsEnded(): void {
    this.session?.requestsEnded?.();
  }

  protected override get wasQuick(): boolean {
    return this.session?.wasQuick === true;
  }

  protected override release(): void {
    super.release();
    this.close();
  }

  private close(): void {
    this.unfollowLeader?.();
    this.session?.close();
  }
}

function malformed(text: string): MessageError {
  return new MessageError(
    wireErrorOf(
      GrpcCode.INTERNAL,
      `grpc: failed to unmarshal the received message: ${text}`,
      factsOf('INVALID_ARGUMENT'),
    ),
  );
}

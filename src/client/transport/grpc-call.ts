/**
 * One call over gRPC: its request, and what the answer means (gRPC over HTTP/2, "Responses").
 *
 *   HEADERS [DATA ...] HEADERS with grpc-status      an answer, then what became of the call
 *   HEADERS with grpc-status                         no answer, only that
 *
 * grpc-channel.ts carries it: bytes and header fields come in from there, wishes go out through
 * CallCarrier. No socket and no frame is known here.
 *
 * Invariant: `onEnd` is called once, and nothing after it.
 */
import { MalformedBytesError } from '../../bytes.js';
import { decodeProtobuf } from '../../rpc/api/protobuf.js';
import { MessageAssembler, MessageError } from '../../rpc/grpc/message-assembler.js';
import type { HeaderField } from '../../rpc/http2/header-table.js';
import type { ResponseHead } from '../../rpc/http2/message-head.js';
import type { Http2Stream } from '../../rpc/http2/stream.js';
import {
  ExchangeError,
  type FailureFacts,
  StatusError,
  UnexpectedAnswerError,
} from './transport.js';

export interface CallEvents {
  /** The requests do not end with the first one. */
  readonly isOpenEnded: boolean;
  /** The answer may take any time: silence means nothing by itself. */
  readonly isPatient: boolean;
  /** The bytes may be a view of what the socket has read: whoever keeps many copies them. */
  onMessage(bytes: Buffer): void;
  /** Null: the server says that all went well. */
  onEnd(failure: Error | null): void;
}

export interface CallHead {
  readonly path: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/** The connection, as a call needs it. */
export interface CallCarrier {
  cancel(call: ClientCall): void;
  hold(stream: Http2Stream<ClientCall>): void;
  resume(stream: Http2Stream<ClientCall>): void;
  /** Breaks off a call whose answer cannot be taken. */
  refuse(call: ClientCall, failure: Error): void;
  finish(call: ClientCall, failure: Error | null): void;
}

const ANSWER_BYTES_MAX = 512 * 1024 * 1024;
const NO_ACCOUNT = { keep: () => undefined, unzipped: () => undefined };
const OK = 0;
const UNKNOWN = 2;
const UNAVAILABLE = 14;

/** One call: request out, messages and a status in. */
export class ClientCall {
  readonly head: CallHead;
  readonly request: Buffer;
  readonly isOpenEnded: boolean;
  readonly isPatient: boolean;
  readonly startedAt = performance.now();
  /** Null while it waits for its turn. */
  stream: Http2Stream<ClientCall> | null = null;
  private readonly carrier: CallCarrier;
  private readonly events: CallEvents;
  private assembler: MessageAssembler | null = null;
  private isOver = false;

  constructor(carrier: CallCarrier, head: CallHead, request: Buffer, events: CallEvents) {
    this.carrier = carrier;
    this.head = head;
    this.request = request;
    this.events = events;
    this.isOpenEnded = events.isOpenEnded;
    this.isPatient = events.isPatient;
  }

  /** Calls it off; the server is told. */
  cancel(): void {
    if (!this.isOver) this.carrier.cancel(this);
  }

  /** Takes no more than the window has left. */
  hold(): void {
    if (this.stream !== null && !this.isOver) this.carrier.hold(this.stream);
  }

  resume(): void {
    if (this.stream?.isHeld === true && !this.isOver) this.carrier.resume(this.stream);
  }

  /** False when it had ended before. */
  end(failure: Error | null): boolean {
    if (this.isOver) return false;
    this.isOver = true;
    this.assembler?.drop();
    this.events.onEnd(failure);
    return true;
  }

  onHeaders({ status, fields }: ResponseHead, isEnd: boolean): void {
    if (isEnd && fieldOf(fields, 'grpc-status') !== null) {
      this.onStatus(fields);
      return;
    }
    const contentType = fieldOf(fields, 'content-type') ?? '';
    // What stands in between could not ask (gRPC, "HTTP to gRPC status code mapping").
    if (status === 429 || (status >= 502 && status <= 504)) {
      this.carrier.refuse(this, new StatusError(UNAVAILABLE, `status ${status}`));
      return;
    }
    if (status !== 200 || !contentType.startsWith('application/grpc')) {
      const text = `status ${status}, ${contentType === '' ? 'no type' : contentType}`;
      this.carrier.refuse(this, new UnexpectedAnswerError(text));
      return;
    }
    const encoding = fieldOf(fields, 'grpc-encoding') ?? 'identity';
    this.assembler = new MessageAssembler(ANSWER_BYTES_MAX, encoding, NO_ACCOUNT);
    if (isEnd) this.endWithoutStatus();
  }

  onData(bytes: Buffer, isEnd: boolean): void {
    if (this.isOver) return;
    try {
      this.assembler?.feed(bytes, (message) => {
        if (!this.isOver) this.events.onMessage(message);
      });
    } catch (error) {
      if (!(error instanceof MessageError)) throw error;
      this.carrier.refuse(this, new UnexpectedAnswerError(error.message));
      return;
    }
    if (isEnd) this.endWithoutStatus();
  }

  onTrailers(fields: readonly HeaderField[]): void {
    this.onStatus(fields);
  }

  private onStatus(fields: readonly HeaderField[]): void {
    const code = Number(fieldOf(fields, 'grpc-status') ?? UNKNOWN);
    const message = percentDecoded(fieldOf(fields, 'grpc-message') ?? '');
    const details = fieldOf(fields, 'grpc-status-details-bin');
    this.carrier.finish(
      this,
      code === OK ? null : new StatusError(code, message, factsIn(details)),
    );
  }

  /** What stands between us and the server has ended the call. */
  private endWithoutStatus(): void {
    this.carrier.finish(this, new ExchangeError('the answer ended without a status', true));
  }
}

function fieldOf(fields: readonly HeaderField[], name: string): string | null {
  return fields.find((field) => field.name === name)?.value ?? null;
}

/** What a server of kvd tells in a google.rpc.ErrorInfo; null of others. */
function factsIn(details: string | null): FailureFacts | null {
  if (details === null) return null;
  try {
    const status = decodeProtobuf('Status', Buffer.from(details, 'base64'));
    for (const { typeUrl, value } of status.details) {
      if (!typeUrl.endsWith('/google.rpc.ErrorInfo')) continue;
      const { domain, reason, metadata } = decodeProtobuf('ErrorInfo', value);
      if (domain !== 'kvd') continue;
      const facts = new Map(metadata.map((entry) => [entry.key, entry.value]));
      return {
        reason,
        outcome: facts.get('outcome') === 'not-applied' ? 'not-applied' : 'unknown',
        retryable: facts.get('retryable') === 'true',
      };
    }
  } catch (error) {
    // They are an extra: the status itself is good.
    if (!(error instanceof MalformedBytesError)) throw error;
  }
  return null;
}

/** Not every server keeps to the encoding: what cannot be decoded is shown as it is. */
function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * Streaming calls of the gateway: the request body is a sequence of JSON objects, read while the
 * answers stream out, each as `{"result":...}` and a line end in an HTTP chunk of its own.
 *
 * A body that ends only says that no more requests come: a watch goes on, a keep-alive ends after its
 * last answer. The call ends when the service ends it, when the client goes away or half-closes, or
 * when the client's deadline passes. Headers wait for the first answer, so that an early failure can
 * still set the status.
 *
 * Back-pressure: `send` returns what the socket says; `drained` follows the response's drain event. An answer that is
 * too long for one turn is made and written in pieces, in several chunks (stream-answers.ts). The
 * body is not read while the service is full; a chunk holds thousands of requests, and others have their turn
 * between `TURN_REQUESTS` of them.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { KvError } from '../../errors.js';
import type { ResponseSink, StreamHandler, StreamSession } from '../api/handler.js';
import { decodeJson, encodeJson, encodeJsonInPieces } from '../api/json.js';
import { JsonSequence } from '../api/json-sequence.js';
import type { Method } from '../api/methods.js';
import { Call, callContext, endWithoutLeader } from '../call.js';
import { DEADLINE_EXCEEDED, streamErrorBody, type WireError } from '../error-mapping.js';
import { StreamAnswers } from '../stream-answers.js';
import { type GatewayScope, wishOf } from './call.js';
import { WatchEncoder } from './watch-encoder.js';

/** The longest timer that Node knows; longer deadlines are as good as none. */
const MAX_TIMER_MS = 2 ** 31 - 1;

const TURN_REQUESTS = 100;

const RESULT_HEAD = Buffer.from('{"result":');
const RESULT_TAIL = Buffer.from('}\n');

export function streamRoute(
  scope: GatewayScope,
  method: Method,
  open: StreamHandler,
  messageBytesMax: number,
): (request: FastifyRequest, reply: FastifyReply) => void {
  const type = method.requestStream ? 'bidi_stream' : 'server_stream';
  const counters = scope.metrics.rpc(method.service, method.name, type);
  const watchEncoder = new WatchEncoder();
  const isWatch = method.response === 'WatchResponse';
  const encoding: Encoding = {
    encode: (response) =>
      isWatch ? watchEncoder.encode(response) : encodeJson(method.response, response),
    encodeInPieces: (response) =>
      isWatch
        ? watchEncoder.encodeInPieces(response)
        : encodeJsonInPieces(method.response, response),
  };

  return (request, reply) => {
    reply.hijack();
    const call = new Call(scope, method, counters, request.url);
    const exchange = new StreamExchange(scope, call, request.raw, reply.raw, encoding);
    exchange.start(open, new JsonSequence(messageBytesMax));
  };
}

interface Encoding {
  encode(response: object): string;
  encodeInPieces(response: object): Generator<number, Buffer[]>;
}

class StreamExchange implements ResponseSink {
  private readonly scope: GatewayScope;
  private readonly call: Call;
  private readonly request: FastifyRequest['raw'];
  private readonly response: FastifyReply['raw'];
  private readonly encoding: Encoding;
  private readonly answers: StreamAnswers<Buffer>;
  private readonly departure = new AbortController();
  private session: StreamSession<object> | null = null;
  private unfollowLeader: (() => void) | null = null;
  private deadlineTimer: NodeJS.Timeout | null = null;
  /** What has come and was not taken, from `next` on: of one chunk. */
  private texts: readonly string[] = [];
  private next = 0;
  private isBodyOver = false;
  private turn: NodeJS.Immediate | null = null;
  private requests = 0;
  private bytes = 0;
  private over = false;

  constructor(
    scope: GatewayScope,
    call: Call,
    request: FastifyRequest['raw'],
    response: FastifyReply['raw'],
    encoding: Encoding,
  ) {
    this.scope = scope;
    this.call = call;
    this.request = request;
    this.response = response;
    this.encoding = encoding;
    const exchange = this;
    this.answers = new StreamAnswers(call.method.response, scope.longAnswers, {
      write: (message) => this.write(message),
      inPieces: (message) => encoding.encodeInPieces(message),
      writePieces: (pieces) => this.writePieces(pieces),
      get isOver() {
        return exchange.over;
      },
      takeMore: () => this.attempt(() => this.session?.drained()),
      fail: (error) => this.attempt(() => this.finish(call.explain(error))),
    });
  }

  start(open: StreamHandler, sequence: JsonSequence): void {
    const { call, request, response } = this;
    const { node } = call.scope;
    this.attempt(() => {
      const { signal } = this.departure;
      const wish = wishOf(request);
      call.context = callContext(node, wish, call.startedAt, true, signal);
      this.armDeadline(call.context.clientDeadline - node.now());
      const session = open(node, call.context, this as ResponseSink<never>);
      this.session = session as StreamSession<object>;
      this.unfollowLeader = endWithoutLeader(node, call.context, (error) => this.end(error));
      if (this.over) this.close();
    });
    response.on('drain', () => {
      if (!this.over) this.answers.drained();
    });
    response.once('close', () => this.leave());
    // A client that shuts its side down has gone, even if the socket could still be written.
    request.socket.once('end', this.onHalfClose);
    request.on('error', () => this.leave());
    request.on('data', (chunk: Buffer) =>
      this.attempt(() => {
        call.scope.metrics.clientBytesReceived.value += chunk.length;
        this.texts = [...this.texts.slice(this.next), ...sequence.push(chunk)];
        this.next = 0;
        this.takeSome();
      }),
    );
    request.once('end', () =>
      this.attempt(() => {
        if (sequence.isInside) {
          throw new KvError('INVALID_ARGUMENT', 'the last object is cut off');
        }
        this.isBodyOver = true;
        this.takeSome();
      }),
    );
  }

  /** The service takes requests again. */
  resume(): void {
    if (!this.over) this.turn ??= setImmediate(this.takeMore);
  }

  send(message: object): boolean {
    if (this.over) return true;
    this.call.sent();
    return this.answers.send(message);
  }

  private write(message: object): boolean {
    const line = `{"result":${this.encoding.encode(message)}}\n`;
    this.bytes += line.length;
    this.writeHead(200);
    return this.response.write(line, 'latin1');
  }

  private writePieces(pieces: readonly Buffer[]): boolean {
    this.writeHead(200);
    let isTaken = true;
    for (const piece of [RESULT_HEAD, ...pieces, RESULT_TAIL]) {
      this.bytes += piece.length;
      isTaken = this.response.write(piece);
    }
    return isTaken;
  }

  end(error: Error | null): void {
    this.finish(error === null ? null : this.call.explain(error));
  }

  private readonly onHalfClose = (): void => {
    this.leave();
    this.request.socket.destroy();
  };

  private readonly takeMore = (): void => {
    this.turn = null;
    this.attempt(() => this.takeSome());
  };

  private takeSome(): void {
    const { request } = this;
    for (let taken = 0; this.next < this.texts.length && !this.over; taken += 1) {
      const isFull = this.session?.isFull === true;
      if (isFull || taken === TURN_REQUESTS) {
        request.pause();
        if (!isFull) this.resume();
        return;
      }
      this.next += 1;
      this.take(this.texts[this.next - 1] as string);
    }
    if (this.isBodyOver) this.requestsEnded();
    else if (request.isPaused()) request.resume();
  }

  private take(text: string): void {
    const { method } = this.call;
    this.requests += 1;
    if (!method.requestStream && this.requests > 1) {
      throw new KvError('INVALID_ARGUMENT', 'this call takes one request');
    }
    this.session?.handle(decodeJson(method.request, text));
  }

  private requestsEnded(): void {
    if (this.over) return;
    // One request is owed; an empty body is the empty message.
    if (!this.call.method.requestStream && this.requests === 0) this.take('{}');
    this.session?.requestsEnded?.();
  }

  /** Runs a step of the exchange; what it throws ends the stream. */
  private attempt(step: () => void): void {
    if (this.over) return;
    try {
      step();
    } catch (error) {
      this.finish(this.call.explain(error));
    }
  }

  private armDeadline(ms: number): void {
    if (ms > MAX_TIMER_MS) return;
    this.deadlineTimer = setTimeout(() => this.finish(DEADLINE_EXCEEDED), Math.max(0, ms));
  }

  private writeHead(status: number, isLast = false): void {
    const { response } = this;
    if (response.headersSent) return;
    response.writeHead(status, [
      ...this.scope.commonHeaders,
      ...(isLast ? ['connection', 'close'] : []),
      'content-type',
      'application/json',
      'transfer-encoding',
      'chunked',
    ]);
  }

  /** The server ends the stream. */
  private finish(error: WireError | null): void {
    if (this.over) return;
    this.release();
    this.call.finish(error, this.bytes);
    const { request, response } = this;
    if (response.destroyed) return;
    // The connection does not outlive a body that nobody reads; a pool of connections must know.
    this.writeHead(error?.httpStatus ?? 200, !request.complete);
    if (error !== null) response.write(`${streamErrorBody(error)}\n`, 'latin1');
    response.end(() => {
      // Whatever of the request is still to come has no meaning any more.
      if (!request.complete) request.socket.destroySoon();
    });
  }

  /** The client ended it. */
  private leave(): void {
    if (this.over) return;
    this.release();
    this.call.finish(null, this.bytes);
  }

  private release(): void {
    this.over = true;
    if (this.deadlineTimer !== null) clearTimeout(this.deadlineTimer);
    if (this.turn !== null) clearImmediate(this.turn);
    this.request.socket.removeListener('end', this.onHalfClose);
    this.departure.abort();
    this.close();
    // The rest of the body, if any, must not stop the connection.
    this.request.resume();
  }

  private close(): void {
    this.unfollowLeader?.();
    this.session?.close();
  }
}

/**
 * Calls over gRPC: one connection to each endpoint that is in use, made when it is first needed, shared by
 * all calls, and made anew when it has ended.
 *
 * A connection that was made is not used before the server has said its first word: a call that fails
 * before that has not left.
 */

import { MalformedBytesError } from '../../bytes.js';
import type { Method } from '../../rpc/api/methods.js';
import { decodeProtobuf, encodeProtobuf } from '../../rpc/api/protobuf.js';
import type { Encodable } from '../../rpc/api/schema.js';
import type { Endpoint } from '../endpoints.js';
import type { CallHead, ClientCall } from './grpc-call.js';
import { GrpcChannel } from './grpc-channel.js';
import {
  type Exchange,
  ExchangeError,
  grpcTimeout,
  type Transport,
  type TransportOptions,
  UnexpectedAnswerError,
} from './transport.js';

/** A byte for compression, four for the length. */
const PREFIX_BYTES = 5;

export class GrpcTransport implements Transport {
  private readonly options: TransportOptions;
  private readonly channels = new Map<string, Promise<GrpcChannel>>();
  /** All that have a socket, also those that are not asked any more. */
  private readonly open = new Set<GrpcChannel>();
  private isClosed = false;

  constructor(options: TransportOptions) {
    this.options = options;
  }

  close(): void {
    this.isClosed = true;
    for (const channel of this.open) channel.close();
    this.channels.clear();
  }

  async ask(exchange: Exchange): Promise<object> {
    const { method, signal } = exchange;
    const request = requestOf(exchange);
    const channel = await this.channel(exchange.endpoint, exchange.dialTimeoutMs, signal);
    const answer = await new Promise<Buffer>((resolve, reject) => {
      let first: Buffer | null = null;
      let call: ClientCall | null = null;
      const onAbort = (): void => call?.cancel();
      // Everything that follows may happen at once: the connection may be gone, the signal aborted.
      signal.addEventListener('abort', onAbort, { once: true });
      call = channel.call(headOf(exchange, this.options.metadata), request, {
        isOpenEnded: false,
        isPatient: exchange.serverLimitMs === null,
        onMessage: (bytes) => {
          first ??= bytes;
        },
        onEnd: (failure) => {
          signal.removeEventListener('abort', onAbort);
          if (failure !== null) reject(failure);
          else if (first !== null) resolve(first);
          else reject(new ExchangeError('the call ended without an answer', true));
        },
      });
      // Aborted since the connection was found: nothing has been sent before the end of this turn.
      if (signal.aborted) call.cancel();
    });
    return decoded(method, answer);
  }

  async *stream(exchange: Exchange): AsyncGenerator<object> {
    const { method, signal } = exchange;
    const request = requestOf(exchange);
    const channel = await this.channel(exchange.endpoint, exchange.dialTimeoutMs, signal);
    const inbox = new Inbox();
    let call: ClientCall | null = null;
    const onAbort = (): void => call?.cancel();
    signal.addEventListener('abort', onAbort, { once: true });
    call = channel.call(headOf(exchange, this.options.metadata), request, {
      // A watch whose requests have ended may be taken for one that is not wanted any more.
      isOpenEnded: method.requestStream,
      isPatient: true,
      onMessage: (bytes) => {
        inbox.put(bytes);
        if (inbox.bytes > INBOX_BYTES) call?.hold();
      },
      onEnd: (failure) => inbox.end(failure),
    });
    if (signal.aborted) call.cancel();
    try {
      for (;;) {
        const bytes = await inbox.take();
        if (bytes === null) return;
        if (inbox.bytes <= INBOX_BYTES / 2) call.resume();
        yield decoded(method, bytes);
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
      call.cancel();
    }
  }

  /** The connection to an endpoint, made if need be. */
  private async channel(
    endpoint: Endpoint,
    dialTimeoutMs: number,
    signal: AbortSignal,
  ): Promise<GrpcChannel> {
    if (this.isClosed) throw new ExchangeError('the client is closed', false);
    let channel = this.channels.get(endpoint.name);
    if (channel === undefined) {
      channel = this.dial(endpoint, dialTimeoutMs);
      this.channels.set(endpoint.name, channel);
    }
    return await orAborted(channel, signal);
  }

  /** In the table until it takes no more calls: who comes then makes another. */
  private dial(endpoint: Endpoint, dialTimeoutMs: number): Promise<GrpcChannel> {
    const { name } = endpoint;
    const forget = (): void => {
      if (this.channels.get(name) === channel) this.channels.delete(name);
    };
    const channel = GrpcChannel.open(endpoint, this.options.tls, dialTimeoutMs, {
      onSpent: forget,
      onOpen: (each) => this.open.add(each),
      onGone: (each) => this.open.delete(each),
    });
    channel.catch(forget);
    return channel;
  }
}

/** Data of a stream that may wait for its reader before the server is held back. */
const INBOX_BYTES = 256 * 1024;
/** Of a message, besides its bytes: a server that sends nothing but empty ones is held back, too. */
const MESSAGE_COST = 100;

/** Messages of one stream between the socket and whoever iterates. */
class Inbox {
  bytes = 0;
  private readonly messages: Buffer[] = [];
  private isEnded = false;
  private failure: Error | null = null;
  private wake: (() => void) | null = null;

  put(message: Buffer): void {
    // Not a view: one small message must not keep the block of the socket that it came in.
    this.messages.push(Buffer.from(message));
    this.bytes += message.length + MESSAGE_COST;
    this.wake?.();
  }

  end(failure: Error | null): void {
    this.isEnded = true;
    this.failure = failure;
    this.wake?.();
  }

  /** The next one; null at the end. Throws what ended the stream, behind all that came before. */
  async take(): Promise<Buffer | null> {
    for (;;) {
      const message = this.messages.shift();
      if (message !== undefined) {
        this.bytes -= message.length + MESSAGE_COST;
        return message;
      }
      if (this.failure !== null) throw this.failure;
      if (this.isEnded) return null;
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
      this.wake = null;
    }
  }
}

function headOf(
  { method, serverLimitMs, requireLeader, token }: Exchange,
  metadata: Readonly<Record<string, string>>,
): CallHead {
  return {
    path: `/${method.service}/${method.name}`,
    metadata: {
      ...(serverLimitMs === null ? {} : { 'grpc-timeout': grpcTimeout(serverLimitMs) }),
      ...(requireLeader ? { hasleader: 'true' } : {}),
      'kvd-error-details': 'true',
      ...metadata,
      ...(token === null ? {} : { token }),
    },
  };
}

function requestOf({ method, request }: Exchange): Buffer {
  const message = request as Encodable<typeof method.request>;
  const bytes = encodeProtobuf(method.request, message, PREFIX_BYTES);
  bytes.writeUInt32BE(bytes.length - PREFIX_BYTES, 1);
  return bytes;
}

function decoded({ response }: Method, bytes: Buffer): object {
  try {
    return decodeProtobuf(response, bytes);
  } catch (error) {
    if (!(error instanceof MalformedBytesError)) throw error;
    throw new UnexpectedAnswerError(`this is no ${response}: ${error.message}`);
  }
}

/** The promise, or an ExchangeError as soon as the signal is aborted. */
function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const onAbort = (): void => reject(new ExchangeError('called off', false));
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

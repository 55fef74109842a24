/**
 * One connection to one endpoint, and the calls on it.
 *
 *   open -> socket -> first word of the server -> usable -> GOAWAY or loss -> ended
 *
 * Everything that is said within one turn of the event loop leaves in one write. A socket without calls
 * does not keep the process alive. A call that was called off may have met a dead link: if nothing has
 * come since it began, the connection is asked for a sign of life and dropped without one, so that the
 * next call does not meet the same. While patient calls are under way, a silent connection is asked every
 * SILENCE_MS: once, not once per call.
 *
 * Invariants:
 * 1. Every call hears `onEnd` once, and nothing after it.
 * 2. `onSpent` is called once, when no new call may be made here, and `onGone` once, with the socket.
 */
import { connect, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { type ClientEvents, Http2ClientConnection } from '../../rpc/http2/client-connection.js';
import { Http2Code } from '../../rpc/http2/frame.js';
import type { HeaderField } from '../../rpc/http2/header-table.js';
import { encodeHeaders } from '../../rpc/http2/hpack-encoder.js';
import type { ResponseHead } from '../../rpc/http2/message-head.js';
import type { Http2Stream } from '../../rpc/http2/stream.js';
import { KVD_VERSION } from '../../version.js';
import type { Endpoint } from '../endpoints.js';
import { type CallCarrier, type CallEvents, type CallHead, ClientCall } from './grpc-call.js';
import { CLOSED_AFTER_HANDSHAKE, WANTS_TLS } from './tls-trouble.js';
import {
  ExchangeError,
  givenTls,
  reasonOf,
  SIGN_MS,
  SILENCE_MS,
  type TlsOptions,
  WrongProtocolError,
} from './transport.js';

/** Who keeps the connections. */
export interface ChannelOwner {
  onOpen(channel: GrpcChannel): void;
  /** No new calls may be made here. */
  onSpent(): void;
  /** The socket is closed. */
  onGone(channel: GrpcChannel): void;
}

const TCP_KEEPALIVE_MS = 15_000;
/** For the other side to close a connection that has ended. */
const LINGER_MS = 2000;

export class GrpcChannel implements ClientEvents<ClientCall>, CallCarrier {
  private readonly endpoint: Endpoint;
  private readonly socket: Socket;
  private readonly owner: ChannelOwner;
  private readonly http2: Http2ClientConnection<ClientCall>;
  /** Calls that wait until the server takes another stream. */
  private readonly queue: ClientCall[] = [];
  private readonly greeted: (failure: ExchangeError | null) => void;
  private calls = 0;
  private heardAt = performance.now();
  private isMarked = false;
  private isConnected = false;
  private isSpent = false;
  private isEnding = false;
  private lossReason = 'the connection was closed';
  private suspicion: NodeJS.Timeout | null = null;
  private heartbeat: NodeJS.Timeout | null = null;

  /** Resolves when the server has said its first word. */
  static open(
    endpoint: Endpoint,
    tls: TlsOptions,
    dialTimeoutMs: number,
    owner: ChannelOwner,
  ): Promise<GrpcChannel> {
    return new Promise((resolve, reject) => {
      const socket = dial(endpoint, tls);
      const timer = setTimeout(() => {
        socket.destroy(new Error(`no connection within ${dialTimeoutMs} ms`));
      }, dialTimeoutMs);
      const channel = new GrpcChannel(endpoint, socket, owner, (failure) => {
        clearTimeout(timer);
        if (failure === null) resolve(channel);
        else reject(failure);
      });
    });
  }

  private constructor(
    endpoint: Endpoint,
    socket: Socket,
    owner: ChannelOwner,
    greeted: (failure: ExchangeError | null) => void,
  ) {
    this.endpoint = endpoint;
    this.socket = socket;
    this.owner = owner;
    this.greeted = greeted;
    this.http2 = new Http2ClientConnection<ClientCall>(this, performance.now());
    owner.onOpen(this);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, TCP_KEEPALIVE_MS);
    socket.once(endpoint.secure ? 'secureConnect' : 'connect', () => this.onConnect());
    socket.on('data', (bytes: Buffer) => this.receive(bytes));
    socket.on('error', (error) => {
      this.lossReason = reasonOf(error);
      if (/ALERT_NO_APPLICATION_PROTOCOL$/.test((error as NodeJS.ErrnoException).code ?? '')) {
        this.greeted(new WrongProtocolError('the server does not speak HTTP/2'));
      } else if (this.isSilent) this.lossReason = CLOSED_AFTER_HANDSHAKE;
    });
    socket.on('end', () => {
      if (this.isSilent) this.lossReason = CLOSED_AFTER_HANDSHAKE;
      socket.destroy();
    });
    socket.on('close', () => this.onClose());
  }

  /** Begins a call with its first request, which has its prefix. */
  call(head: CallHead, request: Buffer, events: CallEvents): ClientCall {
    const call = new ClientCall(this, head, request, events);
    this.calls += 1;
    if (this.calls === 1) this.socket.ref();
    if (call.isPatient) this.beat();
    // Also on a connection that takes no more calls: the next flush finds out.
    this.queue.push(call);
    this.mark();
    return call;
  }

  close(): void {
    this.lossReason = 'the client was closed';
    this.socket.destroy();
  }

  // ---------------------------------------------------------------- what calls want (CallCarrier)

  cancel(call: ClientCall): void {
    if (call.stream === null) {
      const at = this.queue.indexOf(call);
      if (at >= 0) this.queue.splice(at, 1);
      this.finish(call, new ExchangeError('called off', false));
      return;
    }
    this.http2.reset(call.stream, Http2Code.Cancel);
    this.mark();
    this.finish(call, new ExchangeError('called off', true));
    if (this.heardAt < call.startedAt) this.suspect();
  }

  hold(stream: Http2Stream<ClientCall>): void {
    this.http2.hold(stream);
  }

  resume(stream: Http2Stream<ClientCall>): void {
    this.http2.resume(stream);
    this.mark();
  }

  /** Breaks off a call whose answer cannot be taken. */
  refuse(call: ClientCall, failure: Error): void {
    if (call.stream !== null) this.http2.reset(call.stream, Http2Code.Cancel);
    this.mark();
    this.finish(call, failure);
  }

  finish(call: ClientCall, failure: Error | null): void {
    if (!call.end(failure)) return;
    this.calls -= 1;
    if (this.calls === 0) this.socket.unref();
  }

  // ---------------------------------------------------------------- events of HTTP/2

  onHeaders(stream: Http2Stream<ClientCall>, head: ResponseHead, isEnd: boolean): void {
    stream.owner?.onHeaders(head, isEnd);
  }

  onData(stream: Http2Stream<ClientCall>, bytes: Buffer, isEnd: boolean): void {
    stream.owner?.onData(bytes, isEnd);
  }

  onTrailers(stream: Http2Stream<ClientCall>, fields: readonly HeaderField[]): void {
    stream.owner?.onTrailers(fields);
  }

  onReset(stream: Http2Stream<ClientCall>, code: number): void {
    if (stream.owner === null) return;
    const isLoss = this.http2.isOver;
    const reason = isLoss ? this.lossReason : `the server broke the call off (HTTP/2 code ${code})`;
    // 8.7 of RFC 9113: what was refused was not looked at.
    const reached = code !== Http2Code.RefusedStream;
    this.finish(stream.owner, new ExchangeError(reason, reached));
  }

  onDrained(): void {}

  // ---------------------------------------------------------------- the socket

  /** The handshake of TLS is done, and the server has said nothing. */
  private get isSilent(): boolean {
    return this.endpoint.secure && this.isConnected && !this.http2.isGreeted;
  }

  private onConnect(): void {
    this.isConnected = true;
    const { socket } = this;
    if (this.endpoint.secure && (socket as TLSSocket).alpnProtocol !== 'h2') {
      this.greeted(new WrongProtocolError('the server does not speak HTTP/2'));
      socket.destroy();
      return;
    }
    this.mark();
  }

  private receive(bytes: Buffer): void {
    this.heardAt = performance.now();
    const wasGreeted = this.http2.isGreeted;
    if (!wasGreeted && !this.endpoint.secure && isFromTls(bytes)) {
      this.lossReason = WANTS_TLS;
      this.socket.destroy();
      return;
    }
    if (!wasGreeted && bytes.subarray(0, 5).toString('latin1') === 'HTTP/') {
      this.greeted(new WrongProtocolError('the server speaks HTTP/1.1 only'));
      this.socket.destroy();
      return;
    }
    try {
      this.http2.receive(bytes, this.heardAt);
    } catch (error) {
      this.socket.destroy(error as Error);
    }
    if (!wasGreeted && this.http2.isGreeted) {
      this.greeted(null);
      if (this.calls === 0) this.socket.unref();
    }
    if (this.http2.isSpent) this.spend();
    this.mark();
  }

  private onClose(): void {
    if (this.suspicion !== null) clearTimeout(this.suspicion);
    if (this.heartbeat !== null) clearInterval(this.heartbeat);
    this.owner.onGone(this);
    this.greeted(new ExchangeError(this.lossReason, false));
    this.spend();
    this.http2.lost();
    for (const call of this.queue.splice(0)) {
      this.finish(call, new ExchangeError(this.lossReason, false));
    }
  }

  private spend(): void {
    if (this.isSpent) return;
    this.isSpent = true;
    this.owner.onSpent();
  }

  private suspect(): void {
    if (this.suspicion !== null || this.socket.destroyed) return;
    const since = this.heardAt;
    this.http2.ping();
    this.mark();
    this.suspicion = setTimeout(() => {
      this.suspicion = null;
      if (this.heardAt === since) this.socket.destroy(new Error('no sign of life'));
    }, SIGN_MS);
    this.suspicion.unref();
  }

  /** From the first patient call on, for as long as there are calls. */
  private beat(): void {
    if (this.heartbeat !== null) return;
    this.heartbeat = setInterval(() => {
      if (this.calls === 0 && this.heartbeat !== null) {
        clearInterval(this.heartbeat);
        this.heartbeat = null;
      } else if (performance.now() - this.heardAt >= SILENCE_MS) this.suspect();
    }, SILENCE_MS);
    this.heartbeat.unref();
  }

  // ---------------------------------------------------------------- out

  private mark(): void {
    if (this.isMarked) return;
    this.isMarked = true;
    setImmediate(this.flush);
  }

  private readonly flush = (): void => {
    this.isMarked = false;
    const { http2, socket, queue } = this;
    if (socket.destroyed) {
      // These never left.
      const failure = new ExchangeError(this.lossReason, false);
      for (const call of queue.splice(0)) this.finish(call, failure);
      return;
    }
    while (queue.length > 0 && http2.canOpen) this.begin(queue.shift() as ClientCall);
    if (http2.isSpent && queue.length > 0) {
      const failure = new ExchangeError('the server takes no more calls here', false);
      for (const call of queue.splice(0)) this.finish(call, failure);
    }
    if (socket.connecting) return;
    const pieces = http2.output.take();
    if (pieces.length > 1) socket.cork();
    for (const piece of pieces) socket.write(piece);
    if (pieces.length > 1) socket.uncork();
    if (http2.isOver && !this.isEnding) {
      this.isEnding = true;
      socket.end();
      setTimeout(() => socket.destroy(), LINGER_MS).unref();
    }
  };

  private begin(call: ClientCall): void {
    const { http2 } = this;
    const stream = http2.open(this.headBlock(call.head), call);
    call.stream = stream;
    http2.write(stream, call.request);
    if (!call.isOpenEnded) http2.finish(stream, null);
  }

  private headBlock({ path, metadata }: CallHead): Buffer {
    const { host, port, secure, socketPath } = this.endpoint;
    const name = host.includes(':') ? `[${host}]` : host;
    const fields = [
      { name: ':method', value: 'POST' },
      { name: ':scheme', value: secure ? 'https' : 'http' },
      { name: ':path', value: path },
      { name: ':authority', value: socketPath === null ? `${name}:${port}` : 'localhost' },
      { name: 'content-type', value: 'application/grpc' },
      { name: 'te', value: 'trailers' },
      { name: 'user-agent', value: `kvd-node/${KVD_VERSION}` },
    ];
    for (const [key, value] of Object.entries(metadata)) {
      fields.push({ name: key.toLowerCase(), value });
    }
    return encodeHeaders(fields);
  }
}

/** What a port for TLS says to plain text: an alert, or the words of kvd's servers and of Go's. */
function isFromTls(bytes: Buffer): boolean {
  if (bytes[0] === 0x15 && bytes[1] === 0x03) return true;
  const text = bytes.subarray(0, 400).toString('latin1');
  return /^HTTP\/1\.\d 400 /.test(text) && /speaks TLS|HTTP request to an HTTPS server/.test(text);
}

function dial({ host, port, socketPath, secure }: Endpoint, tls: TlsOptions): Socket {
  const to = socketPath === null ? { host, port } : { path: socketPath };
  if (!secure) return connect(to);
  return connectTls({
    ...to,
    ALPNProtocols: ['h2'],
    servername: /^[\d.]+$|:/.test(host) ? '' : host,
    ...givenTls(tls),
  });
}

/**
 * The gRPC face of a node: the API of etcd v3 over HTTP/2, on the connections that port.ts hands over.
 *
 * It shares handlers, error texts and counters with the JSON gateway; only bytes differ.
 */
import type { Socket } from 'node:net';
import type { Logger } from '../../logger.js';
import type { Metrics } from '../../metrics.js';
import type { NodeFace } from '../../node.js';
import type { Handlers } from '../api/handler.js';
import type { CallScope } from '../call.js';
import { newPots } from '../http2/pace.js';
import { LongAnswers } from '../long-answers.js';
import { ServerLoad } from '../server-load.js';
import { GrpcConnection, type Keepalive, type StallLimits } from './grpc-connection.js';
import { servedMethods } from './served-method.js';

export interface GrpcServerOptions {
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly handlers: Handlers;
  readonly maxRequestBytes: number;
  readonly slowRequestMs: number;
  readonly onUnexpected: (error: unknown) => void;
  /** Shared with the other face. */
  readonly longAnswers?: LongAnswers;
  readonly unread?: ServerLoad;
  /** Default: none. */
  readonly keepalive?: Keepalive;
  /** Of one connection. */
  readonly maxStreams?: number | undefined;
  /** Bounds on time, for tests. */
  readonly limits?: Partial<StallLimits>;
  /** Of what all connections hold together, for tests. */
  readonly totalBytesMax?: number;
}

/** What a message may be larger than the write in it. */
const MESSAGE_OVERHEAD_BYTES = 512 * 1024;
/** The gateway gives a body as long. */
const DEFAULT_LIMITS: StallLimits = { requestMs: 30_000, answerMs: 60_000 };
const NO_KEEPALIVE: Keepalive = { minTimeMs: 0, intervalMs: 0, timeoutMs: 0 };
const SWEEP_MIN_MS = 10;
const DRAIN_MS = 3000;
/** For clients to hear that this server leaves. */
const GOODBYE_MS = 300;

export class GrpcServer {
  private readonly connections = new Set<GrpcConnection>();
  private marked: GrpcConnection[] = [];
  /** Sockets are being read: what is said meanwhile leaves when all of them were. */
  private isReading = false;
  private readonly options;
  private readonly sweepTimer: NodeJS.Timeout;

  constructor(node: NodeFace, options: GrpcServerOptions) {
    const { logger, metrics, handlers, maxRequestBytes, slowRequestMs, onUnexpected } = options;
    const scope: CallScope = { node, logger, metrics, slowRequestMs, onUnexpected };
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    const keepalive = options.keepalive ?? NO_KEEPALIVE;
    const { intervalMs, timeoutMs } = keepalive;
    const times = [limits.requestMs, limits.answerMs, intervalMs, timeoutMs];
    const sweepMs = Math.max(SWEEP_MIN_MS, Math.min(...times.filter((ms) => ms > 0)) / 4);
    // Late after a pause of this process: first read what the clients have said meanwhile.
    this.sweepTimer = setInterval(() => setImmediate(this.sweep), sweepMs).unref();
    this.options = {
      scope,
      limits,
      keepalive,
      maxStreams: options.maxStreams,
      unread: options.unread ?? new ServerLoad(options.totalBytesMax),
      unfinished: new ServerLoad(options.totalBytesMax),
      pots: newPots(performance.now()),
      methods: servedMethods(handlers, metrics),
      longAnswers: options.longAnswers ?? new LongAnswers(),
      messageBytesMax: maxRequestBytes + MESSAGE_OVERHEAD_BYTES,
      mark: (connection: GrpcConnection) => this.mark(connection),
      reads: () => this.reads(),
    };
  }

  /** Serves an accepted connection; `firstBytes` were read from it already. */
  attach(socket: Socket, firstBytes: Buffer): void {
    const connection = new GrpcConnection(socket, firstBytes, this.options);
    this.connections.add(connection);
    socket.once('close', () => this.connections.delete(connection));
  }

  /** Somebody is served beside these connections (http2/pace.ts). */
  sawOther(): void {
    this.options.pots.work.sawModest(performance.now());
  }

  /** Asks all clients to go elsewhere and waits for calls that end by themselves, at most DRAIN_MS. */
  async drain(): Promise<void> {
    for (const connection of this.connections) connection.shutdown();
    const startedAt = performance.now();
    const isBusy = (tookMs: number): boolean =>
      [...this.connections].some(
        ({ hasShortCalls, isGoodbyeHeard }) =>
          hasShortCalls || (!isGoodbyeHeard && tookMs < GOODBYE_MS),
      );
    for (;;) {
      const tookMs = performance.now() - startedAt;
      if (tookMs >= DRAIN_MS || !isBusy(tookMs)) return;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** Ends what is left. */
  close(): void {
    clearInterval(this.sweepTimer);
    for (const connection of this.connections) connection.close();
  }

  private readonly sweep = (): void => {
    const now = performance.now();
    for (const connection of this.connections) connection.sweep(now);
  };

  private reads(): void {
    if (this.isReading) return;
    this.isReading = true;
    setImmediate(this.flushAll);
  }

  /** Answers are made by the member's turn, all in one go, behind the reading: they leave right behind it, not
   *  after sockets were looked at once more. */
  private mark(connection: GrpcConnection): void {
    this.marked.push(connection);
    if (!this.isReading && this.marked.length === 1) process.nextTick(this.flushAll);
  }

  private readonly flushAll = (): void => {
    const { marked } = this;
    this.marked = [];
    this.isReading = false;
    for (const connection of marked) connection.flush();
  };
}

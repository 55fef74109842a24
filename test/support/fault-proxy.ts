/**
 * A TCP proxy that stands for a bad network between two processes.
 *
 * One proxy listens in front of one target (a member's peer or client port). Every connection has a
 * dialer, named by `identify` from its source port, and two directions: `forward` are the bytes
 * towards the target, `backward` those that come from it. A rule holds for one dialer and one
 * direction, or for all dialers ('*'); the strictest one wins.
 *
 * A black hole does not drop bytes out of the middle of a stream (TCP never shows that to a program):
 * it stops delivering, as a cut cable does, and what is held is delivered when the rule is lifted,
 * as TCP's own repeats would. While a direction is cut, new connections are accepted and stay mute,
 * which is what a half-open connection looks like.
 *
 * Bounds: a held direction reads nothing more once HELD_BYTES_MAX wait in it.
 */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export type Direction = 'forward' | 'backward';

export interface Rule {
  /** Nothing is delivered while this holds. */
  readonly blackHole?: boolean;
  /** Every chunk is delivered this much later, in order. */
  readonly delayMs?: number;
  readonly bytesPerSecond?: number;
}

interface Chunk {
  readonly bytes: Buffer;
  readonly due: number;
}

const HELD_BYTES_MAX = 1 << 20;
const EVERYBODY = '*';

/** One direction of one connection: a queue of chunks that the rules let through, later or never. */
class Pipe {
  private readonly from: Socket;
  private readonly to: Socket;
  private readonly rule: () => Rule;
  private readonly onBytes: (count: number) => void;
  private readonly queue: Chunk[] = [];
  private held = 0;
  private ended = false;
  private timer: NodeJS.Timeout | null = null;

  constructor(from: Socket, to: Socket, rule: () => Rule, onBytes: (count: number) => void) {
    this.from = from;
    this.to = to;
    this.rule = rule;
    this.onBytes = onBytes;
    from.on('data', (bytes: Buffer) => this.take(bytes));
    from.on('end', () => {
      this.ended = true;
      this.pump();
    });
    to.on('drain', () => this.pump());
  }

  /** Delivers what may be delivered now. Called on new bytes, on timers and when rules change. */
  pump(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    const rule = this.rule();
    if (rule.blackHole) return;
    while (this.queue.length > 0) {
      const chunk = this.queue[0];
      if (chunk === undefined) break;
      const wait = chunk.due - performance.now();
      if (wait > 0) {
        this.pumpAfter(wait);
        return;
      }
      if (this.to.writableNeedDrain) return;
      this.queue.shift();
      this.held -= chunk.bytes.length;
      if (!this.to.destroyed) this.to.write(chunk.bytes);
      this.onBytes(chunk.bytes.length);
      if (this.held < HELD_BYTES_MAX) this.from.resume();
      if (rule.bytesPerSecond !== undefined) {
        const pauseMs = (chunk.bytes.length * 1_000) / rule.bytesPerSecond;
        this.pumpAfter(pauseMs);
        return;
      }
    }
    if (this.ended && this.queue.length === 0) this.to.end();
  }

  stop(): void {
    if (this.timer !== null) clearTimeout(this.timer);
  }

  private take(bytes: Buffer): void {
    const rule = this.rule();
    const due = performance.now() + (rule.delayMs ?? 0);
    // A slow link delivers in small pieces, so that its rate is smooth.
    const piece = rule.bytesPerSecond === undefined ? bytes.length : 1_024;
    for (let start = 0; start < bytes.length; start += piece) {
      this.queue.push({ bytes: bytes.subarray(start, start + piece), due });
    }
    this.held += bytes.length;
    if (this.held >= HELD_BYTES_MAX) this.from.pause();
    if (this.timer === null) this.pump();
  }

  private pumpAfter(ms: number): void {
    this.timer = setTimeout(() => {
      this.timer = null;
      this.pump();
    }, ms);
  }
}

interface Link {
  readonly dialer: string;
  readonly inside: Socket;
  readonly outside: Socket;
  readonly pipes: readonly Pipe[];
}

export interface FaultProxyOptions {
  /** Names who dialed, by the source port of its connection. Default: everybody is '*'. */
  readonly identify?: (sourcePort: number) => string | null;
  readonly port?: number;
}

export class FaultProxy {
  readonly port: number;
  private readonly targetPort: number;
  private readonly identify: (sourcePort: number) => string | null;
  private readonly server: Server;
  private readonly links = new Set<Link>();
  private readonly rules = new Map<string, Rule>();
  private readonly refused = new Set<string>();
  private resetAt = Number.POSITIVE_INFINITY;
  /** Bytes delivered so far, both directions. */
  bytes = 0;

  private constructor(server: Server, port: number, target: number, options: FaultProxyOptions) {
    this.server = server;
    this.port = port;
    this.targetPort = target;
    this.identify = options.identify ?? (() => null);
    server.on('connection', (socket) => this.accept(socket));
  }

  /** Listens on 127.0.0.1 in front of a target port there. */
  static async listen(targetPort: number, options: FaultProxyOptions = {}): Promise<FaultProxy> {
    const server = createServer({ noDelay: true, allowHalfOpen: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(options.port ?? 0, '127.0.0.1', () => resolve());
    });
    const { port } = server.address() as AddressInfo;
    return new FaultProxy(server, port, targetPort, options);
  }

  /** Sets the rule of one direction for one dialer, or for all; an empty rule lifts it. */
  set(direction: Direction, rule: Rule, dialer = EVERYBODY): void {
    this.rules.set(`${direction} ${dialer}`, rule);
    for (const link of this.links) for (const pipe of link.pipes) pipe.pump();
  }

  /** Cuts both directions: bytes vanish from view, connections stay. */
  cut(dialer = EVERYBODY): void {
    this.set('forward', { blackHole: true }, dialer);
    this.set('backward', { blackHole: true }, dialer);
  }

  /** Resets the connections of the dialer and refuses its new ones. */
  refuse(dialer = EVERYBODY): void {
    this.refused.add(dialer);
    this.reset(dialer);
  }

  /** Lifts every rule. Held bytes are delivered. */
  heal(): void {
    this.rules.clear();
    this.refused.clear();
    this.resetAt = Number.POSITIVE_INFINITY;
    for (const link of this.links) {
      // What died behind the cut shows now.
      if (link.inside.destroyed || link.outside.destroyed) this.drop(link);
      for (const pipe of link.pipes) pipe.pump();
    }
  }

  /** Resets the running connections of the dialer, also in the middle of a frame. */
  reset(dialer = EVERYBODY): void {
    for (const link of this.links) {
      if (dialer === EVERYBODY || link.dialer === dialer) this.drop(link);
    }
  }

  /** Resets all connections once this many more bytes were delivered: a cut inside a frame. */
  resetAfter(count: number): void {
    this.resetAt = this.bytes + count;
  }

  get connections(): number {
    return this.links.size;
  }

  /** Who is connected through this proxy now. */
  get dialers(): readonly string[] {
    return [...this.links].map((link) => link.dialer);
  }

  async close(): Promise<void> {
    for (const link of this.links) this.drop(link);
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }

  private accept(inside: Socket): void {
    inside.on('error', () => inside.destroy());
    const dialer = this.identify(inside.remotePort ?? 0) ?? EVERYBODY;
    if (this.refused.has(EVERYBODY) || this.refused.has(dialer)) {
      inside.resetAndDestroy();
      return;
    }
    const outside = connect({ port: this.targetPort, host: '127.0.0.1', allowHalfOpen: true });
    outside.setNoDelay(true);
    const count = (bytes: number): void => this.count(bytes);
    const forward = new Pipe(inside, outside, () => this.rule('forward', dialer), count);
    const backward = new Pipe(outside, inside, () => this.rule('backward', dialer), count);
    const link = { dialer, inside, outside, pipes: [forward, backward] };
    this.links.add(link);
    // A target that is not there looks to the dialer like a refused connection, one reset later.
    outside.on('error', () => this.drop(link));
    inside.on('error', () => this.drop(link));
    inside.on('close', () => this.maybeForget(link));
    outside.on('close', () => this.maybeForget(link));
  }

  private count(bytes: number): void {
    this.bytes += bytes;
    if (this.bytes < this.resetAt) return;
    this.resetAt = Number.POSITIVE_INFINITY;
    for (const link of this.links) this.drop(link);
  }

  private rule(direction: Direction, dialer: string): Rule {
    const general = this.rules.get(`${direction} ${EVERYBODY}`) ?? {};
    const own = dialer === EVERYBODY ? {} : (this.rules.get(`${direction} ${dialer}`) ?? {});
    const rates = [general.bytesPerSecond, own.bytesPerSecond].filter((rate) => rate !== undefined);
    return {
      blackHole: general.blackHole === true || own.blackHole === true,
      delayMs: Math.max(general.delayMs ?? 0, own.delayMs ?? 0),
      ...(rates.length > 0 ? { bytesPerSecond: Math.min(...rates) } : {}),
    };
  }

  private drop(link: Link): void {
    this.links.delete(link);
    for (const pipe of link.pipes) pipe.stop();
    if (!link.inside.destroyed) link.inside.resetAndDestroy();
    if (!link.outside.destroyed) link.outside.resetAndDestroy();
  }

  /** A side that is gone takes the other one along, unless the cut hides its going. */
  private maybeForget(link: Link): void {
    if (!this.links.has(link)) return;
    const hidden =
      this.rule('forward', link.dialer).blackHole || this.rule('backward', link.dialer).blackHole;
    if (link.inside.destroyed && link.outside.destroyed) this.drop(link);
    else if (!hidden) this.drop(link);
  }
}

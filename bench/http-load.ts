/**
 * A load generator for HTTP/1.1 that leaves the processor to the servers: raw sockets, requests built
 * beforehand as bytes, several in flight per connection, replies parsed only as far as their length
 * and status.
 *
 * One lane is one connection with `depth` requests in flight; replies come in order, so a queue of
 * start times gives each one's latency. A reply without 200 counts as an error and is kept for the
 * report; a broken connection ends the run.
 */
import { connect, type Socket } from 'node:net';

export interface LoadOptions {
  readonly ports: readonly number[];
  readonly connections: number;
  /** Requests in flight per connection. */
  readonly depth: number;
  /** Bytes of the next request; null when there is none left. */
  readonly next: () => Buffer | null;
  /** Ends the run after this long, or never when null (then `next` ends it). */
  readonly durationMs: number | null;
}

export interface LoadResult {
  readonly requests: number;
  readonly errors: number;
  readonly firstError: string;
  readonly elapsedMs: number;
  /** Latency of every request in ms, sorted. */
  readonly latencies: Float64Array;
}

const HEADER_END = Buffer.from('\r\n\r\n');

export function httpRequest(path: string, body: string): Buffer {
  const lines = [
    `POST ${path} HTTP/1.1`,
    'host: bench',
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(body)}`,
  ];
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${body}`);
}

class Lane {
  private readonly socket: Socket;
  private readonly started: number[] = [];
  private rest: Buffer = Buffer.alloc(0);
  private readonly onReply: (latency: number, ok: boolean, text: () => string) => void;

  constructor(socket: Socket, onReply: Lane['onReply'], onEnd: (reason: Error) => void) {
    this.socket = socket;
    this.onReply = onReply;
    socket.setNoDelay(true);
    socket.on('data', (bytes: Buffer) => this.take(bytes));
    socket.on('error', onEnd);
    socket.on('end', () => onEnd(new Error('the server closed a connection')));
  }

  send(request: Buffer): void {
    this.started.push(performance.now());
    this.socket.write(request);
  }

  cork(): void {
    this.socket.cork();
  }

  uncork(): void {
    this.socket.uncork();
  }

  get inFlight(): number {
    return this.started.length;
  }

  close(): void {
    this.socket.removeAllListeners('end');
    this.socket.destroy();
  }

  private take(bytes: Buffer): void {
    let data = this.rest.length === 0 ? bytes : Buffer.concat([this.rest, bytes]);
    this.cork();
    for (;;) {
      const headerEnd = data.indexOf(HEADER_END);
      if (headerEnd < 0) break;
      const header = data.toString('latin1', 0, headerEnd);
      const length = /content-length: *(\d+)/i.exec(header);
      if (length === null) throw new Error(`a reply without content-length:\n${header}`);
      const size = headerEnd + 4 + Number(length[1]);
      if (data.length < size) break;
      const body = data.subarray(headerEnd + 4, size);
      const latency = performance.now() - (this.started.shift() ?? 0);
      this.onReply(latency, header.startsWith('HTTP/1.1 200'), () => body.toString());
      data = data.subarray(size);
    }
    this.uncork();
    this.rest = data;
  }
}

/** Opens all connections, keeps them busy, and resolves when the last reply is in. */
export async function runLoad(options: LoadOptions): Promise<LoadResult> {
  const { ports, connections, depth, next, durationMs } = options;
  const latencies: number[] = [];
  let errors = 0;
  let firstError = '';
  const sockets = await Promise.all(
    Array.from({ length: connections }, (_, place) => open(ports[place % ports.length] as number)),
  );
  const start = performance.now();
  const end = durationMs === null ? Number.POSITIVE_INFINITY : start + durationMs;
  await new Promise<void>((resolve, reject) => {
    let idle = 0;
    for (const socket of sockets) {
      const more = (): void => {
        const request = performance.now() < end ? next() : null;
        if (request !== null) lane.send(request);
        else if (lane.inFlight === 0) {
          idle += 1;
          if (idle === sockets.length) resolve();
        }
      };
      const onReply = (latency: number, ok: boolean, text: () => string): void => {
        latencies.push(latency);
        if (!ok) {
          errors += 1;
          firstError ||= text();
        }
        more();
      };
      const lane = new Lane(socket, onReply, reject);
      lane.cork();
      for (let count = 0; count < depth; count += 1) {
        const request = next();
        if (request !== null) lane.send(request);
      }
      lane.uncork();
      if (lane.inFlight === 0) more();
    }
  });
  const elapsedMs = performance.now() - start;
  for (const socket of sockets) socket.destroy();
  const sorted = Float64Array.from(latencies).sort();
  return { requests: latencies.length, errors, firstError, elapsedMs, latencies: sorted };
}

export function percentile(sorted: Float64Array, part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
}

function open(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}

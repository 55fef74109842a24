/**
 * A limit on how long the body of a unary request may take to arrive: a client that sends one byte a
 * second would hold its connection and buffer for ever.
 *
 * Node's own limit cannot tell a watch, whose body may rightly stay open for days, from a put.
 */
import type { IncomingMessage } from 'node:http';

export class BodyDeadlines {
  private readonly limitMs: number;
  private readonly timer: NodeJS.Timeout;
  /** Requests and when they began, oldest first. Those that failed before their body was complete stay
   *  until the limit, which costs less than a listener on each. */
  private readonly arriving = new Map<IncomingMessage, number>();

  constructor(limitMs: number) {
    this.limitMs = limitMs;
    this.timer = setInterval(() => this.sweep(), Math.min(1000, limitMs));
    this.timer.unref();
  }

  begin(request: IncomingMessage): void {
    const { headers } = request;
    const length = headers['content-length'];
    if (headers['transfer-encoding'] === undefined && (length === undefined || length === '0')) {
      return;
    }
    this.arriving.set(request, performance.now());
  }

  /** The body is here. */
  end(request: IncomingMessage): void {
    this.arriving.delete(request);
  }

  stop(): void {
    clearInterval(this.timer);
    this.arriving.clear();
  }

  private sweep(): void {
    const oldest = performance.now() - this.limitMs;
    for (const [request, since] of this.arriving) {
      if (since > oldest) return;
      this.arriving.delete(request);
      if (!request.complete && !request.destroyed) request.socket.destroy();
    }
  }
}

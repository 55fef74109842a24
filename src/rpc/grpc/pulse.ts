/**
 * Whether the peer of a connection lives: who has said nothing for an interval is asked for a sign of life
 * (a PING, RFC 9113 6.7), and who then says nothing for the time given to answer is dead. Anything that is
 * heard is a sign. Without I/O: the connection says what it hears and does what it is told.
 */

/** In ms; with a 0 in either nobody is asked. */
export interface PulseLimits {
  readonly intervalMs: number;
  readonly timeoutMs: number;
}

export class Pulse {
  private readonly limits: PulseLimits;
  private heardAt: number;
  /** Infinity: not since something was heard. */
  private askedAt = Number.POSITIVE_INFINITY;

  constructor(limits: PulseLimits, now: number) {
    this.limits = limits;
    this.heardAt = now;
  }

  heard(now: number): void {
    this.heardAt = now;
    this.askedAt = Number.POSITIVE_INFINITY;
  }

  /** What is to be done now. */
  look(now: number): 'nothing' | 'ask' | 'give up' {
    const { intervalMs, timeoutMs } = this.limits;
    if (intervalMs <= 0 || timeoutMs <= 0) return 'nothing';
    if (this.askedAt !== Number.POSITIVE_INFINITY) {
      return now - this.askedAt >= timeoutMs ? 'give up' : 'nothing';
    }
    if (now - this.heardAt < intervalMs) return 'nothing';
    this.askedAt = now;
    return 'ask';
  }
}

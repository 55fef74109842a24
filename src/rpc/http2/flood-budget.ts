/**
 * What a peer may ask of a connection without giving it work that clients want: pings, settings, resets,
 * empty frames. Each is answered or read at a cost, and none is bounded by flow control (RFC 9113, 10.5).
 *
 * A bucket of tokens that fills up again: the bursts of real clients (a thousand calls cancelled at once,
 * a ping for each measurement of bandwidth) fit many times over; a loop does not.
 */

export interface FloodLimits {
  readonly burst: number;
  readonly perSecond: number;
}

/** More than a peer can spend that is read at its pace (pace.ts): ends who is read faster than that. */
export const DEFAULT_FLOOD_LIMITS: FloodLimits = { burst: 20_000, perSecond: 10_000 };

export class FloodBudget {
  private readonly limits: FloodLimits;
  private tokens: number;
  private filledAt: number;

  constructor(limits: FloodLimits, now: number) {
    this.limits = limits;
    this.tokens = limits.burst;
    this.filledAt = now;
  }

  /** False when the peer has used up what it had. `now` in ms, any origin. */
  spend(tokens: number, now: number): boolean {
    this.tokens -= tokens;
    if (this.tokens >= 0) return true;
    const { burst, perSecond } = this.limits;
    this.tokens = Math.min(burst, this.tokens + ((now - this.filledAt) / 1000) * perSecond);
    this.filledAt = now;
    return this.tokens >= 0;
  }
}

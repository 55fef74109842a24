/**
 * How fast a peer is read. What it asks for has a cost, counted in units of about a microsecond; a peer may
 * cost much at once, but not for long: then it is read more slowly, so that its share of this process stays
 * small and others do not feel it. It is slowed down and not ended, however long it goes on: who is read at
 * this pace stays within its flood budget (flood-budget.ts).
 */

export interface PaceLimits {
  /** Units that are free at once. */
  readonly burst: number;
  /** Units that are free per ms: a thousand would be all of a processor. */
  readonly perMs: number;
}

/** For what asks for nothing: pings, settings, calls that are called off at once. */
export const WASTE_PACE: PaceLimits = { burst: 10_000, perMs: 20 };
/**
 * For work that is cheap to ask for: messages on streams, and what has to be unzipped. A second of it at once,
 * then a quarter of a processor: 10,000 renewals a second, or 80 MB.
 */
export const WORK_PACE: PaceLimits = { burst: 1_000_000, perMs: 250 };

export class Pace {
  private readonly limits: PaceLimits;
  /** Units left; negative: owed. */
  private level: number;
  private filledAt: number;

  constructor(limits: PaceLimits, now: number) {
    this.limits = limits;
    this.level = limits.burst;
    this.filledAt = now;
  }

  spend(units: number): void {
    this.level -= units;
  }

  /** Ms until nothing is owed; 0 = read on. */
  waitMs(now: number): number {
    const { burst, perMs } = this.limits;
    this.level = Math.min(burst, this.level + (now - this.filledAt) * perMs);
    this.filledAt = now;
    return this.level >= 0 ? 0 : -this.level / perMs;
  }
}

/**
 * How fast a peer is read. What it asks for has a cost, counted in units of about a microsecond; a peer may
 * cost much at once, but not for long: then it is read more slowly, so that others do not feel it. It is
 * slowed down and not ended, however long it goes on: who is read at this pace stays within its flood
 * budget (flood-budget.ts).
 *
 * All peers of a server draw on one pot, so that a hundred connections cost no more than one. Each earns a
 * little of its own besides, so that who asks for little never waits for those who ask for much. While there
 * is nobody who asks for little, work has no pace: nobody would gain by what is not done.
 */

export interface PaceLimits {
  /** Units in a full pot, which are free at once. */
  readonly burst: number;
  /** Units that the pot earns per ms: a thousand would be all of a processor. */
  readonly perMs: number;
  /** Units that a peer may save, and that it earns per ms. */
  readonly ownMax: number;
  readonly ownPerMs: number;
}

/** For what asks for nothing: pings, settings, calls that are called off at once. */
export const WASTE_PACE: PaceLimits = { burst: 10_000, perMs: 20, ownMax: 500, ownPerMs: 1 };
/**
 * For work that is cheap to ask for: messages on streams, and what has to be unzipped. The messages of 16,000
 * renewals at once, then a quarter of a processor: 10,000 renewals a second, or 80 MB.
 */
export const WORK_PACE: PaceLimits = {
  burst: 400_000,
  perMs: 250,
  ownMax: 20_000,
  ownPerMs: 5,
};
/** For so long after a modest peer was served, others are held to their pace. */
const COMPANY_MS = 100;
/** Of `ownMax`: what a new peer has, which may have been here a moment ago. */
const OWN_AT_FIRST = 0.1;

/** What all peers may spend. */
export class PacePot {
  readonly limits: PaceLimits;
  /** Peers that wait because they owe. */
  debtors = 0;
  private modestAt = Number.NEGATIVE_INFINITY;
  private level: number;
  private filledAt: number;

  constructor(limits: PaceLimits, now: number) {
    this.limits = limits;
    this.level = limits.burst;
    this.filledAt = now;
  }

  /** A peer was served that lives on what it earns itself. */
  sawModest(now: number): void {
    this.modestAt = now;
  }

  /** Nobody but those who ask for much has been here lately. */
  isForOne(now: number): boolean {
    return now - this.modestAt > COMPANY_MS;
  }

  /** Takes what there is of so many units. */
  take(units: number, now: number): number {
    const { burst, perMs } = this.limits;
    this.level = Math.min(burst, this.level + (now - this.filledAt) * perMs);
    this.filledAt = now;
    const taken = Math.min(units, this.level);
    this.level -= taken;
    return taken;
  }
}

/** One for each kind. */
export interface Pots {
  readonly waste: PacePot;
  readonly work: PacePot;
}

export function newPots(now: number): Pots {
  return { waste: new PacePot(WASTE_PACE, now), work: new PacePot(WORK_PACE, now) };
}

/** Of one peer. */
export class Pace {
  private readonly pot: PacePot;
  /** Units left; negative: owed. */
  private level: number;
  private filledAt: number;
  private isDebtor = false;

  constructor(pot: PacePot, now: number) {
    this.pot = pot;
    this.level = pot.limits.ownMax * OWN_AT_FIRST;
    this.filledAt = now;
  }

  spend(units: number): void {
    this.level -= units;
  }

  /** It has not used up what it earned itself. */
  get isModest(): boolean {
    return this.level > 0;
  }

  /** Nothing is owed any more. */
  forgive(now: number): void {
    this.level = Math.max(this.level, 0);
    this.filledAt = now;
    this.settle(false);
  }

  /** Ms until nothing may be owed; 0 = read on. To be asked again then: others draw on the pot, too. */
  waitMs(now: number): number {
    const { pot } = this;
    const { burst, ownMax, ownPerMs, perMs } = pot.limits;
    this.level = Math.min(ownMax, this.level + (now - this.filledAt) * ownPerMs);
    this.filledAt = now;
    if (this.level < 0) this.level += pot.take(-this.level, now);
    this.settle(this.level < 0);
    if (this.level >= 0) return 0;
    // Not longer than the pot takes to be full: what it earned from then on would be nobody's.
    return Math.min(-this.level / (ownPerMs + perMs / pot.debtors), burst / perMs);
  }

  /** The peer has gone. */
  leave(): void {
    this.settle(false);
  }

  private settle(isDebtor: boolean): void {
    if (isDebtor === this.isDebtor) return;
    this.isDebtor = isDebtor;
    this.pot.debtors += isDebtor ? 1 : -1;
  }
}

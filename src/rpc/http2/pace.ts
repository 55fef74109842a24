/**
 * How fast a peer is read. What it asks for has a cost, counted in units of about a microsecond; a peer may
 * cost much at once, but not for long: then it is read more slowly, so that others do not feel it. It is
 * slowed down and not ended, however long it goes on: who is read at this pace stays within its flood
 * budget (flood-budget.ts).
 *
 * All peers of a server draw on one pot, so that a hundred connections cost no more than one. Each earns a
 * little of its own besides, so that who asks for little never waits for those who ask for much; what all of
 * them earn so has a bound, because members must hear each other beside a thousand connections. While there
 * is nobody who asks this server for little, the pot of work earns more.
 */

export interface PaceLimits {
  /** Units in a full pot, which are free at once. */
  readonly burst: number;
  /** Units that the pot earns per ms: a thousand would be all of a processor. */
  readonly perMs: number;
  /** The same while nobody asks for little. */
  readonly alonePerMs: number;
  /** Units that a peer may save, and that it earns per ms. */
  readonly ownMax: number;
  readonly ownPerMs: number;
  /** What all peers together earn so per ms, at most. */
  readonly ownAllPerMs: number;
}

/** For what asks for nothing: pings, settings, calls that are called off at once. */
export const WASTE_PACE: PaceLimits = {
  burst: 10_000,
  perMs: 20,
  alonePerMs: 20,
  ownMax: 500,
  ownPerMs: 1,
  ownAllPerMs: 100,
};
/**
 * For work that is cheap to ask for: messages on streams, and what has to be unzipped. 16,000 messages at once, then
 * a quarter of a processor: 10,000 messages a second, or 80 MB. Alone it is all of one: 40,000, or 280,000 renewals
 * that a leader has an answer to at once.
 */
export const WORK_PACE: PaceLimits = {
  burst: 400_000,
  perMs: 250,
  alonePerMs: 1000,
  ownMax: 20_000,
  ownPerMs: 5,
  ownAllPerMs: 500,
};
/** For so long after somebody was served who asks for little, the others have less; longer than a call takes, so
 *  that who waits for an answer is still there. And for so long who drew on the pot is not somebody who asks for
 *  little. */
const COMPANY_MS = 1000;
/** Of `ownMax`: what a new peer has, which may have been here a moment ago. */
const OWN_AT_FIRST = 0.1;

/** What all peers may spend. */
export class PacePot {
  readonly limits: PaceLimits;
  /** Who draws on it. */
  peers = 0;
  /** Of them, those that wait because they owe. */
  debtors = 0;
  private modestAt = Number.NEGATIVE_INFINITY;
  private level: number;
  private filledAt: number;

  constructor(limits: PaceLimits, now: number) {
    this.limits = limits;
    this.level = limits.burst;
    this.filledAt = now;
  }

  /** Somebody was served who asks for little. */
  sawModest(now: number): void {
    this.modestAt = now;
  }

  /** Units per ms at this time. */
  rate(now: number): number {
    const { perMs, alonePerMs } = this.limits;
    return now - this.modestAt > COMPANY_MS ? alonePerMs : perMs;
  }

  /** Units per ms that each peer earns of its own. */
  get ownPerMs(): number {
    return Math.min(this.limits.ownPerMs, this.limits.ownAllPerMs / this.peers);
  }

  /** Takes what there is of so many units. */
  take(units: number, now: number): number {
    this.level = Math.min(this.limits.burst, this.level + (now - this.filledAt) * this.rate(now));
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
  /** When it last needed the pot. Who floods is read between two messages, too, for a window update or a ping, and
   *  owes nothing then: without this it took itself for somebody who asks for little. */
  private drewAt = Number.NEGATIVE_INFINITY;
  private hasLeft = false;

  constructor(pot: PacePot, now: number) {
    this.pot = pot;
    pot.peers += 1;
    this.level = pot.limits.ownMax * OWN_AT_FIRST;
    this.filledAt = now;
  }

  spend(units: number): void {
    this.level -= units;
  }

  /** Ms until nothing may be owed; 0 = read on. To be asked again then: others draw on the pot, too. */
  waitMs(now: number): number {
    const { pot } = this;
    const { ownPerMs } = pot;
    const { burst, ownMax } = pot.limits;
    // It lives on what it earns itself.
    if (this.level > 0 && now - this.drewAt > COMPANY_MS) pot.sawModest(now);
    this.level = Math.min(ownMax, this.level + (now - this.filledAt) * ownPerMs);
    this.filledAt = now;
    if (this.level < 0) {
      this.drewAt = now;
      this.level += pot.take(-this.level, now);
    }
    this.settle(this.level < 0);
    if (this.level >= 0) return 0;
    // Not longer than the pot takes to be full: what it earned from then on would be nobody's.
    const rate = pot.rate(now);
    return Math.min(-this.level / (ownPerMs + rate / pot.debtors), burst / rate);
  }

  /** The peer has gone. A connection may find that out twice, by its own goodbye and by its socket. */
  leave(): void {
    this.settle(false);
    if (this.hasLeft) return;
    this.hasLeft = true;
    this.pot.peers -= 1;
  }

  private settle(isDebtor: boolean): void {
    if (isDebtor === this.isDebtor) return;
    this.isDebtor = isDebtor;
    this.pot.debtors += isDebtor ? 1 : -1;
  }
}

/**
 * What one turn of the event loop has time for, for one peer: others have their turn between two of its.
 *
 * Counted in units of about a microsecond, over all that a socket delivers in one turn of the loop, which
 * may be many reads. A first turn is short; one that had too little time gives twice as much to the next.
 */

/** Of work in the first turn. */
const FIRST_UNITS = 200;

export class Turn {
  /** Which one it is: what began in an earlier one has been worked on. */
  count = 0;
  private used = 0;
  private hasCheap = false;
  private most: number;
  private readonly mostEver: number;

  constructor(mostEver: number) {
    this.mostEver = mostEver;
    this.most = mostEver < Number.POSITIVE_INFINITY ? Math.min(mostEver, FIRST_UNITS) : mostEver;
  }

  get isOver(): boolean {
    return this.used >= this.most;
  }

  /** `isCheap`: to ask for. */
  spend(units: number, isCheap = false): void {
    this.used += units;
    if (isCheap) this.hasCheap = true;
  }

  /** The loop has turned. */
  renew(): void {
    this.count += 1;
    if (this.hasCheap) this.most = Math.min(FIRST_UNITS, this.mostEver);
    else if (this.isOver) this.most = Math.min(2 * this.most, this.mostEver);
    this.hasCheap = false;
    this.used = 0;
  }
}

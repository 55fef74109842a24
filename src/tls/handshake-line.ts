/**
 * Who may begin a TLS handshake, and when: connections that have said their first bytes wait in line, one
 * line for each client, and the clients take turns.
 *
 * A handshake costs a processor time and some tens of kilobytes, before anybody knows who calls: a fraction
 * of a millisecond with a key for P-256, more than four with one for RSA of 4096 bits (`openssl speed`). So
 * they are begun at a bounded pace, by number and by what they have cost, few at a time, and a client that
 * begins many or never ends one waits for itself. Pure: time is an argument. Used by acceptor.ts.
 *
 * Invariants:
 * 1. At most `waiting` wait and `underWay` are under way; of one client `waitingEach` and `underWayEach`.
 * 2. At most `aSecond` are begun in any second after a burst of as many.
 * 3. After a burst of a second's worth they cost, but for the last one, no more than `share` of the time.
 */
export interface LineLimits {
  readonly waiting: number;
  readonly waitingEach: number;
  readonly underWay: number;
  readonly underWayEach: number;
  readonly aSecond: number;
  /** Of the time of a processor, below 1. */
  readonly share: number;
}

export class HandshakeLine<T> {
  private readonly limits: LineLimits;
  /** In the order in which the clients have their turns. No list is empty. */
  private readonly lines = new Map<string, Set<T>>();
  private readonly begun = new Map<T, { readonly client: string; readonly at: number }>();
  private readonly begunBy = new Map<string, number>();
  private waiting = 0;
  private permits: number;
  /** That handshakes may cost now; below 0 after one that cost more than was there. */
  private creditMs: number;
  private filledAt: number;

  constructor(limits: LineLimits, now: number) {
    this.limits = limits;
    this.permits = limits.aSecond;
    this.creditMs = limits.share * 1000;
    this.filledAt = now;
  }

  get isEmpty(): boolean {
    return this.waiting === 0;
  }

  /** False: there is no room. */
  join(item: T, client: string): boolean {
    const line = this.lines.get(client) ?? new Set();
    if (this.waiting >= this.limits.waiting || line.size >= this.limits.waitingEach) return false;
    line.add(item);
    this.lines.set(client, line);
    this.waiting += 1;
    return true;
  }

  /** The next one to begin; null: nobody may now. Times are in ms. */
  next(now: number): T | null {
    const { aSecond, share, underWay, underWayEach } = this.limits;
    const passedMs = now - this.filledAt;
    this.permits = Math.min(aSecond, this.permits + (passedMs * aSecond) / 1000);
    this.creditMs = Math.min(share * 1000, this.creditMs + passedMs * share);
    this.filledAt = now;
    if (this.permits < 1 || this.creditMs < 0 || this.begun.size >= underWay) return null;
    for (const [client, line] of this.lines) {
      const count = this.begunBy.get(client) ?? 0;
      if (count >= underWayEach) continue;
      const [item] = line as unknown as [T];
      this.lines.delete(client);
      line.delete(item);
      if (line.size > 0) this.lines.set(client, line);
      this.waiting -= 1;
      this.permits -= 1;
      this.begun.set(item, { client, at: now });
      this.begunBy.set(client, count + 1);
      return item;
    }
    return null;
  }

  /**
   * Of those that began before `time` the first one that is in somebody's way: there is no room for anybody,
   * or none for others of its client, who wait.
   */
  overdue(time: number): T | null {
    if (this.waiting === 0) return null;
    const isFull = this.begun.size >= this.limits.underWay;
    for (const [item, { client, at }] of this.begun) {
      if (at >= time) return null;
      const isClientFull = this.begunBy.get(client) === this.limits.underWayEach;
      if (isFull || (isClientFull && this.lines.has(client))) return item;
    }
    return null;
  }

  /** When, in ms from `now`, it may be worth asking again. */
  pauseMs(now: number): number {
    const { aSecond, share } = this.limits;
    const untilMs = Math.max(((1 - this.permits) * 1000) / aSecond, -this.creditMs / share);
    return Math.max(0, untilMs - (now - this.filledAt));
  }

  /** What the one that was begun last has cost. */
  spend(ms: number): void {
    this.creditMs -= ms;
  }

  /** It has ended, waiting or under way. */
  leave(item: T, client: string): void {
    const line = this.lines.get(client);
    if (line?.delete(item) === true) {
      this.waiting -= 1;
      if (line.size === 0) this.lines.delete(client);
    }
    if (!this.begun.delete(item)) return;
    const count = (this.begunBy.get(client) ?? 1) - 1;
    if (count === 0) this.begunBy.delete(client);
    else this.begunBy.set(client, count);
  }
}

/**
 * The state of the store at every revision, from its history of events, and what was known of
 * revisions at every time. With it, linearizability of everything is checked in one pass: revisions
 * are the order, so each operation must fit the state at its revision, and the order must fit the
 * times of call and reply.
 */
import type { StoreEvent } from '../support/watch-checker.js';
import type { OperationLine } from './records.js';

export interface StateOfKey {
  readonly value: string | null;
  readonly modRevision: number;
  readonly createRevision: number;
}

const ABSENT: StateOfKey = { value: null, modRevision: 0, createRevision: 0 };

export class RevisionOracle {
  readonly lastRevision: number;
  private readonly byKey = new Map<string, StoreEvent[]>();
  private readonly keysOfPrefix = new Map<string, readonly string[]>();

  constructor(truth: readonly StoreEvent[]) {
    this.lastRevision = truth[truth.length - 1]?.modRevision ?? 1;
    for (const event of truth) {
      const events = this.byKey.get(event.key);
      if (events === undefined) this.byKey.set(event.key, [event]);
      else events.push(event);
    }
  }

  get keys(): Iterable<string> {
    return this.byKey.keys();
  }

  eventsOf(key: string): readonly StoreEvent[] {
    return this.byKey.get(key) ?? [];
  }

  /** The key right after this revision. */
  at(key: string, revision: number): StateOfKey {
    const events = this.byKey.get(key) ?? [];
    let low = 0;
    let high = events.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((events[middle] as StoreEvent).modRevision <= revision) low = middle + 1;
      else high = middle;
    }
    const event = events[low - 1];
    if (event === undefined || event.type === 'DELETE') return ABSENT;
    const { value, modRevision, createRevision } = event;
    return { value, modRevision, createRevision };
  }

  /** All keys with the prefix that ever existed, in order. */
  keysWith(prefix: string): readonly string[] {
    let keys = this.keysOfPrefix.get(prefix);
    if (keys === undefined) {
      keys = [...this.byKey.keys()].filter((key) => key.startsWith(prefix)).sort(byCode);
      this.keysOfPrefix.set(prefix, keys);
    }
    return keys;
  }

  /** Keys and values after the last revision, in order of the keys. */
  *pairs(): Generator<readonly [key: string, value: string, modRevision: number]> {
    for (const key of this.keysWith('')) {
      const { value, modRevision } = this.at(key, this.lastRevision);
      if (value !== null) yield [key, value, modRevision];
    }
  }
}

export function byCode(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Which revision clients knew to exist at each time: the highest that a reply had shown by then. */
export class KnownRevisions {
  private readonly times: number[] = [];
  private readonly shown: OperationLine[] = [];

  constructor(operations: readonly OperationLine[]) {
    const replies = operations
      .filter((line) => line.outcome === 'ok' && (line.revision ?? 0) > 0)
      .sort((a, b) => (a.return ?? 0) - (b.return ?? 0));
    let highest = 0;
    for (const reply of replies) {
      if ((reply.revision ?? 0) <= highest) continue;
      highest = reply.revision ?? 0;
      this.times.push(reply.return ?? 0);
      this.shown.push(reply);
    }
  }

  /** The reply with the highest revision that came before this time; null if none. */
  before(time: number): OperationLine | null {
    let low = 0;
    let high = this.times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.times[middle] as number) < time) low = middle + 1;
      else high = middle;
    }
    return this.shown[low - 1] ?? null;
  }
}

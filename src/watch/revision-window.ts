/**
 * A window of revisions [from, next) with everything that happened in them, in order.
 *
 * The hub keeps one of the recent past, which slides: publishing appends at the right end, and what bounds on
 * count and bytes leave no room for goes at the left. A piece of history that the shell has read from the store is
 * another one, which does not slide. A watcher whose cursor lies in a window can be served from it.
 *
 *        from                    next
 *          |   41   42    44     |          43 changed nothing: a window may have holes
 *
 * Invariants:
 * 1. Entries ascend strictly and lie in [from, next); a revision of the window without an entry had
 *    no events.
 * 2. Only whole revisions enter and leave.
 */
import { assert } from '../assert.js';
import type { KvEvent } from '../kv/event.js';

/** What an event costs in memory and on the wire beside its key and value, roughly. */
const EVENT_OVERHEAD_BYTES = 64;

/** The events of one revision, all or those that match something. */
export interface RevisionEvents {
  readonly revision: number;
  readonly events: readonly KvEvent[];
  readonly bytes: number;
}

export function revisionEvents(revision: number, events: readonly KvEvent[]): RevisionEvents {
  let bytes = 0;
  for (const event of events) bytes += eventBytes(event);
  return { revision, events, bytes };
}

/** Roughly, in memory and on the wire. */
export function eventBytes({ kv }: KvEvent): number {
  return EVENT_OVERHEAD_BYTES + kv.key.length + kv.value.length;
}

export interface WindowLimits {
  readonly revisionsMax: number;
  readonly bytesMax: number;
}

export class RevisionWindow {
  /** First revision that the window knows everything about. */
  from: number;
  /** First revision after the window. */
  next: number;
  bytes = 0;
  /** Entries from `head` on count; those before it are cleared and cut off in bulk. */
  private entries: (RevisionEvents | undefined)[] = [];
  private head = 0;

  constructor(from: number) {
    this.from = from;
    this.next = from;
  }

  get count(): number {
    return this.entries.length - this.head;
  }

  covers(revision: number): boolean {
    return revision >= this.from && revision < this.next;
  }

  append(entry: RevisionEvents): void {
    assert(entry.revision >= this.next, `revision ${entry.revision} is below ${this.next}`);
    this.entries.push(entry);
    this.bytes += entry.bytes;
    this.next = entry.revision + 1;
  }

  /** Forgets the oldest entries, as many as it takes. */
  keepWithin({ revisionsMax, bytesMax }: WindowLimits): void {
    while (this.count > revisionsMax || this.bytes > bytesMax) this.dropOldest();
  }

  /** The window ends at `next`: what lies between its last entry and there had no events. */
  extendTo(next: number): void {
    assert(next >= this.next, `the window would shrink from ${this.next} to ${next}`);
    this.next = next;
  }

  /** Position of the first entry at or above the revision; `count` if there is none. */
  positionOf(revision: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.at(middle).revision < revision) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  at(position: number): RevisionEvents {
    return this.entries[this.head + position] as RevisionEvents;
  }

  private dropOldest(): void {
    const oldest = this.at(0);
    this.bytes -= oldest.bytes;
    this.from = oldest.revision + 1;
    this.entries[this.head] = undefined;
    this.head += 1;
    if (this.head > 1024 && this.head * 2 > this.entries.length) {
      this.entries = this.entries.slice(this.head);
      this.head = 0;
    }
  }
}

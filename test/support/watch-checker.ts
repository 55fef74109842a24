/**
 * Judges what a watcher received against what the store really did.
 *
 * A watcher's log is the sequence of what it got: batches of events, progress marks, compactions that
 * it was told of, and its own reconnects (`resume`) with the revision it asked for. The truth is the list of all events of the
 * store, made by replaying the history after the end, itself held against the acknowledged writes by
 * `checkTruth`.
 *
 * The promises, by name:
 * 1. ordered: revisions never go down.
 * 2. unique: no event comes twice.
 * 3. atomic: the events of one revision come in one batch, all of them.
 * 4. reliable: between two events that came, none is missing.
 * 5. resumable: after a resume at revision r the next event is the first one at or after r.
 * 6. bookmarkable: after progress at r nothing at or below r comes, and nothing of it is missing.
 * 7. true: each event is exactly one of the store's; its header revision is not below its own.
 */
import type { Verdict } from './linearizability.js';

export interface StoreEvent {
  readonly type: 'PUT' | 'DELETE';
  readonly key: string;
  readonly value: string;
  readonly modRevision: number;
  readonly createRevision: number;
  readonly version: number;
}

export type WatchEntry =
  | {
      readonly kind: 'events';
      readonly headerRevision: number;
      readonly events: readonly StoreEvent[];
    }
  | { readonly kind: 'progress'; readonly revision: number }
  /** The watcher connected anew and asked for everything from `startRevision` on. */
  | { readonly kind: 'resume'; readonly startRevision: number }
  /** The member answered that everything below this revision is compacted; a resume follows. */
  | { readonly kind: 'compacted'; readonly compactRevision: number };

export interface WatchLog {
  readonly name: string;
  /** First revision that the watcher asked for. */
  readonly startRevision: number;
  /** The watcher must have everything up to and including this revision; 0 = as far as it came. */
  readonly endRevision: number;
  readonly matches: (key: string) => boolean;
  readonly entries: readonly WatchEntry[];
}

/** A write that a client was told has happened. */
export interface AcknowledgedWrite {
  readonly type: 'PUT' | 'DELETE';
  readonly key: string;
  readonly value: string;
  readonly revision: number;
}

const OK: Verdict = { ok: true, problem: '' };

function describe(event: StoreEvent): string {
  return `${event.type} ${event.key}=${event.value} at ${event.modRevision}`;
}

function identical(a: StoreEvent, b: StoreEvent): boolean {
  if (a.type !== b.type || a.key !== b.key || a.modRevision !== b.modRevision) return false;
  if (a.type === 'DELETE') return true;
  return a.value === b.value && a.createRevision === b.createRevision && a.version === b.version;
}

/**
 * Checks the truth itself: consecutive revisions in order, versions and create revisions that follow
 * from the events before, and every acknowledged write among them.
 */
export function checkTruth(
  truth: readonly StoreEvent[],
  acknowledged: readonly AcknowledgedWrite[],
): Verdict {
  const keys = new Map<string, { createRevision: number; version: number }>();
  const places = new Map<string, StoreEvent>();
  let last = 0;
  for (const event of truth) {
    if (event.modRevision < last) return bad(`revision below ${last}`, event);
    if (last > 0 && event.modRevision > last + 1) return bad(`nothing at ${last + 1}`, event);
    last = event.modRevision;
    const place = `${event.modRevision} ${event.key}`;
    if (places.has(place)) return bad('a key changed twice in one revision', event);
    places.set(place, event);
    const before = keys.get(event.key);
    if (event.type === 'DELETE') {
      if (before === undefined) return bad('a key was deleted that did not exist', event);
      keys.delete(event.key);
      continue;
    }
    const createRevision = before?.createRevision ?? event.modRevision;
    const version = (before?.version ?? 0) + 1;
    if (event.createRevision !== createRevision || event.version !== version) {
      const got = `created ${event.createRevision}, version ${event.version}`;
      return bad(`${got} instead of created ${createRevision}, version ${version}`, event);
    }
    keys.set(event.key, { createRevision, version });
  }
  for (const write of acknowledged) {
    const event = places.get(`${write.revision} ${write.key}`);
    const lost = `acknowledged ${write.type} ${write.key}=${write.value} at ${write.revision}`;
    if (event === undefined) return { ok: false, problem: `lost: ${lost}` };
    const sameValue = write.type === 'DELETE' || event.value === write.value;
    if (event.type !== write.type || !sameValue) return bad(`${lost} is something else`, event);
  }
  return OK;
}

function bad(problem: string, event: StoreEvent): Verdict {
  return { ok: false, problem: `${problem}: ${describe(event)}` };
}

/** Checks one watcher's log against the truth. */
export function checkWatch(log: WatchLog, truth: readonly StoreEvent[]): Verdict {
  const relevant = truth.filter((event) => log.matches(event.key));
  const reader = new TruthReader(log, relevant);
  for (const entry of log.entries) {
    const problem = reader.read(entry);
    if (problem !== null) return { ok: false, problem: `${log.name}: ${problem}` };
  }
  const missing = reader.missingUpTo(log.endRevision);
  if (missing === null) return OK;
  return { ok: false, problem: `${log.name}: never got ${describe(missing)} (reliable)` };
}

/** Walks through the truth beside the log: `next` is the event that must come next. */
class TruthReader {
  private readonly truth: readonly StoreEvent[];
  private next = 0;
  private lastRevision = 0;
  private progress = 0;
  /** What the watcher asked for last: nothing below it may come. */
  private floor: number;

  constructor(log: WatchLog, truth: readonly StoreEvent[]) {
    this.floor = log.startRevision;
    this.truth = truth;
    this.next = this.firstAt(log.startRevision);
  }

  /** What is wrong with this entry; null if nothing. */
  read(entry: WatchEntry): string | null {
    if (entry.kind === 'events') return this.readEvents(entry.headerRevision, entry.events);
    if (entry.kind === 'progress') return this.readProgress(entry.revision);
    if (entry.kind === 'compacted') return this.readCompacted(entry.compactRevision);
    // The watcher itself says from where on it wants everything; asking again for what it had
    // delivers it again, so order and uniqueness start anew there.
    const gap = this.missingUpTo(entry.startRevision - 1);
    if (gap !== null) return `resumed at ${entry.startRevision} without ${describe(gap)}`;
    this.next = this.firstAt(entry.startRevision);
    this.floor = entry.startRevision;
    this.lastRevision = 0;
    this.progress = Math.min(this.progress, entry.startRevision - 1);
    return null;
  }

  /** Only what is asked for behind a compaction may be refused; what lies before it is excused. */
  private readCompacted(compactRevision: number): string | null {
    const due = this.truth[this.next]?.modRevision ?? Number.POSITIVE_INFINITY;
    if (this.floor >= compactRevision) {
      return `told of a compaction at ${compactRevision}, asked from ${this.floor} (reliable)`;
    }
    if (due < compactRevision) this.next = this.firstAt(compactRevision);
    return null;
  }

  missingUpTo(revision: number): StoreEvent | null {
    const event = this.truth[this.next];
    return event !== undefined && event.modRevision <= revision ? event : null;
  }

  private firstAt(revision: number): number {
    const place = this.truth.findIndex((event) => event.modRevision >= revision);
    return place < 0 ? this.truth.length : place;
  }

  private readEvents(headerRevision: number, events: readonly StoreEvent[]): string | null {
    if (events.length === 0) return 'a batch without events';
    const first = events[0]?.modRevision ?? 0;
    if (first < this.floor) return `revision ${first} was not asked for (resumable)`;
    if (first === this.lastRevision) return `revision ${first} came in two batches (atomic)`;
    for (const event of events) {
      const what = describe(event);
      if (event.modRevision < this.lastRevision)
        return `${what} after ${this.lastRevision} (ordered)`;
      if (event.modRevision <= this.progress) return `${what} after progress (bookmarkable)`;
      if (event.modRevision > headerRevision)
        return `${what} above header ${headerRevision} (true)`;
      const due = this.truth[this.next];
      if (due === undefined) return `${what} is not in the history (true)`;
      if (!identical(event, due)) return this.mismatch(event, due);
      this.next += 1;
      this.lastRevision = event.modRevision;
    }
    const rest = this.truth[this.next];
    if (rest?.modRevision === this.lastRevision) return `${describe(rest)} was split off (atomic)`;
    return null;
  }

  private mismatch(event: StoreEvent, due: StoreEvent): string {
    const earlier = this.truth.slice(0, this.next).some((other) => identical(other, event));
    if (earlier) return `${describe(event)} came twice or late (unique)`;
    const later = this.truth.slice(this.next).some((other) => identical(other, event));
    if (later) return `${describe(event)} came before ${describe(due)} (reliable)`;
    return `${describe(event)} is not in the history (true); due is ${describe(due)}`;
  }

  private readProgress(revision: number): string | null {
    if (revision < this.progress) return `progress went back to ${revision} (ordered)`;
    const missing = this.missingUpTo(revision);
    if (missing !== null) return `progress ${revision} before ${describe(missing)} (bookmarkable)`;
    this.progress = revision;
    return null;
  }
}

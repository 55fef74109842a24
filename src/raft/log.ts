/**
 * The log in memory, from a floor upwards, and the watermarks over it.
 *
 * Owned by Raft; pure. Entries stay here until `compactTo`, so nothing is read from the disk at run
 * time. Everything at or below `before` is gone: it is part of the state machine or of a snapshot.
 *
 *    before   applied     applying     committed          last
 *      |  4  5   6   7  8    9   10  11    12   13  14  15  16
 *                                        persisted     writing
 *
 *   applied    the state machine has it           persisted  durable on the own disk
 *   applying   handed out to be applied           writing    handed out to be written
 *   committed  a majority has it
 *
 * `persisted` and `writing` fall when a suffix is replaced. The end of the write in flight falls with
 * them, so a completion can never declare entries durable that it did not write, also if a later
 * write puts back the same (index, term) (the ABA case: A appends, B overwrites, A overwrites again).
 *
 * Invariants: 1. before <= applied <= applying <= committed <= last, except between the acceptance
 * of a snapshot and its durability. 2. persisted <= writing <= last. 3. Indices are consecutive,
 * terms do not decrease. 4. Nothing at or below `committed` is ever replaced.
 */
import { assert } from '../assert.js';
import type { Entry, EntryId, LogIndex, Term } from './entry.js';

const NO_ENTRIES: readonly Entry[] = [];

export class RaftLog {
  before: EntryId;
  committed: LogIndex;
  applying: LogIndex;
  applied: LogIndex;
  persisted: LogIndex;
  writing: LogIndex;
  /** Entries at and above were handed out for writing and are replaced since; 0 = none. */
  truncateFrom: LogIndex = 0;
  private entries: Entry[];
  private inFlightLast: LogIndex = 0;
  private sliceFirst: LogIndex = 0;
  private sliceBytes = 0;
  private sliceCache: readonly Entry[] | null = null;

  constructor(before: EntryId, entries: readonly Entry[], applied: LogIndex, commit: LogIndex) {
    this.before = { term: before.term, index: before.index };
    this.entries = [...entries];
    let previous = before;
    for (const entry of entries) {
      assertFollows(previous, entry);
      previous = entry;
    }
    this.applied = applied;
    this.applying = applied;
    this.committed = commit;
    this.persisted = previous.index;
    this.writing = previous.index;
    assert(before.index <= applied, `log starts behind ${before.index}, applied is ${applied}`);
    assert(applied <= commit, `applied ${applied} is above the commit ${commit}`);
    assert(commit <= this.lastIndex, `commit ${commit} is above the last index ${this.lastIndex}`);
  }

  get firstIndex(): LogIndex {
    return this.before.index + 1;
  }

  get lastIndex(): LogIndex {
    return this.before.index + this.entries.length;
  }

  get lastTerm(): Term {
    const last = this.entries[this.entries.length - 1];
    return last === undefined ? this.before.term : last.term;
  }

  /** The commit with the term of its entry, as answers to vote requests tell it. */
  get commitPoint(): { readonly commit: LogIndex; readonly logTerm: Term } {
    return { commit: this.committed, logTerm: this.termAt(this.committed) };
  }

  /** The term of the entry at `index`, or -1 if the log does not hold it. */
  termAt(index: LogIndex): Term {
    if (index === this.before.index) return this.before.term;
    const entry = this.entries[index - this.before.index - 1];
    return entry === undefined ? -1 : entry.term;
  }

  entryAt(index: LogIndex): Entry {
    const entry = this.entries[index - this.before.index - 1];
    assert(entry !== undefined, `entry ${index} is outside ${this.firstIndex}..${this.lastIndex}`);
    return entry;
  }

  /** Whether a log that ends at (term, index) holds everything that this one may have committed:
   *  the later last term wins, then the longer log (paper 5.4.1). */
  isUpToDate(term: Term, index: LogIndex): boolean {
    return term > this.lastTerm || (term === this.lastTerm && index >= this.lastIndex);
  }

  /** The largest index at or below `index` whose term is at most `term`. Both sides of a rejected
   *  append use it, so one round trip skips a whole term of divergence instead of one entry. */
  conflictBound(index: LogIndex, term: Term): LogIndex {
    let at = Math.min(index, this.lastIndex);
    if (at <= this.before.index || this.termAt(at) <= term) return Math.max(at, 0);
    let low = this.before.index;
    // Terms do not decrease, so the bound is found by bisection: low is in, at is out.
    while (at - low > 1) {
      const middle = Math.floor((low + at) / 2);
      if (this.termAt(middle) <= term) low = middle;
      else at = middle;
    }
    return low;
  }

  /** Adds entries behind the last one. */
  append(entries: readonly Entry[]): void {
    let previous: EntryId = { term: this.lastTerm, index: this.lastIndex };
    for (const entry of entries) {
      assertFollows(previous, entry);
      this.entries.push(entry);
      previous = entry;
    }
    this.sliceCache = null;
  }

  /**
   * Takes entries that follow a matching previous entry. Only an entry of another term replaces what
   * is here, from that index on: a delayed append that holds a prefix of the log must change nothing,
   * because what follows may be committed. Returns the index from which it replaced, 0 = nothing.
   */
  merge(entries: readonly Entry[]): LogIndex {
    let at = 0;
    while (at < entries.length) {
      const entry = entries[at] as Entry;
      if (entry.index > this.lastIndex || this.termAt(entry.index) !== entry.term) break;
      at += 1;
    }
    if (at === entries.length) return 0;
    const first = entries[at] as Entry;
    const replaced = first.index <= this.lastIndex ? first.index : 0;
    if (replaced > 0) this.truncate(replaced);
    this.append(at === 0 ? entries : entries.slice(at));
    return replaced;
  }

  private truncate(from: LogIndex): void {
    assert(from > this.committed, `truncation at ${from} is not above commit ${this.committed}`);
    this.entries.length = from - this.before.index - 1;
    this.sliceCache = null;
    if (from > this.writing) return;
    this.truncateFrom = this.truncateFrom === 0 ? from : Math.min(this.truncateFrom, from);
    this.writing = from - 1;
    this.persisted = Math.min(this.persisted, from - 1);
    this.inFlightLast = Math.min(this.inFlightLast, from - 1);
  }

  /** Entries from `first` on, at least one, as many as fit into `maxBytes`. Peers that are equally
   *  far share one array. */
  slice(first: LogIndex, maxBytes: number): readonly Entry[] {
    if (first > this.lastIndex) return NO_ENTRIES;
    if (this.sliceCache !== null && this.sliceFirst === first && this.sliceBytes === maxBytes) {
      return this.sliceCache;
    }
    const start = first - this.before.index - 1;
    assert(start >= 0, `entry ${first} is compacted, the log starts at ${this.firstIndex}`);
    let end = start;
    let bytes = 0;
    while (end < this.entries.length) {
      bytes += (this.entries[end] as Entry).record.length;
      if (bytes > maxBytes && end > start) break;
      end += 1;
    }
    this.sliceFirst = first;
    this.sliceBytes = maxBytes;
    this.sliceCache = this.entries.slice(start, end);
    return this.sliceCache;
  }

  /** Whether entries wait to be handed out for writing. */
  get hasUnwritten(): boolean {
    return this.writing < this.lastIndex || this.truncateFrom > 0;
  }

  /** Hands out everything that is not on its way to the disk. */
  takeUnwritten(): { truncateFrom: LogIndex; entries: readonly Entry[] } {
    const entries =
      this.writing < this.lastIndex
        ? this.entries.slice(this.writing - this.before.index)
        : NO_ENTRIES;
    const truncateFrom = this.truncateFrom;
    this.truncateFrom = 0;
    this.writing = this.lastIndex;
    this.inFlightLast = this.lastIndex;
    return { truncateFrom, entries };
  }

  /** The write in flight is durable. */
  writeDone(): void {
    this.persisted = Math.max(this.persisted, this.inFlightLast);
    assert(this.persisted <= this.lastIndex, `${this.persisted} durable of ${this.lastIndex}`);
  }

  /** Moves the commit forward; returns whether it moved. */
  commitTo(index: LogIndex): boolean {
    if (index <= this.committed) return false;
    assert(index <= this.lastIndex, `commit ${index} is above the last index ${this.lastIndex}`);
    this.committed = index;
    return true;
  }

  /** Hands out committed and durable entries, up to `maxCount`, and up to `maxBytes` except for the
   *  first one if `atLeastOne`. */
  takeCommitted(maxCount: number, maxBytes: number, atLeastOne: boolean): readonly Entry[] {
    const limit = Math.min(this.committed, this.persisted);
    if (this.applying >= limit) return NO_ENTRIES;
    const start = this.applying - this.before.index;
    const stop = Math.min(limit - this.before.index, start + maxCount);
    let end = start;
    let bytes = 0;
    while (end < stop) {
      bytes += (this.entries[end] as Entry).record.length;
      if (bytes > maxBytes && (end > start || !atLeastOne)) break;
      end += 1;
    }
    if (end === start) return NO_ENTRIES;
    this.applying = this.before.index + end;
    return this.entries.slice(start, end);
  }

  appliedTo(index: LogIndex): void {
    assert(index <= this.applying, `applied ${index} was not handed out (${this.applying})`);
    if (index > this.applied) this.applied = index;
  }

  /** Drops entries up to and including `index`. */
  compactTo(index: LogIndex): void {
    assert(index <= this.applied, `compaction to ${index} is above applied ${this.applied}`);
    if (index <= this.before.index) return;
    const term = this.termAt(index);
    this.entries.splice(0, index - this.before.index);
    this.before = { term, index };
    this.sliceCache = null;
  }

  /** A snapshot replaces the whole log; the state machine follows in `snapshotDone`. */
  restore(snapshot: EntryId): void {
    assert(snapshot.index > this.committed, `snapshot ${snapshot.index} brings nothing new`);
    this.entries = [];
    this.sliceCache = null;
    this.before = { term: snapshot.term, index: snapshot.index };
    this.committed = snapshot.index;
    this.persisted = Math.min(this.persisted, snapshot.index);
    this.writing = snapshot.index;
    this.inFlightLast = Math.min(this.inFlightLast, snapshot.index);
    this.truncateFrom = 0;
  }

  /** The snapshot of `restore` is durable. */
  snapshotDone(index: LogIndex): void {
    this.persisted = index;
    this.applying = index;
    this.applied = index;
  }

  /** Bytes of the entries in (from, to]. */
  bytesBetween(from: LogIndex, to: LogIndex): number {
    let bytes = 0;
    const end = to - this.before.index;
    for (let at = Math.max(from - this.before.index, 0); at < end; at += 1) {
      bytes += (this.entries[at] as Entry).record.length;
    }
    return bytes;
  }
}

function assertFollows(previous: EntryId, entry: Entry): void {
  assert(
    entry.index === previous.index + 1,
    `entry ${entry.index} follows ${previous.index} in the log`,
  );
  assert(
    entry.term >= previous.term,
    `entry ${entry.index} of term ${entry.term} follows term ${previous.term}`,
  );
}

/**
 * What the batches written so far add up to: hard state, newest mark and end of the log. The next
 * segment begins with it (wal.ts), and every batch is checked against it before it is written, since
 * a bug that writes nonsense durably is worse than one that stops the process.
 *
 * Invariants: 1 hard state and marks never go back, and a vote does not change within its term.
 * 2 Entries have no gap, and those at or below the newest mark are never replaced. 3 A mark lies
 * inside the log.
 */
import { assert } from '../../assert.js';
import type { Entry, EntryId, LogIndex, Term } from '../entry.js';
import type { SnapshotMeta } from '../message.js';
import type { HardState } from '../ready.js';
import type { LogBatch } from './log-store.js';

export class WrittenState {
  hardState: HardState;
  mark: SnapshotMeta;
  private lastIndex: LogIndex;
  /** Where each term begins; the first element is the entry in front of the log. A cut without new
   *  entries must know the term of the entry that is last then. */
  private readonly termStarts: EntryId[];

  constructor(
    hardState: HardState,
    mark: SnapshotMeta,
    before: EntryId,
    entries: readonly Entry[],
  ) {
    this.hardState = hardState;
    this.mark = mark;
    this.lastIndex = before.index;
    this.termStarts = [before];
    for (const entry of entries) this.noteEntry(entry);
  }

  last(): EntryId {
    return { index: this.lastIndex, term: this.lastTerm() };
  }

  assertFollows(batch: LogBatch): void {
    const { hardState, entries, snapshot, checkpoint, truncateFrom } = batch;
    const floor = this.mark.index;
    if (hardState !== null) this.assertHardState(hardState);
    if (snapshot !== null) {
      assert(entries.length === 0, 'a snapshot is not written together with entries');
      assert(truncateFrom === 0, 'a snapshot empties the log, nothing is left to cut');
      assert(snapshot.index >= floor, `snapshot ${snapshot.index} behind the mark at ${floor}`);
    }
    assert(truncateFrom === 0 || truncateFrom > floor, `cut at ${truncateFrom}, mark at ${floor}`);
    let end = truncateFrom === 0 ? this.lastIndex : Math.min(this.lastIndex, truncateFrom - 1);
    if (snapshot !== null) end = snapshot.index;
    const first = entries[0];
    if (first !== undefined) {
      assert(first.index <= end + 1, `entry ${first.index} after entry ${end}`);
      assert(first.index > floor, `entry ${first.index} is covered by the mark at ${floor}`);
      end = first.index - 1;
      for (const entry of entries) {
        end += 1;
        assert(entry.index === end, `entry ${entry.index} at the place of ${end}`);
      }
    }
    if (checkpoint !== null) {
      assert(
        checkpoint.index <= end,
        `checkpoint ${checkpoint.index} beyond the last entry ${end}`,
      );
    }
  }

  /** Takes a batch in that was written. */
  note(batch: LogBatch): void {
    const { hardState, snapshot, checkpoint, truncateFrom, entries } = batch;
    if (hardState !== null) this.hardState = hardState;
    if (snapshot !== null) {
      this.mark = snapshot;
      this.lastIndex = snapshot.index;
      this.termStarts.length = 0;
      this.termStarts.push({ index: snapshot.index, term: snapshot.term });
    }
    if (truncateFrom !== 0) this.cutFrom(truncateFrom);
    const first = entries[0];
    if (first !== undefined) this.cutFrom(first.index);
    for (const entry of entries) this.noteEntry(entry);
    // A checkpoint that was begun before a snapshot came and is finished after it says nothing new.
    if (checkpoint !== null && checkpoint.index >= this.mark.index) this.mark = checkpoint;
  }

  private assertHardState(next: HardState): void {
    const { term, vote, commit } = this.hardState;
    assert(next.term >= term, `term ${next.term} after term ${term}`);
    assert(next.commit >= commit, `commit ${next.commit} after commit ${commit}`);
    const changed = next.term === term && vote !== 0 && next.vote !== vote;
    assert(!changed, `vote for ${next.vote} after a vote for ${vote} in term ${term}`);
  }

  private noteEntry(entry: EntryId): void {
    const term = this.lastTerm();
    assert(entry.term >= term, `entry ${entry.index} of term ${entry.term} after term ${term}`);
    if (entry.term !== term) this.termStarts.push({ index: entry.index, term: entry.term });
    this.lastIndex = entry.index;
  }

  private cutFrom(index: LogIndex): void {
    if (index > this.lastIndex) return;
    this.lastIndex = index - 1;
    const { termStarts } = this;
    while (termStarts.length > 1 && (termStarts.at(-1) as EntryId).index >= index) termStarts.pop();
  }

  private lastTerm(): Term {
    return (this.termStarts.at(-1) as EntryId).term;
  }
}

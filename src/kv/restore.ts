/**
 * Rebuilds a state machine from its tables and its records, without looking at the log.
 *
 * StateMachine.beginRestore makes one; the caller (start of a member, installed snapshot) then hands in
 * every record it has, ordered by revision, and calls `finish`. Records above the revision of the
 * tables belong to entries that will be applied again and are skipped. Records that compaction has
 * passed but that were not removed yet are taken in like the others, because only the next record of
 * the same key shows that they are garbage, and forgotten again at the end, to be collected like the
 * garbage of any compaction. That is safe because a tombstone leaves the disk only when the removal of every
 * pair before it is durable (io/removals.ts): a pair is never left without it.
 *
 * Leases come from the tables and so exist before the keys that hang on them. The sums of records are not
 * checked here: those of the pages in which they came were. A record costs about a microsecond; values are not
 * copied.
 *
 * Invariants: 1. the restored machine answers every read as the original did, and applies the next
 * entry to the same hash. 2. records that do not fit the tables are found (counts), not served.
 */
import { assert } from '../assert.js';
import { FatalError } from '../errors.js';
import type { StateMachine } from './state-machine.js';
import type { Tables } from './tables.js';

export class Restore {
  private readonly machine: StateMachine;
  private readonly tables: Tables;
  private finished = false;

  constructor(machine: StateMachine, tables: Tables) {
    this.machine = machine;
    this.tables = tables;
    machine.store.restoreRevisions(tables.revision, tables.compactRevision);
  }

  /** The next record in order of (main, sub): [start, end) of `bytes`, which are not kept. */
  record(main: number, sub: number, bytes: Uint8Array, start = 0, end = bytes.length): void {
    assert(!this.finished, 'a record behind the end of a restore');
    if (main > this.tables.revision) return;
    this.machine.store.restoreRecord(main, sub, bytes, start, end);
  }

  finish(): StateMachine {
    assert(!this.finished, 'a restore is finished twice');
    this.finished = true;
    const { store } = this.machine;
    store.finishRestore();
    const { liveCount, retainedCount } = this.tables;
    const { retainedCount: found } = store.index;
    if (store.liveCount !== liveCount || found !== retainedCount) {
      throw new FatalError(
        `the records do not fit the tables: ${store.liveCount} keys and ${found} revisions found, ` +
          `${liveCount} and ${retainedCount} expected`,
      );
    }
    return this.machine;
  }
}

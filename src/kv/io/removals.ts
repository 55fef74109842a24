/**
 * The road of a garbage record out of the byte store. Used by StateStore only.
 *
 *   remove() -> RemovalQueue -> a checkpoint taken after it is durable -> PageCleaner -> gone
 *                                                    tombstones: -> barrier -> PageCleaner -> gone
 *
 * Why the wait: every start goes back to the newest durable checkpoint and replays the log from
 * there. A state from before the compaction still points at the record, so the record may only go
 * when no start can go back that far. A removal that is lost in a crash is asked for again: the store
 * finds the garbage when it scans.
 *
 * Why tombstones later: a power failure may undo one batch of removals and keep a later one. If the put of
 * a key came back and the deletion behind it did not, the scan would take the key for alive. So a
 * deletion goes only when the removal of everything before it is durable.
 *
 * Records lie in pages, so the cleaner groups what it was given by pages, reads each page concerned once,
 * and writes it back without them, or removes it. It works in small pieces with pauses, because nobody
 * waits for it: a million removals must not hold the event loop. A pause is not only a turn of the loop: a
 * put takes a few turns, and with a piece of work in each it took 8 ms instead of one.
 *
 * Invariant: only the cleaner changes a page once it is in the byte store, one batch at a time.
 */
import type { Clock } from '../../clock.js';
import type { Backend, PutOperation } from './backend.js';
import { checkPage, pageKey, pageKeyRoom, withoutRecords } from './page.js';
import type { PageDirectory } from './page-directory.js';

const CHUNK_RECORDS = 2048;
/** Half a millisecond of work each, with a pause behind it. */
const BATCH_RECORDS = 250;
const BATCH_PAGES = 16;
const LOOKUPS = 2048;
const PAUSE_MS = 5;
/** Of so many, a lookup of a page takes as long as one. */
const SIMPLE_STEPS = 16;
/** Times as much at once when checkpoints release faster than that. */
const HASTE_MAX = 16;

/** Removed (main, sub) pairs as two columns. Bounded by the records that exist. */
export interface Removals {
  readonly mains: Float64Array;
  readonly subs: Uint32Array;
}

/** Grows by chunks, so that neither adding nor taking a million ever takes long. */
export class RemovalQueue {
  private chunks: Removals[] = [];
  private length = 0;

  get count(): number {
    return this.length;
  }

  add(main: number, sub: number): void {
    const offset = this.length % CHUNK_RECORDS;
    if (offset === 0) {
      const mains = new Float64Array(CHUNK_RECORDS);
      this.chunks.push({ mains, subs: new Uint32Array(CHUNK_RECORDS) });
    }
    const chunk = this.chunks[this.chunks.length - 1] as Removals;
    chunk.mains[offset] = main;
    chunk.subs[offset] = sub;
    this.length += 1;
  }

  /** Everything that was added, in the order of the calls. */
  take(): readonly Removals[] {
    const { chunks, length } = this;
    this.chunks = [];
    this.length = 0;
    const rest = length % CHUNK_RECORDS;
    const last = chunks[chunks.length - 1];
    if (rest === 0 || last === undefined) return chunks;
    const cut = { mains: last.mains.subarray(0, rest), subs: last.subs.subarray(0, rest) };
    return [...chunks.slice(0, -1), cut];
  }
}

export interface CleanerEvents {
  readonly onError: (error: unknown) => void;
  /** So many records that were released have gone. */
  readonly onRemoved: (records: number) => void;
  /** All that was released has gone. */
  readonly onIdle: () => void;
}

export class PageCleaner {
  private readonly backend: Backend;
  private readonly directory: PageDirectory;
  private readonly clock: Clock;
  private readonly events: CleanerEvents;
  private readonly released: {
    readonly removals: readonly Removals[];
    readonly isLast: boolean;
  }[] = [];
  private running: Promise<void> | null = null;
  private closed = false;
  private lookups = 0;

  constructor(backend: Backend, directory: PageDirectory, clock: Clock, events: CleanerEvents) {
    this.backend = backend;
    this.directory = directory;
    this.clock = clock;
    this.events = events;
  }

  /** No start can need these records any more; the tombstones go when the others are gone for good. */
  release(removals: readonly Removals[], tombstones: readonly Removals[]): void {
    if (this.closed) return;
    if (removals.length > 0) this.released.push({ removals, isLast: false });
    if (tombstones.length > 0) this.released.push({ removals: tombstones, isLast: true });
    if (this.released.length > 0) this.running ??= this.run();
  }

  /** Resolves when everything released so far is removed. */
  async idle(): Promise<void> {
    while (this.running !== null) await this.running;
  }

  /** Stops behind the batch that runs; the rest is found again at the next start. */
  async close(): Promise<void> {
    this.closed = true;
    await this.idle();
  }

  private async run(): Promise<void> {
    try {
      for (;;) {
        const first = this.released[0];
        if (first === undefined || this.closed) return;
        const next = await this.byPages(first.removals);
        if (next === null) return;
        const asked = first.removals.reduce((sum, { mains }) => sum + mains.length, 0);
        this.events.onRemoved(asked - next.mains.length);
        if (first.isLast) await this.backend.barrier();
        let from = 0;
        while (from < next.mains.length && !this.closed) {
          const startedAt = this.clock.now();
          const to = await this.cleanBatch(next, from);
          this.events.onRemoved(to - from);
          from = to;
          // On a disk that is slow because of it, it rests as long as it worked.
          await this.rest(Math.max(PAUSE_MS, this.clock.now() - startedAt));
        }
        if (this.closed) return;
        this.released.shift();
        if (this.released.length === 0) this.events.onIdle();
      }
    } catch (error) {
      this.closed = true;
      this.events.onError(error);
    } finally {
      this.running = null;
    }
  }

  /**
   * The removals of one page side by side, pages in their order, without those whose page has gone. A counting
   * sort by the rows of the directory, which stay where they are: the writer adds behind them, and only the
   * cleaner takes rows away. Null: closed meanwhile.
   */
  private async byPages(chunks: readonly Removals[]): Promise<Removals | null> {
    const rows: Int32Array[] = [];
    let lowest = this.directory.rows;
    let highest = -1;
    for (const { mains, subs } of chunks) {
      const rowsOfChunk = new Int32Array(mains.length);
      for (let at = 0; at < mains.length; at += 1) {
        const row = this.directory.floor(mains[at] as number, subs[at] as number);
        rowsOfChunk[at] = row;
        // In front of all pages: it is gone already. The store may ask twice.
        if (row >= 0) lowest = Math.min(lowest, row);
        highest = Math.max(highest, row);
      }
      rows.push(rowsOfChunk);
      await this.restAfter(mains.length);
      if (this.closed) return null;
    }
    // How many are in front of a row, once they are summed up.
    const starts = new Uint32Array(Math.max(0, highest - lowest) + 2);
    for (const rowsOfChunk of rows) {
      for (const row of rowsOfChunk) {
        if (row >= 0) starts[row - lowest + 1] = (starts[row - lowest + 1] as number) + 1;
      }
      await this.restAfter(rowsOfChunk.length / SIMPLE_STEPS);
    }
    for (let at = 1; at < starts.length; at += 1) {
      starts[at] = (starts[at] as number) + (starts[at - 1] as number);
      if (at % CHUNK_RECORDS === 0) await this.restAfter(CHUNK_RECORDS / SIMPLE_STEPS);
    }
    const count = starts[starts.length - 1] as number;
    const grouped = { mains: new Float64Array(count), subs: new Uint32Array(count) };
    for (const [index, rowsOfChunk] of rows.entries()) {
      const { mains, subs } = chunks[index] as Removals;
      for (const [at, row] of rowsOfChunk.entries()) {
        if (row < 0) continue;
        const place = starts[row - lowest] as number;
        starts[row - lowest] = place + 1;
        grouped.mains[place] = mains[at] as number;
        grouped.subs[place] = subs[at] as number;
      }
      await this.restAfter(rowsOfChunk.length / SIMPLE_STEPS);
    }
    return this.closed ? null : grouped;
  }

  /** Rests when that much was looked up since the last time. */
  private async restAfter(lookups: number): Promise<void> {
    this.lookups += lookups;
    if (this.lookups < LOOKUPS || this.closed) return;
    this.lookups = 0;
    await this.rest(PAUSE_MS);
  }

  private rest(ms: number): Promise<void> {
    return new Promise((resolve) => this.clock.after(ms, resolve));
  }

  /** Removes some records from `from` on; where the next batch starts. */
  private async cleanBatch(removals: Removals, from: number): Promise<number> {
    const { mains, subs } = removals;
    const pages: { main: number; sub: number; start: number; end: number }[] = [];
    // A checkpoint releases two sets at most. Those that wait must not grow for ever.
    const haste = Math.min(HASTE_MAX, Math.ceil(this.released.length / 2));
    let at = from;
    let row = -1;
    for (; at < mains.length && at - from < haste * BATCH_RECORDS; at += 1) {
      const next = this.directory.floor(mains[at] as number, subs[at] as number);
      // It was asked for twice, and its page has gone with the first one.
      if (next < 0) continue;
      if (next !== row) {
        if (pages.length >= haste * BATCH_PAGES) break;
        row = next;
        const main = this.directory.mainAt(row);
        pages.push({ main, sub: this.directory.subAt(row), start: at, end: at });
      }
      (pages.at(-1) as { end: number }).end = at + 1;
    }
    const room = pageKeyRoom(pages.length);
    const keys = pages.map((page, at) => pageKey(page.main, page.sub, room[at]));
    const values = await this.backend.getMany(keys);
    const operations: PutOperation[] = [];
    const emptied: { main: number; sub: number }[] = [];
    for (let index = 0; index < pages.length; index += 1) {
      const page = pages[index] as (typeof pages)[number];
      const value = values[index];
      // Gone already, with its page or alone.
      if (value === undefined) continue;
      checkPage(value);
      const left = withoutRecords(value, memberOf(removals, page.start, page.end));
      if (left === value) continue;
      operations.push({ key: keys[index] as Uint8Array, value: left });
      if (left === null) emptied.push(page);
    }
    if (operations.length > 0) await this.backend.write(operations);
    this.directory.removePages(emptied);
    return at;
  }
}

/** Whether a record is in this window of the removals: those of a page, in any order. */
function memberOf(
  removals: Removals,
  start: number,
  end: number,
): (main: number, sub: number) => boolean {
  const subsOf = new Map<number, number[]>();
  for (let at = start; at < end; at += 1) {
    const main = removals.mains[at] as number;
    const subs = subsOf.get(main);
    if (subs === undefined) subsOf.set(main, [removals.subs[at] as number]);
    else subs.push(removals.subs[at] as number);
  }
  return (main, sub) => subsOf.get(main)?.includes(sub) === true;
}

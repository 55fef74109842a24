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
 * Records lie in pages, so the cleaner sorts what it was given, reads each page concerned once, and
 * writes it back without them, or removes it. It works in small pieces with pauses, because nobody
 * waits for it: a million removals must not hold the event loop.
 *
 * Invariant: only the cleaner changes a page once it is in the byte store, one batch at a time.
 */
import type { Clock } from '../../clock.js';
import type { Backend, PutOperation } from './backend.js';
import { checkPage, pageKey, withoutRecords } from './page.js';
import type { PageDirectory } from './page-directory.js';

const BATCH_RECORDS = 1000;
const BATCH_PAGES = 64;
const PAUSE_MS = 5;
const CHUNK_RECORDS = 8192;
/** A few milliseconds of merging. */
const MERGE_RECORDS = 128 * 1024;

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

export class PageCleaner {
  private readonly backend: Backend;
  private readonly directory: PageDirectory;
  private readonly clock: Clock;
  private readonly onError: (error: unknown) => void;
  private readonly onCleaned: () => void;
  private readonly released: {
    readonly removals: readonly Removals[];
    readonly isLast: boolean;
  }[] = [];
  private running: Promise<void> | null = null;
  private closed = false;

  constructor(
    backend: Backend,
    directory: PageDirectory,
    clock: Clock,
    onError: (error: unknown) => void,
    onCleaned: () => void,
  ) {
    this.backend = backend;
    this.directory = directory;
    this.clock = clock;
    this.onError = onError;
    this.onCleaned = onCleaned;
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
        const next = await this.sortAll(first.removals);
        if (first.isLast) await this.backend.barrier();
        let from = 0;
        while (from < next.mains.length && !this.closed) {
          const startedAt = this.clock.now();
          from = await this.cleanBatch(next, from);
          // On a disk that is slow because of it, it rests as long as it worked.
          const rest = Math.max(PAUSE_MS, this.clock.now() - startedAt);
          await new Promise<void>((resolve) => this.clock.after(rest, resolve));
        }
        this.released.shift();
        if (this.released.length === 0) this.onCleaned();
      }
    } catch (error) {
      this.closed = true;
      this.onError(error);
    } finally {
      this.running = null;
    }
  }

  /** Sorts chunks one by one and merges neighbours. The event loop turns behind each piece, small ones too: there
   *  are as many records in many small runs, and a million of them in one turn took 55 ms. */
  private async sortAll(chunks: readonly Removals[]): Promise<Removals> {
    let runs: Removals[] = [];
    for (const { mains, subs } of chunks) {
      runs.push(sorted(mains, subs));
      await this.turn();
    }
    while (runs.length > 1 && !this.closed) {
      const merged: Removals[] = [];
      for (let at = 0; at < runs.length; at += 2) {
        const [left, right] = [runs[at] as Removals, runs[at + 1]];
        merged.push(right === undefined ? left : await this.merge(left, right));
        await this.turn();
      }
      runs = merged;
    }
    return runs[0] ?? { mains: new Float64Array(0), subs: new Uint32Array(0) };
  }

  private async merge(left: Removals, right: Removals): Promise<Removals> {
    const length = left.mains.length + right.mains.length;
    const mains = new Float64Array(length);
    const subs = new Uint32Array(length);
    let leftAt = 0;
    for (let at = 0; at < length; at += 1) {
      const rightAt = at - leftAt;
      const from = isNext(left, leftAt, right, rightAt) ? left : right;
      const place = from === left ? leftAt : rightAt;
      mains[at] = from.mains[place] as number;
      subs[at] = from.subs[place] as number;
      if (from === left) leftAt += 1;
      if ((at + 1) % MERGE_RECORDS === 0) await this.turn();
    }
    return { mains, subs };
  }

  private turn(): Promise<void> {
    return new Promise((resolve) => this.clock.soon(resolve));
  }

  /** Removes some records from `from` on; where the next batch starts. */
  private async cleanBatch(removals: Removals, from: number): Promise<number> {
    const { mains, subs } = removals;
    const pages: { main: number; sub: number; start: number; end: number }[] = [];
    let at = from;
    let row = -1;
    for (; at < mains.length && at - from < BATCH_RECORDS; at += 1) {
      const next = this.directory.floor(mains[at] as number, subs[at] as number);
      // In front of all pages: it is gone already. The store may ask twice.
      if (next < 0) continue;
      if (next !== row) {
        if (pages.length === BATCH_PAGES) break;
        row = next;
        const main = this.directory.mainAt(row);
        pages.push({ main, sub: this.directory.subAt(row), start: at, end: at });
      }
      (pages.at(-1) as { end: number }).end = at + 1;
    }
    const keys = pages.map((page) => pageKey(page.main, page.sub));
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

/** Whether the left run has the next one of both. */
function isNext(left: Removals, leftAt: number, right: Removals, rightAt: number): boolean {
  if (rightAt === right.mains.length) return true;
  if (leftAt === left.mains.length) return false;
  const difference = (left.mains[leftAt] as number) - (right.mains[rightAt] as number);
  return (
    difference < 0 ||
    (difference === 0 && (left.subs[leftAt] as number) <= (right.subs[rightAt] as number))
  );
}

/** Walks the sorted window along with the sorted records of a page. */
function memberOf(
  removals: Removals,
  start: number,
  end: number,
): (main: number, sub: number) => boolean {
  const { mains, subs } = removals;
  let at = start;
  return (main, sub) => {
    while (at < end) {
      const nextMain = mains[at] as number;
      if (nextMain > main || (nextMain === main && (subs[at] as number) >= sub)) break;
      at += 1;
    }
    return at < end && mains[at] === main && subs[at] === sub;
  };
}

/**
 * Ascending by (main, sub). Packs both into one double where they fit, because the native sort of a
 * typed array is ten times faster than one with a comparator.
 */
function sorted(mains: Float64Array, subs: Uint32Array): Removals {
  let mainMax = 0;
  let subMax = 0;
  for (let at = 0; at < mains.length; at += 1) {
    mainMax = Math.max(mainMax, mains[at] as number);
    subMax = Math.max(subMax, subs[at] as number);
  }
  const scale = 2 ** Math.ceil(Math.log2(subMax + 1));
  if ((mainMax + 1) * scale <= Number.MAX_SAFE_INTEGER) {
    const packed = mains.map((main, at) => main * scale + (subs[at] as number)).sort();
    return {
      mains: packed.map((value) => Math.floor(value / scale)),
      subs: Uint32Array.from(packed, (value) => value % scale),
    };
  }
  const order = Array.from(mains.keys());
  order.sort(
    (a, b) =>
      (mains[a] as number) - (mains[b] as number) || (subs[a] as number) - (subs[b] as number),
  );
  return {
    mains: Float64Array.from(order, (at) => mains[at] as number),
    subs: Uint32Array.from(order, (at) => subs[at] as number),
  };
}

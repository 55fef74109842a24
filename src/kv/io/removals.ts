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
 * writes it back without them, or removes it. It works in small batches with pauses, because nobody
 * waits for it.
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

/** Removed (main, sub) pairs as two columns. Bounded by the records that exist. */
export interface Removals {
  readonly mains: Float64Array;
  readonly subs: Uint32Array;
}

export class RemovalQueue {
  private mains = new Float64Array(256);
  private subs = new Uint32Array(256);
  private length = 0;

  get count(): number {
    return this.length;
  }

  add(main: number, sub: number): void {
    if (this.length === this.mains.length) {
      const mains = new Float64Array(this.length * 2);
      const subs = new Uint32Array(this.length * 2);
      mains.set(this.mains);
      subs.set(this.subs);
      this.mains = mains;
      this.subs = subs;
    }
    this.mains[this.length] = main;
    this.subs[this.length] = sub;
    this.length += 1;
  }

  take(): Removals {
    const taken = sorted(this.mains.subarray(0, this.length), this.subs.subarray(0, this.length));
    this.mains = new Float64Array(256);
    this.subs = new Uint32Array(256);
    this.length = 0;
    return taken;
  }
}

export class PageCleaner {
  private readonly backend: Backend;
  private readonly directory: PageDirectory;
  private readonly clock: Clock;
  private readonly onError: (error: unknown) => void;
  private readonly released: { readonly removals: Removals; readonly isLast: boolean }[] = [];
  private running: Promise<void> | null = null;
  private closed = false;

  constructor(
    backend: Backend,
    directory: PageDirectory,
    clock: Clock,
    onError: (error: unknown) => void,
  ) {
    this.backend = backend;
    this.directory = directory;
    this.clock = clock;
    this.onError = onError;
  }

  /** No start can need these records any more; the tombstones go when the others are gone for good. */
  release(removals: Removals, tombstones: Removals): void {
    if (this.closed) return;
    if (removals.mains.length > 0) this.released.push({ removals, isLast: false });
    if (tombstones.mains.length > 0) this.released.push({ removals: tombstones, isLast: true });
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
        const next = first.removals;
        if (first.isLast) await this.backend.barrier();
        let from = 0;
        while (from < next.mains.length && !this.closed) {
          from = await this.cleanBatch(next, from);
          await new Promise<void>((resolve) => this.clock.after(PAUSE_MS, resolve));
        }
        this.released.shift();
      }
    } catch (error) {
      this.closed = true;
      this.onError(error);
    } finally {
      this.running = null;
    }
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
 * typed array is ten times faster than one with a comparator (a million in 0.1 s).
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

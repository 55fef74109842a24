/**
 * Moves pages from the overlay into the byte store, in order, in the background. Part of StateStore.
 *
 * It starts when a megabyte waits or when somebody wants a flush, in a later turn of the event loop, and
 * writes until less waits: what was written last is so read from memory. Nothing hurries it: a record that
 * is lost with the process is in the log.
 *
 * Invariants:
 * 1. One batch is in flight at a time, so batches reach the byte store in the order of the records.
 * 2. A page is in the overlay until its batch has resolved, and in the directory from then on: a
 *    reader finds it in one of the two at every moment.
 * 3. After the first failure nothing is written any more, and every waiter has been told.
 */
import type { Clock } from '../../clock.js';
import type { Backend, PutOperation } from './backend.js';
import { type Overlay, pageValue } from './overlay.js';
import { pageKey, pageKeyRoom } from './page.js';
import type { PageDirectory } from './page-directory.js';

const MIB = 1024 * 1024;
/** Less than this stays in memory, where it is read from. */
const START_BYTES = MIB;
/**
 * A batch has so many pages, 128 KiB where they are full of small records, or so many bytes of large ones; a page goes
 * whatever its size. LevelDB's copy of a batch grows by doubling, in memory that is fresh each time: where that is slow
 * (12 us for 4 KiB in a virtual machine whose host gives it only then) a MiB took 12 ms. With 128 KiB for large ones, too,
 * puts of 64 KiB were a fifth slower.
 */
const BATCH_PAGES = 32;
const BATCH_BYTES = MIB / 2;
/** When more than this waits, records come faster than such batches take them, as in a deletion of very many keys. Each
 *  batch keeps a thread and LevelDB busy beside the loop: from then on, until less than START_BYTES waits, it has a MiB. */
const BACKLOG_BYTES = 4 * MIB;

interface Waiter {
  readonly sealedCount: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export interface PageWriterEvents {
  /** Pages left the overlay; the batch took this long. */
  onFlushed(ms: number): void;
  onError(error: unknown): void;
}

export class PageWriter {
  private readonly backend: Backend;
  private readonly overlay: Overlay;
  private readonly directory: PageDirectory;
  private readonly clock: Clock;
  private readonly events: PageWriterEvents;
  /** In pages that were ever sealed: how many are flushed, and up to where a flush is wanted. */
  private flushedCount = 0;
  private wantedCount = 0;
  private waiters: Waiter[] = [];
  private writing: Promise<void> | null = null;
  private failed: Error | null = null;

  constructor(
    backend: Backend,
    overlay: Overlay,
    directory: PageDirectory,
    clock: Clock,
    events: PageWriterEvents,
  ) {
    this.backend = backend;
    this.overlay = overlay;
    this.directory = directory;
    this.clock = clock;
    this.events = events;
  }

  /** Resolves when every record appended before the call is in the byte store. */
  async flush(): Promise<void> {
    if (this.failed !== null) throw this.failed;
    this.overlay.seal();
    const { sealedCount } = this.overlay;
    if (this.flushedCount >= sealedCount) return;
    this.wantedCount = sealedCount;
    const flushed = new Promise<void>((resolve, reject) => {
      this.waiters.push({ sealedCount, resolve, reject });
    });
    this.maybeStart();
    await flushed;
  }

  maybeStart(): void {
    if (this.writing !== null || this.failed !== null || !this.hasWork()) return;
    this.writing = new Promise<void>((resolve) => this.clock.soon(resolve)).then(() => this.run());
  }

  /** Writes nothing more. `reason` is what waiters and later flushes get. */
  stop(reason: Error): void {
    if (this.failed !== null) return;
    this.failed = reason;
    const waiters = this.waiters;
    this.waiters = [];
    for (const waiter of waiters) waiter.reject(reason);
  }

  /** Resolves when no batch is in flight. */
  async idle(): Promise<void> {
    if (this.writing !== null) await this.writing;
  }

  private hasWork(): boolean {
    return this.flushedCount < this.wantedCount || this.overlay.sealedBytes >= START_BYTES;
  }

  private async run(): Promise<void> {
    try {
      let hasBacklog = false;
      while (this.failed === null && this.hasWork()) {
        hasBacklog = this.isBehind(hasBacklog);
        const pages = hasBacklog
          ? this.overlay.oldestSealed(Number.POSITIVE_INFINITY, MIB)
          : this.overlay.oldestSealed(BATCH_PAGES, BATCH_BYTES);
        const keys = pageKeyRoom(pages.length);
        const operations: PutOperation[] = pages.map((page, at) => ({
          key: pageKey(page.firstMain, page.firstSub, keys[at]),
          value: pageValue(page),
        }));
        const startedAt = this.clock.now();
        await this.backend.write(operations);
        for (const page of pages) this.directory.append(page.firstMain, page.firstSub);
        this.overlay.dropOldest(pages.length);
        this.flushedCount += pages.length;
        this.wakeWaiters();
        this.events.onFlushed(this.clock.now() - startedAt);
      }
    } catch (error) {
      this.events.onError(error);
    } finally {
      this.writing = null;
    }
  }

  private isBehind(before: boolean): boolean {
    const { sealedBytes } = this.overlay;
    if (sealedBytes > BACKLOG_BYTES) return true;
    return before && sealedBytes >= START_BYTES;
  }

  private wakeWaiters(): void {
    while (this.waiters.length > 0) {
      const first = this.waiters[0] as Waiter;
      if (first.sealedCount > this.flushedCount) return;
      this.waiters.shift();
      first.resolve();
    }
  }
}

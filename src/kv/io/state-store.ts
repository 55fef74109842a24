/**
 * One generation of the state on disk: the records of all revisions, and the newest checkpoint.
 * node.ts opens it, kv/store.ts reads and writes records through RecordStore, snapshot-stream.ts
 * sends and fills it.
 *
 *   write -> overlay (pages in memory) -> writer, one batch in flight -> byte store
 *   read  -> overlay -> cache of hot records -> byte store, synchronously
 *
 * Nothing is synced for each write: the log of the member is the durability. Every start goes back to
 * the newest checkpoint and replays the log from there, after whatever crash, so there is one
 * recovery path, and it is used every day. Order at start: `open`, `loadCheckpoint`, `scanRecords`.
 *
 * Invariants:
 * 1. Records at and below the revision of the newest durable checkpoint are on disk, complete, except
 *    those whose removal was asked for before that checkpoint was taken. Pages end at a checkpoint.
 * 2. Pages behind it are left-overs of a life that ended; the scan removes them before the first
 *    write, so pages never overlap. A removal that a crash undoes is done again at the next start.
 * 3. A scan may show records that were removed: the removal was not durable. The store that scans
 *    knows from its tables what is compacted and asks again. It never shows a removed put whose deletion
 *    is gone (removals.ts).
 * 4. `close` waits for reads that have begun and refuses new ones with STOPPED: a state is closed when
 *    a snapshot takes its place, and who still reads it has met no failure.
 */
import { assert } from '../../assert.js';
import { MalformedBytesError } from '../../bytes.js';
import type { Clock } from '../../clock.js';
import { systemClock } from '../../clock.js';
import { FatalError, KvError } from '../../errors.js';
import type { SnapshotMeta } from '../../raft/message.js';
import type { RecordStore } from '../record-store.js';
import type { Backend, BackendIterator, PutOperation, StateFolders } from './backend.js';
import type { Checkpoint } from './checkpoint-slots.js';
import { CheckpointSlots } from './checkpoint-slots.js';
import { Overlay, pageView } from './overlay.js';
import type { OnPlace } from './page.js';
import { checkPage, eachPlace, findRecord, PAGES_END, pageKey, parsePageKey } from './page.js';
import { PageDirectory } from './page-directory.js';
import { PageWriter } from './page-writer.js';
import { RecordCache } from './record-cache.js';
import { PageCleaner, RemovalQueue } from './removals.js';
import type { RevisionRun } from './revision-run.js';
import { RevisionCollector } from './revision-run.js';
import { NodeStateFolders } from './state-folders.js';

export interface StateStoreOptions {
  readonly dataDir: string;
  readonly generation: number;
  /** Kept in the folder; a folder of another cluster is refused. */
  readonly clusterId: number;
  /** Where generations lie; default `<dataDir>/state` on the real disk. */
  readonly folders?: StateFolders;
  readonly clock?: Clock;
  /** Above this much unflushed data, `isOverloaded`; the node stops applying. Default 128 MiB. */
  readonly overlayBytesMax?: number;
  /** Copies of hot records. Default 32 MiB. */
  readonly cacheBytes?: number;
  /** The byte store failed. Called once; nothing that is asked for later will work. */
  readonly onFatal?: (error: FatalError) => void;
  /** Not overloaded any more. */
  readonly onDrain?: () => void;
  /** A batch of pages is in the byte store; how long it took. */
  readonly onCommitted?: (ms: number) => void;
}

const MIB = 1024 * 1024;
const REMOVE_BATCH = 1000;
const DEFRAGMENT_SLICE_PAGES = 2 * 1024;
const DEFRAGMENT_PAGES_MIN = 1024;
const SIZE_MAX_AGE_MS = 5000;
/** Read at a time from what is pinned: 256 KiB where they are full, about as much as a chunk of a snapshot takes. Keys and values
 *  become buffers in one go, and while V8 marks each new buffer has it mark for milliseconds there and then. */
const PINNED_PAGES = 64;

export class StateStore implements RecordStore {
  readonly generation: number;
  /** Records that nobody needs any more and that may still be on disk. */
  recordsToRemove = 0;
  private readonly backend: Backend;
  private readonly folders: StateFolders;
  private readonly clusterId: number;
  private readonly clock: Clock;
  private readonly overlayBytesMax: number;
  private readonly onFatal: (error: FatalError) => void;
  private readonly onDrain: () => void;
  private readonly overlay = new Overlay();
  private readonly directory = new PageDirectory();
  private readonly cache: RecordCache;
  private readonly slots: CheckpointSlots;
  private readonly removals = new RemovalQueue();
  private readonly tombstones = new RemovalQueue();
  private readonly cleaner: PageCleaner;
  private readonly writer: PageWriter;
  private readonly key = pageKey(0, 0);
  /** The page read last: neighbours in key order are often neighbours in time. */
  private lastPage: { main: number; sub: number; page: Uint8Array } | null = null;
  private scanned = false;
  private closed = false;
  private closing = false;
  /** Reads of many pages under way. */
  private readonly reading = new Set<Promise<unknown>>();
  private failed: FatalError | null = null;
  private overloaded = false;
  private checkpointing: Promise<void> = Promise.resolve();
  private diskBytes = 0;
  /** Pages removed before the space was last given back. */
  private defragmentedAt = 0;
  private diskBytesAt = Number.NEGATIVE_INFINITY;

  private constructor(backend: Backend, folders: StateFolders, options: StateStoreOptions) {
    this.generation = options.generation;
    this.backend = backend;
    this.folders = folders;
    this.clusterId = options.clusterId;
    this.clock = options.clock ?? systemClock;
    this.overlayBytesMax = options.overlayBytesMax ?? 128 * MIB;
    this.onFatal = options.onFatal ?? (() => {});
    this.onDrain = options.onDrain ?? (() => {});
    this.cache = new RecordCache(options.cacheBytes ?? 32 * MIB);
    this.slots = new CheckpointSlots(backend);
    this.cleaner = new PageCleaner(backend, this.directory, this.clock, {
      onError: (error) => this.fail(error),
      onRemoved: (records) => {
        this.recordsToRemove -= records;
      },
      onIdle: () => this.maybeDefragment(),
    });
    this.writer = new PageWriter(backend, this.overlay, this.directory, this.clock, {
      onFlushed: (ms) => {
        options.onCommitted?.(ms);
        this.maybeDrain();
      },
      onError: (error) => this.fail(error),
    });
  }

  /** Opens a generation. One that is missing or was never completed begins empty. */
  static async open(options: StateStoreOptions): Promise<StateStore> {
    const { generation, clusterId } = options;
    const folders = options.folders ?? new NodeStateFolders(options.dataDir);
    const known = await folders.list();
    if (!known.some((folder) => folder.generation === generation && folder.complete)) {
      const store = await StateStore.create(options);
      await store.complete();
      return store;
    }
    const backend = await folders.open(generation, clusterId);
    const store = new StateStore(backend, folders, options);
    store.slots.open();
    // Without a checkpoint the state is empty, whatever an earlier life left behind.
    if (store.slots.revision === null) await store.scanRecords(0, () => {});
    return store;
  }

  /** A fresh folder that no start will open until `complete`. */
  static async create(options: StateStoreOptions): Promise<StateStore> {
    const folders = options.folders ?? new NodeStateFolders(options.dataDir);
    const store = new StateStore(await folders.create(options.generation), folders, options);
    await store.scanRecords(0, () => {});
    return store;
  }

  /** From now on a start may open this folder. What it needs must be in a durable checkpoint. */
  async complete(): Promise<void> {
    await this.guard(this.folders.markComplete(this.generation, this.clusterId));
  }

  /** Where it lies, for messages. */
  get folder(): string {
    return this.backend.name;
  }

  /** Unflushed bytes in memory. */
  get overlayBytes(): number {
    return this.overlay.bytes;
  }

  /** The disk does not keep up: apply nothing more until `onDrain`. */
  get isOverloaded(): boolean {
    return this.overloaded;
  }

  write(main: number, sub: number, record: Uint8Array): Uint8Array {
    assert(this.scanned, 'the records were not scanned yet');
    assert(!this.closed, 'the state store is closed');
    const kept = this.overlay.append(main, sub, record);
    if (this.overlay.bytes > this.overlayBytesMax) this.overloaded = true;
    this.writer.maybeStart();
    return kept;
  }

  read(main: number, sub: number): Uint8Array {
    const record =
      this.overlay.find(main, sub) ?? this.cache.get(main, sub) ?? this.readFromDisk(main, sub);
    if (record !== null) return record;
    throw this.fail(
      new FatalError(
        `the state in ${this.backend.name} has lost the record of revision ${main}/${sub}`,
      ),
    );
  }

  remove(main: number, sub: number, isTombstone: boolean): void {
    (isTombstone ? this.tombstones : this.removals).add(main, sub);
    this.recordsToRemove += 1;
  }

  /** Resolves when every record written before the call is in the byte store, though not durable. */
  async flush(): Promise<void> {
    await this.writer.flush();
  }

  /**
   * Makes the state durable as it is at the time of the call: every record written, and `tables`.
   * Writes may go on meanwhile. Resolved, the log in front of `mark.index` is no longer needed.
   */
  async checkpoint(mark: SnapshotMeta, revision: number, tables: Uint8Array): Promise<void> {
    assert(
      revision >= this.overlay.lastMain,
      `checkpoint at revision ${revision}, but ${this.overlay.lastMain} is written`,
    );
    const flushed = this.flush();
    const removals = this.removals.take();
    const tombstones = this.tombstones.take();
    const before = this.checkpointing;
    const done = (async () => {
      await Promise.all([flushed, before]);
      try {
        await this.slots.save({ mark, revision, tables });
      } catch (error) {
        throw this.fail(error);
      }
      this.cleaner.release(removals, tombstones);
    })();
    // The next one waits for this one, but only the caller of this one hears of its failure.
    this.checkpointing = done.catch(() => {});
    await done;
  }

  /** The newest durable checkpoint, or null in a fresh folder. */
  async loadCheckpoint(): Promise<Checkpoint | null> {
    return await this.slots.load();
  }

  /**
   * Shows every record up to `maxMain`, the revision of the checkpoint, in order; forgets those
   * behind it. Must run once before the first write. Pages are valid until the callback returns.
   */
  async scanRecords(maxMain: number, onPlace: OnPlace): Promise<void> {
    assert(!this.scanned, 'the records were scanned already');
    const revision = this.slots.revision ?? 0;
    assert(maxMain === revision, `scan to ${maxMain}, but the checkpoint is at ${revision}`);
    let lastMain = -1;
    let lastSub = 0;
    const check: OnPlace = (main, sub, page, start, end) => {
      const ascends = main > lastMain || (main === lastMain && sub > lastSub);
      if (!ascends || main > maxMain) {
        throw new MalformedBytesError(`record ${main}/${sub} comes behind ${lastMain}/${lastSub}`);
      }
      lastMain = main;
      lastSub = sub;
      onPlace(main, sub, page, start, end);
    };
    const pages = this.backend.iterate({ from: pageKey(0, 0), to: pageKey(maxMain + 1, 0) });
    await this.eachEntry(pages, (key, page) => {
      const { main, sub } = parsePageKey(key);
      this.directory.append(main, sub);
      checkPage(page);
      eachPlace(page, check);
      return true;
    });
    await this.removeFrom(maxMain + 1);
    if (this.directory.rows > 0) await this.guard(this.backend.trim());
    this.overlay.startAfter(maxMain);
    this.scanned = true;
  }

  /**
   * Whole revisions from `fromMain` to `toMain`, both included, until `bytesMax` is passed; at least
   * one. Records that are being removed may or may not be among them.
   */
  readRevisions(fromMain: number, toMain: number, bytesMax: number): Promise<RevisionRun> {
    return this.whileOpen(() => this.collectRevisions(fromMain, toMain, bytesMax));
  }

  private async collectRevisions(
    fromMain: number,
    toMain: number,
    bytesMax: number,
  ): Promise<RevisionRun> {
    // Both halves are taken now: what is flushed later stays in `fresh`, and the iterator is pinned.
    const fresh = this.overlay.pagesWithin(fromMain, toMain);
    const first = this.overlay.first();
    const row = Math.max(0, this.directory.floor(fromMain, 0));
    const from = this.directory.rows === 0 ? pageKey(fromMain, 0) : this.pageKeyAt(row);
    const to = first === null ? PAGES_END : pageKey(first.firstMain, first.firstSub);
    const collector = new RevisionCollector(fromMain, toMain, bytesMax);
    const isOnDisk =
      first === null ||
      first.firstMain > fromMain ||
      (first.firstMain === fromMain && first.firstSub > 0);
    if (isOnDisk) {
      const pages = this.backend.iterate({ from, to });
      await this.eachEntry(pages, (_key, page) => {
        checkPage(page);
        return collector.take(page);
      });
    }
    for (const page of fresh) if (!collector.take(pageView(page))) break;
    return collector.finish();
  }

  /**
   * The pages as they are when the call is made, of revisions up to `maxMain`. The caller closes it.
   * No removal can hurt it: one that is asked for after this call waits for a checkpoint that
   * flushes at least as much as this call does. It does not keep the store open: invariant 4 holds for
   * each of its steps.
   */
  pin(maxMain: number): Promise<BackendIterator> {
    return this.whileOpen(async () => {
      await this.flush();
      const range = { from: pageKey(0, 0), to: pageKey(maxMain + 1, 0) };
      const pages = this.backend.iterate(range, { entriesMax: PINNED_PAGES });
      return { next: () => this.whileOpen(() => pages.next()), close: () => pages.close() };
    });
  }

  /** Resolves after a full turn of the event loop. */
  turn(): Promise<void> {
    return new Promise((resolve) => this.clock.soon(resolve));
  }

  /** Bytes of records, on disk (looked up every few seconds) and in memory. */
  approximateBytes(): number {
    const now = this.clock.now();
    if (now - this.diskBytesAt > SIZE_MAX_AGE_MS && this.failed === null && !this.closed) {
      this.diskBytesAt = now;
      this.backend.approximateBytes({ from: pageKey(0, 0), to: PAGES_END }).then(
        (bytes) => {
          this.diskBytes = bytes;
        },
        (error: unknown) => {
          if (!this.closed) this.fail(error);
        },
      );
    }
    return this.diskBytes + this.overlay.bytes;
  }

  /** Gives space of removed records back to the disk, slice by slice. */
  defragment(): Promise<void> {
    return this.whileOpen(() => this.compactAll());
  }

  /** The byte store keeps the space of what was removed until it happens to rewrite it. When pages
   *  have gone in numbers, it is told to. */
  private maybeDefragment(): void {
    const { removedPages, count } = this.directory;
    if (removedPages - this.defragmentedAt < Math.max(DEFRAGMENT_PAGES_MIN, count / 2)) return;
    // Whoever closes the store meanwhile has no use for it, and a failure was told by the store.
    this.defragment().catch(() => undefined);
  }

  private async compactAll(): Promise<void> {
    this.defragmentedAt = this.directory.removedPages;
    await this.flush();
    let from = pageKey(0, 0);
    for (let row = DEFRAGMENT_SLICE_PAGES; ; row += DEFRAGMENT_SLICE_PAGES) {
      const isLast = row >= this.directory.rows;
      const to = isLast ? PAGES_END : this.pageKeyAt(row);
      const startedAt = this.clock.now();
      await this.guard(this.backend.compact({ from, to }));
      if (isLast || this.closing) return;
      from = to;
      // The log has the disk to itself for as long.
      const rest = this.clock.now() - startedAt;
      await new Promise<void>((resolve) => this.clock.after(rest, resolve));
    }
  }

  /** Resolves when all removals that a checkpoint released are done. */
  async cleaned(): Promise<void> {
    await this.cleaner.idle();
  }

  /** Flushes what was written and closes the byte store. Makes no checkpoint. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closing = true;
    if (this.failed === null) await this.flush();
    await this.checkpointing;
    while (this.reading.size > 0) await Promise.allSettled(this.reading);
    if (this.closed) return;
    this.closed = true;
    await this.cleaner.close();
    await this.writer.idle();
    await this.backend.close();
  }

  /** Closes without a flush and removes the folder. */
  async destroy(): Promise<void> {
    if (!this.closed) {
      this.closing = true;
      this.closed = true;
      this.writer.stop(new FatalError(`the state in ${this.folder} was removed`));
      await this.checkpointing;
      while (this.reading.size > 0) await Promise.allSettled(this.reading);
      await this.cleaner.close();
      await this.writer.idle();
      await this.backend.close();
    }
    await this.folders.remove(this.generation);
  }

  private async whileOpen<T>(work: () => Promise<T>): Promise<T> {
    if (this.closing) {
      throw new KvError('STOPPED', 'this state was replaced or closed meanwhile; ask again');
    }
    const running = work();
    this.reading.add(running);
    try {
      return await running;
    } finally {
      this.reading.delete(running);
    }
  }

  private readFromDisk(main: number, sub: number): Uint8Array | null {
    const row = this.directory.floor(main, sub);
    if (row < 0) return null;
    const pageMain = this.directory.mainAt(row);
    const pageSub = this.directory.subAt(row);
    const last = this.lastPage;
    let page = last !== null && last.main === pageMain && last.sub === pageSub ? last.page : null;
    if (page === null) {
      const value = this.backend.get(pageKey(pageMain, pageSub, this.key));
      if (value === undefined) return null;
      this.guardPage(() => checkPage(value));
      page = value;
      this.lastPage = { main: pageMain, sub: pageSub, page };
    }
    const record = findRecord(page, main, sub);
    if (record !== null) this.cache.add(main, sub, record);
    return record;
  }

  private maybeDrain(): void {
    if (!this.overloaded || this.overlay.bytes > this.overlayBytesMax / 2) return;
    this.overloaded = false;
    this.onDrain();
  }

  /** Runs over all entries, reading ahead; stops early when `onEntry` returns false. */
  private async eachEntry(
    iterator: BackendIterator,
    onEntry: (key: Uint8Array, value: Uint8Array) => boolean,
  ): Promise<void> {
    let ahead = iterator.next();
    try {
      for (;;) {
        const entries = await ahead;
        if (entries.length === 0) return;
        ahead = iterator.next();
        for (const [key, value] of entries) if (!onEntry(key, value)) return;
      }
    } catch (error) {
      // What the callback throws of its own accord is no damage of ours.
      const isOurs = error instanceof FatalError || error instanceof MalformedBytesError;
      throw isOurs ? this.fail(error) : error;
    } finally {
      await ahead.catch(() => {});
      await iterator.close();
    }
  }

  private async removeFrom(main: number): Promise<void> {
    const range = { from: pageKey(main, 0), to: PAGES_END };
    const stale: PutOperation[] = [];
    await this.eachEntry(this.backend.iterate(range, { keysOnly: true }), (key) => {
      stale.push({ key, value: null });
      return true;
    });
    for (let at = 0; at < stale.length; at += REMOVE_BATCH) {
      await this.guard(this.backend.write(stale.slice(at, at + REMOVE_BATCH)));
    }
  }

  private pageKeyAt(row: number): Uint8Array {
    return pageKey(this.directory.mainAt(row), this.directory.subAt(row));
  }

  private async guard(work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      throw this.fail(error);
    }
  }

  private guardPage(check: () => void): void {
    try {
      check();
    } catch (error) {
      throw this.fail(error);
    }
  }

  /** Latches the first failure, tells everybody who waits; what to throw. A bug stays a bug. */
  private fail(error: unknown): Error {
    if (!(error instanceof FatalError || error instanceof MalformedBytesError)) {
      if (this.failed === null) this.latch(new FatalError('the state store has a bug', error));
      return error instanceof Error ? error : new Error(String(error));
    }
    const fatal =
      error instanceof FatalError
        ? error
        : new FatalError(`the state in ${this.backend.name} is damaged: ${error.message}`, error);
    if (this.failed === null) this.latch(fatal);
    return fatal;
  }

  private latch(fatal: FatalError): void {
    this.failed = fatal;
    this.writer.stop(fatal);
    this.onFatal(fatal);
  }
}

/**
 * The receiving end of a snapshot: fills a fresh generation folder, which no start will open before
 * all of it is verified and durable.
 *
 *   accept(chunk)*  -> records into a new StateStore, tables into memory
 *   finish()        -> totals and checksum compared -> checkpoint (barrier) -> marker -> closed
 *   abort()         -> folder removed; after a refusal too
 *
 * A chunk that is damaged, out of order, of another cluster or of another snapshot (snapshot-parser.ts)
 * is refused with KvError CORRUPT, and so is everything behind it: the sender must begin anew.
 *
 * Invariant: `finish` resolves only if every byte of the stream was received, in order.
 */
import { assert } from '../../assert.js';
import { MalformedBytesError } from '../../bytes.js';
import { KvError } from '../../errors.js';
import type { Checkpoint } from './checkpoint-slots.js';
import { SnapshotParser } from './snapshot-parser.js';
import type { StateStoreOptions } from './state-store.js';
import { StateStore } from './state-store.js';

/** Above this much unflushed data `accept` waits for the disk. */
const UNFLUSHED_BYTES_MAX = 16 * 1024 * 1024;

export class SnapshotReceiver {
  private readonly options: StateStoreOptions;
  private readonly parser: SnapshotParser;
  private opening: Promise<StateStore> | null = null;
  private store: StateStore | null = null;
  private queue: Promise<void> = Promise.resolve();
  private refusal: unknown = null;
  private aborted = false;

  constructor(options: StateStoreOptions) {
    // Most of what is received is never read before the restart of the machine.
    this.options = { cacheBytes: 64 * 1024, ...options };
    this.parser = new SnapshotParser(options.clusterId, (main, sub, bytes) => {
      assert(this.store !== null, 'a record came before its store was open');
      this.store.write(main, sub, bytes);
    });
  }

  /** Resolves when the next chunk may come. Chunks are handled in the order of the calls. */
  accept(chunk: Uint8Array): Promise<void> {
    const done = this.queue.then(() => this.handle(chunk));
    this.queue = done.catch(() => {});
    return done;
  }

  /** The whole state is on this disk, durable, in a complete folder that is closed again. */
  async finish(): Promise<Checkpoint> {
    await this.queue;
    this.assertUsable();
    const { head, isComplete, chunkCount } = this.parser;
    if (head === null || !isComplete) {
      throw this.refuse(`the snapshot ends after ${chunkCount} chunks, without its last one`);
    }
    const { generation } = this.options;
    const mark = { ...head.mark, generation };
    const store = await this.opened();
    await store.checkpoint(mark, head.revision, head.tables);
    await store.close();
    await store.complete();
    this.aborted = true;
    return { mark, revision: head.revision, tables: head.tables };
  }

  /** Removes what was received. Does nothing after a `finish` that resolved. */
  async abort(): Promise<void> {
    if (this.aborted) return;
    this.aborted = true;
    await this.queue;
    const store = await this.opening?.catch(() => null);
    await store?.destroy();
  }

  private async handle(bytes: Uint8Array): Promise<void> {
    this.assertUsable();
    try {
      // Behind the header there may be records, and they need a place.
      const store = this.parser.head === null ? null : await this.opened();
      this.parser.take(bytes);
      if (store !== null && store.overlayBytes > UNFLUSHED_BYTES_MAX) await store.flush();
    } catch (error) {
      if (error instanceof MalformedBytesError) throw this.refuse(error.message);
      this.refusal = error;
      throw error;
    }
  }

  private async opened(): Promise<StateStore> {
    this.opening ??= StateStore.create(this.options);
    this.store = await this.opening;
    return this.store;
  }

  private assertUsable(): void {
    assert(!this.aborted, 'the receiver was finished or aborted');
    if (this.refusal !== null) throw this.refusal;
  }

  private refuse(text: string): KvError {
    const refusal = new KvError('CORRUPT', `snapshot refused: ${text}`);
    this.refusal = refusal;
    return refusal;
  }
}

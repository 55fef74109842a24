/**
 * The receiving end of a snapshot: fills a fresh generation folder, which no start will open before
 * all of it is verified and durable.
 *
 *   accept(chunk)*  -> records into a new StateStore, tables into memory
 *   finish()        -> totals and checksum compared -> checkpoint (barrier) -> marker -> closed
 *   abort()         -> folder removed; after a refusal too
 *
 * A chunk that is damaged, out of order, of another cluster or of another snapshot is refused with
 * KvError CORRUPT, and so is everything behind it: the sender must begin anew.
 *
 * Invariant: `finish` resolves only if every byte of the stream was received, in order.
 */
import { crc32 } from 'node:zlib';
import { assert } from '../../assert.js';
import { ByteReader, copyBytes, MalformedBytesError } from '../../bytes.js';
import { KvError } from '../../errors.js';
import type { SnapshotMeta } from '../../raft/message.js';
import type { Checkpoint } from './checkpoint-slots.js';
import { takeMark } from './checkpoint-slots.js';
import { checkPage, eachRecord } from './page.js';
import type { Chunk } from './snapshot-chunk.js';
import { ChunkKind, parseChunk, SNAPSHOT_FORMAT } from './snapshot-chunk.js';
import type { StateStoreOptions } from './state-store.js';
import { StateStore } from './state-store.js';

/** Bounds on what a sender can make this member hold in memory. */
const PAGE_BYTES_LIMIT = 64 * 1024 * 1024;
const TABLES_BYTES_LIMIT = 1024 * 1024 * 1024;
/** Above this much unflushed data `accept` waits for the disk. */
const UNFLUSHED_BYTES_MAX = 16 * 1024 * 1024;

interface Header {
  readonly mark: SnapshotMeta;
  readonly revision: number;
  readonly tables: Uint8Array;
}

export class SnapshotReceiver {
  private readonly options: StateStoreOptions;
  private store: Promise<StateStore> | null = null;
  private queue: Promise<void> = Promise.resolve();
  private refusal: unknown = null;
  private aborted = false;
  private header: Header | null = null;
  private tablesAt = 0;
  private number = 0;
  private kind: number = ChunkKind.Header;
  private checksum = 0;
  private recordCount = 0;
  private lastMain = -1;
  private lastSub = 0;
  private isComplete = false;
  /** Bytes of a page whose end is in a later chunk. */
  private rest: Uint8Array[] = [];
  private restBytes = 0;

  constructor(options: StateStoreOptions) {
    // Most of what is received is never read before the restart of the machine.
    this.options = { cacheBytes: 64 * 1024, ...options };
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
    const header = this.header;
    if (header === null || !this.isComplete) {
      throw this.refuse(`the snapshot ends after ${this.number} chunks, without its last one`);
    }
    const { generation } = this.options;
    const mark = { ...header.mark, generation };
    const store = await this.opened();
    await store.checkpoint(mark, header.revision, header.tables);
    await store.close();
    await store.complete();
    this.aborted = true;
    return { mark, revision: header.revision, tables: header.tables };
  }

  /** Removes what was received. Does nothing after a `finish` that resolved. */
  async abort(): Promise<void> {
    if (this.aborted) return;
    this.aborted = true;
    await this.queue;
    const store = await this.store?.catch(() => null);
    await store?.destroy();
  }

  private async handle(bytes: Uint8Array): Promise<void> {
    this.assertUsable();
    try {
      const chunk = parseChunk(bytes);
      this.checkPlace(chunk);
      if (chunk.kind === ChunkKind.Header) this.takeHeader(chunk.payload);
      else if (chunk.kind === ChunkKind.Tables) this.takeTables(chunk.payload);
      else if (chunk.kind === ChunkKind.Pages) await this.takePages(chunk.payload);
      else this.takeEnd(chunk.payload);
      this.number += 1;
      this.checksum = crc32(chunk.payload, this.checksum);
    } catch (error) {
      if (error instanceof MalformedBytesError) throw this.refuse(error.message);
      this.refusal = error;
      throw error;
    }
  }

  private checkPlace(chunk: Chunk): void {
    const { clusterId } = this.options;
    if (chunk.clusterId !== clusterId) {
      throw this.refuse(
        `a snapshot of cluster ${chunk.clusterId.toString(16)} came to ${clusterId.toString(16)}`,
      );
    }
    if (chunk.number !== this.number) {
      throw this.refuse(`chunk ${chunk.number} came where ${this.number} was expected`);
    }
    const isInOrder =
      chunk.kind >= this.kind &&
      chunk.kind <= ChunkKind.End &&
      (this.number === 0) === (chunk.kind === ChunkKind.Header) &&
      !this.isComplete;
    if (!isInOrder) throw this.refuse(`chunk of kind ${chunk.kind} came behind ${this.kind}`);
    if (this.header !== null && chunk.index !== this.header.mark.index) {
      throw this.refuse(
        `a chunk of snapshot ${chunk.index} came into snapshot ${this.header.mark.index}`,
      );
    }
    this.kind = chunk.kind;
  }

  private takeHeader(payload: Uint8Array): void {
    const reader = new ByteReader(payload);
    const format = reader.varint();
    if (format !== SNAPSHOT_FORMAT) throw this.refuse(`snapshot format ${format} is not known`);
    const mark = takeMark(reader);
    const revision = reader.varint();
    const tablesBytes = reader.varint();
    if (tablesBytes > TABLES_BYTES_LIMIT) throw this.refuse(`tables of ${tablesBytes} bytes`);
    this.header = { mark, revision, tables: new Uint8Array(tablesBytes) };
  }

  private takeTables(payload: Uint8Array): void {
    const { tables } = this.header as Header;
    if (this.tablesAt + payload.length > tables.length) {
      throw this.refuse(`the tables are longer than ${tables.length} bytes`);
    }
    tables.set(payload, this.tablesAt);
    this.tablesAt += payload.length;
  }

  private async takePages(payload: Uint8Array): Promise<void> {
    const store = await this.opened();
    this.rest.push(payload);
    this.restBytes += payload.length;
    if (this.restBytes < this.wantedBytes()) {
      // The chunk belongs to the caller again when this resolves.
      this.rest[this.rest.length - 1] = copyBytes(payload);
    } else {
      const bytes = this.rest.length === 1 ? payload : Buffer.concat(this.rest);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      let at = 0;
      while (at + 4 <= bytes.length && at + 4 + view.getUint32(at, true) <= bytes.length) {
        const end = at + 4 + view.getUint32(at, true);
        this.takePage(store, bytes.subarray(at + 4, end));
        at = end;
      }
      this.rest = at === bytes.length ? [] : [copyBytes(bytes.subarray(at))];
      this.restBytes = bytes.length - at;
    }
    if (this.wantedBytes() > PAGE_BYTES_LIMIT) throw this.refuse('a page is too large');
    if (store.overlayBytes > UNFLUSHED_BYTES_MAX) await store.flush();
  }

  /** Bytes of `rest` that make the next page complete, as far as its length is known. */
  private wantedBytes(): number {
    const first = this.rest[0];
    if (first === undefined || first.length < 4) return 4;
    return 4 + new DataView(first.buffer, first.byteOffset).getUint32(0, true);
  }

  private takePage(store: StateStore, page: Uint8Array): void {
    const { revision } = this.header as Header;
    checkPage(page);
    eachRecord(page, (main, sub, bytes) => {
      const ascends = main > this.lastMain || (main === this.lastMain && sub > this.lastSub);
      if (!ascends || main === 0 || main > revision) {
        throw new MalformedBytesError(`record ${main}/${sub} is out of place`);
      }
      this.lastMain = main;
      this.lastSub = sub;
      this.recordCount += 1;
      store.write(main, sub, bytes);
    });
  }

  private takeEnd(payload: Uint8Array): void {
    const reader = new ByteReader(payload);
    const chunkCount = reader.varint();
    const recordCount = reader.varint();
    const checksum = reader.u32();
    const header = this.header as Header;
    if (
      chunkCount !== this.number ||
      recordCount !== this.recordCount ||
      checksum !== this.checksum ||
      this.tablesAt !== header.tables.length ||
      this.restBytes !== 0
    ) {
      throw this.refuse(
        `${this.recordCount} records in ${this.number} chunks came, ${recordCount} in ${chunkCount} were sent`,
      );
    }
    this.isComplete = true;
  }

  private opened(): Promise<StateStore> {
    this.store ??= StateStore.create(this.options);
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

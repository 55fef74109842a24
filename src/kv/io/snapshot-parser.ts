/**
 * Reads the chunks of a snapshot one by one and believes none of them: place, kind, cluster and order are
 * checked, every page and every record, and at the end the totals and the checksum over all of it.
 *
 * Used by SnapshotReceiver, which makes a state of what comes, and by the reader of backups. What is
 * wrong is a MalformedBytesError; nothing may be handed in after one.
 *
 * Invariants: 1. `isComplete` is true only when every byte of the stream was seen, in order. 2. Records
 * come in ascending order, none above the revision of the header.
 */
import { crc32 } from 'node:zlib';
import { ByteReader, copyBytes, MalformedBytesError } from '../../bytes.js';
import type { SnapshotMeta } from '../../raft/message.js';
import { takeMark } from './checkpoint-slots.js';
import type { OnRecord } from './page.js';
import { checkPage, eachRecord } from './page.js';
import type { Chunk } from './snapshot-chunk.js';
import { ChunkKind, parseChunk, SNAPSHOT_FORMAT } from './snapshot-chunk.js';

/** Bounds on what a sender can make this process hold in memory. */
const PAGE_BYTES_LIMIT = 64 * 1024 * 1024;
const TABLES_BYTES_LIMIT = 1024 * 1024 * 1024;

export interface SnapshotHead {
  readonly mark: SnapshotMeta;
  readonly revision: number;
  /** Whole when the first record comes. */
  readonly tables: Uint8Array;
}

export class SnapshotParser {
  private readonly clusterId: number;
  private readonly onRecord: OnRecord;
  private currentHead: SnapshotHead | null = null;
  private tablesAt = 0;
  private number = 0;
  private kind: number = ChunkKind.Header;
  private checksum = 0;
  private records = 0;
  private lastMain = -1;
  private lastSub = 0;
  private complete = false;
  /** Bytes of a page whose end is in a later chunk. */
  private rest: Uint8Array[] = [];
  private restBytes = 0;

  /** The bytes that `onRecord` gets are valid until it returns. */
  constructor(clusterId: number, onRecord: OnRecord) {
    this.clusterId = clusterId;
    this.onRecord = onRecord;
  }

  /** Null before the first chunk. */
  get head(): SnapshotHead | null {
    return this.currentHead;
  }

  get chunkCount(): number {
    return this.number;
  }

  get isComplete(): boolean {
    return this.complete;
  }

  /** The next chunk. It belongs to the caller again when this returns. */
  take(bytes: Uint8Array): void {
    const chunk = parseChunk(bytes);
    this.checkPlace(chunk);
    if (chunk.kind === ChunkKind.Header) this.takeHeader(chunk.payload);
    else if (chunk.kind === ChunkKind.Tables) this.takeTables(chunk.payload);
    else if (chunk.kind === ChunkKind.Pages) this.takePages(chunk.payload);
    else this.takeEnd(chunk.payload);
    this.number += 1;
    this.checksum = crc32(chunk.payload, this.checksum);
  }

  private checkPlace(chunk: Chunk): void {
    if (chunk.clusterId !== this.clusterId) {
      throw new MalformedBytesError(
        `a snapshot of cluster ${chunk.clusterId.toString(16)} came to ${this.clusterId.toString(16)}`,
      );
    }
    if (chunk.number !== this.number) {
      throw new MalformedBytesError(`chunk ${chunk.number} came where ${this.number} was expected`);
    }
    const isInOrder =
      chunk.kind >= this.kind &&
      chunk.kind <= ChunkKind.End &&
      (this.number === 0) === (chunk.kind === ChunkKind.Header) &&
      !this.complete;
    if (!isInOrder) {
      throw new MalformedBytesError(`chunk of kind ${chunk.kind} came behind ${this.kind}`);
    }
    if (this.currentHead !== null && chunk.index !== this.currentHead.mark.index) {
      throw new MalformedBytesError(
        `a chunk of snapshot ${chunk.index} came into snapshot ${this.currentHead.mark.index}`,
      );
    }
    this.kind = chunk.kind;
  }

  private takeHeader(payload: Uint8Array): void {
    const reader = new ByteReader(payload);
    const format = reader.varint();
    if (format !== SNAPSHOT_FORMAT) {
      throw new MalformedBytesError(`snapshot format ${format} is not known`);
    }
    const mark = takeMark(reader);
    const revision = reader.varint();
    const tablesBytes = reader.varint();
    if (tablesBytes > TABLES_BYTES_LIMIT) {
      throw new MalformedBytesError(`tables of ${tablesBytes} bytes`);
    }
    this.currentHead = { mark, revision, tables: new Uint8Array(tablesBytes) };
  }

  private takeTables(payload: Uint8Array): void {
    const { tables } = this.currentHead as SnapshotHead;
    if (this.tablesAt + payload.length > tables.length) {
      throw new MalformedBytesError(`the tables are longer than ${tables.length} bytes`);
    }
    tables.set(payload, this.tablesAt);
    this.tablesAt += payload.length;
  }

  private takePages(payload: Uint8Array): void {
    this.rest.push(payload);
    this.restBytes += payload.length;
    if (this.restBytes < this.wantedBytes()) {
      this.rest[this.rest.length - 1] = copyBytes(payload);
    } else {
      const bytes = this.rest.length === 1 ? payload : Buffer.concat(this.rest);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      let at = 0;
      while (at + 4 <= bytes.length && at + 4 + view.getUint32(at, true) <= bytes.length) {
        const end = at + 4 + view.getUint32(at, true);
        this.takePage(bytes.subarray(at + 4, end));
        at = end;
      }
      this.rest = at === bytes.length ? [] : [copyBytes(bytes.subarray(at))];
      this.restBytes = bytes.length - at;
    }
    if (this.wantedBytes() > PAGE_BYTES_LIMIT) throw new MalformedBytesError('a page is too large');
  }

  /** Bytes of `rest` that make the next page complete, as far as its length is known. */
  private wantedBytes(): number {
    const first = this.rest[0];
    if (first === undefined || first.length < 4) return 4;
    return 4 + new DataView(first.buffer, first.byteOffset).getUint32(0, true);
  }

  private takePage(page: Uint8Array): void {
    const { revision } = this.currentHead as SnapshotHead;
    checkPage(page);
    eachRecord(page, (main, sub, bytes) => {
      const ascends = main > this.lastMain || (main === this.lastMain && sub > this.lastSub);
      if (!ascends || main === 0 || main > revision) {
        throw new MalformedBytesError(`record ${main}/${sub} is out of place`);
      }
      this.lastMain = main;
      this.lastSub = sub;
      this.records += 1;
      this.onRecord(main, sub, bytes);
    });
  }

  private takeEnd(payload: Uint8Array): void {
    const reader = new ByteReader(payload);
    const chunkCount = reader.varint();
    const recordCount = reader.varint();
    const checksum = reader.u32();
    const head = this.currentHead as SnapshotHead;
    if (
      chunkCount !== this.number ||
      recordCount !== this.records ||
      checksum !== this.checksum ||
      this.tablesAt !== head.tables.length ||
      this.restBytes !== 0
    ) {
      throw new MalformedBytesError(
        `${this.records} records in ${this.number} chunks came, ${recordCount} in ${chunkCount} were sent`,
      );
    }
    this.complete = true;
  }
}

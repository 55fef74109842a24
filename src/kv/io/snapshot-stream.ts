/**
 * A state on its way to another member. The sending end reads pages of a pinned view of the byte
 * store, so the state that is sent stands still while the member goes on; the receiving end is in
 * snapshot-receiver.ts, the frame in snapshot-chunk.ts.
 *
 * The consumer pulls: nothing is read ahead but one batch of pages, and each chunk takes a turn of
 * the event loop of its own. Records behind the revision of the snapshot were written after the call
 * and are left out.
 */
import { crc32 } from 'node:zlib';
import { ByteWriter } from '../../bytes.js';
import type { SnapshotMeta } from '../../raft/message.js';
import type { BackendIterator } from './backend.js';
import { putMark } from './checkpoint-slots.js';
import { checkPage, eachPlace, withoutRecords } from './page.js';
import {
  CHUNK_HEADER_BYTES,
  CHUNK_PAYLOAD_MAX,
  ChunkKind,
  frameChunk,
  SNAPSHOT_FORMAT,
} from './snapshot-chunk.js';
import type { StateStore } from './state-store.js';

export { SnapshotReceiver } from './snapshot-receiver.js';
export { generations, removeGenerationsExcept } from './state-folders.js';

export interface SnapshotSource {
  readonly clusterId: number;
  readonly mark: SnapshotMeta;
  readonly revision: number;
  readonly tables: Uint8Array;
}

/**
 * The state as it is at the time of the call, in chunks of at most 256 KiB. Whoever calls it must
 * iterate to the end or leave the loop (`return`), else disk space stays pinned.
 */
export function exportSnapshot(
  store: StateStore,
  source: SnapshotSource,
): AsyncIterableIterator<Uint8Array> {
  const pinned = store.pin(source.revision);
  return new SnapshotExport(pinned, source, store.approximateBytes(), () => store.turn());
}

class SnapshotExport implements AsyncIterableIterator<Uint8Array> {
  private readonly pinned: Promise<BackendIterator>;
  private readonly source: SnapshotSource;
  private readonly bytesHint: number;
  private readonly turn: () => Promise<void>;
  private phase: ChunkKind | null = ChunkKind.Header;
  private number = 0;
  private checksum = 0;
  private recordCount = 0;
  private tablesAt = 0;
  /** Pages that were read and are not sent yet; `pieceAt` is in the first of `pieces`. */
  private pieces: Uint8Array[] = [];
  private pieceAt = 0;
  private isAtEnd = false;

  constructor(
    pinned: Promise<BackendIterator>,
    source: SnapshotSource,
    bytesHint: number,
    turn: () => Promise<void>,
  ) {
    this.pinned = pinned;
    this.source = source;
    this.bytesHint = bytesHint;
    this.turn = turn;
    // Reported by `next`; nobody may have called it yet.
    pinned.catch(() => {});
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array>> {
    // A full turn of the loop, so that a fast consumer cannot starve heartbeats.
    await this.turn();
    try {
      const chunk = await this.nextChunk();
      if (chunk !== null) return { done: false, value: chunk };
    } catch (error) {
      await this.finish();
      throw error;
    }
    await this.finish();
    return { done: true, value: undefined };
  }

  async return(): Promise<IteratorResult<Uint8Array>> {
    await this.finish();
    return { done: true, value: undefined };
  }

  private async finish(): Promise<void> {
    if (this.isAtEnd) return;
    this.isAtEnd = true;
    this.phase = null;
    const iterator = await this.pinned.catch(() => null);
    await iterator?.close();
  }

  private async nextChunk(): Promise<Uint8Array | null> {
    if (this.phase === ChunkKind.Header) {
      this.phase = ChunkKind.Tables;
      return this.frame(ChunkKind.Header, [this.header()]);
    }
    if (this.phase === ChunkKind.Tables) {
      const { tables } = this.source;
      const piece = tables.subarray(this.tablesAt, this.tablesAt + CHUNK_PAYLOAD_MAX);
      this.tablesAt += piece.length;
      if (piece.length > 0) return this.frame(ChunkKind.Tables, [piece]);
      this.phase = ChunkKind.Pages;
    }
    if (this.phase === ChunkKind.Pages) {
      const pieces = await this.takePieces();
      if (pieces.length > 0) return this.frame(ChunkKind.Pages, pieces);
      this.phase = ChunkKind.End;
    }
    if (this.phase === ChunkKind.End) {
      this.phase = null;
      const total = new ByteWriter()
        .varint(this.number)
        .varint(this.recordCount)
        .u32(this.checksum);
      return this.frame(ChunkKind.End, [total.finish()]);
    }
    return null;
  }

  private header(): Uint8Array {
    const { mark, revision, tables } = this.source;
    const writer = new ByteWriter().varint(SNAPSHOT_FORMAT);
    putMark(writer, mark);
    return writer.varint(revision).varint(tables.length).varint(this.bytesHint).finish();
  }

  /** As many bytes of pages as fit into one chunk; empty at the end. */
  private async takePieces(): Promise<Uint8Array[]> {
    const taken: Uint8Array[] = [];
    let room = CHUNK_PAYLOAD_MAX;
    while (room > 0) {
      if (this.pieceAt === this.pieces.length && !(await this.readPages())) break;
      const piece = this.pieces[this.pieceAt] as Uint8Array;
      const part = piece.subarray(0, room);
      taken.push(part);
      room -= part.length;
      if (part.length === piece.length) this.pieceAt += 1;
      else this.pieces[this.pieceAt] = piece.subarray(part.length);
    }
    return taken;
  }

  private async readPages(): Promise<boolean> {
    const entries = await (await this.pinned).next();
    this.pieces = [];
    this.pieceAt = 0;
    const { revision } = this.source;
    for (const [, page] of entries) {
      checkPage(page);
      let count = 0;
      let lastMain = 0;
      eachPlace(page, (main) => {
        if (main <= revision) count += 1;
        lastMain = main;
      });
      const kept = lastMain <= revision ? page : withoutRecords(page, (main) => main > revision);
      if (kept === null) continue;
      this.recordCount += count;
      const length = new Uint8Array(4);
      new DataView(length.buffer).setUint32(0, kept.length, true);
      this.pieces.push(length, kept);
    }
    if (this.pieces.length > 0) return true;
    return entries.length > 0 && (await this.readPages());
  }

  private frame(kind: ChunkKind, payload: readonly Uint8Array[]): Uint8Array {
    let length = CHUNK_HEADER_BYTES;
    for (const part of payload) length += part.length;
    const bytes = new Uint8Array(length);
    let at = CHUNK_HEADER_BYTES;
    for (const part of payload) {
      bytes.set(part, at);
      at += part.length;
    }
    this.checksum = crc32(bytes.subarray(CHUNK_HEADER_BYTES), this.checksum);
    const { clusterId, mark } = this.source;
    const framed = frameChunk(bytes, { clusterId, index: mark.index, number: this.number, kind });
    this.number += 1;
    return framed;
  }
}

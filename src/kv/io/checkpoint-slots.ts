/**
 * The checkpoint record in the byte store: what identifies the state (mark, revision) and the tables
 * that are kept whole (leases, members, ...). Written and read by StateStore.
 *
 *   't' slot u8 chunk u32  -> a piece of the tables
 *   'h' slot u8            -> head: sequence, mark, revision, length and checksum of the tables, crc
 *
 * Two slots take turns. The order of a save is what makes it safe against a crash at any point:
 *
 *   1. the pieces go into the slot of the checkpoint before the last,
 *   2. barrier: these pieces and every record written before are durable and complete,
 *   3. the head is written, synced.
 *
 * So a head that can be read proves that the barrier was reached. With the head inside step 1 a power
 * failure could keep the head and lose records in front of it (a damaged block of LevelDB's log is
 * skipped, what lies behind it is kept), and the state would have a hole that nobody sees.
 *
 * Invariant 1: the newest head is complete. Its pieces are only overwritten after a newer head is
 * durable. Pieces that do not match the newest head are damage, never a reason to take the older one:
 * records that the older one needs may be removed, and the log behind it trimmed.
 */
import { crc32 } from 'node:zlib';
import { ByteReader, ByteWriter, MalformedBytesError } from '../../bytes.js';
import { FatalError } from '../../errors.js';
import type { Configuration } from '../../raft/configuration.js';
import type { SnapshotMeta } from '../../raft/message.js';
import type { Backend, PutOperation } from './backend.js';

export interface Checkpoint {
  readonly mark: SnapshotMeta;
  readonly revision: number;
  readonly tables: Uint8Array;
}

interface Head {
  readonly sequence: number;
  readonly mark: SnapshotMeta;
  readonly revision: number;
  readonly tablesBytes: number;
  readonly tablesCrc: number;
}

const FORMAT = 1;
const HEAD_PREFIX = 0x68;
const PIECE_PREFIX = 0x74;
const PIECE_BYTES = 1024 * 1024;
const SLOTS = [0, 1] as const;

export class CheckpointSlots {
  private readonly backend: Backend;
  /** Per slot: pieces that may lie in it, so that a shorter save removes the rest. */
  private readonly pieces = [0, 0];
  private newest: Head | null = null;

  constructor(backend: Backend) {
    this.backend = backend;
  }

  /** Revision of the newest checkpoint, null if there is none. Known after `open`. */
  get revision(): number | null {
    return this.newest === null ? null : this.newest.revision;
  }

  open(): void {
    for (const slot of SLOTS) {
      const bytes = this.backend.get(headKey(slot));
      if (bytes === undefined) continue;
      const head = this.parse(bytes);
      this.pieces[slot] = pieceCount(head.tablesBytes);
      if (this.newest === null || head.sequence > this.newest.sequence) this.newest = head;
    }
  }

  async load(): Promise<Checkpoint | null> {
    const head = this.newest;
    if (head === null) return null;
    const slot = head.sequence % 2;
    const tables = new Uint8Array(head.tablesBytes);
    let at = 0;
    for (let piece = 0; piece < pieceCount(head.tablesBytes); piece += 1) {
      const [bytes] = await this.backend.getMany([pieceKey(slot, piece)]);
      if (bytes === undefined || at + bytes.length > tables.length) break;
      tables.set(bytes, at);
      at += bytes.length;
    }
    if (at !== head.tablesBytes || crc32(tables) !== head.tablesCrc) {
      throw new FatalError(
        `checkpoint ${head.mark.index} in ${this.backend.name} is damaged: its tables do not match`,
      );
    }
    return { mark: head.mark, revision: head.revision, tables };
  }

  /** One save at a time. Every record up to the checkpoint must have been written before. */
  async save(checkpoint: Checkpoint): Promise<void> {
    const { mark, revision, tables } = checkpoint;
    const sequence = (this.newest?.sequence ?? 0) + 1;
    const slot = sequence % 2;
    const count = pieceCount(tables.length);
    const stale = this.pieces[slot] as number;
    this.pieces[slot] = Math.max(count, stale);
    for (let piece = 0; piece < Math.max(count, stale); piece += 1) {
      const value =
        piece < count ? tables.subarray(piece * PIECE_BYTES, (piece + 1) * PIECE_BYTES) : null;
      const operation: PutOperation = { key: pieceKey(slot, piece), value };
      await this.backend.write([operation]);
    }
    await this.backend.barrier();
    const tablesCrc = crc32(tables);
    const head: Head = { sequence, mark, revision, tablesBytes: tables.length, tablesCrc };
    await this.backend.write([{ key: headKey(slot), value: encodeHead(head) }], { sync: true });
    this.pieces[slot] = count;
    this.newest = head;
  }

  private parse(bytes: Uint8Array): Head {
    try {
      return decodeHead(bytes);
    } catch (error) {
      if (!(error instanceof MalformedBytesError)) throw error;
      throw new FatalError(
        `a checkpoint in ${this.backend.name} is damaged: ${error.message}`,
        error,
      );
    }
  }
}

/** Shared with the stream of a snapshot. */
export function putMark(writer: ByteWriter, mark: SnapshotMeta): void {
  const { configuration } = mark;
  writer.varint(mark.index).varint(mark.term).varint(mark.generation);
  for (const ids of [
    configuration.voters,
    configuration.votersOutgoing,
    configuration.learners,
    configuration.learnersNext,
  ]) {
    writer.varint(ids.length);
    for (const id of ids) writer.varint(id);
  }
  writer.u8(configuration.autoLeave ? 1 : 0);
}

export function takeMark(reader: ByteReader): SnapshotMeta {
  const index = reader.varint();
  const term = reader.varint();
  const generation = reader.varint();
  const configuration: Configuration = {
    voters: takeIds(reader),
    votersOutgoing: takeIds(reader),
    learners: takeIds(reader),
    learnersNext: takeIds(reader),
    autoLeave: reader.u8() === 1,
  };
  return { index, term, configuration, generation };
}

function takeIds(reader: ByteReader): number[] {
  const count = reader.varint();
  const ids: number[] = [];
  for (let at = 0; at < count; at += 1) ids.push(reader.varint());
  return ids;
}

function encodeHead(head: Head): Uint8Array {
  const writer = new ByteWriter().u8(FORMAT).varint(head.sequence);
  putMark(writer, head.mark);
  writer.varint(head.revision).varint(head.tablesBytes).u32(head.tablesCrc);
  const body = writer.finish();
  return new ByteWriter(body.length + 4).u32(crc32(body)).raw(body).finish();
}

function decodeHead(bytes: Uint8Array): Head {
  const reader = new ByteReader(bytes);
  if (reader.u32() !== crc32(bytes.subarray(4))) throw new MalformedBytesError('wrong checksum');
  const format = reader.u8();
  if (format !== FORMAT) throw new MalformedBytesError(`format ${format} is not known`);
  return {
    sequence: reader.varint(),
    mark: takeMark(reader),
    revision: reader.varint(),
    tablesBytes: reader.varint(),
    tablesCrc: reader.u32(),
  };
}

function pieceCount(bytes: number): number {
  return Math.ceil(bytes / PIECE_BYTES);
}

function headKey(slot: number): Uint8Array {
  return Uint8Array.of(HEAD_PREFIX, slot);
}

function pieceKey(slot: number, piece: number): Uint8Array {
  return Uint8Array.of(PIECE_PREFIX, slot, piece >>> 24, piece >>> 16, piece >>> 8, piece);
}

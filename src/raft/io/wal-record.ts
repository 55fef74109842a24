/**
 * Batches: the unit in which the log is written, checked and, after a crash, kept or cut off.
 *
 *   batch  = header 48 | control | entry records | zeros to a multiple of 8 | end mark u32
 *   header = magic u32 | length u32 | number u64 | durable u64 | previous u32 | flags u32 |
 *            entries u32 | control bytes u32 | body check u32 | check u32
 *
 * 1. `check` covers the header and is seeded with the segment; `previous` is the `check` of the batch
 *    before. That chain makes a lost, repeated or stale batch visible.
 * 2. `body check` covers the control part and of every entry record its first 8 bytes, length and
 *    checksum. The payload has been checksummed by the leader that framed it; doing so again would
 *    double the dearest part of an append and find nothing more.
 * 3. `durable` is the number of the newest batch known to be on disk when this one was written:
 *    the proof that a damaged batch was acknowledged. SYNC says whether this one was to be synced.
 * 4. No byte of the end mark is zero and space not yet written is zero. So a batch that a crash tore
 *    has a hole of zeros in it or ends in zeros, and one that was damaged later has not.
 *
 * Control fields stand in the order of their flags. Little endian.
 */
import { assert } from '../../assert.js';
import { ByteReader, ByteWriter, MalformedBytesError } from '../../bytes.js';
import { crc32c } from '../../crc32c.js';
import type { Entry, LogIndex } from '../entry.js';
import { contiguousRecords, parseEntry } from '../entry.js';
import type { SnapshotMeta } from '../message.js';
import type { HardState } from '../ready.js';
import type { LogBatch } from './log-store.js';
import type { SegmentHeader } from './wal-segment.js';
import {
  encodeSegmentHeader,
  getSafe,
  SEGMENT_HEADER_BYTES,
  setSafe,
  viewOf,
} from './wal-segment.js';

export const BATCH_HEADER_BYTES = 48;
export const END_MARK_BYTES = 4;
export const MAX_BATCH_BYTES = 2 ** 31 - 64;
const MAGIC = 0x4261744b;
const END_MARK = 0xd9b5e3a7;
const CHECK_AT = 44;
/** Above this many separate buffers one copy is cheaper than handing each to the system. */
const MAX_VIEWS = 16;

export const BatchFlag = {
  HardState: 1,
  Truncate: 2,
  Boot: 4,
  Snapshot: 8,
  Checkpoint: 16,
  Clean: 32,
  Sync: 64,
} as const;

/** What the log itself adds to what its caller wants written. */
export interface BatchContent extends LogBatch {
  /** 0 = none. */
  readonly boot: number;
  /** The last batch of an orderly shutdown. */
  readonly clean: boolean;
}

/** Lays out one batch at a time; the buffers are reused by the next. */
export class BatchEncoder {
  /** Bytes of the prepared batch. */
  length = 0;
  /** `check` of the sealed batch. */
  chain = 0;
  private head = new Uint8Array(4096);
  private view = new DataView(this.head.buffer);
  private readonly tail = new Uint8Array(16);
  private readonly tailView = new DataView(this.tail.buffer);
  private headBytes = 0;
  private tailBytes = 0;
  private entries: readonly Entry[] = [];

  /** Everything but the fields that depend on where the batch goes. Sets `length`. */
  prepare(batch: LogBatch, boot = 0, clean = false): void {
    let flags = (clean ? BatchFlag.Clean : 0) | (batch.sync ? BatchFlag.Sync : 0);
    let at = BATCH_HEADER_BYTES;
    if (batch.hardState !== null) {
      flags |= BatchFlag.HardState;
      setSafe(this.view, at, batch.hardState.term);
      setSafe(this.view, at + 8, batch.hardState.vote);
      setSafe(this.view, at + 16, batch.hardState.commit);
      at += 24;
    }
    if (batch.truncateFrom !== 0) {
      flags |= BatchFlag.Truncate;
      setSafe(this.view, at, batch.truncateFrom);
      at += 8;
    }
    if (boot !== 0) {
      flags |= BatchFlag.Boot;
      setSafe(this.view, at, boot);
      at += 8;
    }
    if (batch.snapshot !== null) {
      flags |= BatchFlag.Snapshot;
      at = this.appendMeta(at, batch.snapshot);
    }
    if (batch.checkpoint !== null) {
      flags |= BatchFlag.Checkpoint;
      at = this.appendMeta(at, batch.checkpoint);
    }
    this.headBytes = at;
    this.entries = batch.entries;
    let check = crc32c(this.head, BATCH_HEADER_BYTES, at);
    let records = 0;
    for (const { record } of batch.entries) {
      records += record.length;
      check = crc32c(record, 0, 8, check);
    }
    this.length = (at + records + END_MARK_BYTES + 7) & ~7;
    assert(at + records < MAX_BATCH_BYTES, `batch of ${records} bytes is above ${MAX_BATCH_BYTES}`);
    this.tailBytes = this.length - at - records;
    this.tail.fill(0);
    this.tailView.setUint32(this.tailBytes - END_MARK_BYTES, END_MARK, true);
    this.view.setUint32(0, MAGIC, true);
    this.view.setUint32(4, this.length, true);
    this.view.setUint32(28, flags, true);
    this.view.setUint32(32, batch.entries.length, true);
    this.view.setUint32(36, at - BATCH_HEADER_BYTES, true);
    this.view.setUint32(40, check, true);
  }

  /** Gives the prepared batch its place in the chain. The views are valid until the next prepare. */
  seal(number: number, durable: number, previous: number, seed: number): Uint8Array[] {
    setSafe(this.view, 8, number);
    setSafe(this.view, 16, durable);
    this.view.setUint32(24, previous, true);
    this.chain = crc32c(this.head, 0, CHECK_AT, seed);
    this.view.setUint32(CHECK_AT, this.chain, true);
    const views = contiguousRecords(this.entries);
    const tail = this.tail.subarray(0, this.tailBytes);
    const head = this.head.subarray(0, this.headBytes);
    if (views.length > MAX_VIEWS) return [joined(head, views, tail, this.length)];
    views.unshift(head);
    views.push(tail);
    return views;
  }

  /** Forgets the entries, so that a quiet log does not keep the last batch in memory. */
  release(): void {
    this.entries = [];
  }

  private appendMeta(at: number, meta: SnapshotMeta): number {
    const bytes = encodeMeta(meta);
    const end = at + 4 + bytes.length;
    // Room for a second mark as well: the fixed fields before it are far below 100 bytes.
    if (end + 4 > this.head.length) {
      const larger = new Uint8Array(end * 2);
      larger.set(this.head.subarray(0, at));
      this.head = larger;
      this.view = new DataView(larger.buffer);
    }
    this.view.setUint32(at, bytes.length, true);
    this.head.set(bytes, at + 4);
    return end;
  }
}

/** What every segment repeats in its first batch, so that older segments can go. */
export interface SegmentState {
  readonly hardState: HardState;
  readonly mark: SnapshotMeta;
  readonly boot: number;
}

export interface SegmentStart {
  readonly views: Uint8Array[];
  readonly seed: number;
  readonly chain: number;
  readonly end: number;
}

/** The first bytes of a segment: its header and its first batch. */
export function encodeStart(header: SegmentHeader, state: SegmentState): SegmentStart {
  const { bytes, seed } = encodeSegmentHeader(header);
  const encoder = new BatchEncoder();
  const { hardState, mark: checkpoint, boot } = state;
  const batch = { hardState, truncateFrom: 0, entries: [], snapshot: null, checkpoint, sync: true };
  encoder.prepare(batch, boot);
  const views = encoder.seal(header.firstBatch, header.firstBatch - 1, header.chain, seed);
  views.unshift(bytes);
  return { views, seed, chain: encoder.chain, end: SEGMENT_HEADER_BYTES + encoder.length };
}

function joined(
  head: Uint8Array,
  views: readonly Uint8Array[],
  tail: Uint8Array,
  length: number,
): Uint8Array {
  const bytes = new Uint8Array(length);
  bytes.set(head);
  let at = head.length;
  for (const view of views) {
    bytes.set(view, at);
    at += view.length;
  }
  bytes.set(tail, at);
  return bytes;
}

export interface BatchHeader {
  readonly length: number;
  readonly number: number;
  readonly durable: number;
  readonly previous: number;
  readonly flags: number;
  readonly entryCount: number;
  readonly controlBytes: number;
  readonly bodyCheck: number;
  readonly chain: number;
}

/** The header at `at`, or null if the bytes there are none of this segment. */
export function parseBatchHeader(bytes: Uint8Array, at: number, seed: number): BatchHeader | null {
  if (at + BATCH_HEADER_BYTES > bytes.length) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, BATCH_HEADER_BYTES);
  if (view.getUint32(0, true) !== MAGIC) return null;
  const chain = view.getUint32(CHECK_AT, true);
  if (chain !== crc32c(bytes, at, at + CHECK_AT, seed)) return null;
  return {
    length: view.getUint32(4, true),
    number: getSafe(view, 8),
    durable: getSafe(view, 16),
    previous: view.getUint32(24, true),
    flags: view.getUint32(28, true),
    entryCount: view.getUint32(32, true),
    controlBytes: view.getUint32(36, true),
    bodyCheck: view.getUint32(40, true),
    chain,
  };
}

/** The body of a batch whose header is good; the text says what is wrong with it. */
export function parseBatchBody(
  bytes: Uint8Array,
  at: number,
  header: BatchHeader,
): BatchContent | string {
  const end = at + header.length;
  if (end > bytes.length) return 'the batch goes beyond the end of the file';
  const controlAt = at + BATCH_HEADER_BYTES;
  const recordsAt = controlAt + header.controlBytes;
  if (recordsAt + END_MARK_BYTES > end) return 'the control part does not fit';
  let check = crc32c(bytes, controlAt, recordsAt);
  const entries: Entry[] = [];
  let next = recordsAt;
  for (let count = 0; count < header.entryCount; count += 1) {
    const parsed = parseEntry(bytes, next);
    if (parsed.kind === 'bad') return `entry ${count} of the batch: ${parsed.reason}`;
    check = crc32c(bytes, next, next + 8, check);
    entries.push(parsed.entry);
    next = parsed.end;
  }
  if (check !== header.bodyCheck) return 'the checksum of the batch does not match';
  if (header.length !== ((next - at + END_MARK_BYTES + 7) & ~7)) {
    return 'the length of the batch does not match';
  }
  for (; next < end - END_MARK_BYTES; next += 1) {
    if (bytes[next] !== 0) return 'the padding is not zero';
  }
  if (viewOf(bytes).getUint32(next, true) !== END_MARK) return 'the end mark is wrong';
  return parseControl(bytes, controlAt, recordsAt, header.flags, entries);
}

export function hasEndMark(bytes: Uint8Array, at: number): boolean {
  return at + END_MARK_BYTES <= bytes.length && viewOf(bytes).getUint32(at, true) === END_MARK;
}

function parseControl(
  bytes: Uint8Array,
  start: number,
  end: number,
  flags: number,
  entries: readonly Entry[],
): BatchContent | string {
  const reader = new ByteReader(bytes, start, end);
  const number = (): number => reader.u32() + reader.u32() * 2 ** 32;
  const meta = (): SnapshotMeta => decodeMeta(reader.raw(reader.u32()));
  const has = (flag: number): boolean => (flags & flag) !== 0;
  try {
    const hardState: HardState | null = has(BatchFlag.HardState)
      ? { term: number(), vote: number(), commit: number() }
      : null;
    const truncateFrom: LogIndex = has(BatchFlag.Truncate) ? number() : 0;
    const boot = has(BatchFlag.Boot) ? number() : 0;
    const snapshot = has(BatchFlag.Snapshot) ? meta() : null;
    const checkpoint = has(BatchFlag.Checkpoint) ? meta() : null;
    if (reader.remaining !== 0) return 'the control part is too long';
    const clean = has(BatchFlag.Clean);
    const sync = has(BatchFlag.Sync);
    return { hardState, truncateFrom, entries, snapshot, checkpoint, sync, boot, clean };
  } catch (error) {
    if (error instanceof MalformedBytesError) return `the control part: ${error.message}`;
    throw error;
  }
}

function encodeMeta(meta: SnapshotMeta): Uint8Array {
  const { configuration } = meta;
  const writer = new ByteWriter();
  writer.varint(meta.index).varint(meta.term).varint(meta.generation);
  for (const ids of [
    configuration.voters,
    configuration.votersOutgoing,
    configuration.learners,
    configuration.learnersNext,
  ]) {
    writer.varint(ids.length);
    for (const id of ids) writer.varint(id);
  }
  return writer.u8(configuration.autoLeave ? 1 : 0).finish();
}

function decodeMeta(bytes: Uint8Array): SnapshotMeta {
  const reader = new ByteReader(bytes);
  const ids = (): number[] => {
    const list: number[] = [];
    for (let left = reader.varint(); left > 0; left -= 1) list.push(reader.varint());
    return list;
  };
  const index = reader.varint();
  const term = reader.varint();
  const generation = reader.varint();
  const voters = ids();
  const votersOutgoing = ids();
  const learners = ids();
  const learnersNext = ids();
  const autoLeave = reader.u8() === 1;
  const configuration = { voters, votersOutgoing, learners, learnersNext, autoLeave };
  return { index, term, generation, configuration };
}

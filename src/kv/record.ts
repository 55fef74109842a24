/**
 * The bytes of one key at one revision, as they lie in the record store. Enough to rebuild the whole
 * index from records alone.
 *
 *   put        flags u8 | create | version | previous | [lease] | key | value          | crc u32
 *   tombstone  flags u8 | previous | key                                                | crc u32
 *
 * Numbers are varints, the key has its length in front, the value fills what is left. `previous` is
 * the main revision of the pair that this change replaced, 0 if there was none: watchers that read old
 * records need it, and the index may have forgotten. `crc` is CRC-32C of everything before it, begun
 * with the revision, so that a record found under the name of another one is noticed. Readers check
 * it always; a mismatch is a FatalError, because a member that serves damaged bytes is worse than a
 * member that is down. Only a restore does not: it reads all records out of pages whose own checksum, which
 * covers the revisions, was checked a moment ago, and serves none of them.
 */
import { ByteReader, type ByteWriter, ScratchWriter } from '../bytes.js';
import { crc32c } from '../crc32c.js';
import { FatalError } from '../errors.js';
import type { Int64 } from '../int64.js';

const TOMBSTONE = 1;
const WITH_LEASE = 2;
const CRC_BYTES = 4;
/** Flags, four varints of at most 8 bytes, a lease of at most 10, the checksum, and some room. */
const OVERHEAD_BYTES = 56;

export const NO_VALUE = new Uint8Array(0);

/** What the hash of a history begins with: 0, that of none, would be left out of an answer in JSON. */
export const HISTORY_HASH_SEED = 1;

export interface StoredRecord {
  readonly tombstone: boolean;
  readonly create: number;
  readonly version: number;
  readonly previous: number;
  readonly lease: Int64;
  readonly key: string;
  /** Where the value lies in the bytes that the record was read from, see `recordValue`. */
  readonly valueStart: number;
  readonly valueEnd: number;
}

/** A record that was just made. */
export interface MadeRecord {
  /** Valid until the next record is made. */
  readonly bytes: Uint8Array;
  readonly valueBytes: number;
  readonly crc: number;
}

export interface Pair {
  readonly create: number;
  readonly version: number;
  readonly previous: number;
  readonly lease: Int64;
  readonly key: string;
  readonly value: Uint8Array;
}

/** Records are made here one behind the other, and whoever keeps one copies it into memory that it shares with others. With
 *  bytes of its own for each, as well, members allocated a fifth more while keys came in. */
const scratch = new ScratchWriter();

export function encodePut(main: number, sub: number, pair: Pair): MadeRecord {
  const writer = scratch.begin(OVERHEAD_BYTES + pair.key.length + pair.value.length);
  writer.u8(pair.lease === 0 ? 0 : WITH_LEASE);
  writer.varint(pair.create).varint(pair.version).varint(pair.previous);
  if (pair.lease !== 0) writer.int64(pair.lease);
  writer.latin1(pair.key).raw(pair.value);
  return seal(writer, main, sub, pair.value.length);
}

export function encodeTombstone(
  main: number,
  sub: number,
  key: string,
  previous: number,
): MadeRecord {
  const writer = scratch.begin(OVERHEAD_BYTES + key.length);
  writer.u8(TOMBSTONE).varint(previous).latin1(key);
  return seal(writer, main, sub, 0);
}

/** The value of a record that was just made, in the bytes that its keeper keeps. */
export function keptValue({ valueBytes }: MadeRecord, kept: Uint8Array): Uint8Array {
  const end = kept.length - CRC_BYTES;
  return kept.subarray(end - valueBytes, end);
}

/** Reads a record and checks it. `key`, if the caller knows it, saves making the string again. */
export function decodeRecord(
  main: number,
  sub: number,
  bytes: Uint8Array,
  key: string | null = null,
): StoredRecord {
  const end = bytes.length - CRC_BYTES;
  if (end < 2 || crc32c(bytes, 0, end, seedOf(main, sub)) !== crcAt(bytes, end)) {
    throw new FatalError(`the record of revision ${main}.${sub} is damaged`);
  }
  return parseRecord(bytes, key);
}

/** Reads a record out of [start, end) of bytes that somebody has checked. Throws MalformedBytesError if it is none. */
export function parseRecord(
  bytes: Uint8Array,
  key: string | null = null,
  start = 0,
  end = bytes.length,
): StoredRecord {
  const valueEnd = Math.max(start, end - CRC_BYTES);
  const reader = new ByteReader(bytes, start, valueEnd);
  const flags = reader.u8();
  const tombstone = (flags & TOMBSTONE) !== 0;
  const create = tombstone ? 0 : reader.varint();
  const version = tombstone ? 0 : reader.varint();
  const previous = reader.varint();
  const lease = (flags & WITH_LEASE) !== 0 ? reader.int64() : 0;
  if (key === null) key = reader.latin1();
  else reader.skip(reader.varint());
  const valueStart = reader.position;
  return { tombstone, create, version, previous, lease, key, valueStart, valueEnd };
}

/** The value of a record: a view of the bytes that it was read from. */
export function recordValue(record: StoredRecord, bytes: Uint8Array): Uint8Array {
  return bytes.subarray(record.valueStart, record.valueEnd);
}

function seal(writer: ByteWriter, main: number, sub: number, valueBytes: number): MadeRecord {
  const end = writer.length;
  writer.u32(0);
  const bytes = writer.take();
  const crc = crc32c(bytes, 0, end, seedOf(main, sub));
  bytes[end] = crc & 255;
  bytes[end + 1] = (crc >>> 8) & 255;
  bytes[end + 2] = (crc >>> 16) & 255;
  bytes[end + 3] = crc >>> 24;
  return { bytes, valueBytes, crc };
}

function seedOf(main: number, sub: number): number {
  return (Math.imul(main % 2 ** 32, 0x9e3779b1) ^ Math.floor(main / 2 ** 32) ^ (sub << 7)) >>> 0;
}

function crcAt(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)) >>>
    0
  );
}

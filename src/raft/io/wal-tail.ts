/**
 * Decides what a bad place in the last segment is: the end of the log, a batch that a crash tore, or
 * damage to something that was acknowledged. Called by recovery; pure.
 *
 * Cutting off acknowledged batches loses committed entries without anybody noticing; refusing to
 * start because of an ordinary torn write makes every power failure a case for the operator. So a
 * bad batch b is cut only when all of this holds:
 *
 * 1. No valid batch behind it says that b was durable (`durable >= b`), and it is not the first
 *    batch of its segment, which was durable before the segment got its name.
 * 2. The damage is what a crash makes. Space not yet written is zero here, always: segments begin as
 *    zeros and no process appends to the segment of another. A crash keeps any subset of the sectors
 *    of unsynced writes, or, when a process is killed inside a write, a prefix of it. Then a sector's
 *    share of the batch is zero from end to end, or everything from some byte on is; and what no such
 *    hole touches is intact. A flipped bit does not look like this, and is refused even when nothing
 *    behind the batch proves that it was acknowledged: nothing proves the contrary either.
 *    Except for a batch that was written without the intention to sync it and has nothing behind it:
 *    nobody was ever told that it is durable.
 *
 * What remains undecidable: damage in the very last acknowledged batch that looks like a hole, as a
 * sector zeroed by the disk, or a flipped bit in a record with a sector full of zeros. The next
 * batch, which in a running cluster follows at once with the new commit index, ends that.
 */
import { parseEntry, RECORD_HEADER_BYTES } from '../entry.js';
import type { BatchHeader } from './wal-record.js';
import {
  BATCH_HEADER_BYTES,
  BatchFlag,
  END_MARK_BYTES,
  hasEndMark,
  parseBatchHeader,
} from './wal-record.js';
import type { SealedHeader } from './wal-segment.js';
import { viewOf } from './wal-segment.js';

const SECTOR = 512;

export type Tail =
  | { readonly kind: 'end' }
  | { readonly kind: 'torn'; readonly bytes: number }
  | { readonly kind: 'corrupt'; readonly reason: string };

/** `number` is that of the batch expected at `at`, which is missing or bad. */
export function classifyTail(
  bytes: Uint8Array,
  at: number,
  segment: SealedHeader,
  number: number,
): Tail {
  const last = lastNonZero(bytes, at);
  if (number === segment.firstBatch) {
    return { kind: 'corrupt', reason: 'the first batch of the segment is damaged' };
  }
  if (last < at) return { kind: 'end' };
  for (let place = at; place + BATCH_HEADER_BYTES <= last + 1; place += 8) {
    const later = parseBatchHeader(bytes, place, segment.seed);
    if (later !== null && later.durable >= number) {
      const reason = `batch ${later.number} at offset ${place} proves that it was durable`;
      return { kind: 'corrupt', reason };
    }
  }
  const header = parseBatchHeader(bytes, at, segment.seed);
  const torn =
    header === null ? isTornHeader(bytes, at, last) : isTornBatch(bytes, at, header, last);
  if (torn) return { kind: 'torn', bytes: last + 1 - at };
  return { kind: 'corrupt', reason: 'a crash during a write does not leave this' };
}

function isTornHeader(bytes: Uint8Array, at: number, last: number): boolean {
  const sectorEnd = nextSector(at);
  if (isZero(bytes, at, sectorEnd)) return true;
  if (last < at + BATCH_HEADER_BYTES) return true;
  // The header reaches into the next sector, and that one was not written.
  return sectorEnd < at + BATCH_HEADER_BYTES && isZero(bytes, sectorEnd, sectorEnd + SECTOR);
}

function isTornBatch(bytes: Uint8Array, at: number, header: BatchHeader, last: number): boolean {
  const end = at + header.length;
  if ((header.flags & BatchFlag.Sync) === 0 && last < end) return true;
  // The prefix of a write: this batch has no end and nothing is behind it.
  const cut = last < end - 1 ? last + 1 : end;
  const isHole = (from: number, to: number): boolean => {
    if (to > cut) return true;
    for (let start = from; start < to; start = nextSector(start)) {
      const pieceStart = Math.max(at, start - (start % SECTOR));
      if (isZero(bytes, pieceStart, Math.min(nextSector(start), end))) return true;
    }
    return false;
  };
  if (!isHole(at, end)) return false;
  const marked = isHole(end - END_MARK_BYTES, end) || hasEndMark(bytes, end - END_MARK_BYTES);
  return marked && recordsAreIntact(bytes, at, header, isHole);
}

/** Walks the entry records up to the first length that is lost in a hole. */
function recordsAreIntact(
  bytes: Uint8Array,
  at: number,
  header: BatchHeader,
  isHole: (from: number, to: number) => boolean,
): boolean {
  let next = at + BATCH_HEADER_BYTES + header.controlBytes;
  for (let count = 0; count < header.entryCount; count += 1) {
    if (isHole(next, next + RECORD_HEADER_BYTES)) return true;
    const length = viewOf(bytes).getUint32(next, true);
    if (length < RECORD_HEADER_BYTES || next + length > at + header.length) return false;
    if (!isHole(next, next + length) && parseEntry(bytes, next).kind === 'bad') return false;
    next += length;
  }
  return true;
}

function nextSector(at: number): number {
  return at - (at % SECTOR) + SECTOR;
}

/** Bytes beyond the end of the file count as zero: they were never written. */
function isZero(bytes: Uint8Array, start: number, end: number): boolean {
  const stop = Math.min(end, bytes.length);
  for (let at = start; at < stop; at += 1) if (bytes[at] !== 0) return false;
  return true;
}

/** The last place at or behind `start` that is not zero; `start - 1` if there is none. */
export function lastNonZero(bytes: Uint8Array, start: number): number {
  let at = bytes.length - 1;
  // Eight bytes a step through what is usually tens of megabytes of zeros.
  const view = viewOf(bytes);
  while (at - 7 >= start && view.getFloat64(at - 7, true) === 0) {
    // Negative zero equals zero, but its top byte is 0x80.
    if (bytes[at] !== 0) break;
    at -= 8;
  }
  while (at >= start && bytes[at] === 0) at -= 1;
  return at;
}

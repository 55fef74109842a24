/**
 * The files of the write-ahead log: their names and their header.
 *
 *   wal/0000000000000003-00000000000186a1.wal     segment 3, its first entry is 100001
 *   wal/spare.tmp                                 zeros, becomes the next segment
 *
 *   header = magic 8 | version u32 | 0 u32 | sequence | before.index | before.term | cluster |
 *            member | first batch | chain u32 | 0 u32 | folder | 0 u64 | 0 u32 | check u32 (96 bytes)
 *
 * Numbers without a size are u64 with a safe value, little endian. `before` is the last entry of the
 * log when the segment was begun, `chain` the check value of the last batch of the segment before it,
 * `first batch` the number of its own first batch. So a segment knows exactly where its predecessor
 * ends, and whatever lies there behind that place (zeros, a torn batch) means nothing.
 *
 * The header is durable before the file gets its name: a bad one is damage, never a torn write.
 * `check` seeds the checksums of all batches in the file: a batch of another segment, copied or
 * misdirected to the right offset, does not pass.
 */
import { crc32c } from '../../crc32c.js';
import type { EntryId } from '../entry.js';
import type { Identity } from './log-store.js';

export const SEGMENT_HEADER_BYTES = 96;
export const SPARE_NAME = 'spare.tmp';
const FORMAT_VERSION = 1;
const MAGIC = Uint8Array.from('kvd-log\n', (char) => char.charCodeAt(0));
const CHECK_AT = SEGMENT_HEADER_BYTES - 4;
const NAME = /^([0-9a-f]{16})-([0-9a-f]{16})\.wal$/;

export interface SegmentHeader {
  readonly sequence: number;
  readonly before: EntryId;
  readonly identity: Identity;
  readonly firstBatch: number;
  readonly chain: number;
}

export interface SealedHeader extends SegmentHeader {
  /** The header's own checksum. */
  readonly seed: number;
}

export function segmentName(sequence: number, firstIndex: number): string {
  return `${hex(sequence)}-${hex(firstIndex)}.wal`;
}

export function parseSegmentName(name: string): { sequence: number; firstIndex: number } | null {
  const parts = NAME.exec(name);
  if (parts === null) return null;
  return {
    sequence: Number.parseInt(parts[1] as string, 16),
    firstIndex: Number.parseInt(parts[2] as string, 16),
  };
}

export function encodeSegmentHeader(header: SegmentHeader): { bytes: Uint8Array; seed: number } {
  const bytes = new Uint8Array(SEGMENT_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  view.setUint32(8, FORMAT_VERSION, true);
  setSafe(view, 16, header.sequence);
  setSafe(view, 24, header.before.index);
  setSafe(view, 32, header.before.term);
  setSafe(view, 40, header.identity.clusterId);
  setSafe(view, 48, header.identity.memberId);
  setSafe(view, 56, header.firstBatch);
  view.setUint32(64, header.chain, true);
  setSafe(view, 72, header.identity.folderId);
  const seed = crc32c(bytes, 0, CHECK_AT);
  view.setUint32(CHECK_AT, seed, true);
  return { bytes, seed };
}

/** The header, or the reason why it is none. */
export function parseSegmentHeader(bytes: Uint8Array): SealedHeader | string {
  if (bytes.length < SEGMENT_HEADER_BYTES) return 'the segment header is cut short';
  for (let at = 0; at < MAGIC.length; at += 1) {
    if (bytes[at] !== MAGIC[at]) return 'this is not a log segment';
  }
  const view = viewOf(bytes);
  const seed = crc32c(bytes, 0, CHECK_AT);
  if (view.getUint32(CHECK_AT, true) !== seed) return 'the checksum of the segment header is wrong';
  const version = view.getUint32(8, true);
  if (version !== FORMAT_VERSION) {
    return `log format ${version} is unknown to this version of kvd, which reads ${FORMAT_VERSION}`;
  }
  return {
    sequence: getSafe(view, 16),
    before: { index: getSafe(view, 24), term: getSafe(view, 32) },
    identity: {
      clusterId: getSafe(view, 40),
      memberId: getSafe(view, 48),
      folderId: getSafe(view, 72),
    },
    firstBatch: getSafe(view, 56),
    chain: view.getUint32(64, true),
    seed,
  };
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A safe non-negative integer as u64. */
export function setSafe(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 2 ** 32, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}

export function getSafe(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}

function hex(value: number): string {
  return value.toString(16).padStart(16, '0');
}

/**
 * Log entries, and the one encoding that they have everywhere.
 *
 * An entry is framed once, by the leader that proposes it. The same bytes (`record`) then go to its
 * log, to the peers, into their logs and to apply; nobody encodes or copies them again. The records
 * of one batch lie behind each other in one buffer, so a run of entries is written and sent as one
 * view (`contiguousRecords`).
 *
 *   record = length u32 | crc u32 | index u48 | term u48 | type u8 | 3 bytes zero | payload
 *            <------------------------- 24 bytes ------------------------->
 *
 * Little endian. `length` counts the whole record. `crc` is CRC-32C of everything behind it, made by
 * the leader and checked by every reader of bytes from a peer or a disk, so a flipped bit anywhere on
 * the road is found before apply.
 */
import { assert } from '../assert.js';
import { crc32c } from '../crc32c.js';

export type NodeId = number;
export type Term = number;
export type LogIndex = number;

export const NO_NODE: NodeId = 0;

export const EntryType = { Normal: 0, Configuration: 1, Noop: 2 } as const;
export type EntryType = (typeof EntryType)[keyof typeof EntryType];

export interface EntryId {
  readonly term: Term;
  readonly index: LogIndex;
}

export interface Entry extends EntryId {
  readonly type: EntryType;
  /** The framed bytes, header and payload. Immutable. */
  readonly record: Uint8Array;
}

export const RECORD_HEADER_BYTES = 24;
const MAX_RECORD_BYTES = 2 ** 30;

/** The payload of an entry: a view into its record. */
export function payloadOf(entry: Entry): Uint8Array {
  return entry.record.subarray(RECORD_HEADER_BYTES);
}

/** Frames consecutive entries of one term into one buffer. Payloads may be empty. */
export function frameEntries(
  first: EntryId,
  type: EntryType,
  payloads: readonly Uint8Array[],
): Entry[] {
  let total = 0;
  for (const payload of payloads) total += RECORD_HEADER_BYTES + payload.length;
  const slab = new Uint8Array(total);
  const view = new DataView(slab.buffer);
  const entries: Entry[] = [];
  let at = 0;
  for (let offset = 0; offset < payloads.length; offset += 1) {
    const payload = payloads[offset] as Uint8Array;
    const length = RECORD_HEADER_BYTES + payload.length;
    assert(length <= MAX_RECORD_BYTES, `entry of ${length} bytes is above ${MAX_RECORD_BYTES}`);
    const index = first.index + offset;
    view.setUint32(at, length, true);
    setUint48(view, at + 8, index);
    setUint48(view, at + 14, first.term);
    slab[at + 20] = type;
    slab.set(payload, at + RECORD_HEADER_BYTES);
    view.setUint32(at + 4, crc32c(slab, at + 8, at + length), true);
    entries.push({ index, term: first.term, type, record: slab.subarray(at, at + length) });
    at += length;
  }
  return entries;
}

export type ParsedEntry =
  | { readonly kind: 'entry'; readonly entry: Entry; readonly end: number }
  | { readonly kind: 'bad'; readonly reason: string };

/** Reads one record at `at`; checks length, checksum and type. The entry's record is a view. */
export function parseEntry(bytes: Uint8Array, at: number): ParsedEntry {
  if (at + RECORD_HEADER_BYTES > bytes.length)
    return { kind: 'bad', reason: 'header is cut short' };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = view.getUint32(at, true);
  if (length < RECORD_HEADER_BYTES || length > MAX_RECORD_BYTES) {
    return { kind: 'bad', reason: `record length ${length} is impossible` };
  }
  const end = at + length;
  if (end > bytes.length) return { kind: 'bad', reason: 'record is cut short' };
  if (view.getUint32(at + 4, true) !== crc32c(bytes, at + 8, end)) {
    return { kind: 'bad', reason: 'checksum does not match' };
  }
  const type = bytes[at + 20];
  if (type !== EntryType.Normal && type !== EntryType.Configuration && type !== EntryType.Noop) {
    return { kind: 'bad', reason: `unknown entry type ${type}` };
  }
  const index = getUint48(view, at + 8);
  const term = getUint48(view, at + 14);
  return { kind: 'entry', entry: { index, term, type, record: bytes.subarray(at, end) }, end };
}

/** Reads `count` records that fill `bytes` exactly; null if anything is wrong. */
export function parseEntries(bytes: Uint8Array, count: number): Entry[] | null {
  const entries: Entry[] = [];
  let at = 0;
  for (let number = 0; number < count; number += 1) {
    const parsed = parseEntry(bytes, at);
    if (parsed.kind === 'bad') return null;
    entries.push(parsed.entry);
    at = parsed.end;
  }
  return at === bytes.length ? entries : null;
}

/**
 * The records of these entries as few views as possible: neighbours in one buffer become one view.
 * In steady state the answer has one element, and nothing is copied.
 */
export function contiguousRecords(entries: readonly Entry[]): Uint8Array[] {
  const views: Uint8Array[] = [];
  let current: Uint8Array | null = null;
  for (const { record } of entries) {
    if (
      current !== null &&
      current.buffer === record.buffer &&
      current.byteOffset + current.length === record.byteOffset
    ) {
      current = new Uint8Array(current.buffer, current.byteOffset, current.length + record.length);
      views[views.length - 1] = current;
    } else {
      current = record;
      views.push(record);
    }
  }
  return views;
}

function setUint48(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 2 ** 32, true);
  view.setUint16(at + 4, Math.floor(value / 2 ** 32), true);
}

function getUint48(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint16(at + 4, true) * 2 ** 32;
}

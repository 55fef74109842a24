/**
 * Pages: runs of consecutive records packed into one value of the byte store. Pure bytes; used by
 * everything in this folder.
 *
 *   key   = 'r' | main u48 | sub u32                       big endian, of the first record when the
 *                                                          page was made; that one may be removed
 *   value = crc u32 | count u32 | record, record, ...      little endian
 *   record = main u48 | sub u32 | length u32 | bytes
 *
 * `crc` is zlib's CRC-32 of everything behind it (the native one: a page is checked in about 1 us).
 *
 * Why not a key for each record: LevelDB costs 2 to 4 us of CPU and a scan 1.6 us a record, most of
 * it for crossing into JavaScript. Thirteen records of 300 bytes in a page of 4 KiB make a scan of a
 * million records five times faster, and a single read no slower, because LevelDB reads blocks of
 * that size anyway.
 *
 * Invariants:
 * 1. Records of a page ascend by (main, sub); so do pages, and they do not overlap.
 * 2. A page holds at most PAGE_RECORDS_MAX records and PAGE_BYTES_MAX bytes, or a single larger record.
 */
import { crc32 } from 'node:zlib';
import { assert } from '../../assert.js';
import { MalformedBytesError } from '../../bytes.js';

export const PAGE_HEADER_BYTES = 8;
export const RECORD_HEADER_BYTES = 14;
export const PAGE_RECORDS_MAX = 64;
export const PAGE_BYTES_MAX = 4096;
const PAGE_PREFIX = 0x72;
const PAGE_KEY_BYTES = 11;
const MAIN_MAX = 2 ** 48 - 1;
const SUB_MAX = 2 ** 32 - 1;

/** Everything behind all pages: the end of the key range of pages. */
export const PAGES_END: Uint8Array = Uint8Array.of(PAGE_PREFIX + 1);

/** Keys for so many pages, each to be written into with pageKey, in one piece of memory. A small array of its own lies in
 *  V8's heap, and LevelDB's binding asks for its memory: V8 then moves each out, and takes that for a reason to mark. */
export function pageKeyRoom(count: number): Uint8Array[] {
  // A short Buffer lies in the heap, too.
  const bytes = new Uint8Array(new ArrayBuffer(count * PAGE_KEY_BYTES));
  return Array.from({ length: count }, (_, at) =>
    bytes.subarray(at * PAGE_KEY_BYTES, (at + 1) * PAGE_KEY_BYTES),
  );
}

/** Writes the key into `key` if given, else into a fresh array. */
export function pageKey(
  main: number,
  sub: number,
  key: Uint8Array = new Uint8Array(PAGE_KEY_BYTES),
): Uint8Array {
  assert(main >= 0 && main <= MAIN_MAX, `main revision ${main} is out of range`);
  assert(sub >= 0 && sub <= SUB_MAX, `sub revision ${sub} is out of range`);
  const high = Math.floor(main / 2 ** 32);
  key[0] = PAGE_PREFIX;
  key[1] = high >>> 8;
  key[2] = high;
  key[3] = main >>> 24;
  key[4] = main >>> 16;
  key[5] = main >>> 8;
  key[6] = main;
  key[7] = sub >>> 24;
  key[8] = sub >>> 16;
  key[9] = sub >>> 8;
  key[10] = sub;
  return key;
}

export function parsePageKey(key: Uint8Array): { main: number; sub: number } {
  if (key.length !== PAGE_KEY_BYTES || key[0] !== PAGE_PREFIX) {
    throw new MalformedBytesError(`not the key of a page: ${Buffer.from(key).toString('hex')}`);
  }
  const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
  return { main: view.getUint16(1) * 2 ** 32 + view.getUint32(3), sub: view.getUint32(7) };
}

/** Appends one record at `at`, which must have room; the offset behind it. */
export function putRecord(
  page: Uint8Array,
  at: number,
  main: number,
  sub: number,
  record: Uint8Array,
): number {
  putU32(page, at, main);
  const high = Math.floor(main / 2 ** 32);
  page[at + 4] = high;
  page[at + 5] = high >>> 8;
  putU32(page, at + 6, sub);
  putU32(page, at + 10, record.length);
  page.set(record, at + RECORD_HEADER_BYTES);
  return at + RECORD_HEADER_BYTES + record.length;
}

/** Fills in the header of a page whose records are all there. */
export function sealPage(page: Uint8Array, count: number): void {
  putU32(page, 4, count);
  putU32(page, 0, crc32(page.subarray(4)));
}

/** Throws MalformedBytesError unless the page is exactly what was written; the count of records. */
export function checkPage(page: Uint8Array): number {
  if (page.length < PAGE_HEADER_BYTES) {
    throw new MalformedBytesError(`a page of ${page.length} bytes is cut short`);
  }
  const found = crc32(page.subarray(4));
  const written = getU32(page, 0);
  if (found !== written) {
    throw new MalformedBytesError(`checksum of a page is ${found}, not ${written} as written`);
  }
  return getU32(page, 4);
}

/** The bytes of one record between `start` and `end`, as a view, or null. */
export function findRecord(
  page: Uint8Array,
  main: number,
  sub: number,
  start = PAGE_HEADER_BYTES,
  end = page.length,
): Uint8Array | null {
  let at = start;
  while (at < end) {
    const length = getU32(page, at + 10);
    const here = mainAt(page, at);
    if (here === main && getU32(page, at + 6) === sub) {
      return page.subarray(at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + length);
    }
    if (here > main) return null;
    at += RECORD_HEADER_BYTES + length;
  }
  return null;
}

export type OnRecord = (main: number, sub: number, bytes: Uint8Array) => void;

/** A record is what lies in [start, end) of `page`: a start may have millions of them, and making a view of each was a
 *  sixth of what reading them took. */
export type OnPlace = (
  main: number,
  sub: number,
  page: Uint8Array,
  start: number,
  end: number,
) => void;

/** All records of a page that passed checkPage. `bytes` are views into it. */
export function eachRecord(page: Uint8Array, onRecord: OnRecord): void {
  eachPlace(page, (main, sub, _page, start, end) => onRecord(main, sub, page.subarray(start, end)));
}

/** All records of a page that passed checkPage, by their places. */
export function eachPlace(page: Uint8Array, onPlace: OnPlace): void {
  const end = page.length;
  let at = PAGE_HEADER_BYTES;
  while (at < end) {
    const body = at + RECORD_HEADER_BYTES;
    const next = body + (body <= end ? getU32(page, at + 10) : 0);
    if (next > end) throw new MalformedBytesError(`a record at ${at} of a page is cut short`);
    onPlace(mainAt(page, at), getU32(page, at + 6), page, body, next);
    at = next;
  }
}

/** A page without the records that `isGone` names: the same one if it has none, null if no other. */
export function withoutRecords(
  page: Uint8Array,
  isGone: (main: number, sub: number) => boolean,
): Uint8Array | null {
  const left = new Uint8Array(page.length);
  let at = PAGE_HEADER_BYTES;
  let count = 0;
  let goneCount = 0;
  eachRecord(page, (main, sub, bytes) => {
    if (isGone(main, sub)) {
      goneCount += 1;
      return;
    }
    at = putRecord(left, at, main, sub, bytes);
    count += 1;
  });
  if (goneCount === 0) return page;
  if (count === 0) return null;
  const shorter = left.subarray(0, at);
  sealPage(shorter, count);
  return shorter;
}

function mainAt(page: Uint8Array, at: number): number {
  return getU32(page, at) + ((page[at + 4] as number) | ((page[at + 5] as number) << 8)) * 2 ** 32;
}

function putU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

function getU32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)) >>>
    0
  );
}

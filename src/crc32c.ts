/**
 * CRC-32C (Castagnoli), eight bytes a step. Node's zlib has only the other CRC-32, and the log
 * format wants this one: its error detection for records of some hundred bytes is better, and it is
 * what etcd, RocksDB and ext4 use. About 1 ns per byte; of large bytes, which are read as words and sixteen
 * a step, 0.7.
 */

const POLYNOMIAL = 0x82f63b78;
/** Of the longest step: as many tables. */
const STEP_BYTES = 16;
const IS_LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;
/** From here on the view of words, which costs 0.1 us, is worth it. */
const LARGE_BYTES = 1024;

const TABLES: readonly Int32Array[] = (() => {
  const tables = Array.from({ length: STEP_BYTES }, () => new Int32Array(256));
  const first = tables[0] as Int32Array;
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    first[byte] = crc;
  }
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = first[byte] as number;
    for (let table = 1; table < STEP_BYTES; table += 1) {
      crc = (crc >>> 8) ^ (first[crc & 255] as number);
      (tables[table] as Int32Array)[byte] = crc;
    }
  }
  return tables;
})();

const [T0, T1, T2, T3, T4, T5, T6, T7] = TABLES as unknown as [
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
];

/** All tables behind each other: that of the last byte of a step in front. */
const FLAT = new Int32Array(STEP_BYTES * 256);
for (const [at, table] of TABLES.entries()) FLAT.set(table, at * 256);

/** CRC-32C of `bytes[start, end)`, as an unsigned 32-bit number; `seed` continues an earlier one. */
export function crc32c(bytes: Uint8Array, start = 0, end = bytes.length, seed = 0): number {
  if (end - start < LARGE_BYTES || !IS_LITTLE_ENDIAN)
    return ~bytewise(bytes, start, end, ~seed) >>> 0;
  // Words lie at multiples of four in the memory behind.
  const from = start + (-(bytes.byteOffset + start) & 3);
  const steps = Math.floor((end - from) / STEP_BYTES);
  const words = new Int32Array(bytes.buffer, bytes.byteOffset + from, steps * 4);
  const crc = wordwise(words, bytewise(bytes, start, from, ~seed));
  return ~bytewise(bytes, from + steps * STEP_BYTES, end, crc) >>> 0;
}

function wordwise(words: Int32Array, seed: number): number {
  let crc = seed;
  for (let at = 0; at < words.length; at += 4) {
    const a = crc ^ (words[at] as number);
    const b = words[at + 1] as number;
    const c = words[at + 2] as number;
    const d = words[at + 3] as number;
    crc =
      (FLAT[3840 | (a & 255)] as number) ^
      (FLAT[3584 | ((a >>> 8) & 255)] as number) ^
      (FLAT[3328 | ((a >>> 16) & 255)] as number) ^
      (FLAT[3072 | (a >>> 24)] as number) ^
      (FLAT[2816 | (b & 255)] as number) ^
      (FLAT[2560 | ((b >>> 8) & 255)] as number) ^
      (FLAT[2304 | ((b >>> 16) & 255)] as number) ^
      (FLAT[2048 | (b >>> 24)] as number) ^
      (FLAT[1792 | (c & 255)] as number) ^
      (FLAT[1536 | ((c >>> 8) & 255)] as number) ^
      (FLAT[1280 | ((c >>> 16) & 255)] as number) ^
      (FLAT[1024 | (c >>> 24)] as number) ^
      (FLAT[768 | (d & 255)] as number) ^
      (FLAT[512 | ((d >>> 8) & 255)] as number) ^
      (FLAT[256 | ((d >>> 16) & 255)] as number) ^
      (FLAT[d >>> 24] as number);
  }
  return crc;
}

function bytewise(bytes: Uint8Array, start: number, end: number, seed: number): number {
  let crc = seed;
  let at = start;
  for (; at + 8 <= end; at += 8) {
    const low =
      crc ^
      ((bytes[at] as number) |
        ((bytes[at + 1] as number) << 8) |
        ((bytes[at + 2] as number) << 16) |
        ((bytes[at + 3] as number) << 24));
    crc =
      (T7[low & 255] as number) ^
      (T6[(low >>> 8) & 255] as number) ^
      (T5[(low >>> 16) & 255] as number) ^
      (T4[low >>> 24] as number) ^
      (T3[bytes[at + 4] as number] as number) ^
      (T2[bytes[at + 5] as number] as number) ^
      (T1[bytes[at + 6] as number] as number) ^
      (T0[bytes[at + 7] as number] as number);
  }
  for (; at < end; at += 1) crc = (T0[(crc ^ (bytes[at] as number)) & 255] as number) ^ (crc >>> 8);
  return crc;
}

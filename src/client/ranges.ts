/**
 * Ranges of keys by name: what begins alike, what comes behind, everything. Bytes compare as bytes.
 */
import type { BytesInput, KeyRange } from './messages.js';
import { toBytes } from './wire-messages.js';

const ZERO = Uint8Array.of(0);

/** Every key. */
export const ALL_KEYS: KeyRange = { key: ZERO, rangeEnd: ZERO };

/** Every key that begins with `start`. */
export function prefix(start: BytesInput): KeyRange {
  const bytes = toBytes(start);
  if (bytes.length === 0) return ALL_KEYS;
  let length = bytes.length;
  // Nothing comes behind 0xff: the end is behind the byte before it.
  while (length > 0 && bytes[length - 1] === 0xff) length -= 1;
  if (length === 0) return { key: bytes, rangeEnd: ZERO };
  const rangeEnd = Uint8Array.from(bytes.subarray(0, length));
  rangeEnd[length - 1] = (rangeEnd[length - 1] ?? 0) + 1;
  return { key: bytes, rangeEnd };
}

/** `start` and every key behind it. */
export function fromKey(start: BytesInput): KeyRange {
  const bytes = toBytes(start);
  return { key: bytes.length === 0 ? ZERO : bytes, rangeEnd: ZERO };
}

/**
 * Small structured values to bytes and back: heads of peer frames. The only file that knows msgpackr.
 *
 * Values are arrays of numbers, strings, booleans, null and plain objects; nothing here is on the road
 * of an entry's bytes, which travel untouched behind the head.
 */
import { Packr } from 'msgpackr';

const packr = new Packr({ useRecords: false });

export function packValue(value: unknown): Uint8Array {
  return packr.pack(value);
}

/** Throws on malformed bytes; the caller treats that as a broken connection. */
export function unpackValue(bytes: Uint8Array): unknown {
  return packr.unpack(bytes);
}

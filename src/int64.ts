/**
 * 64-bit integers of the API, exact and cheap.
 *
 * Nearly every value that clients send fits a safe JavaScript integer, so an Int64 is a `number`
 * when it is safe and a `bigint` when it is not, never both for one value. That normal form makes
 * `===`, `Map` keys and `switch` work: 5 and 5n are different keys, but 5n never occurs.
 * Revisions, indices and terms inside the machine are plain `number`; lease ids are Int64 because
 * clients choose them (any int64).
 */

export type Int64 = number | bigint;

export const INT64_MAX = 9223372036854775807n;
export const INT64_MIN = -9223372036854775808n;
const SAFE_MAX = BigInt(Number.MAX_SAFE_INTEGER);
const SAFE_MIN = BigInt(Number.MIN_SAFE_INTEGER);

/** Brings a bigint or a safe integer into the normal form. The caller has checked the range. */
export function int64(value: number | bigint): Int64 {
  if (typeof value === 'number') return value;
  return value >= SAFE_MIN && value <= SAFE_MAX ? Number(value) : value;
}

/** Parses decimal text; null if it is not an integer in the int64 range. */
export function parseInt64(text: string): Int64 | null {
  if (!/^-?\d{1,20}$/.test(text)) return null;
  const value = BigInt(text);
  return value >= INT64_MIN && value <= INT64_MAX ? int64(value) : null;
}

/** Orders two Int64 values: negative, zero or positive. */
export function compareInt64(a: Int64, b: Int64): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Lower-case hexadecimal of the unsigned 64-bit pattern, as etcd writes lease and member ids. */
export function hexInt64(value: Int64): string {
  return BigInt.asUintN(64, BigInt(value)).toString(16);
}

/**
 * How kvctl reads what is typed: numbers, durations, lease ids, key ranges.
 *
 * Every parser throws a usage error that names the option and says what was expected.
 */
import { fromUtf8 } from '../src/bytes.js';
import type { KeyRange } from '../src/client/messages.js';
import { fromKey, prefix } from '../src/client/ranges.js';
import { toBytes } from '../src/client/wire-messages.js';
import type { Int64 } from '../src/int64.js';
import { int64 } from '../src/int64.js';
import { usageError } from './exit.js';

/** A whole number from `min` on. */
export function parseCount(name: string, min = 0): (text: string) => number {
  return (text) => {
    const value = /^-?\d+$/.test(text) ? Number(text) : Number.NaN;
    if (Number.isSafeInteger(value) && value >= min) return value;
    throw usageError(`${name} must be a whole number from ${min} on, not "${text}"`);
  };
}

const UNIT_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/** `500ms`, `5s`, `1m30s`; a bare number means seconds. Milliseconds, more than 0. */
export function parseDuration(name: string): (text: string) => number {
  return (text) => {
    let ms = Number.NaN;
    if (/^\d+(\.\d+)?$/.test(text)) ms = Number(text) * 1000;
    else if (/^(\d+(\.\d+)?(ns|us|ms|s|m|h))+$/.test(text)) {
      ms = 0;
      for (const [, number, , unit] of text.matchAll(/(\d+(\.\d+)?)(ns|us|ms|s|m|h)/g)) {
        ms += Number(number) * (UNIT_MS[unit ?? ''] ?? Number.NaN);
      }
    }
    if (ms > 0 && ms < 2 ** 31) return ms;
    throw usageError(`${name} must be a duration like 5s or 500ms, not "${text}"`);
  };
}

/** A lease id as printed: hexadecimal. */
export function parseLeaseId(text: string): Int64 {
  return parseHexId('a lease id', text, true);
}

export function parseMemberId(text: string): Int64 {
  return parseHexId('a member id', text, false);
}

function parseHexId(what: string, text: string, signed: boolean): Int64 {
  if (!/^(0x)?[0-9a-f]{1,16}$/i.test(text)) {
    throw usageError(`${what} is hexadecimal with up to 16 digits, not "${text}"`);
  }
  const value = BigInt(`0x${text.replace(/^0x/i, '')}`);
  return int64(signed ? BigInt.asIntN(64, value) : value);
}

export interface KeyOptions {
  readonly prefix?: boolean;
  readonly fromKey?: boolean;
}

export interface ParsedRange {
  readonly key: Uint8Array;
  readonly rangeEnd: Uint8Array | undefined;
  /** False for exactly one key. */
  readonly many: boolean;
}

/** The range that a key, an end and the flags --prefix and --from-key mean together. */
export function parseRange(key: string, end: string | undefined, options: KeyOptions): ParsedRange {
  if (options.prefix === true && options.fromKey === true) {
    throw usageError('--prefix and --from-key exclude each other');
  }
  if (end !== undefined && (options.prefix === true || options.fromKey === true)) {
    const flag = options.prefix === true ? '--prefix' : '--from-key';
    throw usageError(`a range end and ${flag} exclude each other`);
  }
  const bytes = fromUtf8(key);
  if (options.prefix === true) return prefixRange(bytes);
  if (options.fromKey === true) return rangeOf(fromKey(bytes));
  if (key === '') throw usageError('the key is empty: give one, or "" with --prefix for all keys');
  if (end === undefined) return { key: bytes, rangeEnd: undefined, many: false };
  if (end === '') throw usageError('the range end is empty: use --from-key for an open end');
  return { key: bytes, rangeEnd: fromUtf8(end), many: true };
}

/** Everything that starts with `start`. */
export function prefixRange(start: Uint8Array): ParsedRange {
  return rangeOf(prefix(start));
}

function rangeOf({ key, rangeEnd }: KeyRange): ParsedRange {
  const end = rangeEnd === undefined ? undefined : toBytes(rangeEnd);
  return { key: toBytes(key), rangeEnd: end, many: true };
}

/**
 * What is refused before the log: shapes, limits, duplicate keys.
 */
import { describe, expect, it } from 'vitest';
import type { Compare, RequestOp, TxnRequest } from '../../src/kv/request.js';
import {
  checkDeleteRange,
  checkLeaseGrant,
  checkPut,
  checkRange,
  checkTxn,
  MAX_LEASE_TTL_SECONDS,
} from '../../src/kv/validate.js';
import { del, put, range, txn } from '../support/kv-requests.js';

const exists: Compare = { result: 1, key: 'k', rangeEnd: '', target: 'version', number: 0 };

function nested(depth: number): TxnRequest {
  let inner = txn([], []);
  for (let level = 1; level < depth; level += 1) inner = txn([], [inner]);
  return inner;
}

describe('request checks', () => {
  it('refuses an empty key everywhere', () => {
    expect(checkRange(range(''))).toBe('EMPTY_KEY');
    expect(checkPut(put(''))).toBe('EMPTY_KEY');
    expect(checkDeleteRange(del(''))).toBe('EMPTY_KEY');
    expect(checkTxn(txn([{ ...exists, key: '' }], []))).toBe('EMPTY_KEY');
    expect(checkTxn(txn([], [], [txn([], [range('')])]))).toBe('EMPTY_KEY');
  });

  it('refuses sort options it does not know', () => {
    expect(checkRange(range('a', '', { sortOrder: 3 as 0 }))).toBe('INVALID_SORT_OPTION');
    expect(checkRange(range('a', '', { sortTarget: 5 as 0 }))).toBe('INVALID_SORT_OPTION');
    expect(checkRange(range('a', '', { sortOrder: 2, sortTarget: 4 }))).toBeNull();
  });

  it('refuses a value or a lease next to the flag that keeps it', () => {
    expect(checkPut(put('a', 'v', { ignoreValue: true }))).toBe('VALUE_PROVIDED');
    expect(checkPut(put('a', 'v', { ignoreLease: true, lease: 5 }))).toBe('LEASE_PROVIDED');
    expect(checkPut(put('a', '', { ignoreValue: true, ignoreLease: true }))).toBeNull();
  });

  it('refuses a TTL above nine billion seconds', () => {
    expect(checkLeaseGrant(MAX_LEASE_TTL_SECONDS)).toBeNull();
    expect(checkLeaseGrant(MAX_LEASE_TTL_SECONDS + 1)).toBe('LEASE_TTL_TOO_LARGE');
  });

  it('counts the longest list of a level and leaves the rest to nested transactions', () => {
    const three = [range('a'), range('b'), range('c')];
    expect(checkTxn(txn([exists, exists], three), 3)).toBeNull();
    expect(checkTxn(txn([exists, exists, exists, exists], three), 3)).toBe('TOO_MANY_OPERATIONS');
    expect(checkTxn(txn([], [], [...three, range('d')]), 3)).toBe('TOO_MANY_OPERATIONS');
    expect(checkTxn(txn([], [txn([], three)]), 4)).toBeNull();
    expect(checkTxn(txn([], [txn([], three)]), 3)).toBe('TOO_MANY_OPERATIONS');
  });

  it('bounds the depth whatever the budget', () => {
    expect(checkTxn(nested(128), 1000)).toBeNull();
    expect(checkTxn(nested(129), 1000)).toBe('TOO_MANY_OPERATIONS');
  });

  const cases: readonly (readonly [string, readonly RequestOp[], 'DUPLICATE_KEY' | null])[] = [
    ['two puts of one key', [put('a'), put('a')], 'DUPLICATE_KEY'],
    ['puts of two keys', [put('a'), put('b')], null],
    ['a put inside a deleted range', [del('a', 'c'), put('b')], 'DUPLICATE_KEY'],
    ['a put before the deletion of its range', [put('b'), del('a', 'c')], 'DUPLICATE_KEY'],
    ['a put of the end of a deleted range', [del('a', 'c'), put('c')], null],
    ['a put of a deleted key', [del('a'), put('a')], 'DUPLICATE_KEY'],
    ['a put above the start of an open range', [del('b', '\0'), put('z')], 'DUPLICATE_KEY'],
    ['two deletions that overlap', [del('a', 'c'), del('b', 'd')], null],
    ['a put and a nested put', [txn([], [put('a')]), put('a')], 'DUPLICATE_KEY'],
    ['a deletion and a nested put', [txn([], [], [put('a')]), del('a')], 'DUPLICATE_KEY'],
    ['a put and a nested deletion', [txn([], [del('a')]), put('a')], 'DUPLICATE_KEY'],
    ['one key in both branches of a nested one', [txn([], [put('a')], [put('a')])], null],
    ['one key in two nested ones', [txn([], [put('a')]), txn([], [put('a')])], 'DUPLICATE_KEY'],
    [
      'a nested deletion, then a nested put',
      [txn([], [del('a')]), txn([], [put('a')])],
      'DUPLICATE_KEY',
    ],
    ['a nested put, then a nested deletion', [txn([], [put('a')]), txn([], [del('a')])], null],
  ];
  it.each(cases)('judges %s', (_title, ops, expected) => {
    expect(checkTxn(txn([], ops))).toBe(expected);
    expect(checkTxn(txn([], [], ops))).toBe(expected);
  });

  it('lets the two branches of the whole transaction put the same key', () => {
    expect(checkTxn(txn([], [put('a')], [put('a')]))).toBeNull();
  });
});

/**
 * Checks of a request's shape that need no state: what is refused before it costs a place in the log.
 *
 * Called by the API services. Each returns the code of the first thing that is wrong, or null. What
 * depends on the store (a lease exists, a revision is retained, the key of an ignore flag is there) is
 * checked at apply, by every member alike (txn.ts). Apply does not rely on the checks here: it stays
 * total for requests that break them.
 *
 * A transaction has a budget of operations. A level uses as many as its longest list (compares,
 * success or failure) and leaves the rest to the transactions nested in it.
 *
 * One branch may put a key once and may not put a key that it also deletes, because all changes of a
 * transaction have one revision and a key would have two of it. Deleting twice is harmless, and the
 * two branches of one nested transaction exclude each other, so they may put the same key.
 */
import type { ErrorCode } from '../errors.js';
import { inKeyRange } from './key-range.js';
import type {
  Compare,
  DeleteRangeRequest,
  PutRequest,
  RangeRequest,
  RequestOp,
  TxnRequest,
} from './request.js';
import { MAX_TXN_DEPTH } from './request-codec.js';

export const DEFAULT_MAX_TXN_OPS = 128;
export const MAX_LEASE_TTL_SECONDS = 9_000_000_000;

export function checkRange(request: RangeRequest): ErrorCode | null {
  if (request.key === '') return 'EMPTY_KEY';
  const known = isWithin(request.sortOrder, 2) && isWithin(request.sortTarget, 4);
  return known ? null : 'INVALID_SORT_OPTION';
}

export function checkPut(request: PutRequest): ErrorCode | null {
  if (request.key === '') return 'EMPTY_KEY';
  if (request.ignoreValue && request.value.length > 0) return 'VALUE_PROVIDED';
  if (request.ignoreLease && request.lease !== 0) return 'LEASE_PROVIDED';
  return null;
}

export function checkDeleteRange(request: DeleteRangeRequest): ErrorCode | null {
  return request.key === '' ? 'EMPTY_KEY' : null;
}

export function checkLeaseGrant(ttlSeconds: number): ErrorCode | null {
  return ttlSeconds > MAX_LEASE_TTL_SECONDS ? 'LEASE_TTL_TOO_LARGE' : null;
}

export function checkTxn(
  request: TxnRequest,
  maxOps: number = DEFAULT_MAX_TXN_OPS,
): ErrorCode | null {
  return (
    checkLevel(request, maxOps, 1) ??
    checkBranch(request.success).error ??
    checkBranch(request.failure).error
  );
}

function checkLevel(txn: TxnRequest, budget: number, depth: number): ErrorCode | null {
  const used = Math.max(txn.compare.length, txn.success.length, txn.failure.length);
  if (used > budget || depth > MAX_TXN_DEPTH) return 'TOO_MANY_OPERATIONS';
  for (const compare of txn.compare) {
    const error = checkCompare(compare);
    if (error !== null) return error;
  }
  for (const ops of [txn.success, txn.failure]) {
    for (const op of ops) {
      const error = checkOp(op, budget - used, depth);
      if (error !== null) return error;
    }
  }
  return null;
}

function checkCompare(compare: Compare): ErrorCode | null {
  if (compare.key === '') return 'EMPTY_KEY';
  return isWithin(compare.result, 3) ? null : 'INVALID_ARGUMENT';
}

function checkOp(op: RequestOp, budget: number, depth: number): ErrorCode | null {
  switch (op.kind) {
    case 'range':
      return checkRange(op);
    case 'put':
      return checkPut(op);
    case 'deleteRange':
      return checkDeleteRange(op);
    case 'txn':
      return checkLevel(op, budget, depth + 1);
  }
}

interface Branch {
  readonly puts: Set<string>;
  readonly deletions: DeleteRangeRequest[];
  readonly error: ErrorCode | null;
}

/**
 * The keys that a branch may put and the ranges that it may delete, nested transactions included. The
 * order of the steps is part of the API: deletions of this level are known first, then nested puts are
 * checked, and a nested deletion counts against puts of later operations and of this level, but not
 * against puts of an earlier nested transaction.
 */
function checkBranch(ops: readonly RequestOp[]): Branch {
  const puts = new Set<string>();
  const deletions: DeleteRangeRequest[] = [];
  const refused: Branch = { puts, deletions, error: 'DUPLICATE_KEY' };
  const isTaken = (key: string): boolean =>
    puts.has(key) || deletions.some((range) => inKeyRange(key, range.key, range.rangeEnd));
  for (const op of ops) if (op.kind === 'deleteRange') deletions.push(op);
  for (const op of ops) {
    if (op.kind !== 'txn') continue;
    const success = checkBranch(op.success);
    const failure = checkBranch(op.failure);
    if (success.error !== null || failure.error !== null) return refused;
    for (const key of success.puts) {
      if (isTaken(key)) return refused;
      puts.add(key);
    }
    for (const key of failure.puts) {
      if (success.puts.has(key)) continue;
      if (isTaken(key)) return refused;
      puts.add(key);
    }
    deletions.push(...success.deletions, ...failure.deletions);
  }
  for (const op of ops) {
    if (op.kind !== 'put') continue;
    if (isTaken(op.key)) return refused;
    puts.add(op.key);
  }
  return { puts, deletions, error: null };
}

function isWithin(value: number, last: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= last;
}

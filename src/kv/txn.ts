/**
 * Transactions, and the single puts and deletions that are transactions of one operation: check
 * everything, then write.
 *
 * Called by state-machine.ts for one entry. First the path: all compares, those of nested transactions
 * included, are judged on the state before the entry, so what a transaction writes cannot steer the
 * transactions inside it. Then the checks that can refuse (revisions of ranges, leases, the keys that
 * ignore flags need), for the operations on the path and on the same old state. Then the writes, which
 * cannot fail: a refusal leaves no trace, an exception among the writes is a bug and ends the process.
 *
 * A range inside sees the writes before it. All writes have one main revision; answers carry the
 * revision that was visible behind their operation.
 *
 * Only the member whose client waits builds the answer (`wanted`); the others skip ranges and previous
 * pairs, but none of the checks, because an error is part of what all members must agree on.
 *
 * What may touch many keys is done in steps (steps.ts). A put touches one: it has a way without a generator,
 * alone and inside a transaction.
 */
import { assert } from '../assert.js';
import { compareBytes } from '../bytes.js';
import type { ErrorCode } from '../errors.js';
import type { Int64 } from '../int64.js';
import { compareInt64 } from '../int64.js';
import { upperBoundOf } from './key-range.js';
import { decodeRecord, recordValue } from './record.js';
import type {
  Compare,
  DeleteRangeRequest,
  KeyValue,
  OpResponse,
  PutRequest,
  RangeRequest,
  RequestOp,
  TxnRequest,
} from './request.js';
import { CompareResult } from './request.js';
import { PASSED_PER_KEY, Pace, type Steps } from './steps.js';
import type { Store } from './store.js';

export type WriteOutcome =
  | { readonly error: ErrorCode }
  | { readonly error: null; readonly response: OpResponse | null };

/** Applies a put. The caller commits the store behind it. */
export function applyPut(store: Store, put: PutRequest, wanted: boolean): WriteOutcome {
  const error = checkPut(store, put);
  return error === null ? { error, response: executePut(store, put, wanted) } : { error };
}

/** Applies a deletion or a transaction. The caller commits the store behind it. */
export function* applyInSteps(
  store: Store,
  request: DeleteRangeRequest | TxnRequest,
  wanted: boolean,
  stepKeys: number,
): Steps<WriteOutcome> {
  const path: Path = { taken: [], next: 0 };
  choosePath(store, request, path);
  const error = checkOp(store, request, path);
  if (error !== null) return { error };
  path.next = 0;
  const pace = new Pace(stepKeys);
  return { error: null, response: yield* execute(store, request, path, wanted, pace) };
}

/** A transaction that reads at most, and therefore needs no place in the log. */
export interface ReadTxn extends TxnRequest {
  readonly success: readonly RangeRequest[];
  readonly failure: readonly RangeRequest[];
}

/** A transaction with another one inside goes through the log, whatever that one does. */
export function isReadTxn(txn: TxnRequest): txn is ReadTxn {
  const isRange = (op: RequestOp): boolean => op.kind === 'range';
  return txn.success.every(isRange) && txn.failure.every(isRange);
}

/** Whether the transaction takes its success branch on the state as it is. */
export function conditionHolds(store: Store, txn: TxnRequest): boolean {
  return txn.compare.every((compare) => holds(store, compare));
}

/** Which branch each transaction takes, in the order in which execution meets them. */
interface Path {
  readonly taken: boolean[];
  next: number;
}

function takeBranch(txn: TxnRequest, path: Path): readonly RequestOp[] {
  const succeeded = path.taken[path.next];
  assert(succeeded !== undefined, 'the path of a transaction is too short');
  path.next += 1;
  return succeeded ? txn.success : txn.failure;
}

function choosePath(store: Store, op: RequestOp, path: Path): void {
  if (op.kind !== 'txn') return;
  const succeeded = conditionHolds(store, op);
  path.taken.push(succeeded);
  for (const inner of succeeded ? op.success : op.failure) choosePath(store, inner, path);
}

function checkOp(store: Store, op: RequestOp, path: Path): ErrorCode | null {
  switch (op.kind) {
    case 'range':
      return store.checkRevision(op.revision);
    case 'put':
      return checkPut(store, op);
    case 'deleteRange':
      return null;
    case 'txn': {
      for (const inner of takeBranch(op, path)) {
        const error = checkOp(store, inner, path);
        if (error !== null) return error;
      }
      return null;
    }
  }
}

function checkPut(store: Store, put: PutRequest): ErrorCode | null {
  if ((put.ignoreValue || put.ignoreLease) && !store.has(put.key)) return 'KEY_NOT_FOUND';
  const names = put.ignoreLease ? 0 : put.lease;
  return names === 0 || store.lessor.has(names) ? null : 'LEASE_NOT_FOUND';
}

function* execute(
  store: Store,
  op: RequestOp,
  path: Path,
  wanted: boolean,
  pace: Pace,
): Steps<OpResponse | null> {
  switch (op.kind) {
    case 'range':
      return wanted ? yield* executeRange(store, op, pace) : null;
    case 'put':
      return executePut(store, op, wanted);
    case 'deleteRange':
      return yield* executeDelete(store, op, wanted, pace);
    case 'txn': {
      const succeeded = path.taken[path.next] === true;
      const responses: OpResponse[] = [];
      for (const inner of takeBranch(op, path)) {
        const response =
          inner.kind === 'put'
            ? executePut(store, inner, wanted)
            : yield* execute(store, inner, path, wanted, pace);
        if (response !== null) responses.push(response);
      }
      if (!wanted) return null;
      return { kind: 'txn', succeeded, responses, revision: store.visibleRevision };
    }
  }
}

/** Its revision stays the same between the steps: no other entry is applied meanwhile. */
function* executeRange(store: Store, request: RangeRequest, pace: Pace): Steps<OpResponse> {
  const scan = store.openRange(request);
  assert(!('error' in scan), 'a range failed behind its check');
  for (;;) {
    const isFinished = scan.advance(pace.keys);
    const isOver = pace.spend(1 + scan.stepKeys, scan.stepBytes);
    if (isFinished) break;
    if (isOver) yield;
  }
  assert(scan.failure === null, `a range failed in its entry with ${scan.failure}`);
  return scan.response();
}

function executePut(store: Store, put: PutRequest, wanted: boolean): OpResponse | null {
  const prevKv = writePut(store, put, wanted);
  return wanted ? { kind: 'put', prevKv, revision: store.visibleRevision } : null;
}

function writePut(store: Store, put: PutRequest, wanted: boolean): KeyValue | null {
  const wantPrevious = wanted && put.prevKv;
  if (!put.ignoreValue && !put.ignoreLease) {
    return store.put(put.key, put.value, put.lease, wantPrevious);
  }
  const value = put.ignoreValue ? null : put.value;
  return store.putKeeping(put.key, value, put.ignoreLease ? null : put.lease, wantPrevious);
}

function* executeDelete(
  store: Store,
  request: DeleteRangeRequest,
  wanted: boolean,
  pace: Pace,
): Steps<OpResponse | null> {
  const wantPrevious = wanted && request.prevKv;
  const prevKvs: KeyValue[] = [];
  const to = upperBoundOf(request.key, request.rangeEnd);
  let deleted = 0;
  for (let from: string | null = request.key; from !== null; ) {
    const { keys, next } = store.liveKeys(from, to, pace.keys);
    for (const key of keys) {
      const previous = store.delete(key, wantPrevious);
      if (previous !== null) prevKvs.push(previous);
      if (pace.spend(1, previous === null ? 0 : previous.value.length)) yield;
    }
    deleted += keys.length;
    from = next;
    // Keys that are gone already are only passed by, but there may be a million of them.
    if (next !== null && pace.spend(pace.keys / PASSED_PER_KEY, 0)) yield;
  }
  if (!wanted) return null;
  const revision = store.visibleRevision;
  return { kind: 'deleteRange', deleted, prevKvs, revision };
}

/** A compare over a range holds when every pair satisfies it; without a pair it is judged as a pair of
 *  zeros, but a value that does not exist satisfies nothing, not even NotEqual. */
function holds(store: Store, compare: Compare): boolean {
  let found = false;
  const visit = (key: string, slot: number, live: boolean): boolean => {
    if (!live) return true;
    found = true;
    return satisfies(compare.result, differenceOf(store, compare, key, slot));
  };
  if (compare.rangeEnd === '') {
    const slot = store.index.find(compare.key);
    if (slot >= 0 && !visit(compare.key, slot, store.index.versionOf(slot) > 0)) return false;
  } else {
    const end = upperBoundOf(compare.key, compare.rangeEnd);
    if (!store.index.keys.visit(compare.key, end, visit)) return false;
  }
  if (found) return true;
  return compare.target !== 'value' && satisfies(compare.result, compareInt64(0, compare.number));
}

/** Sign of (what the pair has) minus (what the clause names). */
function differenceOf(store: Store, compare: Compare, key: string, slot: number): number {
  const { index } = store;
  if (compare.target === 'value') {
    const main = index.mainOf(slot);
    const sub = index.subOf(slot);
    const bytes = store.records.read(main, sub);
    return compareBytes(recordValue(decodeRecord(main, sub, bytes, key), bytes), compare.value);
  }
  let has: Int64;
  if (compare.target === 'version') has = index.versionOf(slot);
  else if (compare.target === 'create') has = index.createOf(slot);
  else if (compare.target === 'mod') has = index.mainOf(slot);
  else has = store.lessor.idOf(index.leaseSlotOf(slot));
  return compareInt64(has, compare.number);
}

function satisfies(result: CompareResult, difference: number): boolean {
  switch (result) {
    case CompareResult.Equal:
      return difference === 0;
    case CompareResult.Greater:
      return difference > 0;
    case CompareResult.Less:
      return difference < 0;
    default:
      return difference !== 0;
  }
}

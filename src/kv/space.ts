/**
 * What a command may cost of the quota, and how much of it is used. Called by state-machine.ts at apply.
 *
 * Both are functions of the replicated state: the bytes of the records that compaction has left, and a
 * share for each lease. What LevelDB makes of them on one disk or another plays no part, so all members
 * refuse the same writes, and a compaction makes room in the instant in which it is applied. The shares
 * are etcd's, and never less than what the write adds: what was accepted stays within the quota.
 * Deletions cost nothing, though their tombstones take some bytes until they are compacted: who is out
 * of space must be able to delete.
 *
 * Hysteresis: the alarm ends when a tenth of the quota is free, not when one more byte is. Otherwise a
 * cluster at its limit would raise and end it with every write.
 */
import type { Command } from './command.js';
import type { PutRequest, RequestOp } from './request.js';
import type { Store } from './store.js';

const PAIR_BYTES = 256;
const LEASE_BYTES = 64;

/** A quota that allows everything. */
export const NO_QUOTA = 0;

export function usedBytes(store: Store): number {
  return store.logicalBytes + LEASE_BYTES * store.lessor.count;
}

/** The alarm ends at this use; a quota that is not set is never used up. */
export function lowWaterOf(quotaBytes: number): number {
  return quotaBytes === NO_QUOTA
    ? Number.POSITIVE_INFINITY
    : quotaBytes - Math.ceil(quotaBytes / 10);
}

/** At most what the command adds to the use; 0 for what needs no space. */
export function costOf(store: Store, command: Command): number {
  switch (command.kind) {
    case 'put':
    case 'txn':
      return costOfOp(store, command);
    case 'leaseGrant':
      return LEASE_BYTES;
    default:
      return 0;
  }
}

function costOfOp(store: Store, op: RequestOp): number {
  if (op.kind === 'put') return costOfPut(store, op);
  if (op.kind !== 'txn') return 0;
  const sum = (ops: readonly RequestOp[]): number =>
    ops.reduce((total, each) => total + costOfOp(store, each), 0);
  // Whichever branch is taken.
  return Math.max(sum(op.success), sum(op.failure));
}

function costOfPut(store: Store, put: PutRequest): number {
  const kept = put.ignoreValue ? store.recordBytes(put.key) : 0;
  return PAIR_BYTES + put.key.length + put.value.length + kept;
}

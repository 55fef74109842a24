/**
 * The replicated side of leases: which exist, with which TTL, and which keys hang on them.
 *
 * Changed only by kv/state-machine.ts, entry by entry, so it is equal on every member. There is no
 * clock here: when a lease ends is decided by the leader's expiry.ts, which proposes it; a member that
 * is not leader holds every lease for ever.
 *
 * A lease has a slot, a small number that the key index keeps per key instead of the id (an id may be
 * any int64). Slots are reused and differ between members after a restore; they never leave the
 * member.
 *
 * Invariants: 1. a key hangs on at most one lease, the one that its newest pair names. 2. a lease that
 * is revoked has no keys left: whoever revokes deletes them in the same revision. 3. everything that
 * leaves this file as a list is sorted.
 */
import { assert } from '../assert.js';
import type { Int64 } from '../int64.js';
import { compareInt64 } from '../int64.js';

export const NO_LEASE_SLOT = 0;

export interface LeaseState {
  readonly id: Int64;
  /** Granted TTL in seconds. */
  readonly ttl: number;
  /** Seconds left at the last checkpoint, 0 = none: the full TTL counts. */
  readonly remaining: number;
}

/** What one entry did to leases, for the leader's expiry. */
export interface LeaseChanges {
  readonly granted: readonly LeaseState[];
  readonly revoked: readonly Int64[];
  readonly checkpointed: readonly LeaseState[];
}

interface Lease {
  readonly id: Int64;
  readonly slot: number;
  readonly ttl: number;
  remaining: number;
  readonly keys: Set<string>;
}

export class Lessor {
  private readonly byId = new Map<Int64, Lease>();
  /** By slot; slot 0 stays empty. */
  private readonly bySlot: (Lease | null)[] = [null];
  private readonly freeSlots: number[] = [];
  /** Cache of `list`, made when asked for. */
  private sorted: Lease[] | null = null;

  get count(): number {
    return this.byId.size;
  }

  has(id: Int64): boolean {
    return this.byId.has(id);
  }

  get(id: Int64): LeaseState | null {
    return this.byId.get(id) ?? null;
  }

  /** Slot of an existing lease; NO_LEASE_SLOT for 0 and for a lease that does not exist. */
  slotOf(id: Int64): number {
    return this.byId.get(id)?.slot ?? NO_LEASE_SLOT;
  }

  idOf(slot: number): Int64 {
    return this.bySlot[slot]?.id ?? 0;
  }

  grant(id: Int64, ttl: number, remaining = 0): LeaseState {
    assert(id !== 0, 'lease 0 means no lease');
    assert(!this.byId.has(id), `lease ${id} is granted twice`);
    const slot = this.freeSlots.pop() ?? this.bySlot.length;
    const lease: Lease = { id, slot, ttl, remaining, keys: new Set() };
    this.bySlot[slot] = lease;
    this.byId.set(id, lease);
    this.sorted = null;
    return lease;
  }

  /** Ends a lease whose keys are deleted already (invariant 2). */
  revoke(id: Int64): void {
    const lease = this.byId.get(id);
    assert(lease !== undefined, `lease ${id} is revoked but does not exist`);
    assert(lease.keys.size === 0, `lease ${id} is revoked with ${lease.keys.size} keys`);
    this.byId.delete(id);
    this.bySlot[lease.slot] = null;
    this.freeSlots.push(lease.slot);
    this.sorted = null;
  }

  /** Notes the seconds left; 0 takes the note away. False if the lease does not exist. */
  checkpoint(id: Int64, seconds: number): boolean {
    const lease = this.byId.get(id);
    if (lease === undefined) return false;
    lease.remaining = Math.min(seconds, lease.ttl);
    return true;
  }

  attach(slot: number, key: string): void {
    if (slot === NO_LEASE_SLOT) return;
    const lease = this.bySlot[slot] ?? null;
    assert(lease !== null, `key is attached to lease slot ${slot}, which is free`);
    lease.keys.add(key);
  }

  detach(slot: number, key: string): void {
    if (slot === NO_LEASE_SLOT) return;
    const lease = this.bySlot[slot] ?? null;
    assert(lease?.keys.delete(key) === true, `key is not attached to lease slot ${slot}`);
  }

  /** The keys on a lease, sorted; none for a lease that does not exist. */
  keysOf(id: Int64): string[] {
    const lease = this.byId.get(id);
    return lease === undefined ? [] : [...lease.keys].sort(compareKeys);
  }

  /** All leases, sorted by id. The array is not to be changed and is valid until the next change. */
  list(): readonly LeaseState[] {
    this.sorted ??= [...this.byId.values()].sort((a, b) => compareInt64(a.id, b.id));
    return this.sorted;
  }
}

function compareKeys(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

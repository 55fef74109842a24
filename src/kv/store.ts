/**
 * The multi-version store: put, delete, range and compact over the key index and the records.
 *
 * Changed only by state-machine.ts and txn.ts, inside one entry; read by anyone between entries. The
 * store keeps no value bytes: it reads them through the RecordStore, and what it hands out is copied.
 *
 * An entry makes at most one revision. Its changes are (revision + 1, 0), (revision + 1, 1) and so on;
 * they are visible at once to whoever reads inside the entry (`visibleRevision`), and `commit` makes
 * the new revision the store's own. An entry without changes makes none: deleting nothing leaves the
 * revision where it was.
 *
 * Invariants: 1. `revision` never descends; it is kept in the tables and never derived from the keys
 * that are left, because compaction may have removed the newest ones. 2. compactRevision <= revision.
 * 3. reads at or above compactRevision find their records.
 */
import { assert } from '../assert.js';
import { copyBytes } from '../bytes.js';
import type { ErrorCode } from '../errors.js';
import { FatalError } from '../errors.js';
import { EventType } from '../event-type.js';
import type { Int64 } from '../int64.js';
import type { Lessor } from '../lease/lessor.js';
import type { KvEvent } from './event.js';
import type { HashChain } from './hash-chain.js';
import { KeyIndex, NEWEST, NOTHING } from './key-index.js';
import { RangeScan } from './range-scan.js';
import type { MadeRecord } from './record.js';
import {
  decodeRecord,
  encodePut,
  encodeTombstone,
  keptValue,
  NO_VALUE,
  parseRecord,
  recordValue,
} from './record.js';
import type { RecordStore } from './record-store.js';
import type { KeyValue, RangeRequest, RangeResponse } from './request.js';

const FIRST_REVISION = 1;
const UNKNOWN_LEASE_SLOT = -1;

/** An answer with the store revision for its header. */
export type RangeAnswer = RangeResponse & { readonly revision: number };

export class Store {
  /** For reading; changes go through the methods below. */
  readonly index = new KeyIndex();
  readonly records: RecordStore;
  readonly lessor: Lessor;
  private readonly chain: HashChain;
  private currentRevision = FIRST_REVISION;
  private compactedTo = 0;
  /** Changes of the entry that is being applied; bounded by the keys that it touches. */
  private events: KvEvent[] = [];
  private restoredMain = 0;
  private restoredSub = 0;

  constructor(records: RecordStore, lessor: Lessor, chain: HashChain) {
    this.records = records;
    this.lessor = lessor;
    this.chain = chain;
  }

  get revision(): number {
    return this.currentRevision;
  }

  /** Reads below this revision fail; 0 = never compacted. */
  get compactRevision(): number {
    return this.compactedTo;
  }

  /** What a read inside the running entry sees: its own changes, if it made any. */
  get visibleRevision(): number {
    return this.events.length > 0 ? this.currentRevision + 1 : this.currentRevision;
  }

  /** Number of keys at the current revision. */
  get liveCount(): number {
    return this.index.keys.liveCount;
  }

  /** Bytes of all retained records: equal on all members, whatever their disks hold. */
  get logicalBytes(): number {
    return this.index.retainedBytes;
  }

  /** Runs a range to its end. */
  range(request: RangeRequest): RangeAnswer | { readonly error: ErrorCode } {
    const scan = this.openRange(request);
    if (!(scan instanceof RangeScan)) return scan;
    while (!scan.advance(Number.MAX_SAFE_INTEGER));
    assert(scan.failure === null, `a range in one step failed with ${scan.failure}`);
    return scan.response();
  }

  /** Starts a range that its caller advances in steps. Its revision is pinned now. */
  openRange(request: RangeRequest): RangeScan | { readonly error: ErrorCode } {
    const error = this.checkRevision(request.revision);
    return error === null ? new RangeScan(this, request) : { error };
  }

  /** Whether a read at this revision can be answered; 0 = the newest. */
  checkRevision(revision: number): ErrorCode | null {
    if (revision === 0) return null;
    if (revision > this.visibleRevision) return 'FUTURE_REVISION';
    return revision < this.compactedTo ? 'COMPACTED' : null;
  }

  has(key: string): boolean {
    const slot = this.index.find(key);
    return slot >= 0 && this.index.versionOf(slot) > 0;
  }

  /** Of the newest record of the key; 0 when there is none. */
  recordBytes(key: string): number {
    const slot = this.index.find(key);
    return slot < 0 ? 0 : this.index.bytesOf(slot);
  }

  /** The pair as it is now; null if there is none. */
  get(key: string): KeyValue | null {
    const slot = this.index.find(key);
    return slot < 0 || this.index.versionOf(slot) === 0 ? null : this.readNewest(key, slot);
  }

  /** The pair that was written at exactly this main revision; null if compaction took it: then a read
   *  at the compact revision finds another one or none. */
  pairAt(key: string, modRevision: number): KeyValue | null {
    const pair = this.pairBelow(key, Math.max(modRevision, this.compactedTo));
    return pair !== null && pair.modRevision === modRevision ? pair : null;
  }

  /** The pair that a change at `beforeRevision` replaced; null if there was none or compaction took
   *  it. */
  previousPair(key: string, beforeRevision: number): KeyValue | null {
    if (beforeRevision <= this.compactedTo) return null;
    return this.pairBelow(key, beforeRevision - 1);
  }

  /** Whether compaction has left this revision of the key, which was written: what a hash over the
   *  records counts. */
  isRetained(key: string, main: number, sub: number): boolean {
    // The index walks from the newest revision of the key: of a hot one that would be all of them, each time.
    if (main > this.compactedTo) return true;
    const slot = this.index.find(key);
    return slot >= 0 && this.index.isRetained(slot, main, sub);
  }

  /** Writes a pair. The lease exists or is 0; the caller has checked that. */
  put(key: string, value: Uint8Array, lease: Int64, wantPrevious: boolean): KeyValue | null {
    const { index } = this;
    const main = this.currentRevision + 1;
    const sub = this.events.length;
    const slot = index.find(key);
    const live = slot >= 0 && index.versionOf(slot) > 0;
    const create = live ? index.createOf(slot) : main;
    const version = live ? index.versionOf(slot) + 1 : 1;
    const previous = live ? index.mainOf(slot) : 0;
    // The value may be a view of the previous record: encode before anything else is read.
    const record = encodePut(main, sub, { create, version, previous, lease, key, value });
    const previousPair = live && wantPrevious ? this.readNewest(key, slot) : null;
    const leaseSlot = lease === 0 ? 0 : this.lessor.slotOf(lease);
    assert(leaseSlot !== 0 || lease === 0, `put with lease ${lease}, which does not exist`);
    const oldLeaseSlot = live ? index.leaseSlotOf(slot) : 0;
    if (oldLeaseSlot !== leaseSlot) {
      this.lessor.detach(oldLeaseSlot, key);
      this.lessor.attach(leaseSlot, key);
    }
    const revision = { main, sub, bytes: record.bytes.length };
    index.put(key, slot, revision, { create, version, leaseSlot });
    const kept = this.write(main, sub, record);
    this.events.push({
      type: EventType.Put,
      kv: {
        key,
        createRevision: create,
        modRevision: main,
        version,
        value: keptValue(record, kept),
        lease,
      },
      prevKv: null,
      previousRevision: previous,
    });
    return previousPair;
  }

  /** Keeps the value, the lease or both of the pair that is there. */
  putKeeping(
    key: string,
    value: Uint8Array | null,
    lease: Int64 | null,
    wantPrevious: boolean,
  ): KeyValue | null {
    const slot = this.index.find(key);
    const live = slot >= 0 && this.index.versionOf(slot) > 0;
    if (lease === null) lease = live ? this.lessor.idOf(this.index.leaseSlotOf(slot)) : 0;
    if (value === null) value = live ? this.valueView(key, slot) : NO_VALUE;
    return this.put(key, value, lease, wantPrevious);
  }

  /** Keys that exist now, ascending, among at most so many from `from` up to but without `to` (null = all that
   *  follow), and where to go on behind them; null = nowhere. */
  liveKeys(
    from: string,
    to: string | null,
    most: number,
  ): { readonly keys: readonly string[]; readonly next: string | null } {
    const keys: string[] = [];
    let left = most;
    let last = from;
    const isEnded = this.index.keys.visit(from, to, (key, _slot, live) => {
      if (live) keys.push(key);
      last = key;
      left -= 1;
      return left > 0;
    });
    return { keys, next: isEnded ? null : `${last}\0` };
  }

  /** Deletes a key that exists. */
  delete(key: string, wantPrevious: boolean): KeyValue | null {
    const { index } = this;
    const main = this.currentRevision + 1;
    const sub = this.events.length;
    const slot = index.find(key);
    assert(slot >= 0 && index.versionOf(slot) > 0, 'delete of a key that does not exist');
    const previous = index.mainOf(slot);
    const previousPair = wantPrevious ? this.readNewest(key, slot) : null;
    const record = encodeTombstone(main, sub, key, previous);
    this.lessor.detach(index.leaseSlotOf(slot), key);
    index.delete(key, slot, { main, sub, bytes: record.bytes.length });
    this.write(main, sub, record);
    this.events.push({
      type: EventType.Delete,
      kv: deletedPair(key, main),
      prevKv: null,
      previousRevision: previous,
    });
    return previousPair;
  }

  /** Ends the entry: its changes become the new revision. Returns them in order. */
  commit(): readonly KvEvent[] {
    if (this.events.length === 0) return NO_EVENTS;
    const { events } = this;
    this.events = [];
    this.currentRevision += 1;
    return events;
  }

  /** Forgets what no read at or above `revision` can see. Costs little, however much it is: what was
   *  forgotten leaves memory and disk by `collectGarbage`. */
  compact(revision: number): ErrorCode | null {
    if (revision <= this.compactedTo) return 'COMPACTED';
    if (revision > this.currentRevision) return 'FUTURE_REVISION';
    this.compactedTo = revision;
    this.index.forget(revision);
    return null;
  }

  /** Revisions that compaction has forgotten and that still take space. */
  get garbageCount(): number {
    return this.index.garbageCount;
  }

  /** Removes at most so many of them. When this is called, and how often, changes no answer and no
   *  figure, so members need not agree on it. */
  collectGarbage(most: number): void {
    this.index.collect(most, (main, sub, isTombstone) => {
      this.records.remove(main, sub, isTombstone);
    });
  }

  /** Restore, first step: where the store stood. */
  restoreRevisions(revision: number, compactRevision: number): void {
    assert(compactRevision <= revision, `compact revision ${compactRevision} above ${revision}`);
    this.currentRevision = revision;
    this.compactedTo = compactRevision;
  }

  /** Restore, for every record at or below the revision, in order: [start, end) of `bytes`. Does not keep them; the
   *  caller has checked them (record.ts). */
  restoreRecord(main: number, sub: number, bytes: Uint8Array, start: number, end: number): void {
    const inOrder =
      main > this.restoredMain || (main === this.restoredMain && sub > this.restoredSub);
    assert(inOrder || this.restoredMain === 0, `record ${main}.${sub} is out of order`);
    this.restoredMain = main;
    this.restoredSub = sub;
    const record = parseRecord(bytes, null, start, end);
    const slot = this.index.find(record.key);
    const revision = { main, sub, bytes: end - start };
    if (record.tombstone) {
      this.index.delete(record.key, slot, revision);
      return;
    }
    // A lease that has ended may stand in a record that is itself replaced or deleted further on.
    let leaseSlot = 0;
    if (record.lease !== 0) leaseSlot = this.lessor.slotOf(record.lease) || UNKNOWN_LEASE_SLOT;
    this.index.put(record.key, slot, revision, {
      create: record.create,
      version: record.version,
      leaseSlot,
    });
  }

  /** Restore, last step: finds garbage that was not removed yet and hangs the keys on their leases. */
  finishRestore(): void {
    this.index.forget(this.compactedTo);
    const { index, lessor } = this;
    index.keys.visit('', null, (key, slot, live) => {
      const leaseSlot = live ? index.leaseSlotOf(slot) : 0;
      if (leaseSlot === UNKNOWN_LEASE_SLOT) {
        throw new FatalError('the records do not fit the tables: a key hangs on an unknown lease');
      }
      lessor.attach(leaseSlot, key);
      return true;
    });
  }

  private write(main: number, sub: number, { bytes, crc }: MadeRecord): Uint8Array {
    this.chain.number(main);
    this.chain.word(sub);
    this.chain.word(crc);
    return this.records.write(main, sub, bytes);
  }

  private readNewest(key: string, slot: number): KeyValue {
    return readPair(this.records, this.index.mainOf(slot), this.index.subOf(slot), key);
  }

  /** The value of the newest pair, valid until the records are used again. */
  private valueView(key: string, slot: number): Uint8Array {
    const main = this.index.mainOf(slot);
    const sub = this.index.subOf(slot);
    const bytes = this.records.read(main, sub);
    return recordValue(decodeRecord(main, sub, bytes, key), bytes);
  }

  private pairBelow(key: string, revision: number): KeyValue | null {
    const { index } = this;
    const slot = index.find(key);
    const where = slot < 0 ? NOTHING : index.locate(slot, revision);
    if (where === NOTHING) return null;
    if (where === NEWEST) return this.readNewest(key, slot);
    return readPair(this.records, index.nodeMain(where), index.nodeSub(where), key);
  }
}

/** A pair read from its record, with a value of its own. */
export function readPair(records: RecordStore, main: number, sub: number, key: string): KeyValue {
  const bytes = records.read(main, sub);
  const record = decodeRecord(main, sub, bytes, key);
  return {
    key,
    createRevision: record.create,
    modRevision: main,
    version: record.version,
    value: copyBytes(recordValue(record, bytes)),
    lease: record.lease,
  };
}

/** What a watcher sees of an old record. The value is copied. */
export function eventFromRecord(main: number, sub: number, bytes: Uint8Array): KvEvent {
  const record = decodeRecord(main, sub, bytes);
  if (record.tombstone) {
    const kv = deletedPair(record.key, main);
    return { type: EventType.Delete, kv, prevKv: null, previousRevision: record.previous };
  }
  return {
    type: EventType.Put,
    kv: {
      key: record.key,
      createRevision: record.create,
      modRevision: main,
      version: record.version,
      value: copyBytes(recordValue(record, bytes)),
      lease: record.lease,
    },
    prevKv: null,
    previousRevision: record.previous,
  };
}

const NO_EVENTS: readonly KvEvent[] = [];

function deletedPair(key: string, main: number): KeyValue {
  return { key, createRevision: 0, modRevision: main, version: 0, value: NO_VALUE, lease: 0 };
}

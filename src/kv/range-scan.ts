/**
 * One range read, taken in steps so that a long one does not stop the member.
 *
 * Made by Store.openRange. The node calls `advance` with a number of keys, yields to its event loop,
 * and goes on until the scan says it is finished. Between two steps entries are applied; the scan does
 * not see them, because it reads at the revision that it pinned when it was opened. Only a compaction
 * above that revision can take records away from under it: then the scan fails with COMPACTED, and the
 * node starts it anew if the client had not asked for that revision.
 *
 * Two ways through a range:
 * - natural: the answer is in key order and nothing is filtered. Pairs are read as the walk meets
 *   them, at most `limit`; at the newest revision the tree knows the count and the walk ends there.
 * - collected: filters or another order. The walk gathers what decides (revisions, version, for VALUE
 *   the value) of as many as the limit allows, the first ones of the order so far (bounded-heap.ts), and
 *   only then reads the values of what is left, from the last one to the first.
 *
 * A sort target without an order sorts ascending, but what is sorted are the first limit + 1 keys:
 * clients of the API know it that way. Equal elements stay in key order.
 */
import { assert } from '../assert.js';
import { compareBytes } from '../bytes.js';
import type { ErrorCode } from '../errors.js';
import type { Int64 } from '../int64.js';
import { BoundedHeap } from './bounded-heap.js';
import { NEWEST, NOTHING } from './key-index.js';
import { upperBoundOf } from './key-range.js';
import { decodeRecord, NO_VALUE, recordValue } from './record.js';
import type { KeyValue, RangeRequest } from './request.js';
import { SortOrder, SortTarget } from './request.js';
import { PASSED_PER_KEY } from './steps.js';
import type { RangeAnswer, Store } from './store.js';
import { ValueArena } from './value-arena.js';

interface Hit {
  readonly key: string;
  /** How many pairs the walk had met: equals stay in this order. */
  readonly at: number;
  readonly sub: number;
  readonly createRevision: number;
  readonly modRevision: number;
  readonly version: number;
  /** Null until it is read. */
  readonly value: Uint8Array | null;
  readonly lease: Int64;
}

/** Values that are read in one step, whatever the keys: 1000 large ones would hold the event loop for long. */
export const STEP_BYTES = 1024 * 1024;
/** Of `slot`: the range is more than one key. */
const MANY = -2;

export class RangeScan {
  /** Set when `advance` ended without an answer. */
  failure: ErrorCode | null = null;
  private readonly store: Store;
  private readonly request: RangeRequest;
  private readonly headRevision: number;
  private readonly pinned: number;
  private readonly backward: boolean;
  private readonly natural: boolean;
  /** Pairs to gather before the walk needs no more of them. */
  private readonly wanted: number;
  /** From the tree, when the pinned revision was the newest; -1 = the walk counts. */
  private readonly countAtHead: number;
  private readonly arena = new ValueArena();
  /** Of the one key that is asked for, -1 if it is not known. It stays true while entries are applied: a key that
   *  gets the slot of one that was removed has no revision that the scan could see. */
  private readonly slot: number;
  private from: string;
  private to: string | null;
  private phase: 'walk' | 'load' | 'done' = 'walk';
  /** Pairs that the walk has met. */
  private met = 0;
  /** Keys that the last step has read, with PASSED_PER_KEY of those that it has only looked at for one: keys that
   *  are deleted, that are not there yet, or that a filter leaves out may be a million between two that are read. */
  stepKeys = 0;
  /** Of records, read in the last step. */
  stepBytes = 0;
  /** What is gathered, when the walk makes the order. */
  private hits: Hit[] = [];
  /** The same, when it does not. */
  private sorted: BoundedHeap<Hit> | null;
  /** Pairs that the filters let through, and how many of them are the answer. */
  private passed = 0;
  private chosen = 0;
  private kvs: KeyValue[] = [];
  private more = false;

  constructor(store: Store, request: RangeRequest) {
    this.store = store;
    this.request = request;
    this.headRevision = store.visibleRevision;
    this.pinned = request.revision === 0 ? this.headRevision : request.revision;
    this.from = request.key;
    this.to = upperBoundOf(request.key, request.rangeEnd);
    this.slot = request.rangeEnd === '' ? store.index.find(request.key) : MANY;
    const byKey = request.sortTarget === SortTarget.Key;
    this.backward = byKey && request.sortOrder === SortOrder.Descend;
    const filtered = hasFilters(request);
    this.natural = byKey && !filtered;
    const { limit } = request;
    const firstOnly = limit > 0 && (byKey || (!filtered && request.sortOrder === SortOrder.None));
    this.wanted = firstOnly ? limit + (this.natural ? 0 : 1) : Number.POSITIVE_INFINITY;
    const order = this.natural ? null : orderOf(request);
    this.sorted = order === null ? null : new BoundedHeap(order, limit || Number.POSITIVE_INFINITY);
    const atHead = this.pinned === this.headRevision;
    this.countAtHead = atHead ? this.countNow() : -1;
    if (request.countOnly && this.countAtHead >= 0) this.phase = 'done';
  }

  /** Goes on over at most `maxKeys` keys, as `stepKeys` counts, until values of `maxBytes` are read; true = finished, see
   *  `failure` before `response`. */
  advance(maxKeys: number, maxBytes = STEP_BYTES): boolean {
    assert(maxKeys > 0, `a step of ${maxKeys} keys`);
    this.stepKeys = 0;
    this.stepBytes = 0;
    if (this.phase === 'done') return true;
    if (this.pinned < this.store.compactRevision) {
      this.failure = 'COMPACTED';
      this.phase = 'done';
      this.kvs = [];
      this.letGo();
      return true;
    }
    if (this.phase === 'walk') this.walk(maxKeys, maxBytes);
    else this.load(maxKeys, maxBytes);
    return (this.phase as string) === 'done';
  }

  response(): RangeAnswer {
    assert(this.phase === 'done', 'response of a scan that is not finished');
    assert(this.failure === null, `response of a scan that failed with ${this.failure}`);
    return {
      kind: 'range',
      kvs: this.kvs,
      more: this.more,
      count: this.count,
      revision: this.headRevision,
    };
  }

  private get count(): number {
    return this.countAtHead >= 0 ? this.countAtHead : this.met;
  }

  private countNow(): number {
    const { index } = this.store;
    if (this.slot === MANY) return index.keys.countLive(this.from, this.to);
    return this.slot >= 0 && index.versionOf(this.slot) > 0 ? 1 : 0;
  }

  private walk(maxKeys: number, maxBytes: number): void {
    const { index } = this.store;
    if (this.slot !== MANY) {
      const where = this.slot < 0 ? NOTHING : index.locate(this.slot, this.pinned);
      if (where !== NOTHING) this.take(this.from, this.slot, where);
      this.stepKeys = 1;
      this.endWalk();
      return;
    }
    let spent = 0;
    let last = '';
    const visit = (key: string, slot: number): boolean => {
      const where = index.locate(slot, this.pinned);
      const isRead = where !== NOTHING && this.take(key, slot, where);
      spent += isRead ? 1 : 1 / PASSED_PER_KEY;
      if (this.isSated()) return false;
      last = key;
      return spent < maxKeys && this.stepBytes < maxBytes;
    };
    const { keys } = index;
    const ended = this.backward
      ? keys.visitBackward(this.from, this.to, visit)
      : keys.visit(this.from, this.to, visit);
    this.stepKeys = spent;
    if (ended || this.isSated()) this.endWalk();
    else if (this.backward) this.to = last;
    else this.from = `${last}\0`;
  }

  /** Nothing that is still to come can change the answer. */
  private isSated(): boolean {
    if (this.countAtHead < 0) return false;
    if (!this.natural) return this.passed >= this.wanted;
    // With all of them there is no need to look for more, which could take another turn.
    return this.kvs.length >= Math.min(this.wanted, this.countAtHead);
  }

  /** True: it took more than a look at the index. */
  private take(key: string, slot: number, where: number): boolean {
    this.met += 1;
    if (this.request.countOnly) return false;
    if (this.natural) {
      if (this.kvs.length >= this.wanted) return false;
      const isNewest = where === NEWEST;
      this.kvs.push(
        isNewest ? this.newestPair(key, slot) : this.pairOf(this.hitOf(key, slot, where)),
      );
      return true;
    }
    if (this.passed >= this.wanted) return false;
    const hit = this.hitOf(key, slot, where);
    const isRead = where !== NEWEST;
    if (!passes(this.request, hit)) return isRead;
    this.passed += 1;
    const needsValue = this.request.sortTarget === SortTarget.Value;
    const gathered = needsValue ? { ...hit, value: this.valueOf(hit) } : hit;
    if (this.sorted === null) this.hits.push(gathered);
    else this.sorted.offer(gathered);
    return isRead || needsValue;
  }

  /** Of the newest revision the index knows everything; of an older one its record. */
  private hitOf(key: string, slot: number, where: number): Hit {
    const { index, records, lessor } = this.store;
    if (where === NEWEST) {
      return {
        key,
        at: this.met,
        sub: index.subOf(slot),
        createRevision: index.createOf(slot),
        modRevision: index.mainOf(slot),
        version: index.versionOf(slot),
        value: null,
        lease: lessor.idOf(index.leaseSlotOf(slot)),
      };
    }
    const main = index.nodeMain(where);
    const sub = index.nodeSub(where);
    const bytes = records.read(main, sub);
    const record = decodeRecord(main, sub, bytes, key);
    this.stepBytes += bytes.length;
    const withValue = this.natural && !this.request.keysOnly;
    return {
      key,
      at: this.met,
      sub,
      createRevision: record.create,
      modRevision: main,
      version: record.version,
      value: withValue ? this.arena.copy(recordValue(record, bytes)) : null,
      lease: record.lease,
    };
  }

  /** As `pairOf(hitOf(...))`, without the object between them: most pairs of most ranges are made here. */
  private newestPair(key: string, slot: number): KeyValue {
    const { index, lessor } = this.store;
    const modRevision = index.mainOf(slot);
    return {
      key,
      createRevision: index.createOf(slot),
      modRevision,
      version: index.versionOf(slot),
      value: this.request.keysOnly ? NO_VALUE : this.readValue(modRevision, index.subOf(slot), key),
      lease: lessor.idOf(index.leaseSlotOf(slot)),
    };
  }

  private valueOf(hit: Hit): Uint8Array {
    return hit.value ?? this.readValue(hit.modRevision, hit.sub, hit.key);
  }

  private readValue(main: number, sub: number, key: string): Uint8Array {
    const bytes = this.store.records.read(main, sub);
    this.stepBytes += bytes.length;
    return this.arena.copy(recordValue(decodeRecord(main, sub, bytes, key), bytes));
  }

  private pairOf(hit: Hit): KeyValue {
    return {
      key: hit.key,
      createRevision: hit.createRevision,
      modRevision: hit.modRevision,
      version: hit.version,
      value: this.request.keysOnly ? NO_VALUE : this.valueOf(hit),
      lease: hit.lease,
    };
  }

  private endWalk(): void {
    const { limit, countOnly } = this.request;
    if (this.natural || countOnly) {
      this.more = !countOnly && limit > 0 && this.count > limit;
      this.phase = 'done';
      return;
    }
    this.more = limit > 0 && this.passed > limit;
    this.chosen = this.more ? limit : this.passed;
    this.phase = this.chosen > 0 ? 'load' : 'done';
  }

  private load(maxKeys: number, maxBytes: number): void {
    const { sorted, hits, kvs, chosen } = this;
    while (kvs.length < chosen && this.stepKeys < maxKeys && this.stepBytes < maxBytes) {
      kvs.push(this.pairOf(sorted === null ? (hits[kvs.length] as Hit) : sorted.takeLast()));
      this.stepKeys += 1;
    }
    if (kvs.length < chosen) return;
    if (sorted !== null) kvs.reverse();
    this.phase = 'done';
    this.letGo();
  }

  private letGo(): void {
    this.hits = [];
    this.sorted = null;
  }
}

/** Some keys of the range may be left out of its answer. */
export function hasFilters(request: RangeRequest): boolean {
  return (
    request.minModRevision !== 0 ||
    request.maxModRevision !== 0 ||
    request.minCreateRevision !== 0 ||
    request.maxCreateRevision !== 0
  );
}

/** No filter of the request leaves this pair out. */
export function passes(
  request: RangeRequest,
  hit: { readonly modRevision: number; readonly createRevision: number },
): boolean {
  const { minModRevision, maxModRevision, minCreateRevision, maxCreateRevision } = request;
  if (minModRevision !== 0 && hit.modRevision < minModRevision) return false;
  if (maxModRevision !== 0 && hit.modRevision > maxModRevision) return false;
  if (minCreateRevision !== 0 && hit.createRevision < minCreateRevision) return false;
  return maxCreateRevision === 0 || hit.createRevision <= maxCreateRevision;
}

/** Null when the walk makes the order. */
function orderOf(request: RangeRequest): ((a: Hit, b: Hit) => number) | null {
  const compare = comparisonOf(request.sortTarget);
  if (compare === null) return null;
  const sign = request.sortOrder === SortOrder.Descend ? -1 : 1;
  return (a, b) => sign * compare(a, b) || a.at - b.at;
}

function comparisonOf(target: SortTarget): ((a: Hit, b: Hit) => number) | null {
  switch (target) {
    case SortTarget.Version:
      return (a, b) => a.version - b.version;
    case SortTarget.Create:
      return (a, b) => a.createRevision - b.createRevision;
    case SortTarget.Mod:
      return (a, b) => a.modRevision - b.modRevision;
    case SortTarget.Value:
      return (a, b) => compareBytes(a.value ?? NO_VALUE, b.value ?? NO_VALUE);
    default:
      return null;
  }
}

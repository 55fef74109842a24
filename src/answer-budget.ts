/**
 * How much one answer may hold: `--max-range-bytes`. A member that is asked for all it has would build the
 * whole answer in memory, several times over on its way out; so the pairs are measured first, by what the
 * index knows of them, and an answer that is too large is refused before its first value is read.
 *
 * Reads (store-reads.ts) are measured at the revision that they have pinned, in steps between which others
 * have their turn, and so are writes that answer with pairs (write-measures.ts).
 *
 * A pair counts as its record and PAIR_BYTES. The measure is exact for answers in the order of keys and for
 * those without a limit. For another order with a limit it is the limit times the largest pair, or all pairs
 * if that is less: which ones come first is not known before they are sorted.
 */
import { KvError } from './errors.js';
import { NEWEST, NOTHING } from './kv/key-index.js';
import { upperBoundOf } from './kv/key-range.js';
import { hasFilters, passes, STEP_BYTES } from './kv/range-scan.js';
import { decodeRecord } from './kv/record.js';
import { type RangeRequest, SortOrder, SortTarget } from './kv/request.js';
import { PASSED_PER_KEY } from './kv/steps.js';
import type { Store } from './kv/store.js';

/** What a pair takes in memory besides its record. */
export const PAIR_BYTES = 64;

/** What is left of the budget of one answer. */
export class AnswerBudget {
  private readonly most: number;
  private used = 0;

  constructor(most: number) {
    this.most = most;
  }

  /** Throws when the answer has become too large. */
  spend(bytes: number): void {
    this.used += bytes;
    if (this.used <= this.most) return;
    throw new KvError(
      'ANSWER_TOO_LARGE',
      `the answer is larger than --max-range-bytes ${this.most}: ask for less at once (a limit, a narrower range), or use RangeStream`,
    );
  }

  /** Whether so many answers fit, whatever of the store each of them holds. */
  hasRoomFor(store: Store, answers: number): boolean {
    const { retainedBytes, retainedCount } = store.index;
    return answers * (retainedBytes + retainedCount * PAIR_BYTES) <= this.most - this.used;
  }
}

/** Walks over what a range will read, without reading it; of records that are not the newest of their key only they
 *  themselves know how large they are. */
export class RangeMeasure {
  private readonly store: Store;
  private readonly request: RangeRequest;
  private readonly budget: AnswerBudget;
  private readonly pinned: number;
  private readonly backward: boolean;
  /** Pairs after which the walk is over. */
  private readonly wanted: number;
  /** Of the pairs that are walked over; 0 = all are answered. */
  private readonly chosen: number;
  private from: string;
  private to: string | null;
  /** As those of a RangeScan. */
  stepKeys = 0;
  stepBytes = 0;
  private pairs = 0;
  private bytes = 0;
  private largest = 0;

  /** `pinned`: the revision that is read. */
  constructor(store: Store, request: RangeRequest, pinned: number, budget: AnswerBudget) {
    this.store = store;
    this.request = request;
    this.budget = budget;
    this.pinned = pinned;
    this.from = request.key;
    this.to = upperBoundOf(request.key, request.rangeEnd);
    const { limit, sortTarget, sortOrder } = request;
    const byKey = sortTarget === SortTarget.Key;
    this.backward = byKey && sortOrder === SortOrder.Descend;
    // A target without an order sorts the first limit + 1 keys (range-scan.ts).
    const areFirst = byKey || (sortOrder === SortOrder.None && !hasFilters(request));
    this.wanted = limit > 0 && areFirst ? limit + (byKey ? 0 : 1) : Number.POSITIVE_INFINITY;
    // To sort by value all of them are read.
    this.chosen = areFirst || sortTarget === SortTarget.Value ? 0 : limit;
  }

  /** Goes on as a RangeScan; true = the answer fits. Throws when it does not. */
  advance(maxKeys: number, maxBytes = STEP_BYTES): boolean {
    const { store, request } = this;
    this.stepKeys = 0;
    this.stepBytes = 0;
    if (request.countOnly || this.pinned < store.compactRevision) return true;
    let last = '';
    const visit = (key: string, slot: number): boolean => {
      this.take(key, slot);
      if (this.pairs >= this.wanted) return false;
      last = key;
      return this.stepKeys < maxKeys && this.stepBytes < maxBytes;
    };
    const { keys } = store.index;
    const isEnded = this.backward
      ? keys.visitBackward(this.from, this.to, visit)
      : keys.visit(this.from, this.to, visit);
    if (isEnded || this.pairs >= this.wanted) {
      if (this.chosen > 0) this.budget.spend(Math.min(this.bytes, this.chosen * this.largest));
      return true;
    }
    if (this.backward) this.to = last;
    else this.from = `${last}\0`;
    return false;
  }

  private take(key: string, slot: number): void {
    const { store, request } = this;
    const { index } = store;
    const where = index.locate(slot, this.pinned);
    const isRead = where !== NOTHING && where !== NEWEST;
    this.stepKeys += isRead ? 1 : 1 / PASSED_PER_KEY;
    if (where === NOTHING) return;
    let modRevision = index.mainOf(slot);
    let createRevision = index.createOf(slot);
    let recordBytes = index.bytesOf(slot);
    if (isRead) {
      // Of older revisions the index knows where they are, and no more.
      modRevision = index.nodeMain(where);
      const sub = index.nodeSub(where);
      const record = store.records.read(modRevision, sub);
      recordBytes = record.length;
      this.stepBytes += recordBytes;
      createRevision = decodeRecord(modRevision, sub, record, key).create;
    }
    if (!passes(request, { modRevision, createRevision })) return;
    const needsValue = !request.keysOnly || request.sortTarget === SortTarget.Value;
    const bytes = PAIR_BYTES + (needsValue ? recordBytes : key.length);
    if (this.chosen === 0) this.budget.spend(bytes);
    this.pairs += 1;
    this.bytes += bytes;
    this.largest = Math.max(this.largest, bytes);
  }
}

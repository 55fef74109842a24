/**
 * Reads of the state that may be too long for one turn of the event loop: ranges, transactions that
 * only read, the hash of the whole store, history for watchers that are behind.
 *
 * They work in steps and yield between them; `check` throws when the client has gone, the time is over
 * or the member stops. `whole` resolves when no entry is applied halfway, and fails where `check` would: whoever
 * looked for that in each turn would keep the loop busy, for as long as a disk that is behind holds the entry up.
 */
import { AnswerBudget, RangeMeasure } from './answer-budget.js';
import { assert } from './assert.js';
import type { Clock } from './clock.js';
import { crc32c } from './crc32c.js';
import { type ErrorCode, KvError } from './errors.js';
import type { KvEvent } from './kv/event.js';
import { type RangeScan, STEP_BYTES } from './kv/range-scan.js';
import { decodeRecord, HISTORY_HASH_SEED } from './kv/record.js';
import type { RangeRequest } from './kv/request.js';
import type { StateMachine } from './kv/state-machine.js';
import { eventFromRecord, type RangeAnswer, type Store } from './kv/store.js';
import { conditionHolds, type ReadTxn } from './kv/txn.js';
import type { HashResult, ProposeOutcome, ReadOutcome } from './node.js';
import type { StateReplica } from './state-replica.js';
import type { History } from './watch/io/watch-service.js';

/** Keys that a range reads before it lets the event loop turn, at most. */
export const RANGE_STEP_KEYS = 1000;
/** A long one looks at the time behind so many of them, and goes on in another turn when TURN_MS are over: where the
 *  collector had its turn as well, 1000 keys took 15 ms and more. */
const SLICE_KEYS = 250;
/** Not less: each turn waits for whatever else the loop has to do, and the deadline counts that, too. */
const TURN_MS = 2;
const RANGE_RESTARTS = 3;
const HASH_STEP_BYTES = 2 ** 20;
/** Records made into events in one turn: some milliseconds. */
const HISTORY_STEP_RECORDS = 5_000;

/**
 * The revision of the answer is the one that was read, not the one that is current when a long read
 * ends: who lists and then watches from the next revision must miss nothing.
 * `machine` is asked again after each yield: a snapshot may have replaced it.
 * No promise: it was short.
 */
export function readRange(
  machine: () => StateMachine,
  request: RangeRequest,
  clock: Clock,
  check: () => void,
  whole: () => Promise<void>,
  bytesMax = Number.POSITIVE_INFINITY,
  mayBeLong: () => Promise<void> | null = atOnce,
): ReadOutcome | Promise<ReadOutcome> {
  const plan = { succeeded: true, ranges: [request] };
  const reading = readTogether(machine, () => plan, clock, check, whole, bytesMax, mayBeLong);
  return reading instanceof Promise ? reading.then(toRange) : toRange(reading);
}

function toRange({ revision, answers }: Reading): ReadOutcome {
  const [response] = answers;
  assert(response !== undefined, 'a range has one answer');
  return { revision, response };
}

/** A transaction that only reads: its compares and all its ranges see one revision. */
export async function readTxn(
  machine: () => StateMachine,
  txn: ReadTxn,
  clock: Clock,
  check: () => void,
  whole: () => Promise<void>,
  bytesMax = Number.POSITIVE_INFINITY,
  mayBeLong: () => Promise<void> | null = atOnce,
): Promise<ProposeOutcome> {
  const choose = (store: Store): ReadPlan => {
    const succeeded = conditionHolds(store, txn);
    return { succeeded, ranges: succeeded ? txn.success : txn.failure };
  };
  const { revision, succeeded, answers } = await readTogether(
    machine,
    choose,
    clock,
    check,
    whole,
    bytesMax,
    mayBeLong,
  );
  return { revision, response: { kind: 'txn', succeeded, responses: answers, revision } };
}

interface ReadPlan {
  readonly succeeded: boolean;
  readonly ranges: readonly RangeRequest[];
}

interface Reading {
  readonly revision: number;
  readonly succeeded: boolean;
  readonly answers: readonly RangeAnswer[];
}

type Step = Pick<RangeScan, 'advance' | 'stepKeys' | 'stepBytes'>;

/** Ranges that were opened in the same turn. */
interface Attempt {
  readonly store: Store;
  readonly revision: number;
  readonly succeeded: boolean;
  readonly scans: readonly RangeScan[];
  /** What is not finished: first to see that the answer fits, then to read it. */
  readonly steps: Step[];
  /** Nothing is read but how many there are: that holds no memory, however long it takes. */
  readonly isCount: boolean;
}

/**
 * Plans and opens all ranges in the same turn, and then takes the turns that they need, if it takes more. What cannot
 * be read in one turn and has to wait for that begins anew: what was read of it by then is let go, so that what
 * waits holds nothing.
 */
function readTogether(
  machine: () => StateMachine,
  plan: (store: Store) => ReadPlan,
  clock: Clock,
  check: () => void,
  whole: () => Promise<void>,
  bytesMax: number,
  mayBeLong: () => Promise<void> | null,
): Reading | Promise<Reading> {
  const begin = (): Attempt => beginReading(machine(), plan, bytesMax);
  const again = async (): Promise<Attempt> => {
    if (machine().isMidway) await whole();
    return begin();
  };
  const inTurns = async (): Promise<Reading> =>
    await readInTurns(machine, await again(), again, clock, check);
  if (machine().isMidway) return inTurns();
  const attempt = begin();
  advance(attempt);
  const reading = readingOf(attempt);
  if (reading !== null) return reading;
  const wait = attempt.isCount ? null : mayBeLong();
  if (wait === null) return readInTurns(machine, attempt, again, clock, check);
  return wait.then(() => {
    check();
    return inTurns();
  });
}

function beginReading(
  machine: StateMachine,
  plan: (store: Store) => ReadPlan,
  bytesMax: number,
): Attempt {
  const { store } = machine;
  assert(!machine.isMidway, 'a read begins in the midst of an entry');
  const { revision } = store;
  const { succeeded, ranges } = plan(store);
  const scans = ranges.map((request) => openScan(machine, request));
  const steps: Step[] = [...measuresOf(store, ranges, bytesMax), ...scans];
  const isCount = ranges.every(({ countOnly }) => countOnly);
  return { store, revision, succeeded, scans, steps, isCount };
}

/** As far as one turn reaches, STEP_BYTES and a value; the bytes that were read. A step that is finished is not asked again. */
export function advance({ steps }: { readonly steps: Step[] }, keys = RANGE_STEP_KEYS): number {
  let left = keys;
  let bytes = 0;
  for (let step = steps[0]; step !== undefined; step = steps[0]) {
    if (left <= 0 || bytes >= STEP_BYTES) break;
    const isFinished = step.advance(left, STEP_BYTES - bytes);
    left -= step.stepKeys;
    bytes += step.stepBytes;
    // Else it may only have come to its second half.
    if (isFinished) steps.shift();
  }
  return bytes;
}

/** As far as TURN_MS and one turn reach. A slice may read STEP_BYTES in all, so none begins behind a quarter of them. */
function advanceForAWhile(attempt: Attempt, clock: Clock): void {
  const end = clock.now() + TURN_MS;
  let bytes = 0;
  for (let keys = 0; keys < RANGE_STEP_KEYS && attempt.steps.length > 0; keys += SLICE_KEYS) {
    bytes += advance(attempt, SLICE_KEYS);
    if (bytes >= STEP_BYTES / 4 || clock.now() >= end) return;
  }
}

/** Null: it is not finished, or a compaction has overtaken it. */
function readingOf({ steps, scans, revision, succeeded }: Attempt): Reading | null {
  if (steps.length > 0) return null;
  for (const { failure } of scans) if (failure !== null) return null;
  return { revision, succeeded, answers: scans.map((scan) => scan.response()) };
}

async function readInTurns(
  machine: () => StateMachine,
  first: Attempt,
  again: () => Promise<Attempt>,
  clock: Clock,
  check: () => void,
): Promise<Reading> {
  let attempt = first;
  for (let restarts = 0; ; restarts += 1) {
    const { store } = attempt;
    const isCurrent = (): boolean => machine().store === store;
    while (isCurrent() && attempt.steps.length > 0) {
      await new Promise<void>((resolve) => clock.soon(resolve));
      check();
      if (isCurrent()) advanceForAWhile(attempt, clock);
    }
    const reading = isCurrent() ? readingOf(attempt) : null;
    if (reading !== null) return reading;
    // Compaction or a snapshot overtook a long read, which begins anew: one that asked for now finds
    // another now, and one that asked for a revision hears from the state whether it is compacted.
    if (restarts >= RANGE_RESTARTS) {
      if (isCurrent()) throw readError('COMPACTED', machine());
      throw new KvError('TIMEOUT_NO_EFFECT', 'the state was replaced while it was read; ask again');
    }
    attempt = await again();
  }
}

function atOnce(): null {
  return null;
}

function openScan(machine: StateMachine, request: RangeRequest): RangeScan {
  const scan = machine.store.openRange(request);
  if ('error' in scan) throw readError(scan.error, machine);
  return scan;
}

/** None if the answer fits, whatever it holds. */
function measuresOf(
  store: Store,
  ranges: readonly RangeRequest[],
  bytesMax: number,
): readonly RangeMeasure[] {
  const budget = new AnswerBudget(bytesMax);
  const counted = ranges.filter(({ countOnly }) => !countOnly);
  if (budget.hasRoomFor(store, counted.length)) return [];
  return counted.map((request) => {
    return new RangeMeasure(store, request, request.revision || store.revision, budget);
  });
}

/** CRC-32C over the retained records up to `revision` in order; 0 = the current revision. */
export async function hashStore(
  replica: StateReplica,
  revision: number,
  clock: Clock,
  check: () => void,
): Promise<HashResult> {
  const { store } = replica.machine;
  const hashRevision = revision === 0 ? store.revision : revision;
  const { compactRevision } = store;
  if (hashRevision > store.revision) throw readError('FUTURE_REVISION', replica.machine);
  if (hashRevision < compactRevision) throw readError('COMPACTED', replica.machine);
  let hash = HISTORY_HASH_SEED;
  for (let from = 0; from <= hashRevision; ) {
    const page = await replica.store.readRevisions(from, hashRevision, HASH_STEP_BYTES);
    if (store.compactRevision !== compactRevision) {
      throw new KvError('COMPACTED', 'a compaction overtook the hash; ask again');
    }
    for (const { main, sub, bytes } of page.records) {
      const { key } = decodeRecord(main, sub, bytes);
      if (store.isRetained(key, main, sub)) hash = crc32c(bytes, 0, bytes.length, hash);
    }
    check();
    if (page.nextMain <= from) break;
    from = page.nextMain;
    await new Promise<void>((resolve) => clock.soon(resolve));
  }
  return { hash, hashRevision, compactRevision: compactRevision === 0 ? -1 : compactRevision };
}

/** Whole revisions from `from` to `to`, both included, or as many as `bytesMax` allows. */
export async function readHistory(
  replica: StateReplica,
  from: number,
  to: number,
  bytesMax: number,
  clock: Clock,
): Promise<History> {
  const page = await replica.store.readRevisions(from, to, bytesMax);
  const revisions: { revision: number; events: KvEvent[] }[] = [];
  let left = HISTORY_STEP_RECORDS;
  for (const { main, sub, bytes } of page.records) {
    // A single revision may be a million deletions.
    if (left === 0) {
      await new Promise<void>((resolve) => clock.soon(resolve));
      left = HISTORY_STEP_RECORDS;
    }
    left -= 1;
    let last = revisions[revisions.length - 1];
    if (last?.revision !== main) {
      last = { revision: main, events: [] };
      revisions.push(last);
    }
    last.events.push(eventFromRecord(main, sub, bytes));
  }
  return { revisions, next: page.nextMain };
}

export function readError(code: ErrorCode, machine: StateMachine): KvError {
  const { revision, compactRevision } = machine.store;
  if (code === 'COMPACTED') {
    return new KvError('COMPACTED', `revisions below ${compactRevision} are compacted`, {
      details: { compactRevision },
    });
  }
  if (code === 'FUTURE_REVISION') {
    return new KvError('FUTURE_REVISION', `the store is at revision ${revision}`);
  }
  return new KvError(code, `the range was refused with ${code}`);
}

/**
 * A range in parts of bounded size, each read when it is asked for: for answers that are larger than what
 * a member wants to hold, or a client to receive at once.
 *
 * All parts are of one revision, pinned by the first. Parts laid end to end are the answer that the whole
 * range would have had; what only its end can tell (count, more) comes with the last. Keys are walked in
 * small steps, each a range of its own at the pinned revision: a step knows its own pairs alone, so what
 * is counted beyond a limit is counted once, at the end. Between two parts others have their turn, and
 * no state is held: entries are applied, and a snapshot may put another state in place of this one.
 *
 * Invariants:
 * 1. A part holds PART_BYTES and a pair more at most. In memory are a part and a step, which is
 *    STEP_KEYS_MAX large pairs when they come after small ones, and one when they come after large ones.
 * 2. What compaction takes ends the reader with COMPACTED: what was handed out cannot be read anew.
 */
import type { Clock } from './clock.js';
import { upperBoundOf } from './kv/key-range.js';
import type { KeyValue, RangeRequest } from './kv/request.js';
import type { StateMachine } from './kv/state-machine.js';
import type { RangeAnswer, Store } from './kv/store.js';
import type { RangePart } from './node.js';
import { RANGE_STEP_KEYS, readError, readRange } from './store-reads.js';

const PART_BYTES = 256 * 1024;
const STEP_KEYS_FIRST = 10;
const STEP_KEYS_MAX = 32;
/** Of a pair, besides key and value. */
const PAIR_BYTES = 32;

/** `request` is in the order of keys and without filters. `machine` is asked again for each step. */
export async function* readRangeParts(
  machine: () => StateMachine,
  request: RangeRequest,
  clock: Clock,
  check: () => void,
  whole: () => Promise<void>,
  partBytes = PART_BYTES,
): AsyncGenerator<RangePart, void, void> {
  const turn = async (): Promise<void> => {
    await new Promise<void>((resolve) => clock.soon(resolve));
    check();
  };
  if (request.countOnly) {
    const { revision, response } = await readRange(machine, request, clock, check, whole);
    yield { kvs: [], end: { revision, more: response.more, count: response.count } };
    return;
  }
  const { revision } = machine().store;
  const pinned = { ...request, revision: request.revision === 0 ? revision : request.revision };
  let rest: RangeRequest | null = pinned;
  let stepKeys = STEP_KEYS_FIRST;
  let stepped = 0;
  let kvs: KeyValue[] = [];
  let bytes = 0;
  let count = 0;
  let sent = 0;
  while (rest !== null) {
    const isSated = request.limit > 0 && sent >= request.limit;
    if (isSated) {
      const uncounted: RangeRequest = { ...rest, limit: 0, countOnly: true };
      count += (await readRange(machine, uncounted, clock, check, whole)).response.count;
      break;
    }
    const next: string | null = stepEnd(machine().store, rest, stepKeys);
    const answer = readStep(machine(), {
      ...rest,
      rangeEnd: next ?? rest.rangeEnd,
      limit: request.limit === 0 ? 0 : request.limit - sent,
    });
    rest = next === null ? null : { ...rest, key: next };
    count += answer.count;
    sent += answer.kvs.length;
    let stepBytes = 0;
    for (const kv of answer.kvs) {
      const size = PAIR_BYTES + kv.key.length + kv.value.length;
      kvs.push(kv);
      bytes += size;
      stepBytes += size;
      if (bytes < partBytes) continue;
      yield { kvs, end: null };
      kvs = [];
      bytes = 0;
      stepped = 0;
      await turn();
    }
    stepped += stepKeys;
    const fitting = Math.floor((partBytes * answer.kvs.length) / Math.max(1, stepBytes));
    stepKeys = Math.max(1, Math.min(2 * stepKeys, fitting || stepKeys, STEP_KEYS_MAX));
    if (stepped < RANGE_STEP_KEYS) continue;
    // Keys that have no pair at this revision fill no part, but take their time.
    stepped = 0;
    await turn();
  }
  yield { kvs, end: { revision, more: request.limit > 0 && count > request.limit, count } };
}

/** Where the range goes on behind so many keys of the index; null if these are all. */
function stepEnd(store: Store, { key, rangeEnd }: RangeRequest, keys: number): string | null {
  if (rangeEnd === '') return null;
  let left = keys;
  let last = '';
  const isEnded = store.index.keys.visit(key, upperBoundOf(key, rangeEnd), (each) => {
    last = each;
    left -= 1;
    return left > 0;
  });
  return isEnded ? null : `${last}\0`;
}

function readStep(machine: StateMachine, request: RangeRequest): RangeAnswer {
  const answer = machine.store.range(request);
  if ('error' in answer) throw readError(answer.error, machine);
  return answer;
}

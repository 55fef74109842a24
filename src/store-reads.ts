/**
 * Reads of the state that are too long for one turn of the event loop: big ranges, the hash of the
 * whole store, history for watchers that are behind.
 *
 * They work in steps and yield between them; `check` throws when the client has gone, the time is over
 * or the member stops.
 */
import type { Clock } from './clock.js';
import { crc32c } from './crc32c.js';
import { type ErrorCode, KvError } from './errors.js';
import type { KvEvent } from './kv/event.js';
import type { RangeRequest } from './kv/request.js';
import type { StateMachine } from './kv/state-machine.js';
import { eventFromRecord } from './kv/store.js';
import type { HashResult, ReadOutcome } from './node.js';
import type { StateReplica } from './state-replica.js';
import type { History } from './watch/io/watch-service.js';

/** Keys that a range reads before it lets the event loop turn. */
const RANGE_STEP_KEYS = 1000;
const RANGE_RESTARTS = 3;
const HASH_STEP_BYTES = 2 ** 20;

/** `machine` is asked again after each yield: a snapshot may have replaced it. */
export async function readRange(
  machine: () => StateMachine,
  request: RangeRequest,
  clock: Clock,
  check: () => void,
): Promise<ReadOutcome> {
  for (let attempt = 0; ; attempt += 1) {
    const { store } = machine();
    const scan = store.openRange(request);
    if ('error' in scan) throw readError(scan.error, machine());
    while (!scan.advance(RANGE_STEP_KEYS)) {
      await new Promise<void>((resolve) => clock.soon(resolve));
      check();
      if (machine().store !== store) break;
    }
    if (machine().store === store && scan.failure === null) {
      return { revision: store.revision, response: scan.response() };
    }
    // Compaction or a snapshot overtook a long read. One that asked for now may look again, and so may
    // any after a snapshot: only the new state can tell whether the revision is compacted.
    const isReplaced = machine().store !== store;
    if (attempt >= RANGE_RESTARTS && isReplaced) {
      throw new KvError('TIMEOUT_NO_EFFECT', 'the state was replaced while it was read; ask again');
    }
    if (!isReplaced && (request.revision !== 0 || attempt >= RANGE_RESTARTS)) {
      throw readError('COMPACTED', machine());
    }
  }
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
  let hash = 0;
  for (let from = 0; from <= hashRevision; ) {
    const page = await replica.store.readRevisions(from, hashRevision, HASH_STEP_BYTES);
    if (store.compactRevision !== compactRevision) {
      throw new KvError('COMPACTED', 'a compaction overtook the hash; ask again');
    }
    for (const { main, sub, bytes } of page.records) {
      const { key } = eventFromRecord(main, sub, bytes).kv;
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
): Promise<History> {
  const page = await replica.store.readRevisions(from, to, bytesMax);
  const revisions: { revision: number; events: KvEvent[] }[] = [];
  for (const { main, sub, bytes } of page.records) {
    let last = revisions[revisions.length - 1];
    if (last?.revision !== main) {
      last = { revision: main, events: [] };
      revisions.push(last);
    }
    last.events.push(eventFromRecord(main, sub, bytes));
  }
  return { revisions, next: page.nextMain };
}

function readError(code: ErrorCode, machine: StateMachine): KvError {
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

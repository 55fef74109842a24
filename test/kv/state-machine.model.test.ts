/**
 * The machine against a model that answers by looking through all changes ever made: random commands,
 * and after each the whole of what a client or a watcher can see. A failure prints its seed; run it
 * again with `{ seed, path }` as second argument of fc.assert.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EventType } from '../../src/event-type.js';
import type { Command } from '../../src/kv/command.js';
import type { KvEvent } from '../../src/kv/event.js';
import { type OpResponse, type RangeRequest, rangeOf } from '../../src/kv/request.js';
import type { Applied } from '../../src/kv/state-machine.js';
import { eventFromRecord } from '../../src/kv/store.js';
import { checkTxn } from '../../src/kv/validate.js';
import * as arbitrary from '../support/kv-arbitraries.js';
import { KvModel, type ModelResult } from '../support/kv-model.js';
import { MachineRig } from '../support/machine-rig.js';
import { compareText } from '../support/order.js';

/** Bytes as text, so that a Buffer equals a Uint8Array, and bigints as text. */
function plain(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_key, field: unknown) => {
      if (typeof field === 'bigint') return `${field}n`;
      if (typeof field === 'object' && field !== null && 'type' in field && 'data' in field) {
        return Buffer.from(field.data as number[]).toString('hex');
      }
      return field instanceof Uint8Array ? Buffer.from(field).toString('hex') : field;
    }),
  );
}

function expectedEvents(
  model: KvModel,
  before: KvModel['changes'],
  result: ModelResult,
): KvEvent[] {
  return result.changes.map((change, at) => {
    const earlier = [...before, ...result.changes.slice(0, at)].filter(
      ({ key }) => key === change.key,
    );
    const replaced = earlier.at(-1)?.pair ?? null;
    const empty = { createRevision: 0, version: 0, value: new Uint8Array(0), lease: 0 };
    return {
      type: change.pair === null ? EventType.Delete : EventType.Put,
      kv: change.pair ?? { key: change.key, modRevision: model.revision, ...empty },
      prevKv: null,
      previousRevision: replaced?.modRevision ?? 0,
    };
  });
}

function checkStep(rig: MachineRig, model: KvModel, command: Command): void {
  const before = [...model.changes];
  const expected = model.apply(command, rig.term);
  const applied: Applied = rig.apply(command);

  expect(applied.code).toBe(expected.code);
  expect(applied.ok).toBe(expected.code === null);
  expect(plain(applied.response)).toEqual(plain(expected.response));
  expect(applied.revision).toBe(expected.revision);
  expect(plain(applied.events)).toEqual(plain(expectedEvents(model, before, expected)));
}

function checkState(rig: MachineRig, model: KvModel): void {
  const { store, lessor } = rig.machine;
  expect(store.revision).toBe(model.revision);
  expect(store.compactRevision).toBe(model.compactRevision);
  expect(store.liveCount).toBe(model.at(model.revision).length);
  const retained = model.changes.map(({ main, sub }) => `${main}.${sub}`);
  expect(rig.records.retained()).toEqual(retained);
  expect(store.index.retainedCount).toBe(retained.length);
  store.index.keys.assertInvariants();
  const ids = [...model.leases.keys()].sort((a, b) => (a < b ? -1 : 1));
  expect(lessor.list().map(({ id }) => id)).toEqual(ids);
  for (const id of ids) {
    expect(lessor.get(id)).toMatchObject(model.leases.get(id)!);
    expect(lessor.keysOf(id)).toEqual(model.keysOf(id));
  }
}

function modelRange(model: KvModel, request: RangeRequest): OpResponse | { error: string } {
  try {
    return model.range(request);
  } catch (error) {
    return { error: (error as Error).message };
  }
}

/** What watchers and hashes read: every change that is left, and the pairs around it. */
function checkHistory(rig: MachineRig, model: KvModel): void {
  const { store } = rig.machine;
  for (const { main, sub, bytes } of rig.records.physical()) {
    const { key } = eventFromRecord(main, sub, bytes).kv;
    const left = model.changes.some((change) => change.main === main && change.sub === sub);
    expect(store.isRetained(key, main, sub)).toBe(left);
    const others = model.changes.some((change) => change.key === key && change.main === main);
    if (!others) expect(store.pairAt(key, main)).toBeNull();
    if (!left) continue;
    const last = model.changes.filter((change) => change.key === key && change.main <= main).at(-1);
    expect(plain(store.pairAt(key, main))).toEqual(plain(last!.pair));
    const earlier = model.changes.filter((change) => change.key === key && change.main < main);
    const previous = earlier.at(-1)?.pair ?? null;
    expect(plain(store.previousPair(key, main))).toEqual(plain(previous));
  }
}

// Services let a key change at most once in a transaction. Which of two revisions of one key in one main
// revision a compaction keeps is decided for such commands only.
const served = arbitrary.command.filter(
  (command) => command.kind !== 'txn' || checkTxn(command) === null,
);

const script = fc.array(served, { minLength: 1, maxLength: 60, size: 'max' });

describe('state machine', () => {
  it('answers every command as the model does', () => {
    fc.assert(
      fc.property(script, (commands) => {
        const rig = new MachineRig();
        const model = new KvModel();

        for (const command of commands) {
          checkStep(rig, model, command);
          checkState(rig, model);
        }
      }),
      { numRuns: 100 },
    );
  });

  it('answers ranges at every revision as the model does, in one step or many', () => {
    const reads = fc.array(fc.tuple(arbitrary.range, fc.integer({ min: 1, max: 3 })), {
      minLength: 20,
      maxLength: 40,
    });
    fc.assert(
      fc.property(script, reads, (commands, requests) => {
        const rig = new MachineRig();
        const model = new KvModel();
        for (const command of commands) checkStep(rig, model, command);

        for (const [request, stepKeys] of requests) {
          const expected = plain(modelRange(model, request));
          expect(plain(rig.range(request))).toEqual(expected);
          const scan = rig.machine.store.openRange(request);
          if ('error' in scan) continue;
          while (!scan.advance(stepKeys));
          expect(plain(scan.response())).toEqual(expected);
        }
        checkHistory(rig, model);
      }),
      { numRuns: 80 },
    );
  });

  it('gives a scan that is interrupted by writes the answer of the moment it was opened', () => {
    fc.assert(
      fc.property(script, arbitrary.range, script, (commands, request, later) => {
        const rig = new MachineRig();
        const model = new KvModel();
        for (const command of commands) checkStep(rig, model, command);
        const scan = rig.machine.store.openRange(request);
        if ('error' in scan) return;
        const expected = plain(modelRange(model, request));
        const pinned = request.revision || rig.machine.store.revision;

        let finished = scan.advance(1);
        for (const command of later) {
          if (finished) break;
          rig.apply(command);
          finished = scan.advance(1);
        }
        while (!finished) finished = scan.advance(1);

        if (scan.failure === null) expect(plain(scan.response())).toEqual(expected);
        else expect(rig.machine.store.compactRevision).toBeGreaterThan(pinned);
      }),
      { numRuns: 80 },
    );
  });

  it('restarts from its tables and records as the same machine, however late garbage is collected and removed', () => {
    const steps = fc.array(fc.tuple(served, fc.nat({ max: 9 }), fc.nat({ max: 6 })), {
      minLength: 1,
      maxLength: 60,
      size: 'max',
    });
    fc.assert(
      fc.property(steps, (script) => {
        let rig = new MachineRig();
        const twin = new MachineRig(2);
        const model = new KvModel();

        for (const [command, dice, sweep] of script) {
          checkStep(rig, model, command);
          twin.collects = sweep;
          twin.apply(command);
          rig.records.sweep(sweep);
          if (dice === 0) {
            const before = plain(rig.machine.encodeTables());
            rig = rig.restarted();
            expect(plain(rig.machine.encodeTables())).toEqual(before);
            checkState(rig, model);
          }
          expect(rig.machine.hashChain).toBe(twin.machine.hashChain);
          expect(plain(rig.machine.encodeTables())).toEqual(plain(twin.machine.encodeTables()));
        }
        checkHistory(twin, model);
      }),
      { numRuns: 80 },
    );
  });

  it('keeps keys in byte order', () => {
    const keys = fc.uniqueArray(fc.string({ unit: 'binary', minLength: 1, maxLength: 3 }), {
      maxLength: 200,
    });
    fc.assert(
      fc.property(keys, (texts) => {
        const latin1 = [
          ...new Set(texts.map((text) => Buffer.from(text, 'utf8').toString('latin1'))),
        ];
        const rig = new MachineRig();

        for (const text of latin1) rig.ok({ ...arbitraryPut, key: text });

        const answer = rig.range({ ...arbitraryRange, key: '\0', rangeEnd: '\0' });
        const found = (answer as unknown as { kvs: { key: string }[] }).kvs.map(({ key }) => key);
        expect(found).toEqual([...latin1].sort(compareText));
      }),
      { numRuns: 40 },
    );
  });
});

const arbitraryPut = {
  kind: 'put' as const,
  value: new Uint8Array(1),
  lease: 0,
  prevKv: false,
  ignoreValue: false,
  ignoreLease: false,
};
const arbitraryRange = rangeOf({ key: '' });

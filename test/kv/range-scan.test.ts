/** Ranges in every order, with limits and filters, on more keys than the random scripts of the model test have. */
import { describe, expect, it } from 'vitest';
import type { KeyValue, RangeRequest } from '../../src/kv/request.js';
import type { Store } from '../../src/kv/store.js';
import { KvModel } from '../support/kv-model.js';
import { del, put, range } from '../support/kv-requests.js';
import { MachineRig } from '../support/machine-rig.js';

const KEYS = 60;

/** Keys whose revisions, versions and values are in other orders than the keys, and have equals. */
function filled(): { rig: MachineRig; model: KvModel } {
  const rig = new MachineRig();
  const model = new KvModel();
  for (let at = 0; at < 4 * KEYS; at += 1) {
    const key = `k${String((at * 37) % KEYS).padStart(2, '0')}`;
    const command = at % 11 === 5 ? del(key) : put(key, `v${(at * 7) % 13}`);
    rig.ok(command);
    model.apply(command, rig.term);
  }
  return { rig, model };
}

function* requests({ revision: head, liveCount }: Store): Generator<RangeRequest> {
  for (const sortOrder of [0, 1, 2] as const) {
    for (const sortTarget of [0, 1, 2, 3, 4] as const) {
      for (const limit of [0, 1, 2, 7, 30, liveCount - 1, liveCount, liveCount + 1]) {
        for (const filter of [{}, { minModRevision: 100 }, { maxCreateRevision: 90 }]) {
          for (const revision of [0, head - 70]) {
            for (const keysOnly of [false, true]) {
              const order = { sortOrder, sortTarget, limit, revision, keysOnly };
              yield range('k', 'l', { ...order, ...filter });
            }
          }
        }
      }
    }
  }
}

/** As the JSON of the answer would show it. */
function textOf(answer: { readonly kvs: readonly KeyValue[] }): string {
  const kvs = answer.kvs.map((kv) => ({ ...kv, value: Buffer.from(kv.value).toString('hex') }));
  return JSON.stringify({ ...answer, kvs });
}

function open(store: Store, request: RangeRequest) {
  const scan = store.openRange(request);
  if ('error' in scan) throw new Error(scan.error);
  return scan;
}

describe('a range', () => {
  it.each([1, 7, 1000])(
    'answers in every order, with every limit, as the model does, in steps of %i keys',
    (stepKeys) => {
      const { rig, model } = filled();
      const { store } = rig.machine;
      for (const request of requests(store)) {
        const scan = open(store, request);
        while (!scan.advance(stepKeys));

        const expected = model.range(request) as { kvs: readonly KeyValue[] };
        expect(textOf(scan.response()), JSON.stringify(request)).toBe(textOf(expected));
      }
    },
  );

  it.each([
    ['values and all', { sortTarget: 3 as const }],
    ['without values', { sortTarget: 3 as const, keysOnly: true }],
    ['those that a filter leaves', { minModRevision: 2, keysOnly: true }],
  ])('that gathers its pairs first makes a step of them at a time: %s', (_what, fields) => {
    const rig = new MachineRig();
    for (let at = 0; at < 500; at += 1) rig.ok(put(`k${(at * 37) % 500}`, 'v'));
    const scan = open(rig.machine.store, range('k', 'l', { sortOrder: 2, ...fields }));

    let keys = 0;
    let steps = 1;
    for (; !scan.advance(10); steps += 1) {
      expect(scan.stepKeys).toBeLessThanOrEqual(10);
      keys += scan.stepKeys;
    }

    expect(scan.response().kvs).toHaveLength(500);
    expect(keys + scan.stepKeys).toBe(500 / 8 + 500);
    expect(steps).toBeGreaterThan(50);
  });

  it('that is full in the order of keys walks no further to see that a filter leaves more', () => {
    const rig = new MachineRig();
    for (let at = 0; at < 500; at += 1) rig.ok(put(`k${100 + at}`, 'v'));
    const request = range('k', 'l', { minModRevision: 2, limit: 10 });
    const scan = open(rig.machine.store, request);

    let keys = 0;
    for (let isFinished = false; !isFinished; keys += scan.stepKeys) isFinished = scan.advance(5);

    expect(scan.response()).toMatchObject({ more: true, count: 500 });
    expect(keys).toBeLessThan(12);
  });
});

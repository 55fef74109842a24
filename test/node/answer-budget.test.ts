/**
 * How much an answer may hold: the measure against what ranges really answer, and what a member refuses, on
 * both faces.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AnswerBudget, RangeMeasure } from '../../src/answer-budget.js';
import { systemClock } from '../../src/clock.js';
import type { KvError } from '../../src/errors.js';
import type { Command } from '../../src/kv/command.js';
import {
  type KeyValue,
  type PutRequest,
  type RangeRequest,
  type RequestOp,
  rangeOf,
  type TxnRequest,
} from '../../src/kv/request.js';
import type { ReadTxn } from '../../src/kv/txn.js';
import { readRange, readTxn } from '../../src/store-reads.js';
import { WriteMeasures } from '../../src/write-measures.js';
import { AuthCluster, type Door } from '../support/auth-fixture.js';
import { put } from '../support/in-process-cluster.js';
import { MachineRig, whole } from '../support/machine-rig.js';

const RECORD_EXTRA_BYTES = 64 + 80;

const ALL = rangeOf({ key: 'k', rangeEnd: 'l' });

const PUT: PutRequest = {
  kind: 'put',
  key: '',
  value: new Uint8Array(1),
  lease: 0,
  prevKv: false,
  ignoreValue: false,
  ignoreLease: false,
};

/** 30 keys of different sizes, each written twice, the odd ones deleted in between. */
function rigWithPairs(): MachineRig {
  const rig = new MachineRig();
  const names = Array.from({ length: 30 }, (_, at) => `k${String(at).padStart(2, '0')}`);
  for (const [at, name] of names.entries()) rig.ok(put(name, 'v'.repeat(1000 + 37 * at)));
  for (const [at, name] of names.entries()) {
    if (at % 2 === 1) rig.ok({ kind: 'deleteRange', key: name, rangeEnd: '', prevKv: false });
    rig.ok(put(name, 'w'.repeat(3000 - 41 * at)));
  }
  return rig;
}

function bytesOf(kvs: readonly KeyValue[]): number {
  return kvs.reduce((sum, { key, value }) => sum + key.length + value.length, 0);
}

function codeOf(run: () => unknown): string {
  try {
    run();
    return 'ok';
  } catch (error) {
    return (error as KvError).code;
  }
}

function measured({ machine }: MachineRig, request: RangeRequest, most: number): string {
  const { store } = machine;
  const pinned = request.revision || store.revision;
  const measure = new RangeMeasure(store, request, pinned, new AnswerBudget(most));
  return codeOf(() => {
    for (let steps = 0; !measure.advance(7); steps += 1) expect(steps).toBeLessThan(100);
  });
}

function* requests(): Generator<RangeRequest> {
  for (const sortOrder of [0, 1, 2] as const) {
    for (const sortTarget of [0, 1, 2, 3, 4] as const) {
      for (const limit of [0, 1, 8, 100]) {
        for (const filter of [{}, { minModRevision: 50 }, { maxCreateRevision: 20 }]) {
          for (const revision of [0, 45]) {
            for (const keysOnly of [false, true]) {
              yield { ...ALL, sortOrder, sortTarget, limit, revision, keysOnly, ...filter };
            }
          }
        }
      }
    }
  }
}

describe('the measure of a range', () => {
  const rig = rigWithPairs();
  const answerOf = (request: RangeRequest): readonly KeyValue[] => {
    const answer = rig.machine.store.range(request);
    if ('error' in answer) throw new Error(answer.error);
    return answer.kvs;
  };

  it('is never less than the answer', () => {
    for (const request of requests()) {
      const bytes = bytesOf(answerOf(request));
      if (bytes === 0) continue;
      expect(measured(rig, request, bytes - 1), JSON.stringify(request)).toBe('ANSWER_TOO_LARGE');
    }
  });

  it('is no more than the answer, where no sorting decides which pairs it has', () => {
    let tried = 0;
    for (const request of requests()) {
      const isSorted = request.sortTarget !== 0 && (request.limit > 0 || request.keysOnly);
      if (isSorted) continue;
      const kvs = answerOf(request);
      const most = bytesOf(kvs) + kvs.length * RECORD_EXTRA_BYTES;
      expect(measured(rig, request, most), JSON.stringify(request)).toBe('ok');
      tried += 1;
    }
    expect(tried).toBeGreaterThan(100);
  });

  it('is all of the range where a sort reads all values, and a few pairs where it does not', () => {
    const first: RangeRequest = { ...ALL, sortOrder: 1, limit: 1 };

    expect(measured(rig, { ...first, sortTarget: 4 }, 20_000)).toBe('ANSWER_TOO_LARGE');
    expect(measured(rig, { ...first, sortTarget: 3 }, 20_000)).toBe('ok');
  });

  it('is nothing for a count', () => {
    expect(measured(rig, { ...ALL, countOnly: true }, 0)).toBe('ok');
  });
});

describe('a read that is too large', () => {
  const read = async (rig: MachineRig, request: RangeRequest, most: number) =>
    readRange(
      () => rig.machine,
      request,
      systemClock,
      () => undefined,
      whole,
      most,
    );

  it('is refused before a value is read', async () => {
    const rig = rigWithPairs();
    let reads = 0;
    const { records } = rig.machine.store;
    const real = records.read.bind(records);
    records.read = (main, sub) => {
      reads += 1;
      return real(main, sub);
    };

    await expect(read(rig, ALL, 20_000)).rejects.toMatchObject({
      code: 'ANSWER_TOO_LARGE',
      outcome: 'not-applied',
      message: expect.stringMatching(/--max-range-bytes 20000: .*limit.*RangeStream/),
    });

    expect(reads).toBe(0);
    await read(rig, { ...ALL, limit: 5 }, 20_000);
    expect(reads).toBe(5);
  });

  it('is so by all ranges of its transaction together', async () => {
    const rig = rigWithPairs();
    const five = { ...ALL, limit: 5 };
    const txn = (success: readonly RangeRequest[]): ReadTxn => ({
      ...{ kind: 'txn', compare: [], success, failure: [] },
    });
    const attempt = (success: readonly RangeRequest[]) =>
      readTxn(
        () => rig.machine,
        txn(success),
        systemClock,
        () => undefined,
        whole,
        20_000,
      );

    await expect(attempt([five])).resolves.toMatchObject({ response: { succeeded: true } });
    await expect(attempt([five, five])).rejects.toMatchObject({ code: 'ANSWER_TOO_LARGE' });
  });
});

describe('a write whose answer is too large', () => {
  const rig = rigWithPairs();
  const measures = new WriteMeasures(() => rig.machine, systemClock, 20_000);
  const outcome = (op: Command): string =>
    codeOf(() => expect(measures.measure(op, () => undefined)).toBeNull());
  const deletion = (prevKv: boolean): Command => ({
    ...{ kind: 'deleteRange', key: 'k', rangeEnd: 'l', prevKv },
  });
  const txn = (success: readonly RequestOp[], failure: readonly RequestOp[] = []): TxnRequest => ({
    ...{ kind: 'txn', compare: [], success, failure },
  });

  it('is a deletion that is to show what it deletes', () => {
    expect(outcome(deletion(true))).toBe('ANSWER_TOO_LARGE');
    expect(outcome(deletion(false))).toBe('ok');
  });

  it('is a transaction whose branch reads too much, the nested ones with it', () => {
    const write: RequestOp = { ...PUT, key: 'k00' };
    expect(outcome(txn([write, ALL]))).toBe('ANSWER_TOO_LARGE');
    expect(outcome(txn([write, txn([ALL])]))).toBe('ANSWER_TOO_LARGE');
    expect(outcome(txn([write, { ...ALL, limit: 3 }]))).toBe('ok');
    // Without compares it is the other branch that is taken.
    expect(outcome(txn([write], [ALL]))).toBe('ok');
  });

  it('is many puts that are to show what they replace', () => {
    const puts = Array.from({ length: 30 }, (_, at): RequestOp => {
      const key = `k${String(at).padStart(2, '0')}`;
      return { ...PUT, key, prevKv: true };
    });
    expect(outcome(txn(puts.slice(0, 5)))).toBe('ok');
    expect(outcome(txn(puts))).toBe('ANSWER_TOO_LARGE');
  });
});

describe('a member with --max-range-bytes', () => {
  const TEXT = 'the answer is larger than --max-range-bytes 50000';
  const cluster = new AuthCluster({ 'max-range-bytes': '50000' });
  let door: Door;

  beforeAll(async () => {
    await cluster.start();
    door = cluster.door;
    for (let at = 0; at < 60; at += 1) {
      const message = { key: `k${at}`, value: Buffer.alloc(1000) };
      expect((await door.call('etcdserverpb.KV/Put', message)).text).toBe('ok');
    }
  });
  afterAll(() => cluster.stop());

  it('refuses a range on both faces, and says what to do', async () => {
    const all = { key: 'k', rangeEnd: 'l' };

    const overGrpc = await door.call('etcdserverpb.KV/Range', all);
    const overJson = await door.json('etcdserverpb.KV/Range', all, null);

    expect(overGrpc.text).toContain(`${TEXT}: ask for less at once (a limit, a narrower range)`);
    expect(overJson.status).toBe(429);
    expect(overJson.text).toContain(TEXT);
    expect((await door.call('etcdserverpb.KV/Range', { ...all, limit: 20 })).text).toBe('ok');
  });

  it('serves the same range in parts', async () => {
    const call = await door.call('etcdserverpb.KV/RangeStream', { key: 'k', rangeEnd: 'l' });

    expect(call.text).toBe('ok');
  });

  it('carries out no write whose answer it would refuse', async () => {
    const message = { key: 'k', rangeEnd: 'l', prevKv: true };

    expect((await door.call('etcdserverpb.KV/DeleteRange', message)).text).toContain(TEXT);
    const { response } = await door.call<'RangeResponse'>('etcdserverpb.KV/Range', {
      ...{ key: 'k', rangeEnd: 'l', countOnly: true },
    });
    expect(response?.count).toBe(60);
  });
});

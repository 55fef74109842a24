/**
 * Reads that take several turns, while entries are applied, revisions are compacted, or a snapshot puts
 * another state in their place.
 */
import { expect, test } from 'vitest';
import { type Clock, systemClock } from '../../src/clock.js';
import { encodeEnvelope } from '../../src/kv/command.js';
import { STEP_BYTES } from '../../src/kv/range-scan.js';
import { type RangeRequest, rangeOf, SortOrder, SortTarget } from '../../src/kv/request.js';
import { StateMachine } from '../../src/kv/state-machine.js';
import type { ReadTxn } from '../../src/kv/txn.js';
import { configurationOf } from '../../src/raft/configuration.js';
import { readRange, readTxn } from '../../src/store-reads.js';
import { put } from '../support/in-process-cluster.js';
import { del, put as putRequest, txn } from '../support/kv-requests.js';
import { MachineRig, MEMBERS, whole } from '../support/machine-rig.js';
import { MemoryRecords } from '../support/memory-records.js';
import { ReadMeter } from '../support/read-meter.js';

function rigWith(keys: number): MachineRig {
  const rig = new MachineRig();
  for (let at = 0; at < keys; at += 1) rig.ok(put(`k${String(at).padStart(5, '0')}`, 'v'));
  return rig;
}

const rangeAt = (revision: number): RangeRequest =>
  rangeOf({ key: 'k', rangeEnd: 'l', revision, keysOnly: true });

test('a read of an old revision goes on in the state of a snapshot that still has it', async () => {
  const [before, after] = [rigWith(3000), rigWith(3500)];
  let current = before;

  const read = readRange(
    () => current.machine,
    rangeAt(2001),
    systemClock,
    () => undefined,
    whole,
  );
  current = after;

  const { response } = await read;
  expect(response.kind === 'range' && response.kvs.length).toBe(2000);
});

test('a read of an old revision that the new state has compacted says so', async () => {
  const [before, after] = [rigWith(3000), rigWith(3500)];
  after.ok({ kind: 'compact', revision: 3000 });
  let current = before;

  const read = readRange(
    () => current.machine,
    rangeAt(2001),
    systemClock,
    () => undefined,
    whole,
  );
  current = after;

  await expect(read).rejects.toMatchObject({
    code: 'COMPACTED',
    details: { compactRevision: 3000 },
  });
});

test('a read ends when states are replaced again and again under it', async () => {
  const rigs = [rigWith(2500), rigWith(2500)];
  let turns = 0;

  const read = readRange(
    () => (rigs[turns % 2] as MachineRig).machine,
    rangeAt(0),
    systemClock,
    () => {
      turns += 1;
    },
    whole,
  );

  await expect(read).rejects.toMatchObject({ code: 'TIMEOUT_NO_EFFECT', outcome: 'not-applied' });
});

test('a long read names the revision that it saw, not one that came meanwhile', async () => {
  const rig = rigWith(2500);

  const read = readRange(
    () => rig.machine,
    rangeAt(0),
    systemClock,
    () => undefined,
    whole,
  );
  rig.ok(put('k99999', 'later'));

  const { revision, response } = await read;
  expect(rig.machine.store.revision).toBe(2502);
  expect(revision).toBe(2501);
  expect(response.kvs.length).toBe(2500);
});

test('a long read of the newest revision begins anew when a compaction overtakes it', async () => {
  const rig = rigWith(2500);

  const read = readRange(
    () => rig.machine,
    rangeAt(0),
    systemClock,
    () => undefined,
    whole,
  );
  rig.ok(put('k99999', 'later'));
  rig.ok({ kind: 'compact', revision: 2502 });

  const { revision, response } = await read;
  expect(revision).toBe(2502);
  expect(response.kvs.length).toBe(2501);
});

test('the ranges and the compares of a transaction see one revision, however long it takes', async () => {
  const rig = rigWith(2500);
  const missing = { key: 'k99999', rangeEnd: '', target: 'version', result: 0, number: 0 } as const;
  const txn: ReadTxn = {
    kind: 'txn',
    compare: [missing],
    success: [rangeAt(0), { ...rangeAt(0), countOnly: true }, { ...rangeAt(0), key: 'k9' }],
    failure: [],
  };

  const read = readTxn(
    () => rig.machine,
    txn,
    systemClock,
    () => undefined,
    whole,
  );
  rig.ok(put('k99999', 'later'));

  const { revision, response } = await read;
  expect(revision).toBe(2501);
  expect(response).toMatchObject({
    succeeded: true,
    responses: [
      { count: 2500, revision: 2501 },
      { count: 2500, revision: 2501 },
      { count: 0, revision: 2501 },
    ],
  });
});

test('a transaction that reads a compacted revision is refused', async () => {
  const rig = rigWith(10);
  rig.ok({ kind: 'compact', revision: 5 });
  const txn: ReadTxn = { kind: 'txn', compare: [], success: [rangeAt(4)], failure: [rangeAt(99)] };

  const read = readTxn(
    () => rig.machine,
    txn,
    systemClock,
    () => undefined,
    whole,
  );

  await expect(read).rejects.toMatchObject({ code: 'COMPACTED' });
});

test.each([
  ['as many keys as are read in a turn', 999, 10, false, 0],
  ['more keys than are read in a turn', 3000, 10, false, 1],
  ['large values', 100, 50_000, false, 1],
  ['a count of many keys', 3000, 10, true, 0],
])(
  'a read of %s asks whether it may be long when it is',
  async (_what, keys, bytes, countOnly, asks) => {
    const rig = new MachineRig();
    const value = Buffer.alloc(bytes);
    for (let at = 0; at < keys; at += 1) rig.ok(put(`k${String(at).padStart(5, '0')}`, value));
    const request = rangeOf({ key: 'k', rangeEnd: 'l', countOnly });
    let asked = 0;
    let late = 0;
    const read = readRange(
      () => rig.machine,
      request,
      systemClock,
      () => undefined,
      whole,
      undefined,
      async () => {
        asked += 1;
        // What is written while it waits is read, too: nothing was kept of what it saw before.
        rig.ok(put('k99999', value));
        late = 1;
      },
    );
    const { response, revision } = await read;
    expect(asked).toBe(asks);
    expect(response.count).toBe(keys + late);
    expect(revision).toBe(rig.machine.store.revision);
  },
);

test('a range of as many keys as one turn reads takes no other turn to see that there are no more', async () => {
  const read = (keys: number, request = rangeAt(0)) => {
    const { machine } = rigWith(keys);
    return readRange(
      () => machine,
      request,
      systemClock,
      () => undefined,
      whole,
    );
  };
  const backward = { ...rangeAt(0), sortOrder: SortOrder.Descend };

  expect(read(1000)).toMatchObject({ response: { count: 1000, more: false } });
  expect(read(1000, backward)).toMatchObject({ response: { count: 1000, more: false } });
  const longer = read(1001);
  expect(longer).toBeInstanceOf(Promise);
  expect((await longer).response.kvs).toHaveLength(1001);
});

test.each([
  ['sorted by creation', { sortTarget: SortTarget.Create, sortOrder: SortOrder.Descend }],
  ['of one key with a sort target', { key: 'k00001', rangeEnd: '', sortTarget: SortTarget.Mod }],
  ['with a filter', { minModRevision: 2 }],
])('a short read %s takes no turn of its own, and stands in no line', (_what, fields) => {
  const { machine } = rigWith(20);
  const read = readRange(
    () => machine,
    rangeOf({ key: 'k', rangeEnd: 'l', ...fields }),
    systemClock,
    () => undefined,
    whole,
    undefined,
    () => expect.fail('it is not long'),
  );
  expect(read).not.toBeInstanceOf(Promise);
});

test('a transaction of short ranges is long when what they hold is large', async () => {
  const rig = new MachineRig();
  for (let at = 0; at < 40; at += 1) rig.ok(put(`k${at}`, Buffer.alloc(100_000)));
  const success = Array.from({ length: 40 }, (_, at) => rangeOf({ key: `k${at}` }));
  let asked = 0;
  const { response } = await readTxn(
    () => rig.machine,
    { kind: 'txn', compare: [], success, failure: [] } as unknown as ReadTxn,
    systemClock,
    () => undefined,
    whole,
    undefined,
    () => {
      asked += 1;
      return null;
    },
  );
  expect(asked).toBe(1);
  expect(response?.kind === 'txn' && response.responses.length).toBe(40);
});

test('a read that begins in the midst of an entry waits for its end, and looks at nothing meanwhile', async () => {
  const records = new MemoryRecords();
  const configuration = configurationOf([1, 2, 3]);
  const options = { records, selfId: 1, members: MEMBERS, configuration, stepKeys: 1 };
  const rig = new MachineRig(1, records, new StateMachine(options));
  for (const key of ['k1', 'k2', 'k3']) rig.ok(put(key, 'v'));
  const { machine } = rig;
  const command = { kind: 'deleteRange', key: 'k', rangeEnd: 'l', prevKv: false } as const;
  const payload = encodeEnvelope({ origin: 1, requestId: 7, actor: null, command });
  const entry = { index: machine.appliedIndex + 1, term: 1, type: 0, payload };
  expect(machine.begin(entry)).toBeNull();
  let turns = 0;
  const clock: Clock = {
    ...systemClock,
    soon: (run) => {
      turns += 1;
      systemClock.soon(run);
    },
  };
  let end = (): void => undefined;
  const atEnd = new Promise<void>((resolve) => {
    end = resolve;
  });

  const read = readRange(
    () => machine,
    rangeAt(0),
    clock,
    () => undefined,
    () => atEnd,
  );
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  expect(turns).toBe(0);
  while (machine.goOn() === null);
  end();

  expect(await read).toMatchObject({ revision: 5, response: { count: 0 } });
});

test.each([
  ['are deleted', undefined, 0, 200],
  ['are deleted and measured first', 200_000, 0, 200],
  ['are not there yet', undefined, 2, 1000],
  ['are not there yet and measured first', 200_000, 2, 1000],
])(
  'a read looks at so many keys at most in a turn, however few it reads: keys that %s',
  async (what, bytesMax, revision, count) => {
    const rig = new MachineRig();
    const keys = Array.from({ length: 20_000 }, (_, at) => `k${String(at).padStart(5, '0')}`);
    const success = keys.map((key) => putRequest(key, 'v'));
    if (revision !== 0) rig.ok(txn([], success.slice(0, count)));
    rig.ok(txn([], success));
    if (what.startsWith('are deleted')) {
      // Each hundredth key stays.
      for (let at = 0; at < keys.length; at += 100) rig.ok(del(`${keys[at]}`, keys[at + 99]));
    }
    const meter = new ReadMeter(rig);

    const read = await readRange(
      () => rig.machine,
      rangeOf({ key: 'k', rangeEnd: 'l', revision }),
      meter.clock,
      () => undefined,
      whole,
      bytesMax,
    );

    expect(read.response.kvs).toHaveLength(count);
    expect(meter.most.looks).toBeLessThanOrEqual(8 * 1000);
  },
);

test('a read that is measured first takes the old records that this needs in several turns, too', async () => {
  const rig = new MachineRig();
  const value = Buffer.alloc(50_000);
  for (let round = 0; round < 2; round += 1) {
    for (let at = 0; at < 100; at += 1) rig.ok(put(`k${at}`, value));
  }
  const meter = new ReadMeter(rig);

  const { response } = await readRange(
    () => rig.machine,
    rangeOf({ key: 'k', rangeEnd: 'l', revision: 101 }),
    meter.clock,
    () => undefined,
    whole,
    60 * 100_000,
  );

  expect(response.kvs).toHaveLength(100);
  // One turn may have both the end of the measure and the first of the read.
  expect(meter.most.bytes).toBeLessThanOrEqual(2 * (STEP_BYTES + 50_100));
});

test.each([
  ['where time stands still', 0, 2],
  ['where 250 keys take a millisecond', 1, 4],
  ['where 250 keys take longer than a turn may', 3, 8],
])('a long range %s lets the loop turn in time', async (_where, ms, expected) => {
  const { machine } = rigWith(3000);
  let time = 0;
  let turns = 0;
  const clock: Clock = {
    // Asked once in front of what is read, and then behind each 250 keys.
    now: () => {
      time += ms;
      return time;
    },
    after: (wait, run) => systemClock.after(wait, run),
    soon: (run) => {
      turns += 1;
      systemClock.soon(run);
    },
  };
  const { response } = await readRange(
    () => machine,
    rangeAt(0),
    clock,
    () => undefined,
    whole,
  );
  expect(response.kvs).toHaveLength(3000);
  // The first thousand are read at once.
  expect(turns).toBe(expected);
});

test('a long range of values of some KiB reads little more than a step of bytes in a turn', async () => {
  const rig = new MachineRig();
  const value = Buffer.alloc(3900);
  for (let at = 0; at < 2000; at += 1) rig.ok(put(`k${String(at).padStart(5, '0')}`, value));
  const meter = new ReadMeter(rig);

  const { response } = await readRange(
    () => rig.machine,
    rangeOf({ key: 'k', rangeEnd: 'l' }),
    { ...meter.clock, now: () => 0 },
    () => undefined,
    whole,
  );

  expect(response.kvs).toHaveLength(2000);
  expect(meter.most.bytes).toBeLessThanOrEqual(1.25 * STEP_BYTES + 4000);
});

test('ranges of one transaction read together as much in a turn as one of them may', async () => {
  const rig = new MachineRig();
  const value = Buffer.alloc(3900);
  for (let at = 0; at < 800; at += 1) rig.ok(put(`k${String(at).padStart(5, '0')}`, value));
  const meter = new ReadMeter(rig);
  // Ends little below a step of bytes; the next one begins in the same turn.
  const success = [
    rangeOf({ key: 'k', rangeEnd: 'l', limit: 260 }),
    rangeOf({ key: 'k', rangeEnd: 'l' }),
  ];

  const { response } = await readTxn(
    () => rig.machine,
    { kind: 'txn', compare: [], success, failure: [] } as unknown as ReadTxn,
    { ...meter.clock, now: () => 0 },
    () => undefined,
    whole,
  );

  expect(response?.kind === 'txn' && response.responses.length).toBe(2);
  expect(meter.most.bytes).toBeLessThanOrEqual(1.25 * STEP_BYTES + 4000);
});

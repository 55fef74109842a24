/**
 * Writes with long answers, measured before they are proposed: in turns of bounded length, one after the other, beside
 * entries, compactions and snapshots; and on a whole member, what goes on beside them.
 */
import { afterEach, describe, expect, it } from 'vitest';
import type { ClusterNode } from '../../src/cluster-node.js';
import { encodeEnvelope } from '../../src/kv/command.js';
import { StateMachine } from '../../src/kv/state-machine.js';
import { configurationOf } from '../../src/raft/configuration.js';
import { WriteMeasures } from '../../src/write-measures.js';
import { InProcessCluster } from '../support/in-process-cluster.js';
import { del, put, range, txn } from '../support/kv-requests.js';
import { MachineRig, MEMBERS } from '../support/machine-rig.js';
import { MemoryRecords } from '../support/memory-records.js';
import { ReadMeter } from '../support/read-meter.js';

const KEYS = 20_000;
/** Less than the state, with its history, and more than the answer. */
const ROOM = KEYS * 120;
const yes = (): void => undefined;

/** KEYS keys, written twice; applies 1000 of them in a turn. */
function filled(): MachineRig {
  const records = new MemoryRecords();
  const configuration = configurationOf([1, 2, 3]);
  const machine = new StateMachine({
    ...{ records, selfId: 1, members: MEMBERS, configuration },
    stepKeys: 1000,
  });
  const rig = new MachineRig(1, records, machine);
  const keys = Array.from({ length: KEYS }, (_, at) => `k${String(at).padStart(5, '0')}`);
  for (let round = 0; round < 2; round += 1)
    rig.ok(
      txn(
        [],
        keys.map((key) => put(key, 'v')),
      ),
    );
  return rig;
}

const deletion = del('k', 'l', true);

/** The deletion of all keys, applied by so many of them. */
function deletedHalfway({ machine }: MachineRig): void {
  const payload = encodeEnvelope({ origin: 2, requestId: 7, actor: null, command: del('k', 'l') });
  const index = machine.appliedIndex + 1;
  let applied = machine.begin({ index, term: 1, type: 0, payload });
  for (let steps = 0; steps < 10 && applied === null; steps += 1) applied = machine.goOn();
  expect(machine.isMidway).toBe(true);
}

describe('a write with a long answer', () => {
  it.each([
    ['a deletion behind one that is applied halfway', deletion, deletedHalfway],
    ['a range of an old revision', txn([], [put('a'), range('k', 'l', { revision: 2 })]), yes],
    ['the newest pairs', deletion, yes],
  ])('is measured in turns of bounded length: %s', async (_what, command, prepare) => {
    const rig = filled();
    prepare(rig);
    const meter = new ReadMeter(rig);
    const measures = new WriteMeasures(() => rig.machine, meter.clock, ROOM);

    const measured = measures.measure(command, yes);

    expect(measured).toBeInstanceOf(Promise);
    await measured;
    expect(meter.most.reads).toBeLessThanOrEqual(1000);
    expect(meter.most.looks).toBeLessThanOrEqual(8 * 1000);
  });

  it('shares the turns with others, each of which ends when it fits, does not, or is not wanted', async () => {
    const rig = filled();
    const meter = new ReadMeter(rig);
    const measures = new WriteMeasures(() => rig.machine, meter.clock, ROOM);
    let checks = 0;
    const giveUp = (): void => {
      checks += 1;
      if (checks === 2) throw new Error('called off');
    };

    const fitting = Array.from({ length: 8 }, () => measures.measure(deletion, yes));
    const calledOff = measures.measure(deletion, giveUp);
    const tooLarge = measures.measure(txn([], [range('k', 'l'), deletion]), yes);
    const passing = measures.measure(put('a', 'v', { prevKv: true }), yes);
    meter.most.looks = 0;

    expect(passing).toBeNull();
    await expect(calledOff).rejects.toThrow('called off');
    await expect(tooLarge).rejects.toMatchObject({ code: 'ANSWER_TOO_LARGE' });
    await Promise.all(fitting);
    expect(meter.most.looks).toBeLessThanOrEqual(8 * 1000);
    // And it goes on when another one comes behind them.
    await measures.measure(deletion, yes);
  });

  it('is refused as one too many', async () => {
    const rig = filled();
    const measures = new WriteMeasures(() => rig.machine, new ReadMeter(rig).clock, ROOM);

    const first = Array.from({ length: 64 }, () => measures.measure(deletion, yes));

    expect(() => measures.measure(deletion, yes)).toThrow(/64 writes with long answers/);
    expect(measures.measure(put('a', 'v', { prevKv: true }), yes)).toBeNull();
    await Promise.all(first);
  });

  it('is judged by the revision at which its measure began', async () => {
    const rig = filled();
    const measures = new WriteMeasures(() => rig.machine, new ReadMeter(rig).clock, ROOM);

    const measured = measures.measure(deletion, yes);
    rig.ok(put('k99999', 'v'.repeat(ROOM)));

    await measured;
    expect(() => measures.measure(range1('k99999'), yes)).toThrow(/--max-range-bytes/);
  });

  it.each([
    ['a compaction', (rig: MachineRig): void => void rig.ok({ kind: 'compact', revision: 4 })],
    ['a snapshot', yes],
  ])('is measured anew when %s took away what it was measured by', async (what, overtake) => {
    const rig = filled();
    let current = rig;
    const measures = new WriteMeasures(() => current.machine, new ReadMeter(rig).clock, ROOM);

    const measured = measures.measure(deletion, yes);
    if (what === 'a snapshot') current = filled();
    current.ok(put('k99999', 'v'.repeat(ROOM)));
    overtake(current);

    await expect(measured).rejects.toMatchObject({ code: 'ANSWER_TOO_LARGE' });
  });

  it('is given up when states are replaced again and again under it', async () => {
    const rigs = [filled(), filled()] as const;
    let turns = 0;
    const machine = (): StateMachine => rigs[turns % 2 === 0 ? 0 : 1].machine;
    const measures = new WriteMeasures(machine, new ReadMeter(rigs[0]).clock, ROOM);

    const measured = measures.measure(deletion, () => {
      turns += 1;
    });

    await expect(measured).rejects.toMatchObject({ code: 'TIMEOUT_NO_EFFECT' });
  });
});

const range1 = (key: string) => txn([], [put('a'), range(key)]);

describe('a member that measures a write with a long answer', () => {
  let cluster: InProcessCluster | null = null;

  afterEach(async () => {
    await cluster?.stop();
    cluster = null;
  });

  async function started(): Promise<ClusterNode> {
    const group = new InProcessCluster({ 'max-range-bytes': String(ROOM) }, 1);
    cluster = group;
    await group.start();
    const node = (await group.leader()).node as ClusterNode;
    for (let round = 0; round < 2; round += 1) {
      for (let from = 0; from < KEYS; from += 5000) {
        const keys = Array.from({ length: 5000 }, (_, at) => `k${100_000 + from + at}`);
        await node.propose(
          txn(
            [],
            keys.map((key) => put(key, 'v')),
          ),
          node.context(),
        );
      }
    }
    return node;
  }

  it('proposes what comes behind it, and then itself', async () => {
    const node = await started();

    const long = node.propose(deletion, node.context());
    const short = node.propose(put('a'), node.context());

    const [{ revision: late, response }, { revision: early }] = await Promise.all([long, short]);
    expect(late).toBe(early + 1);
    expect(response).toMatchObject({ deleted: KEYS });
  });

  it('proposes nothing that is called off, late, or there when it stops', async () => {
    const node = await started();
    const { revision } = node.machine.store;
    const controller = new AbortController();

    const attempts = [
      node.propose(deletion, node.context(10_000, controller.signal)),
      node.propose(deletion, node.context(0)),
    ];
    controller.abort();

    const codes = attempts.map((attempt) => attempt.catch(({ code, outcome }) => [code, outcome]));
    expect(await Promise.all(codes)).toEqual([
      ['CANCELED', 'not-applied'],
      ['TIMEOUT_NO_EFFECT', 'not-applied'],
    ]);
    const last = node
      .propose(deletion, node.context())
      .catch(({ code, outcome }) => [code, outcome]);
    void node.stop();
    expect(await last).toEqual(['STOPPED', 'not-applied']);
    expect(node.machine.store.revision).toBe(revision);
  });
});

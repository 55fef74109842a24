/**
 * When checkpoints begin: each that is wished for begins behind its wish, one at a time, never in the midst of an
 * entry, and many wishes are one.
 */
import { expect, test } from 'vitest';
import { Checkpoints } from '../../src/checkpoints.js';
import { systemClock } from '../../src/clock.js';
import { type Command, encodeEnvelope } from '../../src/kv/command.js';
import { configurationOf } from '../../src/raft/configuration.js';
import type { Driver } from '../../src/raft/io/driver.js';
import type { SnapshotMeta } from '../../src/raft/message.js';
import { openReplica, type StateReplica } from '../../src/state-replica.js';
import { del, put } from '../support/kv-requests.js';
import { MemoryStateFolders } from '../support/memory-backend.js';
import { waitFor } from '../support/wait.js';

const WAIT_MS = 5000;

class Rig {
  replica: StateReplica;
  /** Checkpoints whose mark waits to be recorded. */
  readonly recording: { readonly mark: SnapshotMeta; readonly done: (ok: boolean) => void }[] = [];
  /** Indices of those that are over. */
  readonly done: number[] = [];
  readonly checkpoints: Checkpoints;

  constructor(replica: StateReplica, snapshotCount: number) {
    this.replica = replica;
    const driver = {
      recordCheckpoint: (mark: SnapshotMeta, done: (ok: boolean) => void) => {
        this.recording.push({ mark, done });
      },
      firstWithin: (wanted: number) => wanted,
      compactTo: () => undefined,
    } as unknown as Driver;
    this.checkpoints = new Checkpoints(
      driver,
      {
        snapshotCount,
        catchupEntries: 10,
        replica: () => this.replica,
        onFatal: (error) => expect.fail(error.message),
        onDone: ({ index }) => this.done.push(index),
        now: () => 0,
      },
      0,
    );
  }

  /** False: it is applied halfway. */
  begin(command: Command): boolean {
    const { machine } = this.replica;
    const payload = encodeEnvelope({ origin: 2, requestId: 1, actor: null, command });
    return machine.begin({ index: machine.appliedIndex + 1, term: 1, type: 0, payload }) !== null;
  }

  async recorded(count: number): Promise<void> {
    await waitFor(`checkpoint ${count}`, WAIT_MS, () => this.recording.length >= count);
    this.recording[count - 1]?.done(true);
  }

  /** Time enough for one more to begin. */
  async idle(): Promise<void> {
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  }
}

function openState(generation: number): Promise<StateReplica> {
  const options = {
    ...{ dataDir: '/nowhere', folders: new MemoryStateFolders(), clock: systemClock },
    ...{ selfId: 1, clusterId: 7, bootstrapMembers: [], stepKeys: 1 },
    bootstrapConfiguration: configurationOf([1]),
    onFatal: (error: Error) => expect.fail(error.message),
    onDrain: () => undefined,
    onCommitted: () => undefined,
  };
  return openReplica(options, generation, 0);
}

async function rigWith(keys: number, snapshotCount = 1000): Promise<Rig> {
  const rig = new Rig(await openState(1), snapshotCount);
  for (let at = 0; at < keys; at += 1) rig.begin(put(`k${at}`, 'v'));
  return rig;
}

test('many wishes while a checkpoint runs are one more, with all that was applied before them', async () => {
  const rig = await rigWith(3);
  const { checkpoints } = rig;
  const first = checkpoints.start();
  rig.begin(put('k3', 'v'));
  const wishes = [checkpoints.start(), checkpoints.start(), checkpoints.start()];
  let isServed = false;
  void Promise.any(wishes).then(() => {
    isServed = true;
  });

  await rig.recorded(1);
  await first;
  await rig.idle();
  expect(isServed).toBe(false);
  await rig.recorded(2);
  await Promise.all(wishes);

  await rig.idle();
  expect(rig.done).toEqual([3, 4]);
  expect(rig.recording).toHaveLength(2);
});

test('one that is wished for, or due, while an entry is applied halfway begins at its end', async () => {
  const rig = await rigWith(5, 2);
  const { checkpoints } = rig;
  expect(rig.begin(del('k', 'l'))).toBe(false);

  const wish = checkpoints.start();
  for (;;) {
    checkpoints.onApplied(0);
    await rig.idle();
    expect(rig.recording).toEqual([]);
    if (rig.replica.machine.goOn() !== null) break;
  }
  checkpoints.onApplied(10);
  await rig.recorded(1);
  await wish;

  await rig.idle();
  expect(rig.done).toEqual([6]);
  expect(rig.recording).toHaveLength(1);
});

test('one that ran when an entry began does not take the wish for another one with it', async () => {
  const rig = await rigWith(5);
  const { checkpoints } = rig;
  const first = checkpoints.start();
  expect(rig.begin(del('k', 'l'))).toBe(false);
  const wish = checkpoints.start();
  await rig.recorded(1);
  await first;
  await rig.idle();
  expect(rig.recording).toHaveLength(1);

  while (rig.replica.machine.goOn() === null);
  checkpoints.onApplied(10);
  await rig.recorded(2);
  await wish;

  expect(rig.done).toEqual([5, 6]);
});

test('a wish in the midst of an entry is served by the state of a snapshot that takes its place', async () => {
  const rig = await rigWith(5);
  expect(rig.begin(del('k', 'l'))).toBe(false);
  const wish = rig.checkpoints.start();

  rig.replica = await openState(2);
  rig.begin(put('other', 'v'));
  rig.checkpoints.onReplaced(1);
  await rig.recorded(1);
  await wish;

  expect(rig.recording[0]?.mark).toMatchObject({ index: 1, generation: 2 });
});

test('one that was due of a state in the midst of an entry is not made of the one that takes its place', async () => {
  const rig = await rigWith(5, 2);
  expect(rig.begin(del('k', 'l'))).toBe(false);
  rig.checkpoints.onApplied(0);

  rig.replica = await openState(2);
  rig.begin(put('other', 'v'));
  rig.checkpoints.onReplaced(1);

  await rig.idle();
  expect(rig.recording).toEqual([]);
});

test('who waits for one that has not begun is let go when the member stops', async () => {
  const rig = await rigWith(3);
  const { checkpoints } = rig;
  const first = checkpoints.start();
  const second = checkpoints.start();

  checkpoints.stop();
  await second;
  await rig.recorded(1);
  await first;
  await checkpoints.start();

  await rig.idle();
  expect(rig.recording).toHaveLength(1);
});

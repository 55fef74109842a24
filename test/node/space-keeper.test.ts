/**
 * Who looks after space, and when: on a real state machine, with time and the size of the disk of the
 * test.
 */
import { describe, expect, test } from 'vitest';
import type { Clock, Timer } from '../../src/clock.js';
import { GarbageSweep } from '../../src/garbage-sweep.js';
import { AlarmType } from '../../src/kv/command.js';
import { openLog } from '../../src/logger.js';
import { SpaceKeeper, type SpaceKeeperOptions } from '../../src/space-keeper.js';
import { keptLog } from '../support/kept-log.js';
import { put } from '../support/kv-requests.js';
import { MachineRig } from '../support/machine-rig.js';

/** Runs what is due when it is told to. */
class StepClock implements Clock {
  private due: (() => void)[] = [];

  now(): number {
    return 0;
  }
  after(_ms: number, run: () => void): Timer {
    this.due.push(run);
    return {
      cancel: () => {
        this.due = this.due.filter((other) => other !== run);
      },
    };
  }
  soon(run: () => void): void {
    this.after(0, run);
  }
  /** False when nothing waits. */
  async step(): Promise<boolean> {
    const run = this.due.shift();
    run?.();
    await new Promise((resolve) => setImmediate(resolve));
    return run !== undefined;
  }
}

interface Trial {
  readonly rig: MachineRig;
  readonly clock: StepClock;
  readonly keeper: SpaceKeeper;
  free: number;
  leads: boolean;
  silent: number[];
  fails: boolean;
}

function trial(options: Partial<SpaceKeeperOptions> = {}): Trial {
  const rig = new MachineRig();
  const clock = new StepClock();
  const state: Trial = {
    ...{ rig, clock, free: 1000, leads: false, silent: [], fails: false },
    keeper: new SpaceKeeper({
      ...{ clock, memberId: 1, quotaBytes: 0, diskReserveBytes: 100 },
      logger: openLog('silent', {}).logger,
      freeBytes: () => state.free,
      machine: () => rig.machine,
      isLeader: () => state.leads,
      isSilent: (member) => state.silent.includes(member),
      propose: async (command) => {
        if (state.fails) throw new Error('no quorum');
        rig.ok(command);
      },
      ...options,
    }),
  };
  state.keeper.start();
  return state;
}

const alarmed = ({ rig }: Trial): number[] => rig.machine.alarms.map(({ memberId }) => memberId);

describe('the keeper of space', () => {
  test('sets the quota of its flags while its member leads, and only then', async () => {
    const member = trial({ quotaBytes: 5000 });
    await member.clock.step();
    expect(member.rig.machine.quotaBytes).toBe(0);

    member.leads = true;
    await member.clock.step();
    expect(member.rig.machine.quotaBytes).toBe(5000);
    const { appliedIndex } = member.rig.machine;
    await member.clock.step();
    expect(member.rig.machine.appliedIndex).toBe(appliedIndex);

    member.rig.ok({ kind: 'setQuota', bytes: 1 });
    await member.clock.step();
    expect(member.rig.machine.quotaBytes).toBe(5000);
  });

  test('stops writes before the disk is full and lets them go on with some room to spare', async () => {
    const member = trial();
    await member.clock.step();
    expect(alarmed(member)).toEqual([]);

    member.free = 99;
    await member.clock.step();
    expect(alarmed(member)).toEqual([1]);
    expect(member.rig.apply(put('k')).code).toBe('NO_SPACE');

    for (const free of [0, 100, 124]) {
      member.free = free;
      await member.clock.step();
      expect(alarmed(member)).toEqual([1]);
    }
    member.free = 125;
    await member.clock.step();
    expect(alarmed(member)).toEqual([]);
    member.rig.ok(put('k'));
  });

  test('tries again what was not applied', async () => {
    const member = trial();
    member.free = 0;
    member.fails = true;
    await member.clock.step();
    expect(alarmed(member)).toEqual([]);

    member.fails = false;
    await member.clock.step();

    expect(alarmed(member)).toEqual([1]);
  });

  test('says once that the disk is full, however many looks find nobody to tell', async () => {
    const { logger, lines } = keptLog();
    const member = trial({ logger });
    member.free = 0;
    member.fails = true;
    for (let look = 0; look < 5; look += 1) await member.clock.step();
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('the disk is nearly full');

    member.fails = false;
    for (let look = 0; look < 5; look += 1) await member.clock.step();
    expect(lines).toHaveLength(1);
    member.free = 125;
    for (let look = 0; look < 5; look += 1) await member.clock.step();
    member.free = 0;
    for (let look = 0; look < 5; look += 1) await member.clock.step();

    expect(lines).toHaveLength(3);
    expect(lines[1]).toContain('the disk has room again');
    expect(lines[2]).toContain('the disk is nearly full');
  });

  test('raises again what an operator disarmed while the disk is still full', async () => {
    const member = trial();
    member.free = 0;
    await member.clock.step();
    const memberId = 1;
    member.rig.ok({ kind: 'alarm', action: 'deactivate', memberId, alarm: AlarmType.NoSpace });

    await member.clock.step();

    expect(alarmed(member)).toEqual([1]);
  });

  test('lets the leader end the alarm of a member that is gone, not of one that hesitates', async () => {
    const leader = trial();
    leader.leads = true;
    leader.rig.ok({ kind: 'report', memberId: 2, finding: 'disk-full' });

    for (let look = 0; look < 20; look += 1) {
      leader.silent = look % 4 === 3 ? [] : [2];
      await leader.clock.step();
    }
    expect(alarmed(leader)).toEqual([2]);
    leader.silent = [2];
    for (let look = 0; look < 5; look += 1) await leader.clock.step();

    expect(alarmed(leader)).toEqual([]);
  });

  test('does not look at the disk without a reserve, and not at all once it is stopped', async () => {
    const careless = trial({ diskReserveBytes: 0 });
    careless.free = 0;
    await careless.clock.step();
    expect(alarmed(careless)).toEqual([]);

    careless.keeper.stop();
    expect(await careless.clock.step()).toBe(false);
  });
});

describe('the sweep of garbage', () => {
  function garbage(): { readonly rig: MachineRig; readonly clock: StepClock } {
    const rig = new MachineRig();
    rig.collects = 0;
    for (let count = 0; count < 2000; count += 1) rig.ok(put('k', String(count)));
    rig.ok({ kind: 'compact', revision: rig.machine.store.revision });
    return { rig, clock: new StepClock() };
  }

  test('goes in bounded slices, says when it is done, and then rests', async () => {
    const { rig, clock } = garbage();
    const { store } = rig.machine;
    const done: number[] = [];
    const sweep = new GarbageSweep({ clock, store: () => store, onDone: (n) => done.push(n) });

    sweep.wake();
    sweep.wake();
    let before = store.garbageCount;
    let slices = 0;
    while (await clock.step()) {
      expect(before - store.garbageCount).toBeLessThanOrEqual(500);
      before = store.garbageCount;
      slices += 1;
    }

    expect(slices).toBe(4);
    expect(done).toEqual([1999]);
    expect(rig.records.retained()).toEqual(['2001.0']);
  });

  test('tells who waits for it when there is nothing left, or when it stops', async () => {
    const { rig, clock } = garbage();
    const sweep = new GarbageSweep({ clock, store: () => rig.machine.store, onDone: () => {} });
    let waits = 2;
    const ended = (): void => {
      waits -= 1;
    };

    void sweep.idle().then(ended);
    await clock.step();
    expect(waits).toBe(2);
    while (await clock.step());
    expect(waits).toBe(1);
    rig.ok(put('k'));
    rig.ok({ kind: 'compact', revision: rig.machine.store.revision });
    void sweep.idle().then(ended);
    sweep.stop();
    await clock.step();

    expect(waits).toBe(0);
  });
});

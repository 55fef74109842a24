/**
 * Compaction by itself: what is kept, who does it, and that a failure stops nothing. Time is a clock of
 * the test.
 */
import { describe, expect, test } from 'vitest';
import { AutoCompaction, type CompactionPolicy } from '../../src/auto-compaction.js';
import { ManualClock } from '../support/manual-clock.js';

/** Stops at each timer, for a turn of the event loop in which its promises go on. */
async function passTo(clock: ManualClock, time: number): Promise<void> {
  while (clock.nextDue <= time) {
    clock.pass(clock.nextDue - clock.now());
    await new Promise((resolve) => setImmediate(resolve));
  }
  clock.pass(time - clock.now());
}

class Store {
  revision = 1;
  compactRevision = 0;
  leads = true;
  isFull = false;
  fails = false;
  readonly asked: number[] = [];
  readonly clock = new ManualClock();
  readonly failures: string[] = [];
  readonly job: AutoCompaction;

  constructor(policy: CompactionPolicy) {
    this.job = new AutoCompaction({
      policy,
      clock: this.clock,
      isLeader: () => this.leads,
      isOutOfSpace: () => this.isFull,
      revision: () => this.revision,
      compactRevision: () => this.compactRevision,
      compact: async (revision) => {
        this.asked.push(revision);
        if (this.fails) throw new Error('no quorum');
        this.compactRevision = revision;
      },
      onDone: () => undefined,
      onFailed: (error) => this.failures.push(error.message),
    });
    this.job.start();
  }
}

describe('automatic compaction', () => {
  test('by period keeps every revision of the last period', async () => {
    const store = new Store({ mode: 'periodic', periodMs: 1000 });

    for (let second = 1; second <= 50; second += 1) {
      store.revision += 10;
      await passTo(store.clock, second * 100);
    }

    // After 5 s: the revision noted at 4 s, when it was 1 + 40 * 10.
    expect(store.compactRevision).toBe(401);
    expect(store.asked).toEqual([...store.asked].sort((a, b) => a - b));
  });

  test('by revision keeps the last so many', async () => {
    const store = new Store({ mode: 'revision', revisions: 100 });
    store.revision = 1000;

    await passTo(store.clock, 5 * 60 * 1000);

    expect(store.asked).toEqual([900]);
  });

  test('without space a tenth of the history must do, until there is space again', async () => {
    const byTime = new Store({ mode: 'periodic', periodMs: 1000 });
    const byCount = new Store({ mode: 'revision', revisions: 100 });
    byCount.revision = 1000;
    byTime.isFull = true;
    byCount.isFull = true;
    for (let tenth = 1; tenth <= 5; tenth += 1) {
      byTime.revision += 10;
      await passTo(byTime.clock, tenth * 100);
    }
    await passTo(byCount.clock, 5 * 60 * 1000);

    // After half a second: the revision noted a tenth of a second before.
    expect(byTime.compactRevision).toBe(41);
    expect(byCount.compactRevision).toBe(990);
    byTime.isFull = false;
    byTime.revision += 10;
    await passTo(byTime.clock, 1400);
    expect(byTime.compactRevision).toBe(41);
  });

  test('a quiet store is not compacted twice, a small one not at all', async () => {
    const quiet = new Store({ mode: 'revision', revisions: 10 });
    quiet.revision = 100;
    const small = new Store({ mode: 'revision', revisions: 1000 });
    small.revision = 100;

    for (const store of [quiet, small]) await passTo(store.clock, 60 * 60 * 1000);

    expect(quiet.asked).toEqual([90]);
    expect(small.asked).toEqual([]);
  });

  test('only the leader compacts, and a new leader knows the past', async () => {
    const store = new Store({ mode: 'periodic', periodMs: 1000 });
    store.leads = false;
    store.revision = 50;
    await passTo(store.clock, 3000);
    expect(store.asked).toEqual([]);

    store.leads = true;
    await passTo(store.clock, 3100);

    expect(store.asked).toEqual([50]);
  });

  test('a failure is reported and the next look tries again', async () => {
    const store = new Store({ mode: 'revision', revisions: 10 });
    store.revision = 100;
    store.fails = true;
    await passTo(store.clock, 5 * 60 * 1000);
    store.fails = false;

    await passTo(store.clock, 10 * 60 * 1000);

    expect(store.failures).toEqual(['no quorum']);
    expect(store.compactRevision).toBe(90);
  });

  test('a stopped job looks no more', async () => {
    const store = new Store({ mode: 'revision', revisions: 10 });
    store.revision = 100;

    store.job.stop();
    await passTo(store.clock, 60 * 60 * 1000);

    expect(store.asked).toEqual([]);
  });
});

/**
 * Compaction by itself: what is kept, who does it, and that a failure stops nothing. Time is a clock of
 * the test.
 */
import { describe, expect, test } from 'vitest';
import { AutoCompaction, type CompactionPolicy } from '../../src/auto-compaction.js';
import type { Clock, Timer } from '../../src/clock.js';

class TestClock implements Clock {
  time = 0;
  private due: { at: number; run: () => void }[] = [];

  now(): number {
    return this.time;
  }
  after(ms: number, run: () => void): Timer {
    const entry = { at: this.time + ms, run };
    this.due.push(entry);
    return {
      cancel: () => {
        this.due = this.due.filter((other) => other !== entry);
      },
    };
  }
  soon(run: () => void): void {
    this.after(0, run);
  }
  async passTo(time: number): Promise<void> {
    for (;;) {
      const next = this.due.sort((a, b) => a.at - b.at)[0];
      if (next === undefined || next.at > time) break;
      this.due.shift();
      this.time = next.at;
      next.run();
      await Promise.resolve();
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.time = time;
  }
}

class Store {
  revision = 1;
  compactRevision = 0;
  leads = true;
  isFull = false;
  fails = false;
  readonly asked: number[] = [];
  readonly clock = new TestClock();
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
      await store.clock.passTo(second * 100);
    }

    // After 5 s: the revision noted at 4 s, when it was 1 + 40 * 10.
    expect(store.compactRevision).toBe(401);
    expect(store.asked).toEqual([...store.asked].sort((a, b) => a - b));
  });

  test('by revision keeps the last so many', async () => {
    const store = new Store({ mode: 'revision', revisions: 100 });
    store.revision = 1000;

    await store.clock.passTo(5 * 60 * 1000);

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
      await byTime.clock.passTo(tenth * 100);
    }
    await byCount.clock.passTo(5 * 60 * 1000);

    // After half a second: the revision noted a tenth of a second before.
    expect(byTime.compactRevision).toBe(41);
    expect(byCount.compactRevision).toBe(990);
    byTime.isFull = false;
    byTime.revision += 10;
    await byTime.clock.passTo(1400);
    expect(byTime.compactRevision).toBe(41);
  });

  test('a quiet store is not compacted twice, a small one not at all', async () => {
    const quiet = new Store({ mode: 'revision', revisions: 10 });
    quiet.revision = 100;
    const small = new Store({ mode: 'revision', revisions: 1000 });
    small.revision = 100;

    for (const store of [quiet, small]) await store.clock.passTo(60 * 60 * 1000);

    expect(quiet.asked).toEqual([90]);
    expect(small.asked).toEqual([]);
  });

  test('only the leader compacts, and a new leader knows the past', async () => {
    const store = new Store({ mode: 'periodic', periodMs: 1000 });
    store.leads = false;
    store.revision = 50;
    await store.clock.passTo(3000);
    expect(store.asked).toEqual([]);

    store.leads = true;
    await store.clock.passTo(3100);

    expect(store.asked).toEqual([50]);
  });

  test('a failure is reported and the next look tries again', async () => {
    const store = new Store({ mode: 'revision', revisions: 10 });
    store.revision = 100;
    store.fails = true;
    await store.clock.passTo(5 * 60 * 1000);
    store.fails = false;

    await store.clock.passTo(10 * 60 * 1000);

    expect(store.failures).toEqual(['no quorum']);
    expect(store.compactRevision).toBe(90);
  });

  test('a stopped job looks no more', async () => {
    const store = new Store({ mode: 'revision', revisions: 10 });
    store.revision = 100;

    store.job.stop();
    await store.clock.passTo(60 * 60 * 1000);

    expect(store.asked).toEqual([]);
  });
});

/**
 * The loop around the core, with a log whose writes end when the test says so: what may be written
 * while something else is, and what a stop leaves behind.
 */
import { describe, expect, test } from 'vitest';
import { configurationOf } from '../../src/raft/configuration.js';
import type { Entry } from '../../src/raft/entry.js';
import type { DriverHost } from '../../src/raft/io/driver.js';
import { Driver } from '../../src/raft/io/driver.js';
import type { LogBatch, LogStore } from '../../src/raft/io/log-store.js';
import { type Message, MessageKind, type SnapshotMeta } from '../../src/raft/message.js';
import type { Raft } from '../../src/raft/raft.js';
import { Role } from '../../src/raft/ready.js';
import { ManualClock } from '../support/manual-clock.js';
import { from, makeCore } from '../support/raft-core.js';

const TICK_MS = 10;
const configuration = configurationOf([1]);
const markAt = (index: number): SnapshotMeta => ({ index, term: 1, configuration, generation: 1 });

class HandLog implements LogStore {
  readonly batches: LogBatch[] = [];
  readonly diskBytes = 0;
  private done: ((error: Error | null) => void) | null = null;

  get isWriting(): boolean {
    return this.done !== null;
  }
  append(batch: LogBatch, done: (error: Error | null) => void): void {
    if (this.done !== null) throw new Error('an append is in flight already');
    this.batches.push(batch);
    this.done = done;
  }
  finish(error: Error | null = null): void {
    const { done } = this;
    this.done = null;
    done?.(error);
  }
  compactTo(): void {}
  async close(): Promise<void> {}
}

class Rig implements DriverHost {
  readonly clock = new ManualClock();
  readonly log = new HandLog();
  readonly applied: number[] = [];
  readonly sent: Message[] = [];
  readonly fatal: Error[] = [];
  readonly raft: Raft;
  readonly driver: Driver;
  proposals: Uint8Array[] = [];
  explode: Error | null = null;
  /** Entries that are applied at once. */
  takes: number;
  /** What the core took for applied when it handed out more. */
  readonly takenForApplied: number[] = [];

  constructor(
    raft = makeCore({ voters: [1], electionTicks: 5, heartbeatTicks: 1 }),
    takes = Number.POSITIVE_INFINITY,
  ) {
    this.raft = raft;
    this.takes = takes;
    this.driver = new Driver({
      raft: this.raft,
      log: this.log,
      transport: { send: (messages) => this.sent.push(...messages) },
      clock: this.clock,
      tickMs: TICK_MS,
      electionTicks: 5,
      host: this,
      onWritten: () => undefined,
    });
    this.driver.start();
    this.clock.settle();
  }

  /** Ticks and writes until this only member leads and everything is written. */
  lead(): void {
    for (let tick = 0; tick < 100 && !(this.isQuiet && this.raft.role === Role.Leader); tick += 1) {
      this.clock.pass(TICK_MS);
      this.drain();
    }
    expect(this.raft.role).toBe(Role.Leader);
  }

  drain(): void {
    for (let round = 0; round < 10 && this.log.isWriting; round += 1) {
      this.log.finish();
      this.clock.settle();
    }
  }

  get isQuiet(): boolean {
    return !this.log.isWriting && this.raft.appliedIndex === this.raft.lastIndex;
  }

  collect(): void {
    if (this.explode !== null) throw this.explode;
    if (this.proposals.length === 0) return;
    this.raft.propose(this.proposals);
    this.proposals = [];
  }
  apply(entries: readonly Entry[]): number {
    this.takenForApplied.push(this.raft.appliedIndex);
    const taken = entries.slice(0, this.takes);
    for (const entry of taken) this.applied.push(entry.index);
    return taken.length;
  }
  onReads(): void {}
  onLeadership(): void {}
  onSnapshotsWanted(): void {}
  onSnapshotInstalled(): void {}
  onRaftEvents(): void {}
  onFatal(error: Error): void {
    this.fatal.push(error);
  }
}

describe('the driver', () => {
  test('entries that arrive while a checkpoint is recorded alone wait for it', () => {
    const rig = new Rig();
    rig.lead();
    let recorded: boolean | null = null;
    rig.driver.recordCheckpoint(markAt(1), (ok) => {
      recorded = ok;
    });
    rig.clock.settle();
    expect(rig.log.batches.at(-1)?.checkpoint?.index).toBe(1);
    const writes = rig.log.batches.length;

    rig.proposals = [Buffer.from('a write')];
    rig.driver.wake();
    rig.clock.settle();
    rig.clock.pass(TICK_MS);

    expect(rig.log.batches.length).toBe(writes);
    rig.log.finish();
    rig.clock.settle();
    expect(recorded).toBe(true);
    expect(rig.log.batches.length).toBe(writes + 1);
    expect(rig.applied).toEqual([1]);
    rig.drain();
    expect(rig.applied).toEqual([1, 2]);
    expect(rig.fatal).toEqual([]);
  });

  test('entries are kept for members that lag only as far as memory allows', () => {
    const rig = new Rig();
    rig.lead();
    for (let count = 0; count < 9; count += 1) {
      rig.proposals = [Buffer.alloc(1000)];
      rig.driver.wake();
      rig.clock.settle();
      rig.drain();
    }
    expect(rig.raft.appliedIndex).toBe(10);

    const within = [1, 7, 10, 11].map((wanted) => rig.driver.firstWithin(wanted, 10, 5500));

    expect(within).toEqual([6, 7, 10, 11]);
    expect(rig.driver.firstWithin(-90, 10, 2 ** 30)).toBe(1);
    expect(rig.driver.firstWithin(1, 10, 10)).toBe(11);
    rig.driver.compactTo(8);
    expect(rig.driver.firstWithin(1, 10, 2 ** 30)).toBe(9);
    expect(rig.driver.firstWithin(1, 5, 2 ** 30)).toBe(6);
  });

  test('a stop tells who waits for a checkpoint that it was not recorded', async () => {
    const rig = new Rig();
    rig.lead();
    rig.proposals = [Buffer.from('a write')];
    rig.driver.wake();
    rig.clock.settle();
    const outcomes: boolean[] = [];
    rig.driver.recordCheckpoint(markAt(1), (ok) => outcomes.push(ok));

    const stopped = rig.driver.stop();
    rig.log.finish();
    await stopped;
    rig.driver.recordCheckpoint(markAt(1), (ok) => outcomes.push(ok));

    expect(outcomes).toEqual([false, false]);
  });

  test('entries that the host does not take come again, in order and once, with those that follow', () => {
    const rig = new Rig();
    rig.lead();
    rig.takes = 0;
    const propose = (text: string): void => {
      rig.proposals = [Buffer.from(text)];
      rig.driver.wake();
      rig.clock.settle();
      rig.drain();
    };
    for (const text of ['a', 'b', 'c']) propose(text);
    expect([rig.applied, rig.raft.appliedIndex]).toEqual([[1], 1]);

    rig.takes = 1;
    rig.takenForApplied.length = 0;
    rig.driver.resumeApply();
    rig.clock.settle();
    expect(rig.applied).toEqual([1, 2, 3, 4]);
    expect(rig.takenForApplied).toEqual([1, 2, 3]);
    expect(rig.raft.appliedIndex).toBe(4);

    propose('d');
    expect(rig.applied).toEqual([1, 2, 3, 4, 5]);
    expect(rig.raft.appliedIndex).toBe(5);
  });

  test('entries that wait are forgotten when a snapshot comes that holds them', () => {
    const rig = new Rig(makeCore({ log: [1, 1, 1, 1], commit: 3, applied: 0 }), 0);
    expect(rig.takenForApplied).not.toEqual([]);

    rig.driver.step(from(2, MessageKind.Snapshot, 1, { snapshot: markAt(10) }));
    rig.clock.settle();
    rig.drain();
    rig.takes = Number.POSITIVE_INFINITY;
    rig.driver.resumeApply();
    rig.clock.settle();

    expect(rig.raft.appliedIndex).toBe(10);
    expect(rig.applied).toEqual([]);
  });

  test('a leader is unfit when a write takes two election timeouts, and not when it takes one and a half', () => {
    const rig = new Rig();
    rig.lead();
    rig.proposals = [Buffer.from('a write')];
    rig.driver.wake();
    rig.clock.settle();
    expect(rig.log.isWriting).toBe(true);

    for (let tick = 0; tick < 8; tick += 1) rig.clock.pass(TICK_MS);
    expect(rig.raft.role).toBe(Role.Leader);

    for (let tick = 0; tick < 3; tick += 1) rig.clock.pass(TICK_MS);
    expect(rig.raft.role).toBe(Role.Follower);
  });

  test('a bug met in a turn ends everything: nothing is written, sent or applied any more', () => {
    const rig = new Rig();
    rig.lead();
    const writes = rig.log.batches.length;

    rig.explode = new Error('a bug');
    rig.driver.wake();
    rig.clock.settle();
    rig.explode = null;
    rig.proposals = [Buffer.from('a write')];
    rig.driver.wake();
    rig.clock.settle();
    rig.clock.pass(TICK_MS);

    expect(rig.fatal.map(({ message }) => message)).toEqual(['a bug']);
    expect(rig.log.batches.length).toBe(writes);
  });
});

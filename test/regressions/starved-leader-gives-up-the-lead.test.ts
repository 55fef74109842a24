/**
 * A leader that did not run for most of the 500 ms of an election timeout, on a machine with more to do than
 * processors, gave up the lead as soon as it ran again: it counted the time in which it had asked nobody as time in
 * which nobody had answered, and the answers to its next heartbeats came a tick too late. The cluster had no leader
 * for most of a second, for a pause that nobody else had noticed.
 */
import { expect, test } from 'vitest';
import type { Clock } from '../../src/clock.js';
import { configurationOf } from '../../src/raft/configuration.js';
import { Driver, type DriverHost } from '../../src/raft/io/driver.js';
import type { LogBatch, LogStore } from '../../src/raft/io/log-store.js';
import type { Message } from '../../src/raft/message.js';
import { Raft } from '../../src/raft/raft.js';
import { Role } from '../../src/raft/ready.js';
import { ManualClock } from '../support/manual-clock.js';

const TICK_MS = 50;
const ELECTION_TICKS = 10;
const configuration = configurationOf([1, 2, 3]);

/** Writes at once. */
class QuickLog implements LogStore {
  readonly diskBytes = 0;
  private readonly clock: Clock;
  constructor(clock: Clock) {
    this.clock = clock;
  }
  append(_batch: LogBatch, done: (error: Error | null) => void): void {
    this.clock.soon(() => done(null));
  }
  compactTo(): void {}
  async close(): Promise<void> {}
}

class Member implements DriverHost {
  readonly clock = new ManualClock();
  readonly raft: Raft;
  readonly driver: Driver;
  /** What is on its way to it. */
  inbox: Message[] = [];

  constructor(id: number, send: (message: Message) => void) {
    const options = { boot: 1, electionTicks: ELECTION_TICKS, heartbeatTicks: 1 };
    this.raft = new Raft(
      { ...options, id, seed: id },
      {
        hardState: { term: 0, vote: 0, commit: 0 },
        base: { index: 0, term: 0, configuration, generation: 1 },
        before: { index: 0, term: 0 },
        entries: [],
      },
    );
    this.driver = new Driver({
      raft: this.raft,
      log: new QuickLog(this.clock),
      transport: { send: (messages) => messages.forEach(send) },
      clock: this.clock,
      tickMs: TICK_MS,
      electionTicks: ELECTION_TICKS,
      host: this,
      onWritten: () => undefined,
    });
    this.driver.start();
  }

  collect(): void {}
  apply(entries: readonly unknown[]): number {
    return entries.length;
  }
  onReads(): void {}
  onLeadership(): void {}
  onSnapshotsWanted(): void {}
  onSnapshotInstalled(): void {}
  onRaftEvents(): void {}
  onFatal(error: Error): void {
    throw error;
  }
}

class Cluster {
  readonly leader: Member;
  readonly others: readonly Member[];

  constructor() {
    const members: Member[] = [1, 2, 3].map(
      (id) => new Member(id, (message) => members[message.to - 1]?.inbox.push(message)),
    );
    const leads = ({ raft }: Member): boolean => raft.role === Role.Leader;
    for (let tick = 0; tick < 100 && !members.some(leads); tick += 1) this.tick(members);
    for (let tick = 0; tick < 10; tick += 1) this.tick(members);
    this.leader = members.find(leads) as Member;
    this.others = members.filter((member) => member !== this.leader);
  }

  get all(): readonly Member[] {
    return [this.leader, ...this.others];
  }

  /** Messages take a tick. */
  tick(members: readonly Member[]): void {
    const taken = members.map((member) => {
      const { inbox } = member;
      member.inbox = [];
      return inbox;
    });
    members.forEach((member, at) => {
      for (const message of taken[at] ?? []) member.driver.step(message);
      member.clock.pass(TICK_MS);
    });
  }
}

test('a leader that was starved for less than an election timeout leads on', () => {
  const cluster = new Cluster();
  const { leader, others } = cluster;
  const { term } = leader.raft;

  for (let tick = 0; tick < 9; tick += 1) cluster.tick(others);
  for (const message of leader.inbox.splice(0)) leader.driver.step(message);
  leader.clock.pass(490);
  for (let tick = 0; tick < 20; tick += 1) cluster.tick(cluster.all);

  expect([leader.raft.role, leader.raft.term]).toEqual([Role.Leader, term]);
});

test('a leader that nobody answers gives up, although it is starved again and again', () => {
  const { leader } = new Cluster();

  for (let nap = 0; nap < 3; nap += 1) leader.clock.pass(490);

  expect(leader.raft.role).not.toBe(Role.Leader);
});

/**
 * A snapshot on its way into the log of a follower: taken, ignored, or overtaken.
 */
import { describe, expect, it } from 'vitest';
import { configurationOf } from '../../src/raft/configuration.js';
import { MessageKind, type SnapshotMeta } from '../../src/raft/message.js';
import { Role } from '../../src/raft/ready.js';
import {
  entriesOf,
  flush,
  from,
  makeCore,
  ofKind,
  step,
  termsOf,
  tick,
} from '../support/raft-core.js';

const K = MessageKind;

function snapshotAt(index: number, term: number, voters = [1, 2, 3]): SnapshotMeta {
  return { index, term, configuration: configurationOf(voters), generation: 9 };
}

function arrive(snapshot: SnapshotMeta, term = 5) {
  return from(2, K.Snapshot, term, { snapshot });
}

describe('a snapshot beyond the log', () => {
  it('replaces log and state, and is acknowledged when durable', () => {
    const raft = makeCore({ log: [1, 1], commit: 1 });
    raft.step(arrive(snapshotAt(10, 4, [1, 2, 3, 4])));
    const ready = raft.takeReady()!;
    expect(ready.persist).toMatchObject({ snapshot: { index: 10 }, entries: [], mustSync: true });
    expect(ready.persist!.hardState).toMatchObject({ commit: 10, term: 5 });
    expect([ready.sendNow, ready.committed]).toEqual([[], []]);
    expect(ready.sendAfterPersist).toMatchObject([{ kind: K.AppendResponse, index: 10 }]);
    expect(raft.appliedIndex).toBe(0);

    raft.persisted(ready.persist!.token);

    expect([raft.appliedIndex, raft.commitIndex, raft.firstIndex]).toEqual([10, 10, 11]);
    expect(raft.configuration.voters).toEqual([1, 2, 3, 4]);
    expect(flush(raft).events).toContainEqual({ kind: 'snapshot-installed', index: 10 });
  });

  it('stops appends, campaigns, applying and other snapshots until it is durable', () => {
    const raft = makeCore({ log: [1, 1], commit: 2 });
    raft.step(arrive(snapshotAt(10, 4)));
    const { persist } = raft.takeReady()!;
    const entries = entriesOf(11, [5]);
    raft.step(from(2, K.Append, 5, { index: 10, logTerm: 4, entries }));
    raft.step(arrive(snapshotAt(12, 4)));
    tick(raft, 100);
    expect(raft.role).toBe(Role.Follower);
    expect(raft.takeReady()!.committed).toEqual([]);
    expect(raft.lastIndex).toBe(10);

    raft.persisted(persist!.token);

    step(raft, from(2, K.Append, 5, { index: 10, logTerm: 4, entries }));
    expect(raft.lastIndex).toBe(11);
  });

  it('waits for the write in flight, which proves nothing about it', () => {
    const raft = makeCore({ log: [1] });
    raft.step(from(2, K.Append, 5, { index: 1, logTerm: 1, entries: entriesOf(2, [5]) }));
    const first = raft.takeReady()!;
    raft.step(arrive(snapshotAt(10, 5)));
    expect(raft.takeReady()?.persist ?? null).toBeNull();
    raft.persisted(first.persist!.token);
    expect(raft.appliedIndex).toBe(0);
    expect(raft.takeReady()!.persist).toMatchObject({ snapshot: { index: 10 } });
  });

  it('overtakes entries that are still being applied', () => {
    const raft = makeCore({ log: [1, 1], commit: 2 });
    expect(raft.takeReady()!.committed).toHaveLength(2);
    raft.step(arrive(snapshotAt(10, 4)));
    raft.applied(1);
    flush(raft);
    raft.applied(2);
    expect(raft.appliedIndex).toBe(10);
  });

  it('reaches a learner that is in no configuration yet', () => {
    const raft = makeCore({ configuration: configurationOf([2, 3]) });
    step(raft, arrive(snapshotAt(10, 4, [2, 3])));
    expect(raft.appliedIndex).toBe(10);
  });
});

describe('a snapshot that is not needed', () => {
  it('only moves the commit when its last entry is in the log', () => {
    const raft = makeCore({ log: [1, 4, 4, 4], commit: 1 });
    const output = step(raft, arrive(snapshotAt(3, 4)));
    expect(output.persists.filter(({ snapshot }) => snapshot !== null)).toEqual([]);
    expect(ofKind(output, K.AppendResponse)).toMatchObject([{ index: 3, reject: false }]);
    expect([raft.commitIndex, termsOf(raft)]).toEqual([3, [1, 4, 4, 4]]);
  });

  it('is ignored at or below the commit, and answered with the commit', () => {
    const raft = makeCore({ log: [1, 1, 1], commit: 3 });
    const output = step(raft, arrive(snapshotAt(3, 1)));
    expect(ofKind(output, K.AppendResponse)).toMatchObject([{ index: 3 }]);
    expect(output.events).toMatchObject([{}, { kind: 'snapshot-ignored', index: 3 }]);
  });

  it('is ignored when it comes of an old term', () => {
    const raft = makeCore({ log: [6] });
    const output = step(raft, arrive(snapshotAt(10, 4)));
    expect(output.events).toMatchObject([{ kind: 'snapshot-ignored' }]);
    expect(raft.lastIndex).toBe(1);
  });

  it('is ignored by a member that it does not know', () => {
    const raft = makeCore({ log: [1] });
    const output = step(raft, arrive(snapshotAt(10, 4, [2, 3])));
    expect(output.events.map(({ kind }) => kind)).toContain('snapshot-ignored');
    expect(raft.lastIndex).toBe(1);
  });
});

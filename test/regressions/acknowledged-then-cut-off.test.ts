/**
 * The disk of a follower was busy with one write for 400 ms. Meanwhile it took entry 2 of the leader of
 * term 1 and noted to acknowledge it behind its next write; then the leader of term 2 replaced that entry.
 * The next write held the entry of term 2, and the acknowledgement to the leader of term 1 left behind
 * it. That leader, parted from the majority without knowing, could have committed its entry 2 by it,
 * while the other leader committed another one.
 *
 * The rule since: what goes away before it is written is not acknowledged (outbox.ts). Found by the
 * simulator, by comparing every acknowledgement with the disk behind it.
 */
import { expect, test } from 'vitest';
import { configurationOf } from '../../src/raft/configuration.js';
import { MessageKind, type SnapshotMeta } from '../../src/raft/message.js';
import type { Raft } from '../../src/raft/raft.js';
import { entriesOf, flush, from, makeCore, ofKind } from '../support/raft-core.js';

const A = 2;
const B = 3;

/** A follower whose disk is busy, with an entry of A that waits for its turn. */
function busyFollower(): Raft {
  const raft = makeCore({ term: 1 });
  raft.step(from(A, MessageKind.Append, 1, { entries: entriesOf(1, [1]) }));
  expect(raft.takeReady()?.persist).not.toBeNull();
  const second = { index: 1, logTerm: 1, entries: entriesOf(2, [1]) };
  raft.step(from(A, MessageKind.Append, 1, second));
  return raft;
}

/** The write in flight ends, then all that follows. */
function finishWriting(raft: Raft) {
  raft.persisted(1);
  return ofKind(flush(raft), MessageKind.AppendResponse, A);
}

test('an entry that is written is acknowledged', () => {
  const raft = busyFollower();
  expect(finishWriting(raft)).toMatchObject([{ index: 2, term: 1 }]);
});

test('an entry that another leader replaces before it is written is not acknowledged', () => {
  const raft = busyFollower();
  const replacing = { index: 1, logTerm: 1, entries: entriesOf(2, [2]) };
  raft.step(from(B, MessageKind.Append, 2, replacing));
  expect(finishWriting(raft)).toEqual([]);
});

test('an entry that a snapshot replaces before it is written is not acknowledged', () => {
  const raft = busyFollower();
  const snapshot: SnapshotMeta = {
    index: 1,
    term: 2,
    configuration: configurationOf([1, 2, 3]),
    generation: 2,
  };
  raft.step(from(B, MessageKind.Snapshot, 2, { snapshot }));
  expect(finishWriting(raft)).toEqual([]);
});

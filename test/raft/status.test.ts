/**
 * The view of the core for operators.
 */
import { expect, it } from 'vitest';
import { Role } from '../../src/raft/ready.js';
import { makeCore, makeLeader, tick } from '../support/raft-core.js';

it('the status of a leader tells what it knows of its peers', () => {
  const raft = makeLeader({ log: [1] });
  tick(raft, 3);
  const status = raft.status();
  expect(status).toMatchObject({
    role: Role.Leader,
    leader: 1,
    commit: 2,
    last: 2,
    tick: raft.now,
  });
  expect(status.lastQuorumTick).toBe(raft.now - 3);
  expect(status.peers).toEqual([
    { id: 2, match: 2, next: 3, state: 'replicate', recentActive: true },
    { id: 3, match: 2, next: 3, state: 'replicate', recentActive: true },
  ]);
});

it('the status of a follower has no peers and no quorum', () => {
  expect(makeCore().status()).toMatchObject({ peers: [], lastQuorumTick: 0, quarantined: false });
});

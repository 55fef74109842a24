/**
 * Whole clusters of cores from one seed: faults first, with every invariant checked after every
 * input; then everything is healed, and a leader, progress and equality are demanded.
 */
import { describe, expect, it } from 'vitest';
import { Prng } from '../../src/prng.js';
import { RaftNetwork } from '../support/raft-network.js';

const FIRST_SEED = Number(process.env['KVD_SEED'] ?? 1);
/** A shared machine may be slow; alone, the file takes about ten seconds. */
const TIMEOUT_MS = 120_000;
const SEEDS = Number(process.env['KVD_SEEDS'] ?? 12);

function chaos(seed: number, members: number, voters?: readonly number[]): RaftNetwork {
  const prng = new Prng(seed * 7919);
  const network = new RaftNetwork({
    seed,
    members,
    ...(voters === undefined ? {} : { voters }),
    loss: prng.below(4) * 0.07,
    duplication: prng.below(3) * 0.15,
    maxDelay: 1 + prng.below(12),
    maxWriteDelay: 1 + prng.below(12),
    maxApplyDelay: 1 + prng.below(20),
    raft: {
      maxMessageBytes: prng.chance(0.5) ? 100 : 4096,
      maxInflightMessages: 1 + prng.below(8),
      maxUncommittedEntries: 64,
      maxApplyEntries: 1 + prng.below(16),
    },
  });
  const ids = network.members.map(({ id }) => id);
  for (let round = 0; round < 900; round += 1) {
    network.round(0.4);
    const target = network.members[prng.below(members)]!;
    if (prng.chance(0.3)) network.propose(target.id, 1 + prng.below(4));
    if (prng.chance(0.3)) network.read(target.id);
    const leader = network.leader();
    if (leader !== null && prng.chance(0.3)) network.propose(leader.id, 1 + prng.below(6));
    if (prng.chance(0.012) && target.raft !== null) network.crash(target, prng.chance(0.5));
    if (prng.chance(0.03) && target.raft === null) network.start(target);
    if (prng.chance(0.02)) network.checkpoint(target.id);
    if (prng.chance(0.02)) network.compact(target.id);
    if (prng.chance(0.01)) network.cut(prng.below(members) + 1, prng.below(members) + 1);
    if (prng.chance(0.006)) {
      const left = ids.filter(() => prng.chance(0.5));
      network.partition(
        left,
        ids.filter((id) => !left.includes(id)),
      );
    }
    if (prng.chance(0.02)) network.cuts.clear();
    if (prng.chance(0.01)) {
      network.act(target, (raft) => raft.peerDisconnected(prng.below(members) + 1));
    }
    if (leader !== null && prng.chance(0.01)) {
      network.act(network.member(leader.id), (raft) => raft.transferLeadership(target.id));
    }
    if (voters !== undefined && leader !== null && prng.chance(0.1)) {
      changeMembers(network, leader.id, prng);
    }
    if (prng.chance(0.004)) network.act(target, (raft) => raft.setStorageHealthy(false));
    if (prng.chance(0.02)) network.act(target, (raft) => raft.setStorageHealthy(true));
  }
  return network;
}

function changeMembers(network: RaftNetwork, leader: number, prng: Prng): void {
  const kinds = ['add-voter', 'add-voter', 'add-learner', 'remove'] as const;
  const members = new Set<number>();
  const isJoint = prng.chance(0.5);
  const count = isJoint ? 1 + prng.below(3) : 1;
  while (members.size < count) members.add(1 + prng.below(network.members.length));
  const changes = [...members].map((member) => ({ kind: kinds[prng.below(4)]!, member }));
  network.change(leader, changes, isJoint);
}

function demandProgress(network: RaftNetwork): void {
  network.heal();
  for (const member of network.members) {
    network.act(member, (raft) => raft.setStorageHealthy(true));
  }
  network.runUntil('a leader', () => network.leader() !== null);
  const before = network.committed.length;
  network.runUntil('a proposal is taken', () => {
    const leader = network.leader();
    return leader !== null && network.propose(leader.id);
  });
  network.runUntil('progress and equality', () => {
    const last = network.committed.length;
    const { voters, learners, votersOutgoing } = network.leader()?.configuration ?? {
      voters: [0],
      learners: [],
      votersOutgoing: [],
    };
    const all = [...voters, ...learners];
    const isOne = votersOutgoing.length === 0;
    return last > before && isOne && all.every((id) => network.members[id - 1]?.applied === last);
  });
  network.checkLogMatching();
  for (const { id } of network.members) network.read(id);
  network.runUntil('all reads end', () => network.members.every(({ reads }) => reads.size === 0));
}

describe('a simulated cluster', () => {
  for (const members of [3, 5]) {
    it(
      `of ${members} keeps every invariant under faults, then recovers`,
      () => {
        let commits = 0;
        let reads = 0;
        let snapshots = 0;
        for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed += 1) {
          try {
            const network = chaos(seed, members);
            demandProgress(network);
            commits += network.committed.length;
            reads += network.readsAnswered;
            snapshots += network.eventCounts.get('snapshot-installed') ?? 0;
          } catch (error) {
            const repeat = `KVD_SEED=${seed} KVD_SEEDS=1 npx vitest run test/raft/cluster.test.ts`;
            throw new Error(`seed ${seed}, ${members} members; repeat with ${repeat}`, {
              cause: error,
            });
          }
        }
        console.info(
          `${members} members: ${commits} commits, ${reads} reads, ${snapshots} installs`,
        );
        expect(commits).toBeGreaterThan(SEEDS * 20);
        expect(reads).toBeGreaterThan(SEEDS);
        if (SEEDS >= 12) expect(snapshots).toBeGreaterThan(0);
      },
      TIMEOUT_MS,
    );
  }

  it(
    'keeps every invariant while members come and go, through joint phases too',
    () => {
      let changes = 0;
      for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed += 1) {
        try {
          const network = chaos(seed, 6, [1, 2, 3]);
          demandProgress(network);
          changes += network.configurationsApplied;
        } catch (error) {
          const repeat = `KVD_SEED=${seed} KVD_SEEDS=1 npx vitest run test/raft/cluster.test.ts`;
          throw new Error(`seed ${seed}, changing members; repeat with ${repeat}`, {
            cause: error,
          });
        }
      }
      console.info(`changing members: ${changes} configurations applied`);
      expect(changes).toBeGreaterThan(SEEDS);
    },
    TIMEOUT_MS,
  );

  it(
    'of one member loses no acknowledged write in crashes',
    () => {
      for (let seed = 1; seed <= SEEDS; seed += 1) demandProgress(chaos(seed, 1));
    },
    TIMEOUT_MS,
  );
});

/**
 * One of three members was dead, and the two that lived stood against each other in every term, for
 * ever: whoever loses an election tries again after a time that is drawn from a range, and with five
 * ticks in an election timeout that range had one value. Their clocks ticked together.
 *
 * The rule since: what is drawn is as wide as half a timeout whatever the patience (candidate.ts,
 * retryWithin).
 */
import { expect, test } from 'vitest';
import { RaftNetwork } from '../support/raft-network.js';

/** Messages take a tenth of a tick, and all members tick in the same round. */
const ROUNDS_PER_TICK = 10;

test.each([3, 4, 5, 10])(
  'two members whose clocks tick together elect one of them: %i ticks',
  (electionTicks) => {
    for (let seed = 1; seed <= 40; seed += 1) {
      const raft = { electionTicks, heartbeatTicks: 1 };
      const network = new RaftNetwork({ seed, members: 3, raft });
      network.crash(network.member(3), false);
      const limit = 50 * electionTicks * ROUNDS_PER_TICK;
      for (let round = 0; round < limit && network.leader() === null; round += 1) {
        network.round(round % ROUNDS_PER_TICK === 0 ? 1 : 0);
      }
      expect(network.leader(), `seed ${seed}`).not.toBeNull();
    }
  },
);

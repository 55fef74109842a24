/**
 * The membership of a cluster as Raft sees it: who votes, who only follows. Data, not behaviour; the
 * arithmetic is in quorum.ts.
 *
 * Outside a joint phase `votersOutgoing` is empty. In a joint phase a decision needs a majority of
 * `voters` and a majority of `votersOutgoing` (thesis 4.3). Lists are sorted ascending and hold each
 * id once; voters and learners are disjoint.
 */
import type { NodeId } from './entry.js';

export interface Configuration {
  readonly voters: readonly NodeId[];
  readonly votersOutgoing: readonly NodeId[];
  readonly learners: readonly NodeId[];
  /** Voters of the outgoing half that become learners when the joint phase ends. */
  readonly learnersNext: readonly NodeId[];
  /** Leave the joint phase without being asked, as soon as entering it is committed. */
  readonly autoLeave: boolean;
}

export function configurationOf(voters: readonly NodeId[]): Configuration {
  return {
    voters: [...voters].sort((a, b) => a - b),
    votersOutgoing: [],
    learners: [],
    learnersNext: [],
    autoLeave: false,
  };
}

/**
 * The arithmetic of majorities: what is committed, who won, who is still heard.
 *
 * Pure functions of a configuration and one question per member; every decision by majority in the
 * core (votes, commit, read rounds, CheckQuorum) goes through here, so that learners are never
 * counted and a joint phase needs both halves (thesis 4.3) everywhere.
 *
 *   values of five voters   9  3  7  7  4      sorted  3 4 7 7 9      majority has reached 7
 *                                                          ^ index n - (floor(n/2) + 1)
 *
 * The numbers are sorted by insertion in one preallocated typed array: `Array.sort` without a
 * comparator sorts as strings (9 after 10), and this runs once per acknowledgement.
 *
 * An empty half of a configuration decides nothing: infinity for indices, won for votes.
 */
import type { Configuration } from './configuration.js';
import type { NodeId } from './entry.js';

const MAX_VOTERS = 64;
const scratch = new Float64Array(MAX_VOTERS);

export type VoteResult = 'won' | 'lost' | 'pending';

export function majorityOf(count: number): number {
  return Math.floor(count / 2) + 1;
}

/** The highest number that a majority (of both halves) has reached. */
export function quorumValue(
  configuration: Configuration,
  valueAt: (member: NodeId) => number,
): number {
  const incoming = majorityValue(configuration.voters, valueAt);
  if (configuration.votersOutgoing.length === 0) return incoming;
  return Math.min(incoming, majorityValue(configuration.votersOutgoing, valueAt));
}

/** Votes are kept by sender: a duplicated answer counts once. */
export function voteResult(
  configuration: Configuration,
  votes: ReadonlyMap<NodeId, boolean>,
): VoteResult {
  const incoming = majorityVote(configuration.voters, votes);
  const outgoing = majorityVote(configuration.votersOutgoing, votes);
  if (incoming === 'lost' || outgoing === 'lost') return 'lost';
  return incoming === 'won' && outgoing === 'won' ? 'won' : 'pending';
}

export function isVoter(configuration: Configuration, member: NodeId): boolean {
  return configuration.voters.includes(member) || configuration.votersOutgoing.includes(member);
}

/** Its vote alone decides. */
export function isSoleVoter(configuration: Configuration, member: NodeId): boolean {
  const { voters, votersOutgoing } = configuration;
  return votersOutgoing.length === 0 && voters.length === 1 && voters[0] === member;
}

export function isMember(configuration: Configuration, member: NodeId): boolean {
  return isVoter(configuration, member) || configuration.learners.includes(member);
}

/** Everybody that a leader replicates to or hears of, ascending, each id once. */
export function membersOf(configuration: Configuration): NodeId[] {
  const members = new Set([
    ...configuration.voters,
    ...configuration.votersOutgoing,
    ...configuration.learners,
  ]);
  return [...members].sort((a, b) => a - b);
}

function majorityValue(voters: readonly NodeId[], valueAt: (member: NodeId) => number): number {
  const count = voters.length;
  if (count === 0) return Number.POSITIVE_INFINITY;
  const values = count <= MAX_VOTERS ? scratch : new Float64Array(count);
  for (let number = 0; number < count; number += 1) {
    const value = valueAt(voters[number] as NodeId);
    let at = number;
    while (at > 0 && (values[at - 1] as number) > value) {
      values[at] = values[at - 1] as number;
      at -= 1;
    }
    values[at] = value;
  }
  return values[count - majorityOf(count)] as number;
}

function majorityVote(voters: readonly NodeId[], votes: ReadonlyMap<NodeId, boolean>): VoteResult {
  if (voters.length === 0) return 'won';
  let granted = 0;
  let missing = 0;
  for (const voter of voters) {
    const vote = votes.get(voter);
    if (vote === undefined) missing += 1;
    else if (vote) granted += 1;
  }
  const needed = majorityOf(voters.length);
  if (granted >= needed) return 'won';
  return granted + missing >= needed ? 'pending' : 'lost';
}

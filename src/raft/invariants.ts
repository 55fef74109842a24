/**
 * Everything that must hold of one member, checked after every step of a test or a simulator.
 *
 * `checkInvariants` looks at one state, `checkTransition` at two states of one life, taken with
 * `observe` before and after an input. Both throw InvariantError. What must hold between members
 * (election safety, log matching, leader completeness, state machine safety) needs all of them and is
 * checked by the simulated network.
 *
 * The walk over the log is limited to its newest entries, so that the checks stay affordable after
 * every step; older ones were walked when they were new.
 */
import { assert } from '../assert.js';
import { type LogIndex, NO_NODE, type NodeId, type Term } from './entry.js';
import { assertConfiguration } from './membership.js';
import { type Progress, ProgressState } from './progress.js';
import { isVoter } from './quorum.js';
import type { Raft } from './raft.js';
import { Role } from './ready.js';

const WALK = 256;

export interface Observed {
  readonly role: Role;
  readonly term: Term;
  readonly vote: NodeId;
  readonly leader: NodeId;
  readonly committed: LogIndex;
  readonly applied: LogIndex;
  readonly applying: LogIndex;
  readonly first: LogIndex;
  readonly last: LogIndex;
  readonly durableTerm: Term;
  readonly matches: ReadonlyMap<NodeId, LogIndex>;
  /** Terms of the newest entries, from `last` downwards. */
  readonly terms: readonly Term[];
}

export function observe(raft: Raft): Observed {
  const { log } = raft;
  const terms: Term[] = [];
  const stop = Math.max(log.firstIndex, log.lastIndex - WALK);
  for (let index = log.lastIndex; index >= stop; index -= 1) terms.push(log.termAt(index));
  return {
    role: raft.role,
    term: raft.term,
    vote: raft.vote,
    leader: raft.leader,
    committed: log.committed,
    applied: log.applied,
    applying: log.applying,
    first: log.firstIndex,
    last: log.lastIndex,
    durableTerm: raft.durable.term,
    matches: new Map([...raft.progress].map(([peer, { matchIndex }]) => [peer, matchIndex])),
    terms,
  };
}

export function checkInvariants(raft: Raft): void {
  checkWatermarks(raft);
  checkTerms(raft);
  checkRole(raft);
  assertConfiguration(raft.configuration);
  for (const progress of raft.progress.values()) checkProgress(raft, progress);
}

function checkWatermarks({ log, pendingSnapshot }: Raft): void {
  const { before, applied, applying, committed, persisted, writing, lastIndex } = log;
  assert(applied <= applying, `applied ${applied} is above applying ${applying}`);
  assert(committed <= lastIndex, `commit ${committed} is above the last index ${lastIndex}`);
  assert(persisted <= lastIndex, `durable ${persisted} is above the last index ${lastIndex}`);
  assert(writing <= lastIndex, `writing ${writing} is above the last index ${lastIndex}`);
  assert(applying <= committed, `applying ${applying} is above the commit ${committed}`);
  if (pendingSnapshot !== null) {
    assert(before.index === pendingSnapshot.index, 'the log does not start behind the snapshot');
    return;
  }
  assert(before.index <= applied, `the log starts behind ${before.index}, applied is ${applied}`);
  assert(applying <= persisted, `applying ${applying} is above durable ${persisted}`);
  assert(persisted <= writing, `durable ${persisted} is above writing ${writing}`);
}

function checkTerms({ log, term, durable, vote }: Raft): void {
  assert(log.lastTerm <= term, `log of term ${log.lastTerm} in term ${term}`);
  assert(durable.term <= term, `durable term ${durable.term} is above ${term}`);
  if (durable.term === term && durable.vote !== NO_NODE) {
    assert(durable.vote === vote, `vote ${vote} differs from the durable one ${durable.vote}`);
  }
  let previous = log.termAt(Math.max(log.before.index, log.lastIndex - WALK));
  const start = Math.max(log.firstIndex, log.lastIndex - WALK);
  for (let index = start; index <= log.lastIndex; index += 1) {
    const entry = log.entryAt(index);
    assert(entry.index === index, `entry ${entry.index} stands at ${index}`);
    assert(entry.term >= previous, `term ${entry.term} follows ${previous} at ${index}`);
    previous = entry.term;
  }
}

function checkRole(raft: Raft): void {
  const { role, id, term, vote, leader } = raft;
  const isStanding = role === Role.PreCandidate || role === Role.Candidate;
  assert(!isStanding || leader === NO_NODE, `a candidate follows ${leader}`);
  assert(role !== Role.Candidate || vote === id, `a candidate voted for ${vote}`);
  if (role === Role.Leader) {
    assert(leader === id, `a leader follows ${leader}`);
    assert(vote === id, `a leader voted for ${vote}`);
    assert(raft.durable.term === term, `a leader of ${term} has durable ${raft.durable.term}`);
    assert(raft.storageHealthy, 'a member with a hanging disk leads');
    assert(raft.log.lastTerm === term, 'a leader has no entry of its term');
    return;
  }
  assert(leader !== id, 'a member that does not lead follows itself');
  assert(raft.progress.size === 0, 'a member that does not lead tracks peers');
  assert(raft.transfer === null, 'a member that does not lead hands over');
  assert(raft.reads.size === 0, 'a member that does not lead confirms reads');
  assert(!isStanding || isVoter(raft.configuration, id), 'a member without a vote stands');
}

function checkProgress(raft: Raft, progress: Progress): void {
  const { matchIndex, nextIndex, inflights, id } = progress;
  const { lastIndex } = raft.log;
  assert(matchIndex < nextIndex, `peer ${id}: match ${matchIndex}, next ${nextIndex}`);
  assert(matchIndex <= lastIndex, `peer ${id}: match ${matchIndex}, own last ${lastIndex}`);
  assert(nextIndex <= lastIndex + 1, `peer ${id}: next ${nextIndex}, own last ${lastIndex}`);
  assert(inflights.lastIndex < nextIndex, `peer ${id}: sent ${inflights.lastIndex} from next on`);
  const isEmpty = inflights.count === 0;
  assert(isEmpty === (inflights.bytes === 0 || isEmpty), `peer ${id}: bytes in an empty window`);
  const sendsAhead = progress.state === ProgressState.Replicate;
  assert(sendsAhead || isEmpty, `peer ${id}: a window outside of the replicate state`);
  assert(progress.ackedRound <= raft.reads.started, `peer ${id}: acknowledged a future round`);
}

/** Compares two states of one life. */
export function checkTransition(before: Observed, raft: Raft): void {
  const { log, term, vote, leader, role } = raft;
  assert(term >= before.term, `term fell from ${before.term} to ${term}`);
  assert(log.committed >= before.committed, `commit fell from ${before.committed}`);
  assert(log.applied >= before.applied, `applied fell from ${before.applied}`);
  assert(log.applying >= before.applying, `applying fell from ${before.applying}`);
  assert(log.firstIndex >= before.first, `first index fell from ${before.first}`);
  assert(raft.durable.term >= before.durableTerm, `durable term fell from ${before.durableTerm}`);
  checkCommittedKept(before, raft);
  if (term !== before.term) return;
  if (before.vote !== NO_NODE) {
    assert(vote === before.vote, `vote of term ${term} changed from ${before.vote} to ${vote}`);
  }
  if (before.leader !== NO_NODE && leader !== NO_NODE) {
    assert(leader === before.leader, `leader of ${term} changed: ${before.leader}, ${leader}`);
  }
  if (before.role !== Role.Leader || role !== Role.Leader) return;
  assert(log.lastIndex >= before.last, `a leader cut its log from ${before.last}`);
  for (const { id, matchIndex } of raft.progress.values()) {
    const was = before.matches.get(id) ?? 0;
    assert(matchIndex >= was, `peer ${id}: match fell from ${was} to ${matchIndex}`);
  }
  const committedTerm = log.termAt(log.committed);
  const hasMoved = log.committed > before.committed;
  assert(!hasMoved || committedTerm === term, `a leader of ${term} counted for ${committedTerm}`);
}

/** Committed entries stay; those of a leader's own term stay all. */
function checkCommittedKept(before: Observed, { log, role, term }: Raft): void {
  const isSameLeader = before.role === Role.Leader && role === Role.Leader && before.term === term;
  const keep = isSameLeader ? before.last : before.committed;
  for (let offset = 0; offset < before.terms.length; offset += 1) {
    const index = before.last - offset;
    if (index > keep || index < log.firstIndex) continue;
    const was = before.terms[offset];
    assert(log.termAt(index) === was, `entry ${index} of ${was} is of ${log.termAt(index)} now`);
  }
}

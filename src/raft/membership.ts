/**
 * From one configuration to the next: what is legal, and what comes out.
 *
 * Pure functions over Configuration; called at apply, where the answer must be the same on every
 * member, so nothing but the configuration and the change may be looked at (never health).
 *
 * A simple change touches one voter and takes effect in one step: any majority of the old voters
 * meets any majority of the new ones (thesis 4.1). Anything else goes through a joint phase: enter
 * (both halves decide), then leave (thesis 4.3). Leaving is always the same, whatever was asked for.
 *
 *   {1 2 3}  --replace 3 by 4-->  voters {1 2 4}  votersOutgoing {1 2 3}  --leave-->  {1 2 4}
 *
 * A voter of the outgoing half that becomes a learner waits in learnersNext until the phase ends,
 * since nobody may be voter and learner at once.
 *
 * Invariants (checked by `assertConfiguration`): 1. lists ascending, each id once. 2. voters and
 * learners disjoint, also the outgoing ones. 3. learnersNext lies within votersOutgoing. 4. Outside a
 * joint phase votersOutgoing and learnersNext are empty and autoLeave is false. 5. There is a voter.
 */
import { assert } from '../assert.js';
import type { Configuration } from './configuration.js';
import { NO_NODE, type NodeId } from './entry.js';

export interface MemberChange {
  readonly kind: 'add-voter' | 'add-learner' | 'remove';
  readonly member: NodeId;
}

export type Transition =
  | { readonly ok: true; readonly configuration: Configuration }
  | { readonly ok: false; readonly reason: string };

export function isJoint(configuration: Configuration): boolean {
  return configuration.votersOutgoing.length > 0;
}

/** One step without a joint phase: at most one voter comes or goes. */
export function simpleChange(
  configuration: Configuration,
  changes: readonly MemberChange[],
): Transition {
  if (isJoint(configuration)) return refused('a joint phase is under way');
  const problem = problemOf(changes);
  if (problem !== null) return refused(problem);
  const voters = new Set(configuration.voters);
  const learners = new Set(configuration.learners);
  for (const { kind, member } of changes) {
    voters.delete(member);
    learners.delete(member);
    if (kind === 'add-voter') voters.add(member);
    if (kind === 'add-learner') learners.add(member);
  }
  if (voters.size === 0) return refused('no voter would be left');
  if (symmetricDifference(configuration.voters, voters) > 1) {
    return refused('more than one voter would change');
  }
  return accepted({
    voters: ascending(voters),
    votersOutgoing: [],
    learners: ascending(learners),
    learnersNext: [],
    autoLeave: false,
  });
}

/** Begins a joint phase with any number of changes. */
export function enterJoint(
  configuration: Configuration,
  changes: readonly MemberChange[],
  autoLeave: boolean,
): Transition {
  if (isJoint(configuration)) return refused('a joint phase is under way');
  const problem = problemOf(changes);
  if (problem !== null) return refused(problem);
  const outgoing = new Set(configuration.voters);
  const voters = new Set(configuration.voters);
  const learners = new Set(configuration.learners);
  const learnersNext = new Set<NodeId>();
  for (const { kind, member } of changes) {
    voters.delete(member);
    learners.delete(member);
    if (kind === 'add-voter') voters.add(member);
    if (kind !== 'add-learner') continue;
    if (outgoing.has(member)) learnersNext.add(member);
    else learners.add(member);
  }
  if (voters.size === 0) return refused('no voter would be left');
  return accepted({
    voters: ascending(voters),
    votersOutgoing: ascending(outgoing),
    learners: ascending(learners),
    learnersNext: ascending(learnersNext),
    autoLeave,
  });
}

/** Ends the joint phase: the new half decides alone. */
export function leaveJoint(configuration: Configuration): Transition {
  if (!isJoint(configuration)) return refused('no joint phase is under way');
  return accepted({
    voters: configuration.voters,
    votersOutgoing: [],
    learners: ascending(new Set([...configuration.learners, ...configuration.learnersNext])),
    learnersNext: [],
    autoLeave: false,
  });
}

/** Throws InvariantError if a configuration breaks a rule of this file. */
export function assertConfiguration(configuration: Configuration): void {
  const { voters, votersOutgoing, learners, learnersNext } = configuration;
  for (const list of [voters, votersOutgoing, learners, learnersNext]) assertAscending(list);
  assert(voters.length > 0, 'a configuration without voters decides nothing');
  for (const learner of learners) {
    const votes = voters.includes(learner) || votersOutgoing.includes(learner);
    assert(!votes, `member ${learner} is voter and learner at once`);
  }
  for (const learner of learnersNext) {
    assert(votersOutgoing.includes(learner), `member ${learner} waits to learn but has no vote`);
    assert(!voters.includes(learner), `member ${learner} would be voter and learner at once`);
  }
  if (votersOutgoing.length > 0) return;
  assert(learnersNext.length === 0, 'learnersNext without a joint phase');
  assert(!configuration.autoLeave, 'autoLeave without a joint phase');
}

function problemOf(changes: readonly MemberChange[]): string | null {
  if (changes.length === 0) return 'nothing changes';
  const seen = new Set<NodeId>();
  for (const { member } of changes) {
    if (!Number.isSafeInteger(member) || member <= NO_NODE) return `${member} is no member id`;
    if (seen.has(member)) return `member ${member} changes twice`;
    seen.add(member);
  }
  return null;
}

function symmetricDifference(before: readonly NodeId[], after: ReadonlySet<NodeId>): number {
  let kept = 0;
  for (const member of before) if (after.has(member)) kept += 1;
  return before.length - kept + (after.size - kept);
}

function ascending(members: ReadonlySet<NodeId>): NodeId[] {
  return [...members].sort((a, b) => a - b);
}

function assertAscending(list: readonly NodeId[]): void {
  let previous = NO_NODE;
  for (const member of list) {
    assert(member > previous, `member ${member} comes after ${previous} in a sorted list`);
    previous = member;
  }
}

function accepted(configuration: Configuration): Transition {
  assertConfiguration(configuration);
  return { ok: true, configuration };
}

function refused(reason: string): Transition {
  return { ok: false, reason };
}

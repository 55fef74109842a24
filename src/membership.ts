/**
 * What a change of members comes to: the same answer on every member, and the leader's doubts before.
 *
 * `decideChange` looks at replicated state alone and is called where the entry is applied; all members
 * find the same configuration or the same refusal. `guardChange` is called by a leader in front of the
 * log and may look at who answers at the moment, because it decides nothing but whether to propose: a
 * change that would leave the cluster without a majority is refused while it can still be refused.
 *
 * One entry carries the change, and the table of members and the configuration follow from it in the
 * same apply, so they cannot part. An empty entry ends a joint phase, whatever began it.
 */
import type { ErrorCode } from './errors.js';
import { decodeEnvelope, type MemberStep } from './kv/command.js';
import type { MemberTable } from './kv/members.js';
import type { Configuration } from './raft/configuration.js';
import {
  enterJoint,
  isJoint,
  leaveJoint,
  type MemberChange,
  simpleChange,
} from './raft/membership.js';
import { majorityOf } from './raft/quorum.js';

export type Decision =
  | { readonly configuration: Configuration; readonly refusal: null }
  | { readonly configuration: null; readonly refusal: ErrorCode };

/** What a leader knows of its peers. */
export interface PeerHealth {
  /** Acknowledged something lately. */
  isHealthy(id: number): boolean;
  /** A learner that keeps up. */
  isReady(id: number): boolean;
}

export function decideChange(
  members: MemberTable,
  configuration: Configuration,
  payload: Uint8Array,
): Decision {
  if (payload.length === 0) {
    const left = leaveJoint(configuration);
    return left.ok ? accept(left.configuration) : refuse('CHANGE_REFUSED');
  }
  const command = decodeEnvelope(payload)?.command;
  if (command?.kind !== 'memberChange') return refuse('UNIMPLEMENTED');
  if (isJoint(configuration)) return refuse('CHANGE_REFUSED');
  const problem = members.problemOf(command.steps, command.joint);
  if (problem !== null) return refuse(problem);
  const changes = changesOf(command.steps);
  if (changes.length === 0) return accept(configuration);
  if (!keepsVoter(configuration, changes)) return refuse('NOT_ENOUGH_STARTED');
  const next = command.joint
    ? enterJoint(configuration, changes, true)
    : simpleChange(configuration, changes);
  return next.ok ? accept(next.configuration) : refuse('CHANGE_REFUSED');
}

/** Why a leader should not even propose this. */
export function guardChange(
  members: MemberTable,
  configuration: Configuration,
  payload: Uint8Array,
  health: PeerHealth,
): ErrorCode | null {
  const { configuration: next, refusal } = decideChange(members, configuration, payload);
  if (next === null) return refusal;
  const steps = stepsOf(payload);
  const promoted = steps.filter(({ kind }) => kind === 'promote');
  if (promoted.some(({ id }) => !health.isReady(id))) return 'LEARNER_NOT_READY';
  const { voters } = next;
  if (voters.join() === configuration.voters.join()) return null;
  // A cluster of one must be able to grow: its second member cannot be up before it is added.
  if (configuration.voters.length === 1 && voters.length === 2) return null;
  const healthy = voters.filter((id) => health.isHealthy(id));
  const started = voters.filter(
    (id) => healthy.includes(id) || (members.get(id)?.name ?? '') !== '',
  );
  const needed = majorityOf(voters.length);
  if (started.length < needed) return 'NOT_ENOUGH_STARTED';
  return healthy.length < needed ? 'UNHEALTHY' : null;
}

/** Whether the change takes the vote of this member away. */
export function removesVote(payload: Uint8Array, id: number): boolean {
  return stepsOf(payload).some((step) => step.kind === 'remove' && step.id === id);
}

function stepsOf(payload: Uint8Array): readonly MemberStep[] {
  const command = payload.length === 0 ? undefined : decodeEnvelope(payload)?.command;
  return command?.kind === 'memberChange' ? command.steps : [];
}

function changesOf(steps: readonly MemberStep[]): MemberChange[] {
  const changes: MemberChange[] = [];
  for (const step of steps) {
    const { id: member } = step;
    if (step.kind === 'remove') changes.push({ kind: 'remove', member });
    else if (step.kind === 'promote') changes.push({ kind: 'add-voter', member });
    else if (step.kind === 'add') {
      changes.push({ kind: step.isLearner ? 'add-learner' : 'add-voter', member });
    }
  }
  return changes;
}

function keepsVoter(configuration: Configuration, changes: readonly MemberChange[]): boolean {
  const voters = new Set(configuration.voters);
  for (const { kind, member } of changes) {
    if (kind === 'add-voter') voters.add(member);
    else voters.delete(member);
  }
  return voters.size > 0;
}

function accept(configuration: Configuration): Decision {
  return { configuration, refusal: null };
}

function refuse(refusal: ErrorCode): Decision {
  return { configuration: null, refusal };
}

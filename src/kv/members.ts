/**
 * Who belongs to the cluster, with names and addresses, and who did once: the replicated tables behind
 * the member list.
 *
 * Changed only by state-machine.ts. Raft's own view (who votes) is the Configuration; this table holds
 * what people and clients want to know about the same ids. The configuration decides: a member leaves
 * the table when it leaves the configuration, so one whose vote is still needed to end a joint phase
 * stays until then.
 *
 * Ids that left are kept for ever. A member that comes back under such an id may have promised things
 * that nobody remembers.
 *
 * Invariants: 1. `list` and `removed` are sorted and hold each id once. 2. No id is in both.
 */
import type { ErrorCode } from '../errors.js';
import type { Configuration } from '../raft/configuration.js';
import type { MemberAttributes, MemberStep } from './command.js';

/** Learners at a time. Each costs the leader a voter's bandwidth and gives nothing until it votes. */
const MAX_LEARNERS = 1;

export class MemberTable {
  private members: readonly MemberAttributes[];
  private gone: readonly number[];

  constructor(members: readonly MemberAttributes[], removed: readonly number[] = []) {
    this.members = [...members].sort((a, b) => a.id - b.id);
    this.gone = removed;
  }

  /** Sorted by id. */
  get list(): readonly MemberAttributes[] {
    return this.members;
  }

  /** Ids that may never come back, ascending. */
  get removed(): readonly number[] {
    return this.gone;
  }

  get(id: number): MemberAttributes | null {
    return this.members.find((member) => member.id === id) ?? null;
  }

  isRemoved(id: number): boolean {
    return this.gone.includes(id);
  }

  /** Adds a member or replaces what is known about it. */
  set(member: MemberAttributes): void {
    const others = this.members.filter(({ id }) => id !== member.id);
    this.members = [...others, member].sort((a, b) => a.id - b.id);
  }

  /** Why these steps must not be taken, decided by the table alone. `joint` lifts the bound of
   *  learners, since a change of several members may need it for a moment. */
  problemOf(steps: readonly MemberStep[], joint: boolean): ErrorCode | null {
    const after = new Map(this.members.map((member) => [member.id, member]));
    const seen = new Set<number>();
    if (steps.length === 0) return 'CHANGE_REFUSED';
    for (const step of steps) {
      if (seen.has(step.id)) return 'CHANGE_REFUSED';
      seen.add(step.id);
      const known = after.get(step.id);
      if (step.kind === 'add') {
        if (step.id <= 0 || known !== undefined || this.isRemoved(step.id)) return 'MEMBER_EXISTS';
        after.set(step.id, newMember(step));
        continue;
      }
      if (known === undefined) return 'MEMBER_NOT_FOUND';
      if (step.kind === 'remove') after.delete(step.id);
      else if (step.kind === 'update') after.set(step.id, { ...known, peerUrls: step.peerUrls });
      else if (!known.isLearner) return 'NOT_A_LEARNER';
      else after.set(step.id, { ...known, isLearner: false });
    }
    const learners = [...after.values()].filter(({ isLearner }) => isLearner).length;
    const isLearnerAdded = steps.some((step) => step.kind === 'add' && step.isLearner);
    if (isLearnerAdded && !joint && learners > MAX_LEARNERS) return 'TOO_MANY_LEARNERS';
    return urlProblem([...after.values()]);
  }

  /** Takes over steps that were found good (none when a joint phase ends), and the configuration that
   *  came of them. */
  change(steps: readonly MemberStep[], configuration: Configuration): void {
    for (const step of steps) {
      const known = this.get(step.id);
      if (step.kind === 'add') this.set(newMember(step));
      else if (step.kind === 'update' && known !== null) {
        this.set({ ...known, peerUrls: step.peerUrls });
      }
    }
    const { voters, votersOutgoing, learners } = configuration;
    const stays = new Set([...voters, ...votersOutgoing, ...learners]);
    const left = this.members.filter(({ id }) => !stays.has(id)).map(({ id }) => id);
    this.gone = [...this.gone, ...left].sort((a, b) => a - b);
    this.members = this.members
      .filter(({ id }) => stays.has(id))
      .map((member) => ({ ...member, isLearner: learners.includes(member.id) }));
  }
}

function newMember(step: MemberStep & { readonly kind: 'add' }): MemberAttributes {
  const { id, peerUrls, isLearner } = step;
  return { id, name: '', peerUrls, clientUrls: [], isLearner, folderId: 0 };
}

function urlProblem(members: readonly MemberAttributes[]): ErrorCode | null {
  const seen = new Set<string>();
  for (const { peerUrls } of members) {
    if (peerUrls.length === 0) return 'BAD_MEMBER_URLS';
    for (const url of peerUrls) {
      if (seen.has(url)) return 'PEER_URLS_EXIST';
      seen.add(url);
    }
  }
  return null;
}

/**
 * Who belongs to the cluster, with names and addresses: the replicated table behind the member list.
 *
 * Changed only by state-machine.ts. Raft's own view (who votes) is the Configuration; this table holds
 * what people and clients want to know about the same ids, and follows the configuration in one
 * point: who is a learner.
 *
 * Invariant: 1. `list` is sorted by id and holds each id once.
 */
import type { MemberAttributes } from './command.js';

export class MemberTable {
  private members: readonly MemberAttributes[];

  constructor(members: readonly MemberAttributes[]) {
    this.members = [...members].sort((a, b) => a.id - b.id);
  }

  /** Sorted by id. */
  get list(): readonly MemberAttributes[] {
    return this.members;
  }

  get(id: number): MemberAttributes | null {
    return this.members.find((member) => member.id === id) ?? null;
  }

  /** Adds a member or replaces what is known about it. */
  set(member: MemberAttributes): void {
    const others = this.members.filter(({ id }) => id !== member.id);
    this.members = [...others, member].sort((a, b) => a.id - b.id);
  }

  remove(id: number): void {
    this.members = this.members.filter((member) => member.id !== id);
  }

  /** Takes over from a configuration who only learns. */
  setLearners(learners: readonly number[]): void {
    this.members = this.members.map((member) => ({
      ...member,
      isLearner: learners.includes(member.id),
    }));
  }
}

/**
 * What must hold between two configurations that follow each other in the log, worked out by counting
 * sets, not by the rules of the product (src/raft/membership.ts): whatever the change was, no set of
 * members that can decide under the one may be disjoint from a set that can decide under the other
 * (thesis, 4.1). Otherwise two leaders could decide at the same time while some members have applied
 * the change and others have not. Used by the judge after a run (S16, S17).
 */
import type { Configuration } from '../../src/raft/configuration.js';
import { Violation } from './world.js';

export function checkChange(index: number, before: Configuration, after: Configuration): void {
  const members = [...new Set([...votersOf(before), ...votersOf(after)])];
  const all = 2 ** members.length;
  for (let set = 0; set < all; set += 1) {
    const inside = new Set(members.filter((_, at) => (set & (1 << at)) !== 0));
    const outside = new Set(members.filter((member) => !inside.has(member)));
    if (canDecide(before, inside) && canDecide(after, outside)) {
      const text = `${[...inside].join(' ')} before and ${[...outside].join(' ')} after`;
      throw new Violation('S16', `entry ${index} lets ${text} decide without each other`);
    }
  }
  for (const learner of after.learners) {
    if (!votersOf(after).includes(learner)) continue;
    throw new Violation('S17', `entry ${index}: member ${learner} learns and votes`);
  }
  if (after.voters.length === 0) throw new Violation('S17', `entry ${index} leaves no voter`);
}

function votersOf({ voters, votersOutgoing }: Configuration): number[] {
  return [...voters, ...votersOutgoing];
}

/** A majority of the voters, and while a change of several is under way of the old ones too. */
function canDecide({ voters, votersOutgoing }: Configuration, set: ReadonlySet<number>): boolean {
  return [voters, votersOutgoing].every((half) => {
    const there = half.filter((member) => set.has(member)).length;
    return half.length === 0 || 2 * there > half.length;
  });
}

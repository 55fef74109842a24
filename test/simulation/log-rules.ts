/**
 * Rules about the log of one member that can be seen at any moment, without knowing the others. Called
 * by raft-observer.ts after every event that changed the member; pure, so that log-rules.test.ts can
 * show each rule red.
 *
 * S11 snapshot <= applied <= committed <= last, and no more is called persisted than the disk confirmed
 * S14 a leader has at most one change of members that is not committed, and proposes the first of its
 *     term only when an entry of its term is committed: two leaders could otherwise commit changes
 *     whose quorums do not meet
 */
import { Violation } from './world.js';

export interface LogState {
  readonly name: string;
  readonly isLeader: boolean;
  readonly term: number;
  /** The last index in front of the log. */
  readonly before: number;
  readonly applied: number;
  readonly committed: number;
  readonly persisted: number;
  readonly last: number;
  /** The end of what the disk has confirmed. */
  readonly durable: number;
  readonly termAt: (index: number) => number;
  readonly isChange: (index: number) => boolean;
}

export function checkLogRules(state: LogState): void {
  const { name, before, applied, committed, persisted, last, durable } = state;
  if (applied > committed || committed > last) {
    throw new Violation(
      'S11',
      `${name} has applied ${applied}, committed ${committed}, its log ends at ${last}`,
    );
  }
  if (before > committed) {
    throw new Violation('S11', `${name} cut its log up to ${before}, committed is ${committed}`);
  }
  if (persisted > durable) {
    throw new Violation('S11', `${name} calls ${persisted} persisted, its disk ends at ${durable}`);
  }
  if (state.isLeader) checkChanges(state);
}

function checkChanges({ name, term, committed, last, termAt, isChange }: LogState): void {
  let open = 0;
  for (let index = committed + 1; index <= last; index += 1) {
    if (!isChange(index)) continue;
    open += 1;
    if (open > 1) {
      throw new Violation('S14', `${name} leads ${term} with two open changes, one at ${index}`);
    }
    if (termAt(index) === term && termAt(committed) !== term) {
      throw new Violation(
        'S14',
        `${name} changes members at ${index} of ${term}, before it has committed in ${term}`,
      );
    }
  }
}

/**
 * A cluster of one replaced its member 1 by member 2, in one joint change. Member 1 led: it committed the
 * end of the joint phase, had by then taken a few more writes, and stepped down, since its vote was gone.
 * Then the connection broke. Member 2 held the end of the joint phase, but had not been told that it was
 * committed; so it needed the vote of member 1, whose log was longer. Member 1 refused for ever, and was
 * not allowed to stand itself.
 *
 * The rule since: an answer to a candidate tells what is committed, and a candidate whose log has that
 * entry believes it (candidate.ts, learnCommit).
 */
import { expect, test } from 'vitest';
import { configurationOf } from '../../src/raft/configuration.js';
import { EntryType, frameEntries } from '../../src/raft/entry.js';
import { MessageKind } from '../../src/raft/message.js';
import type { Raft } from '../../src/raft/raft.js';
import { Role } from '../../src/raft/ready.js';
import { flush, from, makeCore, ofKind, PEER_BOOT, tick, timeOut } from '../support/raft-core.js';

const joint = {
  ...configurationOf([2]),
  votersOutgoing: [1],
  autoLeave: true,
};
const [leave] = frameEntries({ index: 1, term: 3 }, EntryType.Configuration, [new Uint8Array(1)]);
const writes = frameEntries({ index: 2, term: 3 }, EntryType.Normal, [
  new Uint8Array(1),
  new Uint8Array(1),
]);

function member(id: number, last: number): Raft {
  const core = makeCore({ id, boot: PEER_BOOT, configuration: joint, term: 3 });
  const entries = [leave!, ...writes].slice(0, last);
  const append = from(9, MessageKind.Append, 3, { entries }, id);
  core.step(append);
  flush(core);
  return core;
}

test('a new member elects itself although the leader that it replaced has more writes', () => {
  const replaced = member(1, 3);
  const successor = member(2, 1);
  // What the old leader had learned before it stepped down.
  replaced.step(from(9, MessageKind.Heartbeat, 3, { commit: 1 }, 1));
  replaced.takeReady();
  replaced.applyConfiguration(configurationOf([2]));
  replaced.applied(1);
  tick(replaced, 10);

  const [question] = ofKind(timeOut(successor), MessageKind.PreVote, 1);
  replaced.step(question!);
  const [answer] = ofKind(flush(replaced), MessageKind.PreVoteResponse);
  expect(answer).toMatchObject({ reject: true });
  successor.step(answer!);
  expect(successor.commitIndex).toBe(1);
  successor.takeReady();
  successor.applyConfiguration(configurationOf([2]));
  successor.applied(1);

  timeOut(successor);
  expect(successor.role).toBe(Role.Leader);
});

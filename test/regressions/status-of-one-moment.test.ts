/**
 * A leader that had just heard of a higher term answered Status with the new term and itself as the
 * leader, because who leads was written down at the end of the turn and the term was not. Chaos runs
 * saw two leaders of one term.
 *
 * The rule since: role, leader and term of a status are of one moment.
 */
import { afterEach, expect, test } from 'vitest';
import { MessageKind, makeMessage } from '../../src/raft/message.js';
import { InProcessCluster } from '../support/in-process-cluster.js';

let cluster: InProcessCluster | null = null;

afterEach(() => cluster?.stop());

test('a leader that hears of a higher term shows itself as its leader at no moment', async () => {
  cluster = new InProcessCluster({ 'heartbeat-interval': '10', 'election-timeout': '100' });
  await cluster.start();
  const old = await cluster.leader();
  const node = old.node;
  const other = cluster.members.find((member) => member !== old);
  if (node === null || other === undefined) throw new Error('no members');
  const before = node.status();

  const heartbeat = makeMessage(MessageKind.Heartbeat, other.id, old.id, before.term + 1, {});
  cluster.linksOf(old.id)?.events.onMessage({ ...heartbeat, fromBoot: 1_000 });
  const after = node.status();

  expect(before).toMatchObject({ role: 'leader', leader: old.id });
  expect(after).toMatchObject({ role: 'follower', term: before.term + 1 });
  expect(after.leader).not.toBe(old.id);
});

/**
 * Of two members one was removed. The one that stayed applied the removal, turned the other away, lost
 * power, and started again with a commit from before, because a commit alone was not synced. Now it
 * needed the vote of the member that it had sent home, for ever.
 *
 * The rules since: who was removed goes on voting until most of the others turn it away (cluster-node.ts,
 * maybeLeave), and they do so only once the removal would survive a power failure (maybeSayFarewell).
 */
import { afterEach, expect, test } from 'vitest';
import type { ClusterNode } from '../../src/cluster-node.js';
import type { MemberStep } from '../../src/kv/command.js';
import { EntryType } from '../../src/raft/entry.js';
import { MessageKind } from '../../src/raft/message.js';
import { InProcessCluster, type InProcessMember, put } from '../support/in-process-cluster.js';
import { waitFor } from '../support/wait.js';

const WAIT_MS = 20_000;
let cluster: InProcessCluster | null = null;

afterEach(async () => {
  await cluster?.stop();
  cluster = null;
});

function nodeOf(member: InProcessMember): ClusterNode {
  return member.node as ClusterNode;
}

/** The disk of a member hangs from the moment at which it commits a change of the members. */
function hangAtCommit(group: InProcessCluster, leader: InProcessMember): () => void {
  let release = (): void => undefined;
  let change = Number.POSITIVE_INFINITY;
  group.isLost = ({ kind, entries, index, to }) => {
    const found = entries.find(({ type }) => type === EntryType.Configuration);
    change = Math.min(change, found?.index ?? change);
    if (kind !== MessageKind.AppendResponse || to !== leader.id || index < change) return false;
    // It commits by this answer, if its own copy is durable: until then the answer is lost.
    const { raft } = nodeOf(leader) as unknown as { raft: { log: { persisted: number } } };
    if (raft.log.persisted < change) return true;
    leader.diskHold ??= new Promise((resolve) => {
      release = resolve;
    });
    return false;
  };
  return () => {
    leader.diskHold = null;
    release();
  };
}

test('a member turns a removed one away only when it knows the removal for good', {
  timeout: 60_000,
}, async () => {
  cluster = new InProcessCluster({}, 2);
  await cluster.start();
  const leader = await cluster.leader();
  const removed = cluster.members.find((member) => member !== leader) as InProcessMember;
  const release = hangAtCommit(cluster, leader);
  const steps: MemberStep[] = [{ kind: 'remove', id: removed.id }];
  const node = nodeOf(leader);
  await node.propose({ kind: 'memberChange', steps, joint: false }, node.context());
  expect(leader.diskHold).not.toBeNull();
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(removed.fatal).toEqual([]);

  cluster.crash(leader, 'none');
  release();
  await cluster.start(leader);

  await waitFor('the one that stays to serve', WAIT_MS, async () => {
    const stays = nodeOf(leader);
    return stays.propose(put('k', 'v'), stays.context(2000)).then(
      () => true,
      () => false,
    );
  });
  await waitFor('the removed one to end', WAIT_MS, () => removed.fatal.length > 0);
  expect(removed.fatal[0]?.message).toContain('was removed from the cluster');
});

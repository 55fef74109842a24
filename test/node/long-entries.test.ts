/**
 * Entries that touch many keys, on whole members in one process that apply a key or two of them in a turn: what
 * others see of them meanwhile, and what goes on beside them.
 */
import { afterEach, expect, it } from 'vitest';
import type { ClusterNode } from '../../src/cluster-node.js';
import type { ReadTxn } from '../../src/kv/txn.js';
import { InProcessCluster, type InProcessMember, put } from '../support/in-process-cluster.js';
import { del, range } from '../support/kv-requests.js';
import { waitFor } from '../support/wait.js';

const KEYS = 400;
const WAIT_MS = 15_000;
let cluster: InProcessCluster | null = null;

afterEach(async () => {
  await cluster?.stop();
  cluster = null;
});

const nodeOf = (member: InProcessMember): ClusterNode => member.node as ClusterNode;

/** Three members with KEYS keys that hang on lease 7. */
async function filled(options: Record<string, string> = {}): Promise<InProcessCluster> {
  const group = new InProcessCluster(options, 3);
  group.stepKeys = 1;
  cluster = group;
  await group.start();
  const node = nodeOf(await group.leader());
  await node.propose({ kind: 'leaseGrant', id: 7, ttl: 600 }, node.context());
  for (let from = 0; from < KEYS; from += 100) {
    const success = Array.from({ length: 100 }, (_, at) => ({
      ...put(`k${1000 + from + at}`, 'v'),
      lease: 7,
    }));
    await node.propose({ kind: 'txn', compare: [], success, failure: [] }, node.context());
  }
  await group.converged();
  return group;
}

const all = range('k', 'l');
const isThere: ReadTxn = {
  kind: 'txn',
  // The first key goes first, the last one last.
  compare: [{ key: 'k1000', rangeEnd: '', target: 'version', result: 0, number: 1 }],
  success: [range(`k${1000 + KEYS - 1}`)],
  failure: [range(`k${1000 + KEYS - 1}`)],
};

it('is seen whole or not at all, on every member and by whatever read', async () => {
  const group = await filled();
  const leader = nodeOf(await group.leader());
  let isOver = false;
  const deletion = leader.propose(del('k', 'l'), leader.context()).finally(() => {
    isOver = true;
  });
  const seen = new Set<string>();
  let turnsMidway = 0;
  const readers = group.members.map(async (member) => {
    const node = nodeOf(member);
    while (!isOver) {
      if (node.machine.isMidway) turnsMidway += 1;
      const isStale = turnsMidway % 2 === 0;
      const [listed, txn, lease] = await Promise.all([
        node.range(all, isStale, node.context()),
        node.readTxn(isThere, isStale, node.context()),
        node.leaseTimeToLive(7, true, node.context()),
      ]);
      const parts: number[] = [];
      for await (const { kvs } of node.rangeParts(all, isStale, node.context())) {
        parts.push(kvs.length);
      }
      const { succeeded, responses } = txn.response as {
        succeeded: boolean;
        responses: readonly { count: number }[];
      };
      seen.add(`range ${listed.response.count}`);
      seen.add(`txn ${succeeded} ${responses[0]?.count}`);
      seen.add(`lease ${lease.keys.length}`);
      seen.add(`parts ${parts.reduce((sum, count) => sum + count, 0)}`);
      await new Promise((resolve) => setImmediate(resolve));
    }
  });
  await Promise.all([deletion, ...readers]);

  const whole = ['range', 'lease', 'parts'].flatMap((what) => [`${what} 0`, `${what} ${KEYS}`]);
  const allowed = new Set([...whole, 'txn true 1', 'txn false 0']);
  expect([...seen].filter((each) => !allowed.has(each))).toEqual([]);
  expect(turnsMidway).toBeGreaterThan(0);
  await group.converged();
});

it.each([
  ['a deletion', del('k', 'l')],
  ['the end of a lease', { kind: 'leaseRevoke', id: 7 } as const],
])('%s goes on beside checkpoints, heartbeats and a member that needs a snapshot', async (_what, command) => {
  const group = await filled({ 'snapshot-count': '1', 'snapshot-catchup-entries': '1' });
  const first = await group.leader();
  const away = group.members.find((member) => member !== first) as InProcessMember;
  group.kill(away);
  const leader = nodeOf(first);
  const { term } = leader.status();
  for (let at = 0; at < 20; at += 1) await leader.propose(put('other', `${at}`), leader.context());

  const long = leader.propose(command, leader.context());
  await waitFor('the entry to be applied halfway', WAIT_MS, () => leader.machine.isMidway);
  await group.start(away);
  const next = leader.propose(put('other', 'behind it'), leader.context());
  await Promise.all([long, next]);

  await group.converged();
  expect(leader.status()).toMatchObject({ term, role: 'leader' });
  expect((await leader.range(all, false, leader.context())).response.count).toBe(0);
});

it('is forgotten with a state that a snapshot replaces, and read again by who starts anew', async () => {
  const group = await filled({ 'snapshot-count': '1', 'snapshot-catchup-entries': '1' });
  const first = await group.leader();
  const slow = group.members.find((member) => member !== first) as InProcessMember;
  const leader = nodeOf(first);
  const deletion = leader.propose(del('k', 'l'), leader.context());
  await waitFor('the entry to be applied halfway', WAIT_MS, () => nodeOf(slow).machine.isMidway);
  group.kill(slow);
  await deletion;

  await group.start(slow);

  await group.converged();
  const node = nodeOf(slow);
  expect((await node.range(all, true, node.context())).response.count).toBe(0);
});

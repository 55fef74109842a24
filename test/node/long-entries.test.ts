/**
 * Entries that touch many keys, on whole members in one process that apply a key or two of them in a turn: what
 * others see of them meanwhile, and what goes on beside them.
 */
import { afterEach, expect, it } from 'vitest';
import type { ClusterNode } from '../../src/cluster-node.js';
import type { Command } from '../../src/kv/command.js';
import type { ReadTxn } from '../../src/kv/txn.js';
import type { RequestContext } from '../../src/node.js';
import { leaseLeases } from '../../src/rpc/services/lease.js';
import type { StateReplica } from '../../src/state-replica.js';
import { InProcessCluster, type InProcessMember } from '../support/in-process-cluster.js';
import { del, put, range, txn } from '../support/kv-requests.js';

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
    const keys = Array.from({ length: 100 }, (_, at) => `k${1000 + from + at}`);
    const success = keys.map((key) => put(key, 'v', { lease: 7 }));
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

/** Looks in every turn: an entry is applied halfway for some milliseconds. */
async function untilMidway({ machine }: ClusterNode): Promise<void> {
  for (const end = performance.now() + WAIT_MS; !machine.isMidway; ) {
    if (performance.now() > end) throw new Error('no entry was applied halfway');
    await turn();
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

it.each([
  ['current', false],
  ['stale', true],
])(
  'is seen whole or not at all by a %s read, whatever it reads and where',
  async (_name, isStale) => {
    const group = await filled();
    const leader = nodeOf(await group.leader());
    const seen = new Set<string>();
    const see = async (node: ClusterNode): Promise<void> => {
      const [listed, txn, lease] = await Promise.all([
        node.range(all, isStale, node.context()),
        node.readTxn(isThere, isStale, node.context()),
        node.leaseTimeToLive(7, true, node.context()),
      ]);
      const { succeeded, responses } = txn.response as {
        succeeded: boolean;
        responses: readonly { count: number }[];
      };
      let parts = 0;
      for await (const { kvs } of node.rangeParts(all, isStale, node.context()))
        parts += kvs.length;
      seen.add(`range ${listed.response.count}`);
      seen.add(`txn ${succeeded} ${responses[0]?.count}`);
      seen.add(`lease ${lease.keys.length}`);
      seen.add(`parts ${parts}`);
    };
    let isOver = false;
    const deletion = leader.propose(del('k', 'l'), leader.context()).finally(() => {
      isOver = true;
    });
    const begun: Promise<void>[] = [];
    let begunMidway = 0;
    for (let at = 0; !isOver; at += 1) {
      const node = nodeOf(group.members[at % 3] as InProcessMember);
      if (node.machine.isMidway) begunMidway += 1;
      begun.push(see(node));
      await turn();
    }
    await Promise.all([deletion, ...begun]);

    const whole = ['range', 'lease', 'parts'].flatMap((what) => [`${what} 0`, `${what} ${KEYS}`]);
    const allowed = new Set([...whole, 'txn true 1', 'txn false 0']);
    expect([...seen].filter((each) => !allowed.has(each))).toEqual([]);
    expect(begunMidway).toBeGreaterThan(10);
    await group.converged();
  },
);

/** Turns authentication on. Root may do everything, ann use the keys from k to l. */
async function withUsers(
  node: ClusterNode,
): Promise<{ root: RequestContext; ann: RequestContext }> {
  const user = { password: '', noPassword: true };
  const permission = { type: 2, key: 'k', rangeEnd: 'l' } as const;
  const changes: (Command & { readonly kind: 'auth' })['change'][] = [
    { kind: 'userAdd', user: 'root', ...user },
    { kind: 'userGrant', user: 'root', role: 'root' },
    { kind: 'userAdd', user: 'ann', ...user },
    { kind: 'roleAdd', role: 'some' },
    { kind: 'userGrant', user: 'ann', role: 'some' },
    { kind: 'roleGrant', role: 'some', permission },
    { kind: 'enable' },
  ];
  for (const change of changes) await node.propose({ kind: 'auth', change }, node.context());
  const authRevision = node.machine.auth.revision;
  const as = (name: string): RequestContext =>
    node.context(WAIT_MS, null, false, { user: name, authRevision });
  return { root: as('root'), ann: as('ann') };
}

it('does not change for some turns what a user may know of a lease, and do with it', async () => {
  const group = await filled();
  const node = nodeOf(await group.leader());
  await node.propose(put('a', 'not for ann', { lease: 7 }), node.context());
  const { root, ann } = await withUsers(node);
  const outcomeOf = (answer: Promise<unknown>): Promise<unknown> =>
    answer.then(
      (value) => value,
      ({ code }: { code: string }) => code,
    );
  // There is a key on the lease that is not for ann in front of it and behind it, but not in between.
  const entry = txn([], [del('a'), del('k', 'l'), put('z', 'nor this', { lease: 7 })]);
  let isOver = false;
  const applied = node.propose(entry, root).finally(() => {
    isOver = true;
  });
  const outcomes: Promise<unknown>[] = [];
  let askedMidway = 0;
  while (!isOver) {
    if (node.machine.isMidway) askedMidway += 1;
    outcomes.push(outcomeOf(leaseLeases(node, {}, ann)), outcomeOf(node.renewLease(7, ann)));
    await turn();
  }
  await applied;

  expect(new Set(await Promise.all(outcomes))).toEqual(new Set(['PERMISSION_DENIED']));
  expect(askedMidway).toBeGreaterThan(10);
});

it('refuses nobody a renewal before its end', async () => {
  const group = await filled();
  const node = nodeOf(await group.leader());
  const { root, ann } = await withUsers(node);
  const entry = txn([], [put('a', 'not for ann', { lease: 7 }), del('k', 'l')]);
  const applied = node.propose(entry, root);
  await untilMidway(node);

  const now = node.renewLeaseNow(7, ann);
  const renewal = node.renewLease(7, ann);
  renewal.catch(() => undefined);

  expect(now).toBe(null);
  expect(node.machine.isMidway).toBe(true);
  await applied;
  await expect(renewal).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
});

it.each([
  ['a deletion', del('k', 'l')],
  ['the end of a lease', { kind: 'leaseRevoke', id: 7 } as const],
])(
  '%s goes on beside checkpoints, heartbeats and a member that needs a snapshot',
  async (_what, command) => {
    const group = await filled({ 'snapshot-count': '1', 'snapshot-catchup-entries': '1' });
    const first = await group.leader();
    const away = group.members.find((member) => member !== first) as InProcessMember;
    group.kill(away);
    const leader = nodeOf(first);
    const { term } = leader.status();
    for (let at = 0; at < 20; at += 1)
      await leader.propose(put('other', `${at}`), leader.context());

    const long = leader.propose(command, leader.context());
    await untilMidway(leader);
    await group.start(away);
    const next = leader.propose(put('other', 'behind it'), leader.context());
    await Promise.all([long, next]);

    await group.converged();
    expect(leader.status()).toMatchObject({ term, role: 'leader' });
    expect((await leader.range(all, false, leader.context())).response.count).toBe(0);
  },
);

it('leaves no trace in a member that is killed in the midst of it', async () => {
  const group = await filled({ 'snapshot-count': '1', 'snapshot-catchup-entries': '1' });
  const first = await group.leader();
  const slow = group.members.find((member) => member !== first) as InProcessMember;
  const leader = nodeOf(first);
  const deletion = leader.propose(del('k', 'l'), leader.context());
  await untilMidway(nodeOf(slow));
  group.kill(slow);
  await deletion;

  await group.start(slow);

  await group.converged();
  const node = nodeOf(slow);
  expect((await node.range(all, true, node.context())).response.count).toBe(0);
});

it('is forgotten with the state that a snapshot replaces, and who waited for its end reads the new one', async () => {
  const group = await filled({ 'snapshot-count': '1', 'snapshot-catchup-entries': '1' });
  const first = await group.leader();
  const slow = group.members.find((member) => member !== first) as InProcessMember;
  const [leader, node] = [nodeOf(first), nodeOf(slow)];
  const deletion = leader.propose(del('k', 'l'), leader.context());
  await untilMidway(node);
  // As when its disk is behind: this state applies nothing more.
  const { replica } = node as unknown as { readonly replica: StateReplica };
  Object.defineProperty(replica.store, 'isOverloaded', { get: () => true });
  const { machine } = replica;
  group.cut(slow);
  await deletion;
  for (let at = 0; at < 20; at += 1)
    await leader.propose(put(`k${2000 + at}`, 'new'), leader.context());
  const countParts = async (): Promise<number> => {
    let count = 0;
    for await (const { kvs } of node.rangeParts(all, true, node.context())) count += kvs.length;
    return count;
  };
  const context = node.context(WAIT_MS);
  const reads = Promise.all([
    node.range(all, true, context).then(({ response }) => response.count),
    node.range(all, false, context).then(({ response }) => response.count),
    node.readTxn(isThere, true, context).then(({ response }) => response),
    countParts(),
  ]);
  await turn();
  expect(machine.isMidway).toBe(true);

  group.heal();

  const isGone = { succeeded: false, responses: [{ count: 0 }] };
  expect(await reads).toMatchObject([20, 20, isGone, 20]);
  expect(node.machine).not.toBe(machine);
  expect(machine.isMidway).toBe(true);
  await group.converged();
  // And it goes on behind the snapshot, not where the half entry was.
  await leader.propose(put('k3000', 'newer'), leader.context());
  await group.converged();
  expect((await node.range(all, true, node.context())).response.count).toBe(21);
});

/**
 * Whole members under crashes, power failures, cuts and hand-overs, with writers on every member: what
 * was acknowledged is there, what was claimed to have had no effect is not, and nothing has happened
 * twice, though waiting writes are sent again and again behind the backs of their clients.
 *
 * Each write puts a key of its own, so a second application shows as version 2.
 */
import { expect, test } from 'vitest';
import type { ClusterNode } from '../../src/cluster-node.js';
import type { KvError } from '../../src/errors.js';
import { rangeOf } from '../../src/kv/request.js';
import { Prng } from '../../src/prng.js';
import type { InProcessMember } from '../support/in-process-cluster.js';
import { InProcessCluster, put } from '../support/in-process-cluster.js';

const TURNS = Number(process.env['KVD_TURNS'] ?? 25);
const SEED = Number(process.env['KVD_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const REPEAT = `KVD_SEED=${SEED} npx vitest run --project unit test/node/exactly-once.test.ts`;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

test(`writes happen once, or as often as was claimed, through every fault (${REPEAT})`, async () => {
  const random = new Prng(SEED);
  const cluster = new InProcessCluster({
    'snapshot-count': '50',
    'snapshot-catchup-entries': '10',
    'heartbeat-interval': '10',
    'election-timeout': '100',
  });
  cluster.answerDelayMs = 3;
  await cluster.start();
  await cluster.leader();
  const done = new Set<string>();
  const refused = new Map<string, KvError>();
  let writing = true;
  let number = 0;

  const write = async (member: InProcessMember): Promise<void> => {
    const { node } = member;
    number += 1;
    const key = `k${number}`;
    if (node === null) return await pause(5);
    // A node that is killed never answers, as a process that is gone; its clients go on elsewhere.
    const gone = pause(1500).then(() => 'gone');
    const written = node.propose(put(key, Buffer.alloc(100)), node.context(1000)).then(
      () => done.add(key),
      (error: KvError) => {
        if (error.outcome === 'not-applied') refused.set(key, error);
      },
    );
    await Promise.race([written, gone]);
  };
  const writers = cluster.members.flatMap((member) =>
    [0, 1, 2].map(async () => {
      while (writing) await write(member);
    }),
  );

  for (let turn = 0; turn < TURNS; turn += 1) {
    const member = cluster.members[random.below(3)] as InProcessMember;
    const kind = random.below(8);
    if (kind === 0 && member.node !== null) cluster.kill(member);
    else if (kind === 1 && member.node !== null) cluster.crash(member);
    else if (kind === 2) cluster.cut(member);
    else if (kind === 3 && member.node?.isLeader === true) {
      const target = cluster.members[random.below(3)] as InProcessMember;
      member.node.transferLeadership(target.id, member.node.context(300)).catch(() => undefined);
    } else if (kind === 4) cluster.heal();
    else if (kind > 4) cluster.reset(member);
    await pause(20 + random.below(120));
    for (const other of cluster.members) {
      if (other.node === null && random.chance(0.6)) await cluster.start(other);
    }
  }
  cluster.heal();
  for (const member of cluster.members) if (member.node === null) await cluster.start(member);
  writing = false;
  await Promise.all(writers);
  const leader = await cluster.leader();
  await (leader.node as ClusterNode).propose(
    put('last', 'x'),
    leader.node?.context(10_000) as never,
  );
  await cluster.converged();

  const { store } = (leader.node as ClusterNode).machine;
  const found = store.range(rangeOf({ key: 'k', rangeEnd: 'l' }));
  if ('error' in found || found.kind !== 'range') throw new Error('the range was refused');
  const versions = new Map(found.kvs.map(({ key, version }) => [key, version]));
  expect([...versions].filter(([, version]) => version !== 1)).toEqual([]);
  expect([...done].filter((key) => !versions.has(key))).toEqual([]);
  expect([...refused.keys()].filter((key) => versions.has(key))).toEqual([]);
  expect(done.size).toBeGreaterThan(TURNS);
  expect(cluster.members.flatMap((member) => member.fatal)).toEqual([]);
  await cluster.stop();
}, 60_000);

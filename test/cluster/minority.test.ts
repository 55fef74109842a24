/**
 * A member that is cut off from the others: it says so instead of lying, still gives what needs no
 * quorum, and comes back without an operator. Run through the fault proxies, so the processes live
 * and clients reach all of them.
 */
import { expect, it } from 'vitest';
import { useClusters } from '../support/cluster-fixture.js';
import { CALM, type Cluster, type Member } from '../support/cluster-processes.js';
import { ApiError, HttpApi } from '../support/http-api.js';
import { staysFalse, waitFor } from '../support/wait.js';

const clusters = useClusters();
const UNAVAILABLE = /no leader|timed out|leader changed|deadline exceeded/;

/** The error of a call that must not succeed. */
async function refusal(call: Promise<unknown>): Promise<ApiError> {
  try {
    await call;
  } catch (error) {
    if (error instanceof ApiError) return error;
    throw error;
  }
  throw new Error('the call succeeded');
}

async function cutOffLeader(
  flags: readonly string[] = [],
): Promise<{ cluster: Cluster; old: Member; leader: Member }> {
  const cluster = await clusters.start({ proxied: true, flags });
  const old = await cluster.waitLeader();
  await old.api.put('k', 'before');
  await cluster.assertSameState();
  cluster.isolate(old);
  const leader = await cluster.waitLeader(cluster.others(old));
  return { cluster, old, leader };
}

it('a cut-off leader refuses writes in time and in words', async () => {
  const { cluster, old, leader } = await cutOffLeader();
  const patient = new HttpApi(old.clientUrl, { timeoutMs: 20_000 });

  const error = await refusal(patient.put('lost', 'x'));

  expect(error.status).toBeGreaterThanOrEqual(500);
  expect(error.message).toMatch(UNAVAILABLE);
  cluster.heal();
  await cluster.waitWritable();
  await cluster.assertSameState();
  if (error.outcome === 'failed') expect((await leader.api.range('lost')).kvs).toEqual([]);
  patient.close();
});

it('a cut-off member refuses linearizable reads in time and in words', async () => {
  const { old, leader } = await cutOffLeader();
  await leader.api.put('k', 'after');
  const patient = new HttpApi(old.clientUrl, { timeoutMs: 20_000 });

  const error = await refusal(patient.range('k'));

  expect(error.status).toBeGreaterThanOrEqual(500);
  expect(error.message).toMatch(UNAVAILABLE);
  patient.close();
});

it('a cut-off member still answers serializable reads', async () => {
  const { old } = await cutOffLeader();

  const reply = await old.api.range('k', { serializable: true });

  expect(reply.kvs[0]?.value).toBe('before');
});

it('a cut-off leader steps down', async () => {
  const { old } = await cutOffLeader();

  await waitFor('the old leader to see that it leads nobody', 20_000, async () => {
    return (await old.api.status()).leader !== old.id;
  });
});

it('the majority goes on without a member and takes it back without an operator', async () => {
  const { cluster, old, leader } = await cutOffLeader(CALM);
  for (let count = 0; count < 50; count += 1) await leader.api.put(`k${count}`, 'x');
  const { raftTerm } = await leader.api.status();

  cluster.heal();
  await cluster.waitLeader();
  await waitFor('the member to catch up', 30_000, async () => {
    return (await old.api.range('k49', { serializable: true })).count === 1;
  });
  const { raftTerm: termAfter, leader: leaderAfter } = await leader.api.status();

  await cluster.assertSameState();
  expect(leaderAfter).toBe(leader.id);
  expect(termAfter).toBe(raftTerm);
});

it('a member that hears nothing but can speak disturbs nobody', async () => {
  const cluster = await clusters.start({ proxied: true, flags: CALM });
  const leader = await cluster.waitLeader();
  const deaf = cluster.others(leader)[0] as Member;
  const { raftTerm } = await leader.api.status();

  for (const other of cluster.others(deaf)) cluster.cutLink(other, deaf);

  // Longer than it waits for a leader, which is twice the election timeout at most.
  await staysFalse('an election', 5_000, async () => {
    await leader.api.put('k', 'x');
    return (await leader.api.status()).raftTerm !== raftTerm;
  });
  cluster.heal();
  await waitFor('the deaf member to follow', 30_000, async () => {
    return (await deaf.api.status()).leader === leader.id;
  });
  expect((await leader.api.status()).raftTerm).toBe(raftTerm);
});

it('a leader that can hear but not speak is replaced', async () => {
  const cluster = await clusters.start({ proxied: true });
  const mute = await cluster.waitLeader();
  await mute.api.put('k', 'before');

  for (const other of cluster.others(mute)) cluster.cutLink(mute, other);
  const leader = await cluster.waitLeader(cluster.others(mute));
  await leader.api.put('k', 'after');

  const lie = await mute.api.range('k').catch((error: unknown) => error);
  if (!(lie instanceof ApiError)) {
    expect((lie as { kvs: { value: string }[] }).kvs[0]?.value).toBe('after');
  }
});

it('three members without any link refuse and recover', async () => {
  const cluster = await clusters.start({ proxied: true });
  await cluster.member(0).api.put('k', 'x');

  for (const member of cluster.members) cluster.isolate(member);
  const refusals = cluster.members.map(async (member) => {
    const api = new HttpApi(member.clientUrl, { timeoutMs: 20_000 });
    const error = await refusal(api.put('k', 'y'));
    expect(error.message).toMatch(UNAVAILABLE);
    api.close();
  });
  await Promise.all(refusals);
  cluster.heal();

  const took = await cluster.waitWritable();
  expect(took).toBeLessThan(20_000);
  await cluster.assertSameState();
});

it('connections that break in the middle of a message are made again', async () => {
  const cluster = await clusters.start({ proxied: true });
  const leader = await cluster.waitLeader();
  const value = 'x'.repeat(20_000);

  for (let round = 0; round < 40; round += 1) {
    const member = cluster.member(round % 3);
    member.proxy?.resetAfter(round * 997);
    await waitFor('an accepted write', 30_000, async () => {
      return (await leader.api.put(`k${round}`, value).catch(() => null)) !== null;
    });
  }

  await cluster.assertSameState();
  expect((await leader.api.prefix('k')).kvs.every((kv) => kv.value === value)).toBe(true);
});

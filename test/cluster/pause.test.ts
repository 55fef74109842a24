/**
 * A leader that stands still for a while (SIGSTOP: a full machine, a debugger, a virtual machine on
 * the move) and then goes on as if nothing had happened.
 *
 * While it sleeps the others elect a new leader and things change. When it wakes up, its timers fire
 * before it has read what waits in its sockets. It must not answer a linearizable read from its old
 * state, must not expire a lease that the new leader knows to be alive, and must not start an
 * election.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { useClusters } from '../support/cluster-fixture.js';
import { CALM } from '../support/cluster-processes.js';
import { HttpApi } from '../support/http-api.js';
import { staysFalse, waitFor } from '../support/wait.js';

const clusters = useClusters();
/** Longer than anybody waits for a leader before calling an election. */
const LONG_MS = 3_500;

it('a leader that slept 5 s answers no stale linearizable read', async () => {
  const cluster = await clusters.start();
  const old = await cluster.waitLeader();
  await old.api.put('k', 'before');
  const impatient = new HttpApi(old.clientUrl, { timeoutMs: 30_000 });

  old.freeze();
  const leader = await cluster.waitLeader(cluster.others(old));
  await leader.api.put('k', 'after');
  // These wait in the socket of the sleeper and are the first thing that it sees.
  const reads = Array.from({ length: 50 }, () => impatient.range('k').catch(() => null));
  await pause(4_000);
  old.thaw();

  const replies = await Promise.all(reads);
  for (const reply of replies) expect(reply?.kvs[0]?.value ?? 'after').toBe('after');
  const answered = await waitFor('an answer of the sleeper', 30_000, () => old.api.range('k'));
  expect(answered.kvs[0]?.value).toBe('after');
  impatient.close();
});

it('a leader that slept revokes no lease that was renewed meanwhile', async () => {
  const cluster = await clusters.start({ flags: CALM });
  const old = await cluster.waitLeader();
  const ttl = 3;
  const leases = await Promise.all(Array.from({ length: 20 }, () => old.api.grantLease(ttl)));
  await Promise.all(leases.map(({ id }) => old.api.put(`l/${id}`, 'x', { lease: id })));

  old.freeze();
  const leader = await cluster.waitLeader(cluster.others(old));
  let stop = false;
  let renewals = 0;
  const renewing = (async () => {
    while (!stop) {
      const ttls = await Promise.all(leases.map(({ id }) => leader.api.renewLease(id)));
      renewals += 1;
      expect(Math.min(...ttls), `renewal ${renewals}`).toBe(ttl);
      await pause(400);
    }
  })();
  renewing.catch(() => undefined);
  try {
    await pause(5_000);
    old.thaw();
    await staysFalse('a key of a renewed lease goes', 2_000, async () => {
      return (await leader.api.prefix('l/')).kvs.length < leases.length;
    });
  } finally {
    stop = true;
    await renewing;
  }

  // Often enough, in seven seconds, to keep leases of three.
  expect(renewals).toBeGreaterThan(3);
});

it('a leader that slept starts no election', async () => {
  const cluster = await clusters.start({ flags: CALM });
  const old = await cluster.waitLeader();

  for (let round = 0; round < 2; round += 1) {
    old.freeze();
    const leader = await cluster.waitLeader(cluster.others(old));
    const { raftTerm } = await leader.api.status();
    await pause(LONG_MS);
    old.thaw();
    await waitFor('the sleeper to follow', 30_000, async () => {
      return (await old.api.status()).leader === leader.id;
    });
    await staysFalse('an election', 2_000, async () => {
      return (await leader.api.status()).raftTerm !== raftTerm;
    });
    const moved = await cluster.waitLeader();
    expect(moved.name).toBe(leader.name);
    // Sleep again as a follower: that must not disturb either.
  }
});

it('a follower that slept starts no election', async () => {
  const cluster = await clusters.start({ flags: CALM });
  const leader = await cluster.waitLeader();
  const sleeper = cluster.others(leader)[0];
  if (sleeper === undefined) throw new Error('no follower');
  const { raftTerm } = await leader.api.status();

  for (let round = 0; round < 2; round += 1) {
    sleeper.freeze();
    await pause(LONG_MS);
    sleeper.thaw();
    await staysFalse('an election', 2_000, async () => {
      const status = await leader.api.status();
      return status.raftTerm !== raftTerm || status.leader !== leader.id;
    });
  }
});

it('all members that slept at once go on', async () => {
  const cluster = await clusters.start();
  await cluster.waitLeader();
  const api = cluster.member(0).api;
  await api.put('k', '1');

  for (const member of cluster.members) member.freeze();
  await pause(3_000);
  for (const member of cluster.members) member.thaw();

  await cluster.waitWritable();
  expect((await api.range('k')).kvs[0]?.value).toBe('1');
});

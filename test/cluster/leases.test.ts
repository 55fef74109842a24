/**
 * Keys of a service vanish soon after the service is gone, and never while it lives: through leader
 * deaths, restarts and many leases at once.
 *
 * A lease may end at the earliest its TTL after the last renewal was *sent*, and must end at the
 * latest TTL + 2 s after the last renewal was answered; a new leader lets every lease begin anew.
 */
import { expect, it } from 'vitest';
import { useClusters } from '../support/cluster-fixture.js';
import type { Member } from '../support/cluster-processes.js';
import type { HttpApi } from '../support/http-api.js';
import { staysFalse, waitFor } from '../support/wait.js';

const clusters = useClusters();
const TTL = 3;
const GRACE_MS = 2_000;

async function service(member: Member, key: string): Promise<{ id: string; sentAt: number }> {
  const sentAt = performance.now();
  const { id, ttl } = await member.api.grantLease(TTL);
  expect(ttl).toBe(TTL);
  await member.api.put(key, 'here', { lease: id });
  return { id, sentAt };
}

async function exists(api: HttpApi, key: string): Promise<boolean> {
  return (await api.range(key)).count === 1;
}

it('a key of a lease goes at its time, not before and not much later', {
  timeout: 60_000,
}, async () => {
  const cluster = await clusters.start();
  const [first, other] = [cluster.member(0), cluster.member(1)];
  const { id, sentAt } = await service(first, 's/1');

  await staysFalse('an early end', TTL * 1_000 - (performance.now() - sentAt) - 100, async () => {
    return !(await exists(other.api, 's/1'));
  });
  const goneBy = sentAt + TTL * 1_000 + GRACE_MS - performance.now();
  await waitFor('the end of the key', goneBy, async () => !(await exists(other.api, 's/1')));

  expect(performance.now() - sentAt).toBeGreaterThanOrEqual(TTL * 1_000 - 50);
  expect(await first.api.leaseTimeToLive(id)).toBe(-1);
  expect(await first.api.renewLease(id)).toBe(0);
});

it('a lease that is renewed through any member lives on', { timeout: 60_000 }, async () => {
  const cluster = await clusters.start();
  const { id } = await service(cluster.member(0), 's/1');
  let turn = 0;

  await staysFalse('an end in spite of renewals', TTL * 3_000, async () => {
    turn += 1;
    if (turn % 20 === 0) {
      expect(await cluster.member(turn % 3).api.renewLease(id)).toBe(TTL);
    }
    return !(await exists(cluster.member(turn % 3).api, 's/1'));
  });
});

it('all keys of a lease go in one revision', { timeout: 60_000 }, async () => {
  const cluster = await clusters.start();
  const { api } = cluster.member(0);
  const { id } = await api.grantLease(TTL);
  for (let count = 0; count < 40; count += 1) await api.put(`s/${count}`, 'x', { lease: id });
  const stream = await api.watch('s/', { rangeEnd: 's0' });

  const message = await stream.next(TTL * 1_000 + GRACE_MS);
  stream.close();

  expect(message?.events.length).toBe(40);
  expect(new Set(message?.events.map(({ type }) => type))).toEqual(new Set(['DELETE']));
  expect(new Set(message?.events.map(({ kv }) => kv.modRevision)).size).toBe(1);
});

it('a key outlives the death of the leader but not its holder for long', {
  timeout: 90_000,
}, async () => {
  const cluster = await clusters.start();
  const { sentAt } = await service(cluster.member(0), 's/1');
  const leader = await cluster.waitLeader();

  await leader.kill();
  const next = await cluster.waitLeader();
  const knownAt = performance.now();

  await staysFalse('an early end', TTL * 1_000 - (performance.now() - sentAt) - 100, async () => {
    return !(await exists(next.api, 's/1'));
  });
  const goneBy = knownAt + TTL * 1_000 + GRACE_MS - performance.now();
  await waitFor('the end of the key', goneBy, async () => !(await exists(next.api, 's/1')));
});

it('leases survive the restart of all members and still end', { timeout: 90_000 }, async () => {
  const cluster = await clusters.start();
  await service(cluster.member(0), 's/1');
  const kept = await cluster.member(0).api.grantLease(600);
  await cluster.member(0).api.put('s/kept', 'x', { lease: kept.id });

  await Promise.all(cluster.members.map((member) => member.kill()));
  await Promise.all(cluster.members.map((member) => member.start()));
  await cluster.waitLeader();
  const { api } = cluster.member(1);
  const backAt = performance.now();
  const goneBy = backAt + TTL * 1_000 + GRACE_MS - performance.now();
  await waitFor('the end of the key', goneBy, async () => !(await exists(api, 's/1')));

  expect(await exists(api, 's/kept')).toBe(true);
  expect(await api.leaseTimeToLive(kept.id)).toBeGreaterThan(0);
});

it('a thousand leases that end at once end in time', { timeout: 90_000 }, async () => {
  const cluster = await clusters.start();
  const { api } = cluster.member(0);
  const count = 1_000;
  const grant = async (place: number): Promise<void> => {
    const { id } = await api.grantLease(TTL);
    await api.put(`s/${place}`, 'x', { lease: id });
  };
  for (let start = 0; start < count; start += 100) {
    await Promise.all(Array.from({ length: 100 }, (_, at) => grant(start + at)));
  }
  const lastAt = performance.now();
  let slowest = 0;

  await waitFor('the end of all keys', TTL * 1_000 + GRACE_MS + 2_000, async () => {
    const start = performance.now();
    const { count: left } = await api.range('s/', { rangeEnd: 's0', countOnly: true });
    slowest = Math.max(slowest, performance.now() - start);
    return left === 0;
  });

  expect(performance.now() - lastAt).toBeGreaterThan(TTL * 1_000 - 2_500);
  expect(slowest).toBeLessThan(1_000);
});

/**
 * Keys of a service vanish soon after the service is gone, and never while it lives: through leader
 * deaths, restarts and many leases at once.
 *
 * A lease may end at the earliest its TTL after the last renewal was *sent*, and must end at the
 * latest TTL + 2 s after the last renewal was answered; a new leader lets every lease begin anew.
 */
import { expect, it } from 'vitest';
import { useClusters } from '../support/cluster-fixture.js';
import { CALM, type Member } from '../support/cluster-processes.js';
import type { HttpApi } from '../support/http-api.js';
import { staysFalse, waitFor } from '../support/wait.js';

const clusters = useClusters();
const TTL = 3;
const GRACE_MS = 2_000;

interface Service {
  readonly id: string;
  /** Before the lease was asked for, and when it was there. */
  readonly sentAt: number;
  readonly answeredAt: number;
}

async function service(member: Member, key: string): Promise<Service> {
  const sentAt = performance.now();
  const { id, ttl } = await member.api.grantLease(TTL);
  const answeredAt = performance.now();
  expect(ttl).toBe(TTL);
  await member.api.put(key, 'here', { lease: id });
  return { id, sentAt, answeredAt };
}

async function exists(api: HttpApi, key: string): Promise<boolean> {
  return (await api.range(key)).count === 1;
}

/**
 * Waits for the end of a key. It was there at `aliveAt` and gone by `goneAt`: the beginning of the last call
 * that found it and the end of the first that did not, so that a slow answer proves nothing wrong.
 */
async function endOf(api: HttpApi, key: string): Promise<{ aliveAt: number; goneAt: number }> {
  let aliveAt = performance.now();
  return await waitFor(`the end of ${key}`, 60_000, async () => {
    const askedAt = performance.now();
    if (!(await exists(api, key))) return { aliveAt, goneAt: performance.now() };
    aliveAt = askedAt;
    return null;
  });
}

it('a key of a lease goes at its time, not before and not much later', async () => {
  const cluster = await clusters.start({ flags: CALM });
  const [first, other] = [cluster.member(0), cluster.member(1)];
  const { id, sentAt, answeredAt } = await service(first, 's/1');

  const { aliveAt, goneAt } = await endOf(other.api, 's/1');

  expect(goneAt - sentAt).toBeGreaterThanOrEqual(TTL * 1_000 - 50);
  expect(aliveAt - answeredAt).toBeLessThan(TTL * 1_000 + GRACE_MS);
  expect(await first.api.leaseTimeToLive(id)).toBe(-1);
  expect(await first.api.renewLease(id)).toBe(0);
});

it('a lease that is renewed through any member lives on', async () => {
  const cluster = await clusters.start({ flags: CALM });
  const { id, answeredAt } = await service(cluster.member(0), 's/1');
  let turn = 0;
  let renewedAt = answeredAt;

  await staysFalse('an end in spite of renewals', TTL * 3_000, async () => {
    turn += 1;
    if (performance.now() - renewedAt > 400) {
      renewedAt = performance.now();
      expect(await cluster.member(turn % 3).api.renewLease(id)).toBe(TTL);
    }
    return !(await exists(cluster.member(turn % 3).api, 's/1'));
  });
});

it('all keys of a lease go in one revision', async () => {
  const cluster = await clusters.start();
  const { api } = cluster.member(0);
  const { id } = await api.grantLease(TTL);
  const puts = Array.from({ length: 40 }, (_, at) => api.put(`s/${at}`, 'x', { lease: id }));
  const last = Math.max(...(await Promise.all(puts)).map(({ revision }) => revision));
  const stream = await api.watch('s/', { rangeEnd: 's0', startRevision: last + 1 });

  const message = await stream.next(60_000);
  stream.close();

  expect(message?.events.length).toBe(40);
  expect(new Set(message?.events.map(({ type }) => type))).toEqual(new Set(['DELETE']));
  expect(new Set(message?.events.map(({ kv }) => kv.modRevision)).size).toBe(1);
});

it('a key outlives the death of the leader but not its holder for long', async () => {
  const cluster = await clusters.start({ flags: CALM });
  const { sentAt } = await service(cluster.member(0), 's/1');
  const leader = await cluster.waitLeader();

  await leader.kill();
  const next = await cluster.waitLeader();
  const knownAt = performance.now();
  const { aliveAt, goneAt } = await endOf(next.api, 's/1');

  expect(goneAt - sentAt).toBeGreaterThanOrEqual(TTL * 1_000 - 50);
  expect(aliveAt - knownAt).toBeLessThan(TTL * 1_000 + GRACE_MS);
});

it('leases survive the restart of all members and still end', async () => {
  const cluster = await clusters.start({ flags: CALM });
  await service(cluster.member(0), 's/1');
  const kept = await cluster.member(0).api.grantLease(600);
  await cluster.member(0).api.put('s/kept', 'x', { lease: kept.id });

  await Promise.all(cluster.members.map((member) => member.kill()));
  await Promise.all(cluster.members.map((member) => member.start()));
  await cluster.waitLeader();
  const { api } = cluster.member(1);
  const backAt = performance.now();
  const { aliveAt } = await endOf(api, 's/1');

  expect(aliveAt - backAt).toBeLessThan(TTL * 1_000 + GRACE_MS);
  expect(await exists(api, 's/kept')).toBe(true);
  expect(await api.leaseTimeToLive(kept.id)).toBeGreaterThan(0);
});

it('a thousand leases that end at once end in time', async () => {
  const cluster = await clusters.start({ flags: CALM });
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
  let aliveAt = lastAt;
  let slowest = 0;

  await waitFor('the end of all keys', 60_000, async () => {
    const askedAt = performance.now();
    const { count: left } = await api.range('s/', { rangeEnd: 's0', countOnly: true });
    slowest = Math.max(slowest, performance.now() - askedAt);
    if (left > 0) aliveAt = askedAt;
    return left === 0;
  });

  expect(performance.now() - lastAt).toBeGreaterThan(TTL * 1_000 - 2_500);
  expect(aliveAt - lastAt).toBeLessThan(TTL * 1_000 + GRACE_MS + 2_000);
  expect(slowest).toBeLessThan(2_000);
});

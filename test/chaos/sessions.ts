/**
 * Clients that hold something for a time: leases with keys under them, and a lock that guards a
 * resource.
 *
 * The resource of the lock is guarded twice. Inside the store, by a write that only happens while the
 * holder's key exists; outside, by a resource that keeps the highest token it has seen and turns away
 * lower ones. Some holders fall asleep for longer than their lease and then go on as if nothing had
 * happened, which is what fencing is for.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { fromBase64, toBase64 } from '../support/http-api.js';
import { type Client, isTold } from './client.js';
import { transact } from './transaction.js';
import type { Worker } from './workloads.js';

const LOCK_NAME = 'lock/a';
const LOCK_TTL = 3;
const LOCK_WAIT_MS = 2_500;

export function leaseWorker(client: Client): Worker {
  let count = 0;
  const turn = async (): Promise<void> => {
    const { prng } = client;
    const wanted = 2 + prng.below(5);
    const granted = await client.attempt({ op: 'grant', key: '', ttl: wanted }, async (api) => {
      const { id, ttl } = await api.grantLease(wanted);
      return { lease: id, ttl };
    });
    if (!isTold(granted) || granted.lease === undefined) return;
    const lease = granted.lease;
    count += 1;
    const key = `lease/${client.number}/${count}`;
    const value = `${client.number}.${count}`;
    const wish = { op: 'put', key, writes: [[key, value]] as const, lease };
    const attached = await client.attempt(wish, async (api) => {
      const { revision } = await api.put(key, value, { lease });
      return { revision, applied: true };
    });
    if (!isTold(attached)) return;
    const until = client.recorder.now() + prng.below(6_000);
    while (!client.stopped && client.recorder.now() < until) {
      const renewed = await client.attempt({ op: 'renew', key, lease }, async (api) => {
        return { ttl: await api.renewLease(lease) };
      });
      if (isTold(renewed) && renewed.ttl === 0) return;
      await pause((wanted * 1_000) / 3);
    }
    // Half of them are left to end by themselves; at the end of a run that would be waited for.
    if (!client.stopped && prng.chance(0.5)) return;
    await client.attempt({ op: 'revoke', key, lease }, async (api) => {
      await api.revokeLease(lease);
      return {};
    });
  };
  return { client, run: () => client.run(turn, 100) };
}

/** What the lock guards: it takes the word of a holder unless it has seen a later one. */
export class FencedResource {
  private highest = 0;

  access(token: number): boolean {
    if (token < this.highest) return false;
    this.highest = token;
    return true;
  }
}

export function lockWorker(client: Client, resource: FencedResource): Worker {
  let accesses = 0;
  const turn = async (): Promise<void> => {
    const { prng } = client;
    const granted = await client.attempt({ op: 'grant', key: '', ttl: LOCK_TTL }, async (api) => {
      const { id, ttl } = await api.grantLease(LOCK_TTL);
      return { lease: id, ttl };
    });
    if (!isTold(granted) || granted.lease === undefined) return;
    const lease = granted.lease;
    let lockKey = '';
    const held = await client.attempt({ op: 'lock', key: LOCK_NAME, lease }, async (api) => {
      const body = { name: toBase64(LOCK_NAME), lease };
      const reply = await api.call('/v3/lock/lock', body, LOCK_WAIT_MS);
      lockKey = fromBase64(reply['key']);
      const header = reply['header'] as { revision?: string } | undefined;
      const token = Number(reply['fencing_token'] ?? 0);
      return { revision: Number(header?.revision ?? 0), token };
    });
    if (!isTold(held) || held.token === undefined || held.token === 0) {
      await revoke(client, lease);
      return;
    }
    if (prng.chance(0.1)) await pause(LOCK_TTL * 1_000 + prng.below(1_500));
    for (let times = prng.below(3); times >= 0; times -= 1) {
      accesses += 1;
      await use(client, resource, lockKey, held.token, accesses);
      await pause(prng.below(100));
    }
    if (prng.chance(0.1)) return;
    await revoke(client, lease);
  };
  return { client, run: () => client.run(turn, 50) };
}

async function use(
  client: Client,
  resource: FencedResource,
  lockKey: string,
  token: number,
  count: number,
): Promise<void> {
  await client.attempt({ op: 'access', key: 'outside' }, () => {
    return Promise.resolve({ token, applied: resource.access(token) });
  });
  const value = `${token}.${client.number}.${count}`;
  const wish = { op: 'guarded write', key: 'resource/a', writes: [['resource/a', value]] as const };
  await client.attempt(wish, async (api) => {
    const compare = [{ key: lockKey, createRevision: token }];
    const puts = [['resource/a', value]] as const;
    const { revision, succeeded } = await transact(api, { compare, puts });
    return { revision, applied: succeeded, token };
  });
}

async function revoke(client: Client, lease: string): Promise<void> {
  await client.attempt({ op: 'revoke', key: LOCK_NAME, lease }, async (api) => {
    await api.revokeLease(lease);
    return {};
  });
}

/**
 * The SDK against real processes: what only shows on a real cluster, with real sizes and cut connections.
 */
import { afterEach, describe, expect, it } from 'vitest';
import { KvdClient } from '../../src/client/client.js';
import type { HeldLock } from '../../src/client/lock.js';
import { useClusters } from '../support/cluster-fixture.js';
import { CALM, type Cluster } from '../support/cluster-processes.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { clientOptions } from '../support/test-certificates.js';
import { staysFalse, waitFor, within } from '../support/wait.js';

const clusters = useClusters();
const clients: KvdClient[] = [];
const proxies: FaultProxy[] = [];

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await Promise.all(proxies.splice(0).map((proxy) => proxy.close()));
});

function connect(endpoints: readonly string[], protocol: 'grpc' | 'http' = 'grpc'): KvdClient {
  const client = new KvdClient({ endpoints, protocol, timeoutMs: 15_000, ...clientOptions() });
  clients.push(client);
  return client;
}

function endpointsOf(cluster: Cluster): string[] {
  return cluster.members.map(({ clientUrl }) => clientUrl);
}

/** Bytes of which no two pieces are alike: what is lost, doubled or moved shows. */
function value(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at + 4 <= size; at += 4) bytes.writeUInt32BE((at * 2_654_435_761) >>> 0, at);
  return bytes;
}

describe('large values', () => {
  it.each(['grpc', 'http'] as const)(
    'are put and read back as they are, over %s',
    async (protocol) => {
      const cluster = await clusters.start({ size: 1 });
      const client = connect(endpointsOf(cluster), protocol);
      const sizes = [100_000, 600_000, 1_400_000];

      // At once: they share a connection, and its windows, over gRPC.
      await Promise.all(sizes.map((size) => client.put(`v/${size}`, value(size))));

      const pairs = await Promise.all(sizes.map((size) => client.get(`v/${size}`)));
      for (const [at, size] of sizes.entries()) {
        expect(Buffer.from(pairs[at]?.value ?? []).equals(value(size)), `${size} bytes`).toBe(true);
      }
      const all = await client.range({ key: 'v/', rangeEnd: 'v0' });
      expect(all.kvs.map(({ value: { length } }) => length)).toEqual([100_000, 1_400_000, 600_000]);
    },
  );
});

describe('a lock whose connection is cut', () => {
  /** A client that asks through a proxy in front of the first member, and knows the others, too. */
  async function cuttable(cluster: Cluster): Promise<{ client: KvdClient; proxy: FaultProxy }> {
    const proxy = await FaultProxy.listen(cluster.member(0).clientPort);
    proxies.push(proxy);
    const [, ...others] = endpointsOf(cluster);
    return {
      client: connect([`${cluster.member(0).scheme}://127.0.0.1:${proxy.port}`, ...others]),
      proxy,
    };
  }

  it('is kept by its holder, through another member', async () => {
    const cluster = await clusters.start({ flags: CALM });
    const { client, proxy } = await cuttable(cluster);
    const lock = await client.lock('job', { ttl: 3 });
    await waitFor('the connection', 2000, () => proxy.connections > 0);

    proxy.refuse();

    // Longer than the lease lives without renewals.
    await staysFalse('the loss of the lock', 6000, () => lock.signal.aborted);
    const other = connect(endpointsOf(cluster));
    await expect(other.lock('job', { waitMs: 500 })).rejects.toMatchObject({ code: 'NOT_WON' });
    // The watch of its key has found another way, too.
    await other.delete(lock.key);
    await waitFor('the loss', 5000, () => lock.signal.aborted);
    expect(lock.signal.reason).toMatchObject({ code: 'KEY_DELETED' });
    await lock.release();
  });

  it.each([
    ['breaks', (proxy: FaultProxy) => proxy.refuse()],
    ['falls silent', (proxy: FaultProxy) => proxy.cut()],
  ])('is waited for anew when the connection %s, and held by one alone', async (_what, fail) => {
    const cluster = await clusters.start({ flags: CALM });
    const holder = connect(endpointsOf(cluster));
    const first = await holder.lock('job', { ttl: 60 });
    const { client, proxy } = await cuttable(cluster);
    let next: HeldLock | null = null;
    const waiting = client.lock('job', { ttl: 60 }).then((lock) => {
      next = lock;
      return lock;
    });
    const places = async (): Promise<number> =>
      (await holder.range({ key: 'job/', rangeEnd: 'job0', countOnly: true })).count;
    await waitFor('its place in the queue', 5000, async () => (await places()) === 2);

    fail(proxy);

    // By then it has given up the old connection: a silent one after 10 s and 5 s for a sign of life.
    await waitFor('a place through another member', 40_000, async () => {
      const { kvs } = await holder.range({ key: 'job/', rangeEnd: 'job0' });
      const last = Math.max(...kvs.map(({ createRevision }) => createRevision));
      return kvs.length === 2 && last > first.revision + 1;
    });
    expect(next).toBeNull();
    await first.release();
    const second = await within('the lock', 30_000, waiting);

    expect(second.revision).toBeGreaterThan(first.revision);
    expect(await places()).toBe(1);
    const guarded = { compare: [first.guard] };
    expect((await holder.txn(guarded)).succeeded).toBe(false);
    await second.release();
    // Of the member that is asked, which may not know yet what another one has done.
    await waitFor('no lease', 5000, async () => (await holder.listLeases()).leases.length === 0);
  });
});

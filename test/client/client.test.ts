/**
 * The SDK in front of the real services and state machine, over gRPC and over the JSON gateway: what a
 * program gets. Both ways must give the same.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KvdClient } from '../../src/client/client.js';
import { ClientError } from '../../src/client/client-error.js';
import { get, put, remove, when, whenExists, whenMissing } from '../../src/client/conditions.js';
import { ALL_KEYS, fromKey, prefix } from '../../src/client/ranges.js';
import type { WatchItem } from '../../src/client/watcher.js';
import { KvError } from '../../src/errors.js';
import { AlarmType } from '../../src/kv/command.js';
import { serveGateway } from '../support/gateway-client.js';
import { serveGrpc } from '../support/grpc-client.js';
import { LocalNode } from '../support/local-node.js';
import { waitFor, within } from '../support/wait.js';

let node: LocalNode;
let client: KvdClient;
let endpoint: string;
let stop: () => Promise<void>;

async function start(protocol: 'grpc' | 'http'): Promise<void> {
  node = new LocalNode();
  const served = protocol === 'grpc' ? await serveGrpc(node) : await serveGateway(node);
  endpoint = `127.0.0.1:${served.port}`;
  client = new KvdClient({ endpoints: [endpoint], protocol, timeoutMs: 3000 });
  stop = async () => {
    client.close();
    node.stop();
    await served.stop();
  };
}

async function codeOf(call: Promise<unknown>): Promise<string> {
  const error: unknown = await call.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ClientError);
  return (error as ClientError).code;
}

const names = async (pairs: AsyncIterable<{ readonly name: string }>): Promise<string[]> => {
  const all: string[] = [];
  for await (const { name } of pairs) all.push(name);
  return all;
};

describe.each(['grpc', 'http'] as const)('over %s', (protocol) => {
  beforeEach(() => start(protocol));
  afterEach(() => stop());

  it('writes, reads, and deletes', async () => {
    await client.put('a', '{"n":1}');
    const pair = await client.get('a');
    expect(pair).toMatchObject({ name: 'a', version: 1, lease: 0, modRevision: 2 });
    expect(pair?.text()).toBe('{"n":1}');
    expect(pair?.json<{ n: number }>().n).toBe(1);
    expect((await client.put('a', 'x', { prevKv: true })).prevKv?.text()).toBe('{"n":1}');
    expect((await client.get('a', { revision: 2 }))?.text()).toBe('{"n":1}');
    expect((await client.delete('a', { prevKv: true })).prevKvs[0]?.text()).toBe('x');
    expect(await client.get('a')).toBeNull();
  });

  it('keeps any bytes of keys and values as they are', async () => {
    const key = Uint8Array.of(0, 255, 128, 10);
    const value = Uint8Array.from({ length: 256 }, (_, at) => at);
    await client.put(key, value);
    const pair = await client.get(key);
    expect([...(pair?.key ?? [])]).toEqual([...key]);
    expect([...(pair?.value ?? [])]).toEqual([...value]);
  });

  it('reads ranges by prefix, from a key on, and as a whole', async () => {
    for (const key of ['a', 'b/1', 'b/2', 'b0', 'c']) await client.put(key, key);
    const found = async (range: Parameters<KvdClient['range']>[0]): Promise<string> =>
      (await client.range(range)).kvs.map(({ name }) => name).join(' ');
    expect(await found(prefix('b/'))).toBe('b/1 b/2');
    expect(await found(fromKey('b0'))).toBe('b0 c');
    expect(await found(ALL_KEYS)).toBe('a b/1 b/2 b0 c');
    expect(await found({ ...ALL_KEYS, sortOrder: 'DESCEND', sortTarget: 'KEY', limit: 2 })).toBe(
      'c b0',
    );
    expect((await client.range({ ...ALL_KEYS, countOnly: true })).count).toBe(5);
    expect((await client.delete(prefix('b/'))).deleted).toBe(2);
  });

  it('lists page by page as of one moment', async () => {
    for (let at = 0; at < 25; at += 1) await client.put(`k${String(at).padStart(2, '0')}`, 'v');
    const seen: string[] = [];
    for await (const { name } of client.list(prefix('k'), { pageKeys: 10 })) {
      // What comes behind the reader is not of that moment.
      if (seen.length === 5) await client.put('k99', 'late');
      seen.push(name);
    }
    expect(seen).toHaveLength(25);
    expect(seen).not.toContain('k99');
    expect(await names(client.list(prefix('k'), { pageKeys: 13 }))).toHaveLength(26);
    expect(await names(client.list({ key: 'k01' }))).toEqual(['k01']);
  });

  it('decides a transaction by its conditions', async () => {
    const first = await client.txn({
      compare: [whenMissing('a')],
      success: [put('a', '1'), get('a')],
      failure: [get('a')],
    });
    expect(first.succeeded).toBe(true);
    expect(first.responses[1]).toMatchObject({ type: 'range', range: { count: 1 } });
    const conditions = [
      whenExists('a'),
      when('a', 'VALUE', '=', '1'),
      when('a', 'VALUE', '<', '2'),
      when('a', 'VERSION', '=', 1),
      when('a', 'MOD', '>', 1),
      when('a', 'CREATE', '!=', 9),
      when('a', 'LEASE', '=', 0),
    ];
    const second = await client.txn({
      compare: conditions,
      success: [
        remove(prefix('a'), { prevKv: true }),
        { type: 'txn', txn: { success: [get('a')] } },
      ],
    });
    expect(second.succeeded).toBe(true);
    expect(second.responses).toMatchObject([
      { type: 'delete', delete: { deleted: 1 } },
      {
        type: 'txn',
        txn: { succeeded: true, responses: [{ type: 'range', range: { count: 0 } }] },
      },
    ]);
    expect((await client.txn({ compare: [whenExists('a')] })).succeeded).toBe(false);
  });

  it('loses no update of twenty writers', async () => {
    const add = (): Promise<unknown> =>
      client.update('n', (pair) => String(Number(pair?.text() ?? 0) + 1), { timeoutMs: 10_000 });
    await Promise.all(Array.from({ length: 20 }, add));
    expect((await client.get('n'))?.text()).toBe('20');
    expect(await client.update('n', () => null)).toBeNull();
    expect(await client.get('n')).toBeNull();
    expect(await client.update('n', () => null)).toBeNull();
    expect((await client.update('n', () => 'new'))?.version).toBe(1);
  });

  it('deletes by an update only what the update has seen', async () => {
    await client.put('n', 'mine');
    const seen: string[] = [];
    let other: Promise<unknown> = Promise.resolve();
    /** Between what its update reads and what it writes, somebody else is faster. */
    class LateClient extends KvdClient {
      override async txn(...args: Parameters<KvdClient['txn']>): ReturnType<KvdClient['txn']> {
        await other;
        return await super.txn(...args);
      }
    }
    using late = new LateClient({ endpoints: [endpoint], protocol });

    const pair = await late.update('n', (current) => {
      seen.push(current?.text() ?? 'nothing');
      if (seen.length === 1) other = client.put('n', 'not yours');
      return current?.text() === 'mine' ? null : `${current?.text()}, still`;
    });

    expect(seen).toEqual(['mine', 'not yours']);
    expect(pair?.text()).toBe('not yours, still');
    // It was never gone in between.
    expect(pair?.version).toBe(3);
  });

  it('says what the server refuses', async () => {
    expect(await codeOf(client.put('', 'v'))).toBe('EMPTY_KEY');
    expect(await codeOf(client.put('a', 'v', { lease: 5 }))).toBe('LEASE_NOT_FOUND');
    expect(await codeOf(client.get('a', { revision: 99 }))).toBe('FUTURE_REVISION');
    expect(await codeOf(client.put('a', Buffer.alloc(2_000_000)))).toBe('REQUEST_TOO_LARGE');
    for (let at = 0; at < 4; at += 1) await client.put('a', String(at));
    await client.compact(4);
    expect(await codeOf(client.get('a', { revision: 2 }))).toBe('COMPACTED');
  });

  it('watches from now or from the past, and stops when asked to', async () => {
    await client.put('w/1', 'a');
    const stopping = new AbortController();
    const items: WatchItem[] = [];
    const run = async (): Promise<void> => {
      const options = { signal: stopping.signal, startRevision: 2, prevKv: true };
      for await (const item of client.watch(prefix('w/'), options)) items.push(item);
    };
    const running = run();
    await waitFor('the first event', 3000, () => items.some(({ type }) => type === 'events'));
    await client.put('w/1', 'b');
    await client.delete('w/1');
    const events = (): string[] =>
      items.flatMap((item) =>
        item.type === 'events'
          ? item.events.map(
              ({ type, kv, prevKv }) => `${type} ${kv.text()}<${prevKv?.text() ?? ''}`,
            )
          : [],
      );
    await waitFor('the others', 3000, () => events().length === 3);
    stopping.abort();
    await within('the end', 2000, running);
    expect(events()).toEqual(['PUT a<', 'PUT b<a', 'DELETE <b']);
  });

  it('follows a range: what is there, what changes, and anew after a compaction', async () => {
    for (const key of ['f/1', 'f/2']) await client.put(key, 'v');
    const known = new Map<string, string>();
    const types: string[] = [];
    const stopping = new AbortController();
    const run = async (): Promise<void> => {
      for await (const item of client.follow(prefix('f/'), { signal: stopping.signal })) {
        types.push(item.type);
        if (item.type === 'snapshot') {
          known.clear();
          for (const kv of item.kvs) known.set(kv.name, kv.text());
          if (types.length > 1) continue;
          // Before the watch begins: it asks for revisions that are gone.
          for (let at = 0; at < 3; at += 1) await client.put('f/2', `v${at}`);
          await client.compact((await client.put('f/3', 'new')).header.revision);
        }
        if (item.type !== 'events') continue;
        for (const { type, kv } of item.events) {
          if (type === 'PUT') known.set(kv.name, kv.text());
          else known.delete(kv.name);
        }
      }
    };
    const running = run();
    await waitFor('the second look', 3000, () => known.get('f/3') === 'new');
    await client.delete('f/1');
    await waitFor('the deletion', 3000, () => !known.has('f/1'));
    stopping.abort();
    await within('the end', 2000, running);
    expect(types.filter((type) => type === 'snapshot')).toHaveLength(2);
    expect([...known]).toEqual([
      ['f/2', 'v2'],
      ['f/3', 'new'],
    ]);
  });

  it('keeps leases, and gives them back', async () => {
    const { id, ttl } = await client.grantLease(60);
    expect(ttl).toBe(60);
    await client.put('l', 'v', { lease: id });
    expect((await client.renewLease(id)).ttl).toBe(60);
    expect(await client.leaseTimeToLive(id, true)).toMatchObject({ id, grantedTtl: 60 });
    expect((await client.listLeases()).leases).toContain(id);
    await client.revokeLease(id);
    expect(await client.get('l')).toBeNull();
    expect((await client.renewLease(id)).ttl).toBe(0);
    let kept = 0;
    {
      await using lease = await client.keepLease(60);
      kept = Number(lease.leaseId);
      await client.put('l', 'v', { lease: lease.leaseId });
    }
    expect((await client.listLeases()).leases).not.toContain(kept);
    expect(await client.get('l')).toBeNull();
  });

  it('locks with a guard that fences off who has lost', async () => {
    const first = await client.lock('job');
    expect(await codeOf(client.lock('job', { waitMs: 100 }))).toBe('NOT_WON');
    const guarded = { compare: [first.guard], success: [put('result', 'of the first')] };
    expect((await client.txn(guarded)).succeeded).toBe(true);
    await first.release();
    await using second = await client.lock('job');
    expect(second.revision).toBeGreaterThan(first.revision);
    expect((await client.txn(guarded)).succeeded).toBe(false);
  });

  it('tells the holder of a lock whose key was deleted by hand', async () => {
    const lock = await client.lock('job');
    const seat = await client.campaign('chief', 'one');
    await seat.proclaim('one, louder');
    expect((await client.leaseTimeToLive(lock.leaseId, true)).keys.map(String)).toEqual([
      String(lock.key),
    ]);

    await client.delete(lock.key);
    await waitFor('the loss', 3000, () => lock.signal.aborted);
    expect(lock.signal.reason).toMatchObject({ code: 'KEY_DELETED' });
    expect(seat.signal.aborted).toBe(false);
    await client.delete(seat.leader.key);
    await waitFor('the loss', 3000, () => seat.signal.aborted);

    // The leases live until their holders let go.
    await lock.release();
    await seat.resign();
    expect((await client.listLeases()).leases).toEqual([]);
  });

  it('tells nobody of a lock that its holder releases', async () => {
    const lock = await client.lock('job');
    const seat = await client.campaign('chief', 'one');
    // Long enough for both watches to have begun.
    await waitFor('the watches', 3000, () => node.watches.counts().watchers === 2);
    await lock.release();
    await seat.resign();
    expect([lock.signal.aborted, seat.signal.aborted]).toEqual([false, false]);
  });

  it('elects one, shows who, and lets the next one lead', async () => {
    const seen: string[] = [];
    const stopping = new AbortController();
    const observe = async (): Promise<void> => {
      for await (const kv of client.observe('chief', { signal: stopping.signal })) {
        seen.push(kv.text());
      }
    };
    const observing = observe();
    const one = await client.campaign('chief', 'one');
    const waiting = client.campaign('chief', 'two');
    await one.proclaim('one, louder');
    await waitFor('the word', 3000, () => seen.includes('one, louder'));
    expect((await client.electionLeader('chief')).text()).toBe('one, louder');
    await one.resign();
    {
      await using two = await waiting;
      expect(two.leader.revision).toBeGreaterThan(one.leader.revision);
      expect((await client.txn({ compare: [one.guard] })).succeeded).toBe(false);
      expect((await client.txn({ compare: [two.guard] })).succeeded).toBe(true);
      await waitFor('the next', 3000, () => seen.at(-1) === 'two');
    }
    expect(await codeOf(client.electionLeader('chief'))).toBe('ELECTION_NO_LEADER');
    stopping.abort();
    await within('the end', 2000, observing);
  });

  it('registers instances and finds them', async () => {
    const meta = { zone: 'a' };
    const one = client.register({ name: 'billing', id: '1', address: '10.0.0.1:80', meta });
    const found = (): Promise<unknown> => client.instances('billing');
    await waitFor('the instance', 3000, async () => ((await found()) as unknown[]).length === 1);
    expect(await found()).toEqual([{ name: 'billing', id: '1', address: '10.0.0.1:80', meta }]);
    await client.put('/services/billing/2', 'plain:80');
    expect(await client.instances('billing')).toHaveLength(2);
    await one.stop();
    expect(await found()).toEqual([{ name: 'billing', id: '2', address: 'plain:80', meta: {} }]);
  });

  it('asks members how they are', async () => {
    expect((await client.listMembers()).header.memberId).toBe(1);
    expect(await client.status()).toMatchObject({ version: '3.6.0', leader: 1 });
    expect((await client.hashKv()).hashRevision).toBe(1);
  });

  it('shows alarms, ends them, and lets a member give space back', async () => {
    const full = { memberId: 1, kind: 'NOSPACE' } as const;
    expect(await client.alarms()).toEqual([]);
    await node.propose(
      { kind: 'alarm', action: 'activate', memberId: 1, alarm: AlarmType.NoSpace },
      node.context(),
    );

    expect(await client.alarms()).toEqual([full]);
    expect(await client.disarm({ ...full, kind: 'CORRUPT' })).toBe(false);
    expect(await client.disarm(full)).toBe(true);
    expect(await client.disarm(full)).toBe(false);
    expect(await client.alarms()).toEqual([]);
    await client.defragment();
    expect(node.defragmented).toBe(1);
  });
});

describe('what a server of kvd knows of a failure', () => {
  beforeEach(() => start('grpc'));
  afterEach(() => stop());

  it('lets a write be sent again that surely had no effect, though its text does not say so', async () => {
    node.failure = new KvError('TIMEOUT_NO_EFFECT', 'the leader did not take the write in time');
    expect((await client.put('a', '1')).header.revision).toBe(2);
    expect(node.contexts).toHaveLength(2);
  });

  it('keeps a write from being sent again that may have had one', async () => {
    node.failure = new KvError('TIMEOUT', 'the write was not confirmed in time');
    await expect(client.put('a', '1')).rejects.toMatchObject({
      code: 'TIMEOUT',
      outcome: 'unknown',
      retryable: false,
    });
    expect(node.contexts).toHaveLength(1);
  });

  it('goes on to another member from one that is a learner', async () => {
    node.isLearner = true;
    const other = new LocalNode();
    const served = await serveGrpc(other);
    const both = new KvdClient({ endpoints: [endpoint, `127.0.0.1:${served.port}`] });
    await both.put('a', '1');
    expect(other.contexts).toHaveLength(1);
    both.close();
    other.stop();
    await served.stop();
  });
});

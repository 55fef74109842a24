/**
 * The Lock service over the real state machine and watch service, without a cluster. What is checked
 * is what a lock is for: one holder at a time, in order, and nobody waits for a key that is gone.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fromLatin1 } from '../../src/bytes.js';
import { KvError } from '../../src/errors.js';
import type { Command } from '../../src/kv/command.js';
import { type RangeRequest, rangeOf } from '../../src/kv/request.js';
import type { ProposeOutcome, ReadOutcome, RequestContext } from '../../src/node.js';
import { lock, unlock } from '../../src/rpc/services/lock.js';
import { LocalNode } from '../support/local-node.js';
import { staysFalse, waitFor } from '../support/wait.js';

class CountingNode extends LocalNode {
  reads = 0;
  linearizableReads = 0;
  /** Run once, before the next linearizable read and after the next local one. */
  beforeRead: (() => void) | null = null;
  afterLocalRead: (() => Promise<unknown> | undefined) | null = null;
  /** The next write is applied, but its caller is told earlier that it was called off. */
  appliesLate = false;

  override async range(
    request: RangeRequest,
    serializable: boolean,
    context: RequestContext,
  ): Promise<ReadOutcome> {
    this.reads += 1;
    if (!serializable) {
      this.linearizableReads += 1;
      this.beforeRead?.();
    }
    const outcome = await super.range(request, serializable, context);
    const { afterLocalRead } = this;
    // Of the two local reads of a round the second looks for who is ahead.
    if (serializable && request.rangeEnd !== '' && afterLocalRead !== null) {
      this.afterLocalRead = null;
      await afterLocalRead();
    }
    return outcome;
  }

  override async propose(command: Command, context: RequestContext): Promise<ProposeOutcome> {
    if (!this.appliesLate) return super.propose(command, context);
    this.appliesLate = false;
    const { signal } = context;
    const late = new Promise<ProposeOutcome>((resolve, reject) => {
      setTimeout(
        () => super.propose(command, { ...context, signal: null }).then(resolve, reject),
        30,
      );
    });
    const calledOff = new Promise<never>((_, reject) => {
      signal?.addEventListener('abort', () => reject(new KvError('CANCELED', 'called off')));
    });
    return Promise.race([late, calledOff]);
  }
}

let node: CountingNode;

beforeEach(() => {
  node = new CountingNode();
});

afterEach(() => node.stop());

async function grant(id: number): Promise<number> {
  await node.propose({ kind: 'leaseGrant', id, ttl: 30 }, node.context());
  return id;
}

function revoke(id: number): Promise<unknown> {
  return node.propose({ kind: 'leaseRevoke', id }, node.context());
}

function keys(): string[] {
  const answer = node.machine.store.range(rangeOf({ key: '\0', rangeEnd: '\0' }));
  return 'error' in answer ? [] : answer.kvs.map(({ key }) => key);
}

function deleteKey(key: string): Promise<unknown> {
  return node.propose({ kind: 'deleteRange', key, rangeEnd: '', prevKv: false }, node.context());
}

/** A Lock call and how it stands. */
function acquire(lease: number, name = 'jobs', context = node.context()) {
  const call = { done: false, promise: lock(node, { name, lease }, context) };
  call.promise.then(
    () => {
      call.done = true;
    },
    () => {
      call.done = true;
    },
  );
  return call;
}

/** Each call that waits watches its own key and the one before it. */
function waiting(count: number): Promise<unknown> {
  return waitFor(
    `${count} waiting calls`,
    5_000,
    () => node.watches.counts().watchers === 2 * count,
  );
}

describe('Lock', () => {
  it('holds the lock by a key of the name and the lease in hexadecimal', async () => {
    await grant(0xbeef);

    const response = await lock(node, { name: 'jobs', lease: 0xbeef }, node.context());

    const pair = node.machine.store.get('jobs/beef');
    expect(response.key).toBe('jobs/beef');
    expect(response.fencingToken).toBe(pair?.createRevision);
    expect(response.header.revision).toBe(node.machine.store.revision);
    expect(pair?.lease).toBe(0xbeef);
    expect(pair?.value).toHaveLength(0);
  });

  it('gives a caller without a lease one of a minute', async () => {
    const { key } = await lock(node, { name: 'jobs', lease: 0 }, node.context());

    const lease = node.machine.store.get(key)?.lease ?? 0;
    expect(node.machine.lessor.get(lease)?.ttl).toBe(60);
  });

  it('refuses a lease that does not exist and leaves no key', async () => {
    const call = lock(node, { name: 'jobs', lease: 5 }, node.context());

    await expect(call).rejects.toMatchObject({ code: 'LEASE_NOT_FOUND' });
    expect(keys()).toEqual([]);
  });

  it('waits until the holder unlocks', async () => {
    const first = await lock(node, { name: 'jobs', lease: await grant(1) }, node.context());
    const second = acquire(await grant(2));
    await waiting(1);

    const before = second.done;
    await unlock(node, { key: first.key }, node.context());
    const { key, fencingToken } = await second.promise;

    expect(before).toBe(false);
    expect(key).toBe('jobs/2');
    expect(fencingToken).toBeGreaterThan(first.fencingToken);
  });

  it('waits until the lease of the holder ends', async () => {
    await lock(node, { name: 'jobs', lease: await grant(1) }, node.context());
    const second = acquire(await grant(2));
    await waiting(1);

    await revoke(1);

    await expect(second.promise).resolves.toMatchObject({ key: 'jobs/2' });
  });

  it('does not wait for a lock whose name begins with its own', async () => {
    await lock(node, { name: 'jobs2', lease: await grant(1) }, node.context());
    await lock(node, { name: 'jobs/x', lease: await grant(3) }, node.context());

    const call = lock(node, { name: 'job', lease: await grant(2) }, node.context());

    await expect(call).resolves.toMatchObject({ key: 'job/2' });
  });

  it('is granted again to the lease that holds it, with the same token', async () => {
    const first = await lock(node, { name: 'jobs', lease: await grant(1) }, node.context());

    const again = await lock(node, { name: 'jobs', lease: 1 }, node.context());

    expect(again.key).toBe(first.key);
    expect(again.fencingToken).toBe(first.fencingToken);
  });

  it('serves a thousand contenders in order, one wake-up per release', async () => {
    const contenders = 1_000;
    const order: number[] = [];
    await lock(node, { name: 'jobs', lease: await grant(1) }, node.context());
    const calls: Promise<void>[] = [];
    for (let id = 2; id < contenders + 2; id += 1) {
      await grant(id);
      calls.push(
        lock(node, { name: 'jobs', lease: id }, node.context()).then(({ fencingToken }) => {
          order.push(fencingToken);
        }),
      );
    }
    await waiting(contenders);
    const created = keys().map((key) => node.machine.store.get(key)?.createRevision ?? 0);
    node.reads = 0;
    node.linearizableReads = 0;

    for (let id = 1; id < contenders + 1; id += 1) {
      await deleteKey(`jobs/${id.toString(16)}`);
      await calls[id - 1];
    }
    await Promise.all(calls);

    // Own key, older keys, and the own key once more before the answer: of one waiter each.
    expect(node.linearizableReads).toBe(contenders);
    expect(node.reads).toBe(3 * contenders);
    expect(order).toEqual(created.sort((a, b) => a - b).slice(1));
    expect(node.watches.counts().watchers).toBe(0);
  }, 60_000);

  it('of a client that leaves takes its key along, and who waited behind waits on', async () => {
    const first = await lock(node, { name: 'jobs', lease: await grant(1) }, node.context());
    const leaving = new AbortController();
    const second = acquire(await grant(2), 'jobs', node.context(undefined, leaving.signal));
    await waiting(1);
    const third = acquire(await grant(3));
    await waiting(2);

    leaving.abort();

    await expect(second.promise).rejects.toMatchObject({ code: 'CANCELED' });
    expect(keys()).toEqual(['jobs/1', 'jobs/3']);
    await waiting(1);
    expect(third.done).toBe(false);
    await unlock(node, { key: first.key }, node.context());
    await expect(third.promise).resolves.toMatchObject({ key: 'jobs/3' });
  });

  it('of a client that leaves while its key is being written leaves no key', async () => {
    await grant(1);
    node.appliesLate = true;
    const leaving = new AbortController();
    const call = acquire(1, 'jobs', node.context(undefined, leaving.signal));

    leaving.abort();

    await expect(call.promise).rejects.toMatchObject({ code: 'CANCELED' });
    await staysFalse('a key is left', 60, () => keys().length > 0);
  });

  it('of a client that leaves between a look and the watch ends', async () => {
    await lock(node, { name: 'jobs', lease: await grant(1) }, node.context());
    const leaving = new AbortController();
    node.afterLocalRead = () => {
      leaving.abort();
      return undefined;
    };

    const call = acquire(await grant(2), 'jobs', node.context(undefined, leaving.signal));

    await expect(call.promise).rejects.toMatchObject({ code: 'CANCELED' });
    expect(node.watches.counts().streams).toBe(0);
  });

  it('does not miss a release between its look and its watch', async () => {
    await lock(node, { name: 'jobs', lease: await grant(1) }, node.context());
    node.afterLocalRead = () => deleteKey('jobs/1');

    const call = lock(node, { name: 'jobs', lease: await grant(2) }, node.context());

    await expect(call).resolves.toMatchObject({ key: 'jobs/2' });
  });

  it('of a client that leaves revokes the lease that was granted for it', async () => {
    await lock(node, { name: 'jobs', lease: await grant(1) }, node.context());
    const leaving = new AbortController();
    const call = acquire(0, 'jobs', node.context(undefined, leaving.signal));
    await waiting(1);

    leaving.abort();

    await expect(call.promise).rejects.toMatchObject({ code: 'CANCELED' });
    expect(node.machine.lessor.list().map(({ id }) => id)).toEqual([1]);
    expect(keys()).toEqual(['jobs/1']);
  });

  it('does not drop a place that an earlier call took when a later one is called off', async () => {
    await lock(node, { name: 'jobs', lease: await grant(1) }, node.context());
    const earlier = acquire(await grant(2));
    await waiting(1);
    const leaving = new AbortController();
    const later = acquire(2, 'jobs', node.context(undefined, leaving.signal));
    await waiting(2);

    leaving.abort();

    await expect(later.promise).rejects.toMatchObject({ code: 'CANCELED' });
    expect(keys()).toEqual(['jobs/1', 'jobs/2']);
    expect(earlier.done).toBe(false);
    await deleteKey('jobs/1');
    await earlier.promise;
  });

  it('fails as soon as the lease of the waiter ends', async () => {
    await lock(node, { name: 'jobs', lease: await grant(1) }, node.context());
    const second = acquire(await grant(2));
    await waiting(1);

    await revoke(2);

    await expect(second.promise).rejects.toMatchObject({ code: 'SESSION_EXPIRED' });
  });

  it('fails if the own key is gone when its turn has come', async () => {
    await grant(1);
    node.beforeRead = () => {
      node.beforeRead = null;
      node.rig.apply({ kind: 'leaseRevoke', id: 1 });
    };

    const call = lock(node, { name: 'jobs', lease: 1 }, node.context());

    await expect(call).rejects.toMatchObject({ code: 'SESSION_EXPIRED' });
  });

  it('does not take a key that was put anew for its own', async () => {
    await grant(1);
    node.beforeRead = () => {
      node.beforeRead = null;
      node.rig.apply({ kind: 'deleteRange', key: 'jobs/1', rangeEnd: '', prevKv: false });
      const put = { prevKv: false, ignoreValue: false, ignoreLease: false };
      node.rig.apply({ kind: 'put', key: 'jobs/1', value: fromLatin1('x'), lease: 1, ...put });
    };

    const call = lock(node, { name: 'jobs', lease: 1 }, node.context());

    await expect(call).rejects.toMatchObject({ code: 'SESSION_EXPIRED' });
    expect(keys()).toEqual(['jobs/1']);
  });

  it('waits an outage out', async () => {
    await lock(node, { name: 'jobs', lease: await grant(1) }, node.context());
    const second = acquire(await grant(2));
    await waiting(1);

    let failures = 3;
    node.beforeRead = () => {
      failures -= 1;
      if (failures >= 0) node.failure = new KvError('NO_LEADER', 'an election is on');
    };
    await deleteKey('jobs/1');

    await expect(second.promise).resolves.toMatchObject({ key: 'jobs/2' });
    expect(failures).toBeLessThan(0);
  });

  it('tries the write again when its outcome is unknown', async () => {
    await grant(1);
    node.failure = new KvError('TIMEOUT', 'nobody knows');

    const call = lock(node, { name: 'jobs', lease: 1 }, node.context());

    await expect(call).resolves.toMatchObject({ key: 'jobs/1' });
  });

  it('waits longer than the deadline of a request', async () => {
    await lock(node, { name: 'jobs', lease: await grant(1) }, node.context());
    const second = acquire(await grant(2), 'jobs', node.context(1));
    await waiting(1);

    await staysFalse('the lock is given up', 50, () => second.done);
    await deleteKey('jobs/1');

    await expect(second.promise).resolves.toMatchObject({ key: 'jobs/2' });
  });

  it('finds its place again after a snapshot took the place of the state', async () => {
    await lock(node, { name: 'jobs', lease: await grant(1) }, node.context());
    const second = acquire(await grant(2));
    await waiting(1);

    // The release and the compaction of its revision arrive inside a snapshot: no event tells of them.
    node.rig.ok({ kind: 'deleteRange', key: 'jobs/1', rangeEnd: '', prevKv: false });
    const put = { prevKv: false, ignoreValue: false, ignoreLease: false };
    node.rig.ok({ kind: 'put', key: 'other', value: fromLatin1('x'), lease: 0, ...put });
    node.rig.ok({ kind: 'compact', revision: node.machine.store.revision });
    node.watches.onStateReplaced();

    await expect(second.promise).resolves.toMatchObject({ key: 'jobs/2' });
  });

  it('ends when the member stops while it is asked', async () => {
    await grant(1);
    node.beforeRead = () => {
      node.failure = new KvError('STOPPED', 'going down');
    };

    const call = lock(node, { name: 'jobs', lease: 1 }, node.context());

    await expect(call).rejects.toMatchObject({ code: 'STOPPED' });
  });

  it('ends when the member stops', async () => {
    await lock(node, { name: 'jobs', lease: await grant(1) }, node.context());
    const second = acquire(await grant(2));
    await waiting(1);

    node.watches.stop();

    await expect(second.promise).rejects.toMatchObject({ code: 'STOPPED' });
  });

  it('ends without a leader for a client that requires one', async () => {
    await lock(node, { name: 'jobs', lease: await grant(1) }, node.context());
    const second = acquire(await grant(2), 'jobs', node.context(undefined, null, true));
    await waiting(1);

    node.watches.onLeaderLost();

    await expect(second.promise).rejects.toMatchObject({ code: 'NO_LEADER' });
  });
});

describe('Unlock', () => {
  it('deletes the key, whoever asks', async () => {
    const { key } = await lock(node, { name: 'jobs', lease: await grant(1) }, node.context());

    const { header } = await unlock(node, { key }, node.context());

    expect(keys()).toEqual([]);
    expect(header?.revision).toBe(node.machine.store.revision);
  });

  it('of a key that does not exist succeeds', async () => {
    await expect(unlock(node, { key: 'none' }, node.context())).resolves.toBeDefined();
  });

  it('refuses an empty key', async () => {
    const call = unlock(node, { key: '' }, node.context());

    await expect(call).rejects.toMatchObject({ code: 'EMPTY_KEY' });
  });
});

/** The Election service over the real state machine and watch service, without a cluster. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fromLatin1, toLatin1 } from '../../src/bytes.js';
import type { Command } from '../../src/kv/command.js';
import {
  campaign,
  leader,
  openObserve,
  proclaim,
  resign,
} from '../../src/rpc/services/election.js';
import { LocalNode } from '../support/local-node.js';
import { waitFor } from '../support/wait.js';

let node: LocalNode;

beforeEach(() => {
  node = new LocalNode();
});

afterEach(() => node.stop());

async function grant(id: number): Promise<number> {
  await node.propose({ kind: 'leaseGrant', id, ttl: 30 }, node.context());
  return id;
}

function apply(command: Command): Promise<unknown> {
  return node.propose(command, node.context());
}

async function elect(lease: number, value: string, context = node.context()) {
  const request = { name: 'boss', lease: await grant(lease), value: fromLatin1(value) };
  return campaign(node, request, context);
}

/** A candidate that has begun to wait. */
async function stand(lease: number, value: string, context = node.context()) {
  const before = node.watches.counts().watchers;
  const call = elect(lease, value, context);
  call.catch(() => undefined);
  await waitFor('the candidate', 5_000, () => node.watches.counts().watchers === before + 2);
  return { call };
}

function won(response: Awaited<ReturnType<typeof campaign>>) {
  const { leader: key } = response;
  if (key === null || key === undefined) throw new Error('a campaign was won without a leader key');
  return { name: 'boss', key: key.key ?? '', rev: key.rev ?? 0, lease: key.lease ?? 0 };
}

describe('Campaign', () => {
  it('wins an election without a leader and proves it by the create revision', async () => {
    const response = await elect(0xa, 'one');

    const pair = node.machine.store.get('boss/a');
    expect(response.leader).toEqual({
      name: 'boss',
      key: 'boss/a',
      rev: pair?.createRevision,
      lease: 0xa,
    });
  });

  it('waits until the leader resigns', async () => {
    const first = won(await elect(1, 'one'));
    const second = await stand(2, 'two');

    await resign(node, { leader: first }, node.context());

    const { leader: key } = await second.call;
    expect(key?.key).toBe('boss/2');
  });

  it('gives a candidate that stands already its new value', async () => {
    await elect(1, 'one');

    const again = await campaign(
      node,
      { name: 'boss', lease: 1, value: fromLatin1('uno') },
      node.context(),
    );

    const pair = node.machine.store.get('boss/1');
    expect(toLatin1(pair?.value ?? fromLatin1(''))).toBe('uno');
    expect(again.leader?.rev).toBe(pair?.createRevision);
    expect(pair?.lease).toBe(1);
  });

  it('of a client that leaves withdraws the candidate', async () => {
    await elect(1, 'one');
    const leaving = new AbortController();
    const { call } = await stand(2, 'two', node.context(undefined, leaving.signal));

    leaving.abort();

    await expect(call).rejects.toMatchObject({ code: 'CANCELED' });
    expect(node.machine.store.get('boss/2')).toBeNull();
  });

  it('fails when the lease of the candidate ends', async () => {
    await elect(1, 'one');
    const { call } = await stand(2, 'two');

    await apply({ kind: 'leaseRevoke', id: 2 });

    await expect(call).rejects.toMatchObject({ code: 'SESSION_EXPIRED' });
  });
});

describe('Proclaim', () => {
  it('changes the value of the leader and keeps its lease', async () => {
    const key = won(await elect(1, 'one'));

    await proclaim(node, { leader: key, value: fromLatin1('new') }, node.context());

    const pair = node.machine.store.get('boss/1');
    expect(toLatin1(pair?.value ?? fromLatin1(''))).toBe('new');
    expect(pair?.lease).toBe(1);
    expect(pair?.createRevision).toBe(key.rev);
  });

  it('is refused to who leads no more, even after a new candidacy under the same key', async () => {
    const old = won(await elect(1, 'one'));
    await resign(node, { leader: old }, node.context());
    await campaign(node, { name: 'boss', lease: 1, value: fromLatin1('x') }, node.context());

    const call = proclaim(node, { leader: old, value: fromLatin1('late') }, node.context());

    await expect(call).rejects.toMatchObject({ code: 'ELECTION_NOT_LEADER' });
    expect(toLatin1(node.machine.store.get('boss/1')?.value ?? fromLatin1(''))).toBe('x');
  });

  it('needs a leader key', async () => {
    const call = proclaim(node, { leader: null, value: fromLatin1('') }, node.context());

    await expect(call).rejects.toMatchObject({ code: 'LEADER_KEY_MISSING' });
  });
});

describe('Resign', () => {
  it('of who leads no more changes nothing and succeeds', async () => {
    const old = won(await elect(1, 'one'));
    await resign(node, { leader: old }, node.context());
    await campaign(node, { name: 'boss', lease: 1, value: fromLatin1('x') }, node.context());

    await resign(node, { leader: old }, node.context());

    expect(node.machine.store.get('boss/1')).not.toBeNull();
  });

  it('needs a leader key', async () => {
    const call = resign(node, { leader: null }, node.context());

    await expect(call).rejects.toMatchObject({ code: 'LEADER_KEY_MISSING' });
  });
});

describe('Leader', () => {
  it('is the candidate with the oldest key', async () => {
    await elect(9, 'nine');
    await stand(1, 'one');

    const { kv } = await leader(node, { name: 'boss' }, node.context());

    expect(kv?.key).toBe('boss/9');
  });

  it('fails while nobody leads', async () => {
    const call = leader(node, { name: 'boss' }, node.context());

    await expect(call).rejects.toMatchObject({ code: 'ELECTION_NO_LEADER' });
  });
});

describe('Observe', () => {
  function observe(capacity = Number.POSITIVE_INFINITY, requireLeader = false) {
    const seen: string[] = [];
    const ended: (Error | null)[] = [];
    const outlet = { capacity };
    const context = node.context(undefined, null, requireLeader);
    const session = openObserve(node, context, {
      send({ kv }) {
        seen.push(`${kv?.key} ${toLatin1((kv?.value as Uint8Array) ?? fromLatin1(''))}`);
        outlet.capacity -= 1;
        return outlet.capacity > 0;
      },
      resume: () => undefined,
      end: (error) => ended.push(error),
    });
    session.handle({ name: 'boss' });
    const saw = (...lines: string[]) =>
      waitFor(`${lines.join(', ')} instead of ${seen.join(', ')}`, 5_000, () => {
        expect(seen).toEqual(lines);
        return true;
      });
    return { session, seen, ended, outlet, saw };
  }

  it('tells the leader, each proclamation and each new leader', async () => {
    const first = won(await elect(1, 'one'));
    const { call } = await stand(2, 'two');
    const { saw, session } = observe();
    await saw('boss/1 one');

    await proclaim(node, { leader: first, value: fromLatin1('uno') }, node.context());
    await proclaim(node, { leader: first, value: fromLatin1('un') }, node.context());
    await resign(node, { leader: first }, node.context());
    await call;

    await saw('boss/1 one', 'boss/1 uno', 'boss/1 un', 'boss/2 two');
    session.close();
    expect(node.watches.counts().watchers).toBe(0);
  });

  it('waits for a first leader', async () => {
    const { saw, session } = observe();
    await waitFor('the watch', 5_000, () => node.watches.counts().watchers === 1);

    await elect(1, 'one');

    await saw('boss/1 one');
    session.close();
  });

  it('tells nothing of candidates that do not lead', async () => {
    await elect(1, 'one');
    const { call } = await stand(2, 'two');
    const { saw, session } = observe();
    await saw('boss/1 one');

    await apply({ kind: 'leaseRevoke', id: 2 });
    await expect(call).rejects.toMatchObject({ code: 'SESSION_EXPIRED' });
    await apply({ kind: 'leaseRevoke', id: 1 });
    await elect(3, 'three');

    await saw('boss/1 one', 'boss/3 three');
    session.close();
  });

  it('tells an observer that does not read nothing, and the rest once it reads again', async () => {
    const key = won(await elect(1, 'one'));
    const { saw, seen, session, outlet } = observe(1);
    await saw('boss/1 one');

    for (const value of ['a', 'b', 'c']) {
      await proclaim(node, { leader: key, value: fromLatin1(value) }, node.context());
    }
    const meanwhile = [...seen];
    outlet.capacity = 100;
    session.drained();

    expect(meanwhile).toEqual(['boss/1 one']);
    await saw('boss/1 one', 'boss/1 a', 'boss/1 b', 'boss/1 c');
    session.close();
  });

  it('goes on after compaction took what it had not seen', async () => {
    const key = won(await elect(1, 'one'));
    const { saw, session } = observe();
    await saw('boss/1 one');

    const flags = { prevKv: false, ignoreValue: false, ignoreLease: false };
    const put = { kind: 'put', key: key.key, value: fromLatin1('unseen'), lease: 1, ...flags };
    node.rig.ok(put as Command);
    node.rig.ok({ ...put, key: 'other' } as Command);
    node.rig.ok({ kind: 'compact', revision: node.machine.store.revision });
    node.watches.onStateReplaced();

    await saw('boss/1 one', 'boss/1 unseen');
    session.close();
  });

  it('ends when the member stops', async () => {
    const { ended } = observe();
    await waitFor('the watch', 5_000, () => node.watches.counts().watchers === 1);

    node.watches.stop();

    expect(ended).toMatchObject([{ code: 'STOPPED' }]);
  });

  it('ends without a leader for a client that requires one', async () => {
    const { ended } = observe(10, true);
    await waitFor('the watch', 5_000, () => node.watches.counts().watchers === 1);

    node.watches.onLeaderLost();

    expect(ended).toMatchObject([{ code: 'NO_LEADER' }]);
  });
});

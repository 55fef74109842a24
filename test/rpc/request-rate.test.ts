/**
 * How often a user may ask: the bucket by itself, on a clock of its own, and on both faces of a real member.
 */
import { afterEach, describe, expect, it } from 'vitest';
import type { Actor } from '../../src/auth/actor.js';
import { Counter } from '../../src/metrics.js';
import type { NodeFace } from '../../src/node.js';
import { encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { NOBODY } from '../../src/rpc/caller.js';
import { apiHandlers } from '../../src/rpc/handlers.js';
import { RequestRate } from '../../src/rpc/request-rate.js';
import { AuthCluster, Door, WatchCall } from '../support/auth-fixture.js';
import { serveGateway } from '../support/gateway-client.js';
import { serveGrpc } from '../support/grpc-client.js';
import { LocalNode } from '../support/local-node.js';

const LIMITS = { maxRequestBytes: 1_572_864, maxTxnOps: 128 };
const TOO_MANY = 'etcdserver: too many requests';
const PUT = 'etcdserverpb.KV/Put';

const ann: Actor = { user: 'ann', authRevision: 1 };

function asker(rate: RequestRate) {
  return (now: number, actor: Actor, address = '10.0.0.1', method = PUT, request = {}): boolean => {
    const caller = { ...NOBODY, address };
    return rate.refusal(method, request, { actor, caller }, now) === null;
  };
}

describe('a bucket', () => {
  it('lets a second of its rate pass at once, and then as much as time brings', () => {
    const refused = new Counter();
    const ask = asker(new RequestRate(4, refused));

    const atOnce = [1, 2, 3, 4, 5, 6].map(() => ask(1000, ann));
    const later = [1249, 1250, 1250, 2000, 2000, 2000, 2000].map((now) => ask(now, ann));

    expect(atOnce).toEqual([true, true, true, true, false, false]);
    expect(later).toEqual([false, true, false, true, true, true, false]);
    expect(refused.value).toBe(5);
  });

  it('holds no more than a second of the rate, however long its user was silent', () => {
    const ask = asker(new RequestRate(2, new Counter()));
    ask(0, ann);

    expect([1, 2, 3].map(() => ask(3_600_000, ann))).toEqual([true, true, false]);
  });

  it('is one for a user at all addresses, and one for all without a user at one address', () => {
    const ask = asker(new RequestRate(1, new Counter()));

    expect(ask(0, ann, '10.0.0.1')).toBe(true);
    expect(ask(0, ann, '10.0.0.2')).toBe(false);
    expect(ask(0, { user: 'bob', authRevision: 1 }, '10.0.0.1')).toBe(true);
    expect(ask(0, null, '10.0.0.1')).toBe(true);
    expect(ask(0, null, '10.0.0.1')).toBe(false);
    expect(ask(0, null, '10.0.0.2')).toBe(true);
    // A /64 of IPv6 belongs to one client.
    expect(ask(0, null, '2001:db8::1')).toBe(true);
    expect(ask(0, null, '2001:db8::2')).toBe(false);
  });

  it('is not touched by renewals, health checks, and what is no creation of a watch', () => {
    const ask = asker(new RequestRate(1, new Counter()));
    ask(0, ann);
    const free: [string, object][] = [
      ['etcdserverpb.Lease/LeaseKeepAlive', { ID: 1 }],
      ['grpc.health.v1.Health/Check', {}],
      ['etcdserverpb.Watch/Watch', { createRequest: null, cancelRequest: { watchId: 1 } }],
      ['etcdserverpb.Watch/Watch', { createRequest: null, progressRequest: {} }],
    ];

    for (const [method, request] of free) {
      expect(ask(0, ann, '10.0.0.1', method, request), method).toBe(true);
    }
    expect(ask(0, ann, '10.0.0.1', 'etcdserverpb.Watch/Watch', { createRequest: {} })).toBe(false);
  });

  it('is forgotten when others have taken its place, the one that was silent for longest first', () => {
    const ask = asker(new RequestRate(1, new Counter(), 2));
    const users: Actor[] = ['a', 'b', 'c'].map((user) => ({ user, authRevision: 1 }));
    const [a, b, c] = users as [Actor, Actor, Actor];
    ask(0, a);
    ask(0, b);
    ask(0, a);
    ask(0, c);

    expect(ask(0, a)).toBe(false);
    expect(ask(0, b)).toBe(true);
  });
});

describe('a member with --rate-per-user', () => {
  const ends: (() => Promise<void> | void)[] = [];

  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });

  async function door(node: ConstructorParameters<typeof Door>[0] | LocalNode, rate: number) {
    const handlers = apiHandlers(LIMITS, { rate: new RequestRate(rate, new Counter()) });
    const served = new Door(
      node as ConstructorParameters<typeof Door>[0],
      await serveGrpc(node, handlers),
      await serveGateway(node, { handlers }),
    );
    ends.push(() => served.stop());
    return served;
  }

  function localNode(): LocalNode {
    const node = still(new LocalNode());
    ends.push(() => node.stop());
    return node;
  }

  it('refuses what is too much on both faces, which share one bucket', async () => {
    const node = localNode();
    const { client, json, call } = bound(await door(node, 2));
    const put = encodeProtobuf('PutRequest', { key: 'k', value: new Uint8Array(1) });

    const first = await call(PUT, { key: 'k' });
    const second = await json(PUT, { key: 'k' }, null);
    const third = await json(PUT, { key: 'k' }, null);
    const fourth = await client.call(`/${PUT}`, put);

    expect([first.text, second.status, third.status]).toEqual(['ok', 200, 429]);
    expect(third.text).toContain(`"message":"${TOO_MANY}","code":8`);
    expect(fourth).toMatchObject({ status: 8, text: TOO_MANY });
    expect(node.proposed.length).toBe(2);
  });

  it('cancels a watch that is one too many, and leaves its stream and the others open', async () => {
    const watch = new WatchCall(await door(localNode(), 1), null);
    ends.push(() => watch.close());
    watch.create('a');
    watch.create('b');
    watch.exchange.send(encodeProtobuf('WatchRequest', { progressRequest: {} }));

    expect(await watch.next(1)).toMatchObject({ created: true, canceled: false });
    expect(await watch.next(2)).toMatchObject({ created: true, canceled: true });
    expect(watch.responses[1]?.cancelReason).toContain(TOO_MANY);
  });

  it('counts a user by its name and a wrong token by its address', async () => {
    const cluster = new AuthCluster();
    ends.push(() => cluster.stop());
    await cluster.start();
    const { ann: token, root } = await cluster.enable();
    const { call } = bound(await door(still(cluster.door.node), 2));
    const texts = async (times: number, shown: string | null): Promise<string[]> => {
      const all = [];
      for (let at = 0; at < times; at += 1) all.push((await call(PUT, { key: 'a1' }, shown)).text);
      return all;
    };

    const ofAnn = await texts(3, token);
    const ofRoot = await texts(2, root);
    const ofNobody = await texts(3, 'not a token');

    const wrong = 'etcdserver: invalid auth token';
    expect(ofAnn).toEqual(['ok', 'ok', TOO_MANY]);
    expect(ofRoot).toEqual(['ok', 'ok']);
    expect(ofNobody).toEqual([wrong, wrong, TOO_MANY]);
  });

  it('counts those who log in by their address, not by the name they give', async () => {
    const { call } = bound(await door(localNode(), 1));
    const login = { name: 'ann', password: 'x' };

    const first = await call('etcdserverpb.Auth/Authenticate', login);
    const second = await call('etcdserverpb.Auth/Authenticate', { ...login, name: 'bob' });

    expect(first.text).toBe('etcdserver: authentication is not enabled');
    expect(second.text).toBe(TOO_MANY);
  });
});

/**
 * The same node, on whose clock no time passes for those who ask. All else is done by the node itself: an object that
 * inherits from it would count request ids of its own, and a write of the node with the same id would take the answer.
 */
function still<N extends NodeFace>(node: N): N {
  const now = node.now();
  return new Proxy(node, {
    get: (_, name) => {
      if (name === 'now') return () => now;
      const value = Reflect.get(node, name) as unknown;
      return typeof value === 'function' ? (value.bind(node) as unknown) : value;
    },
  });
}

function bound(door: Door) {
  return { client: door.client, call: door.call.bind(door), json: door.json.bind(door) };
}

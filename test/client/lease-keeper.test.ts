/**
 * Leases that are kept, and locks and registrations on top of them: what happens when one is lost.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KvdClient } from '../../src/client/client.js';
import { keepLease } from '../../src/client/lease-keeper.js';
import { acquireLock } from '../../src/client/lock.js';
import type { RegistrationEvent } from '../../src/client/registration.js';
import { Registration } from '../../src/client/registration.js';
import {
  base64,
  createdLine,
  failure,
  hangUp,
  header,
  keyValue,
  line,
  ok,
  ScriptedGateway,
  silence,
  streaming,
} from '../support/scripted-gateway.js';
import { waitFor } from '../support/wait.js';

let gateway: ScriptedGateway;
let client: KvdClient;

beforeEach(async () => {
  gateway = await ScriptedGateway.start();
  client = new KvdClient({ protocol: 'http', endpoints: [gateway.endpoint], timeoutMs: 2_000 });
  let next = 100;
  gateway.always('/v3/lease/grant', ({ body, response }) => {
    next += 1;
    response.end(JSON.stringify({ header: header(1), ID: String(next), TTL: body['TTL'] }));
  });
  gateway.always('/v3/lease/revoke', ok({ header: header(1) }));
  gateway.always('/v3/lease/keepalive', renewed(1));
  gateway.always('/v3/kv/put', ok({ header: header(2) }));
});

afterEach(async () => {
  client.close();
  await gateway.stop();
});

function renewed(ttl: number) {
  return ok((body) => ({ result: { header: header(1), ID: body['ID'], TTL: String(ttl) } }));
}

describe('a kept lease', () => {
  it('is renewed every third of its TTL', async () => {
    const started = performance.now();
    const keeper = await keepLease(client, 1);

    await waitFor(
      'three renewals',
      5_000,
      () => gateway.requests('/v3/lease/keepalive').length >= 3,
    );

    const took = performance.now() - started;
    expect(took).toBeGreaterThan(900);
    expect(keeper.isLost).toBe(false);
    await keeper.revoke();
    expect(gateway.requests('/v3/lease/revoke')).toEqual([{ ID: '101' }]);
  });

  it('is lost when the server does not know it any more', async () => {
    gateway.always('/v3/lease/keepalive', ok({ result: { header: header(1), ID: '101' } }));

    const keeper = await keepLease(client, 1);
    await waitFor('the loss', 5_000, () => keeper.isLost);

    expect(keeper.signal.reason).toMatchObject({ code: 'LEASE_LOST' });
    await keeper.stop();
  });

  it.each([
    ['every renewal hangs', silence()],
    ['every connection breaks', hangUp()],
    ['there is no leader', failure(14, 'etcdserver: no leader')],
  ])('is lost one TTL after the last renewal when %s', async (_, answer) => {
    gateway.always('/v3/lease/keepalive', answer);
    const started = performance.now();

    const keeper = await keepLease(client, 1);
    await waitFor('the loss', 5_000, () => keeper.isLost);

    const took = performance.now() - started;
    expect(took).toBeGreaterThan(900);
    expect(took).toBeLessThan(1_600);
    await keeper.stop();
  });

  it('counts from when the last renewal was sent, not from when it was answered', async () => {
    const sentAt: number[] = [];
    gateway.always('/v3/lease/keepalive', silence());
    gateway.next('/v3/lease/keepalive', ({ response, body }) => {
      sentAt.push(performance.now());
      const answer = { result: { header: header(1), ID: body['ID'], TTL: '1' } };
      setTimeout(() => response.end(JSON.stringify(answer)), 500);
    });

    const keeper = await keepLease(client, 1);
    await waitFor('the loss', 5_000, () => keeper.isLost);

    const took = performance.now() - (sentAt[0] ?? 0);
    expect(took).toBeGreaterThan(900);
    expect(took).toBeLessThan(1_300);
    await keeper.stop();
  });

  it('is lost at once when the renewal is refused because there is no such lease', async () => {
    gateway.always('/v3/lease/keepalive', failure(5, 'etcdserver: requested lease not found'));
    const started = performance.now();

    const keeper = await keepLease(client, 6);
    await waitFor('the loss', 5_000, () => keeper.isLost);

    // After the first renewal, which is due at a third, and long before the TTL is over.
    expect(performance.now() - started).toBeLessThan(4_000);
    await keeper.stop();
  });

  it('lives by the TTL of its last renewal, not by that of its grant', async () => {
    gateway.next('/v3/lease/keepalive', renewed(1));
    gateway.always('/v3/lease/keepalive', silence());
    let renewedAt = 0;

    const keeper = await keepLease(client, 3, { onRenewed: () => (renewedAt = performance.now()) });
    await waitFor('the loss', 5_000, () => keeper.isLost);

    expect(performance.now() - renewedAt).toBeLessThan(1_600);
    await keeper.stop();
  });

  it('survives renewals that fail as long as one works within the TTL', async () => {
    gateway.next('/v3/lease/keepalive', hangUp(), failure(14, 'etcdserver: no leader'), hangUp());
    let renewals = 0;

    const keeper = await keepLease(client, 2, { onRenewed: () => (renewals += 1) });
    await waitFor('a renewal', 5_000, () => renewals > 0);

    expect(keeper.isLost).toBe(false);
    await keeper.stop();
  });
});

describe('a lock', () => {
  function scriptLock(owner: string): void {
    gateway.always('/v3/lock/lock', ok({ header: header(7), key: base64('l/65') }));
    const kv = keyValue('l/65', '', 7, { lease: owner });
    gateway.always('/v3/kv/range', ok({ header: header(7), kvs: [kv], count: '1' }));
  }

  it('comes with the create revision of its key as the fencing number', async () => {
    scriptLock('101');

    const lock = await acquireLock(client, 'l', { ttl: 1 });

    expect(lock.revision).toBe(7);
    expect(Buffer.from(lock.key).toString()).toBe('l/65');
    await lock.release();
    expect(gateway.requests('/v3/lease/revoke')).toEqual([{ ID: '101' }]);
  });

  it('fails when its key is under the lease of somebody else', async () => {
    scriptLock('555');

    await expect(acquireLock(client, 'l', { ttl: 1 })).rejects.toMatchObject({
      code: 'LEASE_LOST',
    });
    expect(gateway.requests('/v3/lease/revoke')).toEqual([{ ID: '101' }]);
  });

  it.each([
    ['is still there', 7, false],
    ['is another one', 9, true],
  ])('looks at its key when its watch missed something: it %s', async (_what, created, isLost) => {
    scriptLock('101');
    gateway.next(
      '/v3/watch',
      streaming(createdLine(90), line({ header: {}, canceled: true, compact_revision: '50' })),
    );
    gateway.always('/v3/watch', streaming(createdLine(90)));
    const now = keyValue('l/65', '', created, { lease: '101' });
    const holder = keyValue('l/65', '', 7, { lease: '101' });
    gateway.next('/v3/kv/range', ok({ header: header(7), kvs: [holder], count: '1' }));
    gateway.next('/v3/kv/range', ok({ header: header(90), kvs: [now], count: '1' }));

    const lock = await acquireLock(client, 'l', { ttl: 5 });
    await waitFor('the look', 5_000, () => gateway.requests('/v3/kv/range').length === 2);

    if (isLost) await waitFor('the loss', 5_000, () => lock.signal.aborted);
    else await waitFor('the next watch', 5_000, () => gateway.requests('/v3/watch').length === 2);
    expect(lock.signal.aborted).toBe(isLost);
    await lock.release();
  });

  it('gives its lease back when it is not won in time', async () => {
    gateway.always('/v3/lock/lock', silence());

    const call = acquireLock(client, 'l', { ttl: 5, waitMs: 200 });

    await expect(call).rejects.toMatchObject({ code: 'NOT_WON' });
    expect(gateway.requests('/v3/lease/revoke')).toEqual([{ ID: '101' }]);
  });

  it.each([
    ['the first lease', 0],
    ['the lease after a broken connection', 1],
  ])('is given up in time also while %s is waited for', async (_what, grants) => {
    const hang = silence();
    const grant = ok({ header: header(1), ID: '101', TTL: '5' });
    gateway.next('/v3/lease/grant', ...Array.from({ length: grants }, () => grant));
    gateway.always('/v3/lease/grant', hang);
    gateway.always('/v3/lock/lock', hangUp());
    const started = performance.now();

    const call = acquireLock(client, 'l', { ttl: 5, waitMs: 300 });

    await expect(call).rejects.toMatchObject({ code: 'NOT_WON', outcome: 'not-applied' });
    // A call of its own would take the two seconds of the client.
    expect(performance.now() - started).toBeLessThan(1_200);
  });

  it('stops waiting when its lease is lost', async () => {
    gateway.always('/v3/lock/lock', silence());
    gateway.always('/v3/lease/keepalive', ok({ result: { header: header(1), ID: '101' } }));

    await expect(acquireLock(client, 'l', { ttl: 1 })).rejects.toMatchObject({
      code: 'LEASE_LOST',
    });
  });

  it('begins anew with another lease when the connection broke, since its old place may be given up', async () => {
    scriptLock('103');
    gateway.next('/v3/lock/lock', hangUp(), hangUp());

    const lock = await acquireLock(client, 'l', { ttl: 5 });

    const leases = gateway.requests('/v3/lock/lock').map((body) => body['lease']);
    expect(leases).toEqual(['101', '102', '103']);
    expect(gateway.requests('/v3/lease/revoke')).toEqual([{ ID: '101' }, { ID: '102' }]);
    await lock.release();
  });
});

describe('a leadership', () => {
  const leader = { name: base64('e'), key: base64('e/65'), rev: '7', lease: '101' };

  it.each([
    ['works', ok({ header: header(8) })],
    ['is refused', failure(2, 'election: not leader')],
    ['meets a broken connection', failure(14, 'etcdserver: no leader')],
  ])('gives its lease back when the resignation %s', async (_what, answer) => {
    gateway.always('/v3/election/campaign', ok({ header: header(7), leader }));
    gateway.always('/v3/election/resign', answer);
    const seat = await client.campaign('e', 'me', { ttl: 5 });

    const failed = await seat.resign().then(
      () => false,
      () => true,
    );

    expect(failed).toBe(_what !== 'works');
    expect(gateway.requests('/v3/election/resign')[0]).toMatchObject({ leader });
    expect(gateway.requests('/v3/lease/revoke')).toEqual([{ ID: '101' }]);
  });
});

describe('a registration', () => {
  const instance = { name: 'web', id: 'w1', address: '10.0.0.1:80', meta: { zone: 'a' } };

  function registered(events: RegistrationEvent[], count: number): Promise<boolean> {
    return waitFor(`registration ${count}`, 8_000, () => {
      return events.filter(({ type }) => type === 'registered').length >= count;
    });
  }

  it('is one key with a JSON value under its lease', async () => {
    const events: RegistrationEvent[] = [];
    const registration = new Registration(client, instance, {
      ttl: 2,
      onEvent: (e) => events.push(e),
    });
    await registered(events, 1);
    await registration.stop();

    const [put] = gateway.requests('/v3/kv/put');
    expect(put).toMatchObject({ key: base64('/services/web/w1'), lease: '101' });
    expect(JSON.parse(Buffer.from(String(put?.['value']), 'base64').toString())).toEqual(instance);
    expect(gateway.requests('/v3/lease/revoke')).toEqual([{ ID: '101' }]);
  });

  it('registers again under a new lease when its lease was lost', async () => {
    gateway.next('/v3/lease/keepalive', ok({ result: { header: header(1) } }));
    const events: RegistrationEvent[] = [];

    const registration = new Registration(client, instance, {
      ttl: 1,
      onEvent: (e) => events.push(e),
    });
    await registered(events, 2);
    await registration.stop();

    expect(gateway.requests('/v3/kv/put').map((body) => body['lease'])).toEqual(['101', '102']);
    expect(events.map(({ type }) => type)).toEqual(['registered', 'lost', 'registered']);
  });

  it('gets through a time without a server', async () => {
    gateway.next(
      '/v3/lease/grant',
      hangUp(),
      hangUp(),
      failure(14, 'etcdserver: request timed out'),
    );
    const events: RegistrationEvent[] = [];

    const registration = new Registration(client, instance, {
      ttl: 1,
      onEvent: (e) => events.push(e),
    });
    await registered(events, 1);
    await registration.stop();

    expect(events.filter(({ type }) => type === 'failed')).toHaveLength(3);
  });

  it('writes again when it is not known whether the first write happened', async () => {
    gateway.next('/v3/kv/put', hangUp());
    const events: RegistrationEvent[] = [];

    const registration = new Registration(client, instance, {
      ttl: 2,
      onEvent: (e) => events.push(e),
    });
    await registered(events, 1);
    await registration.stop();

    expect(gateway.requests('/v3/kv/put').map((body) => body['lease'])).toEqual(['101', '101']);
  });

  it('takes a new lease when the first was gone before the write', async () => {
    gateway.next('/v3/kv/put', failure(5, 'etcdserver: requested lease not found'));
    const events: RegistrationEvent[] = [];

    const registration = new Registration(client, instance, {
      ttl: 2,
      onEvent: (e) => events.push(e),
    });
    await registered(events, 1);
    await registration.stop();

    expect(gateway.requests('/v3/kv/put').map((body) => body['lease'])).toEqual(['101', '102']);
  });

  it('lives on when its listener throws, and the process is warned', async () => {
    gateway.always('/v3/lease/keepalive', renewed(2));
    const warnings: string[] = [];
    const onWarning = ({ message }: Error): number => warnings.push(message);
    process.on('warning', onWarning);

    const registration = new Registration(client, instance, {
      ttl: 2,
      onEvent: ({ type }) => {
        throw new Error(`the listener does not like "${type}"`);
      },
    });
    await waitFor('a renewal', 5_000, () => gateway.requests('/v3/lease/keepalive').length > 0);

    expect(warnings).toEqual(['the listener does not like "registered"']);
    expect(gateway.requests('/v3/lease/revoke')).toEqual([]);
    await registration.stop();
    process.off('warning', onWarning);
  });

  it('gives up when the server refuses for good', async () => {
    gateway.always('/v3/kv/put', failure(7, 'etcdserver: permission denied'));

    const registration = new Registration(client, instance, { ttl: 2 });

    await expect(registration.done).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
  });
});

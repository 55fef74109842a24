/** What happens over time: logging in, rights that go away under calls that go on, members that differ. */
import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SignJWT, UnsecuredJWT } from 'jose';
import { afterEach, describe, expect, it } from 'vitest';
import { encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { rememberCommonName } from '../../src/tls/common-name.js';
import {
  ANN_PASSWORD,
  AuthCluster,
  type Door,
  grant,
  ROOT_PASSWORD,
  WatchCall,
} from '../support/auth-fixture.js';
import { GrpcClient, serveGrpc } from '../support/grpc-client.js';
import { tempFolder } from '../support/temp-folder.js';
import { staysFalse, waitFor } from '../support/wait.js';

const RANGE = 'etcdserverpb.KV/Range';
const PUT = 'etcdserverpb.KV/Put';
const AUTHENTICATE = 'etcdserverpb.Auth/Authenticate';
const FAILED = 'etcdserver: authentication failed, invalid user ID or password';

let world: AuthCluster | null = null;

afterEach(async () => {
  await world?.stop();
  world = null;
});

async function start(
  options: Readonly<Record<string, string>> = {},
  size = 1,
): Promise<{ world: AuthCluster; door: Door; root: string; ann: string }> {
  world = new AuthCluster(options, size);
  await world.start();
  return { world, door: world.door, ...(await world.enable()) };
}

describe('logging in', () => {
  it('tells apart nothing but a user without a password', async () => {
    const { world, door, root } = await start();
    await world.auth('UserAdd', { name: 'cn', options: { noPassword: true } }, root);
    const login = async (name: string, password: string): Promise<string> =>
      (await door.call(AUTHENTICATE, { name, password })).text;

    expect(await login('ann', 'wrong')).toBe(FAILED);
    expect(await login('nobody', 'wrong')).toBe(FAILED);
    expect(await login('', '')).toBe(FAILED);
    expect(await login('cn', '')).toBe(
      'auth: authentication failed, password was given for no password user',
    );
    expect(await login('ann', ANN_PASSWORD)).toBe('ok');
  });

  it('is refused while authentication is off', async () => {
    const { world, door, root } = await start();
    await world.auth('AuthDisable', {}, root);

    const { text } = await door.call(AUTHENTICATE, { name: 'ann', password: ANN_PASSWORD });

    expect(text).toBe('etcdserver: authentication is not enabled');
    expect((await door.call(RANGE, { key: 'secret' })).text).toBe('ok');
  });

  it('gives a token that every member knows at once', async () => {
    const { world } = await start({}, 3);
    for (let round = 0; round < 10; round += 1) {
      const at = world.doors[round % 3] as Door;
      const token = await at.login('ann', ANN_PASSWORD);
      const outcomes = await Promise.all(
        world.doors.map((door) => door.call(RANGE, { key: 'a' }, token)),
      );
      expect(outcomes.map(({ text }) => text)).toEqual(['ok', 'ok', 'ok']);
    }
  });

  it('gives a token that dies with the password, the user, and authentication', async () => {
    const { world, door, root, ann } = await start();
    const outcome = async (token: string): Promise<string> =>
      (await door.call(RANGE, { key: 'a' }, token)).text;
    const password = 'the new word of ann';

    await world.auth('UserChangePassword', { name: 'ann', password }, root);
    expect(await outcome(ann)).toBe('etcdserver: invalid auth token');
    expect((await door.call(AUTHENTICATE, { name: 'ann', password: ANN_PASSWORD })).text).toBe(
      FAILED,
    );
    const second = await door.login('ann', password);
    expect(await outcome(second)).toBe('ok');

    await world.auth('UserDelete', { name: 'ann' }, root);
    expect(await outcome(second)).toBe('etcdserver: invalid auth token');
    await world.auth('UserAdd', { name: 'ann', password }, root);
    await world.auth('UserGrantRole', { user: 'ann', role: 'limited' }, root);
    expect(await outcome(second)).toBe('etcdserver: invalid auth token');

    await world.auth('AuthDisable', {}, root);
    await world.auth('AuthEnable');
    expect(await outcome(root)).toBe('etcdserver: invalid auth token');
  });

  it('gives a token that ends when it is not used', async () => {
    const { door, ann } = await start({ 'auth-token-ttl': '1' });
    const outcome = async (): Promise<string> => (await door.call(RANGE, { key: 'a' }, ann)).text;
    // Each use moves its end; three seconds of use are longer than it would last.
    await staysFalse('an end while it is used', 3000, async () => (await outcome()) !== 'ok');

    await new Promise((resolve) => setTimeout(resolve, 1100));

    expect(await outcome()).toBe('etcdserver: invalid auth token');
  });

  it('leaves no password and no token behind in log or files', async () => {
    const { world, root, ann } = await start();
    await world.auth('UserChangePassword', { name: 'ann', password: 'canary-word' }, root);
    await world.door.json(AUTHENTICATE, { name: 'ann', password: 'canary-wrong' }, null);
    const [member] = world.cluster.members;
    const node = world.door.node;
    await node.defragment(node.context());

    const { disk, config } = member as NonNullable<typeof member>;
    const wal = `${config.dataDir}/wal`;
    const files = disk
      .list(wal)
      .map((name) => Buffer.from(disk.readFile(`${wal}/${name}`)).toString('latin1'))
      .join('');
    const tables = Buffer.from(node.machine.encodeTables()).toString('latin1');
    const lines = JSON.stringify(world.door.gateway.log);

    expect(files.length).toBeGreaterThan(1000);
    for (const secret of [
      ROOT_PASSWORD,
      ANN_PASSWORD,
      'canary',
      root.slice(0, 43),
      ann.slice(0, 43),
    ]) {
      for (const place of [files, tables, lines]) expect(place).not.toContain(secret);
    }
    expect(tables).toContain('scrypt$');
  });
});

describe('rights that go away', () => {
  it('end a watch behind what was written before, and no other', async () => {
    const { world, door, root, ann } = await start();
    const watch = new WatchCall(door, ann);
    watch.create('a', 'b');
    const other = new WatchCall(door, root);
    other.create('a', 'b');
    await Promise.all([watch.next(1), other.next(1)]);

    await door.call(PUT, { key: 'a1', value: Buffer.from('seen') }, root);
    const role = { role: 'limited', key: 'a', rangeEnd: 'b' };
    expect(await world.auth('RoleRevokePermission', role, root)).toBe('ok');
    await door.call(PUT, { key: 'a2', value: Buffer.from('unseen') }, root);

    await other.next(3);
    const last = await watch.next(3);
    expect((await watch.next(2)).events.map(({ kv }) => kv?.key)).toEqual(['a1']);
    expect(last).toMatchObject({
      canceled: true,
      cancelReason: 'rpc error: code = PermissionDenied desc = etcdserver: permission denied',
    });
    await staysFalse('more', 300, () => watch.responses.length > 3);
    await Promise.all([watch.close(), other.close()]);
  });

  it('end watches of nobody when authentication begins', async () => {
    world = new AuthCluster();
    await world.start();
    const watch = new WatchCall(world.door, null);
    watch.create('a', 'b');
    await watch.next(1);

    await world.enable();

    expect(await watch.next(2)).toMatchObject({
      canceled: true,
      cancelReason: 'rpc error: code = InvalidArgument desc = etcdserver: user name is empty',
    });
    await watch.close();
  });

  it('do not end a watch when others change, nor the stream of a refused one', async () => {
    const { world, door, root, ann } = await start();
    const watch = new WatchCall(door, ann);
    watch.create('a', 'b');
    watch.create('secret');
    await watch.next(2);
    expect(watch.responses[1]).toMatchObject({ created: true, canceled: true, watchId: -1 });

    await world.auth('RoleAdd', { name: 'other' }, root);
    await door.call(PUT, { key: 'a1' }, root);
    watch.create('a1');

    expect((await watch.next(3)).events).toHaveLength(1);
    expect(await watch.next(4)).toMatchObject({ created: true, canceled: false });
    await watch.close();
  });

  it('end the wait for a lock, but only if they are those it needs', async () => {
    const { world, door, root, ann } = await start();
    const LOCK = 'v3lockpb.Lock/Lock';
    for (const ID of [7, 8]) {
      await door.call('etcdserverpb.Lease/LeaseGrant', { TTL: 600, ID }, root);
    }
    expect((await door.call(LOCK, { name: 'a/lock', lease: 7 }, root)).text).toBe('ok');
    const waiting = door.json(LOCK, { name: 'a/lock', lease: 8 }, ann);
    let isOver = false;
    void waiting.then(() => {
      isOver = true;
    });
    const inLine = { key: 'a/lock/8' };
    await waitFor('a place in the line', 10_000, async () => {
      const { response } = await door.call<'RangeResponse'>(RANGE, inLine, root);
      return response?.count === 1;
    });

    await world.auth('RoleAdd', { name: 'other' }, root);
    await staysFalse('an end of the wait', 300, () => isOver);
    const role = { role: 'limited', key: 'a', rangeEnd: 'b' };
    await world.auth('RoleRevokePermission', role, root);

    const { json } = await waiting;
    expect(json).toMatchObject({ message: 'etcdserver: permission denied' });
    // Its place was given up, though its user could not have done it.
    const { response } = await door.call<'RangeResponse'>(RANGE, inLine, root);
    expect(response?.count).toBe(0);
  });

  it('refuse a write that was on its way', async () => {
    const { world, door, root, ann } = await start({}, 3);
    const leader = await world.cluster.leader();
    const follower = world.doors.find(({ node }) => node.memberId !== leader.id) as Door;
    const token = await follower.login('ann', ANN_PASSWORD);
    const role = { role: 'limited', key: 'a', rangeEnd: 'b' };

    const writes = Array.from({ length: 50 }, (_, at) =>
      follower.call(PUT, { key: `a${at}` }, token),
    );
    const revoked = world.auth('RoleRevokePermission', role, root);
    const texts = (await Promise.all(writes)).map(({ text }) => text);
    expect(await revoked).toBe('ok');

    const allowed = [
      'ok',
      'etcdserver: permission denied',
      'etcdserver: revision of auth store is old',
    ];
    for (const text of texts) expect(allowed).toContain(text);
    const { response } = await door.call<'RangeResponse'>(RANGE, { key: 'a', rangeEnd: 'b' }, root);
    expect(response?.count).toBe(texts.filter((text) => text === 'ok').length);
    expect((await follower.call(PUT, { key: 'a' }, ann)).text).toBe(
      'etcdserver: permission denied',
    );
    await world.cluster.converged();
  });
});

describe('a hole of others', () => {
  it('GHSA-xg4h-6gfc-h4m8: one key is no right to watch or read all keys behind it', async () => {
    const { world, door, root, ann } = await start();
    await world.auth('RoleGrantPermission', grant('limited', 0, 'z', ''), root);
    const watch = new WatchCall(door, ann);
    watch.create('z', '\0');

    expect(await watch.next(1)).toMatchObject({ canceled: true, watchId: -1 });
    const { text } = await door.call(RANGE, { key: 'z', rangeEnd: '\0' }, ann);
    expect(text).toBe('etcdserver: permission denied');
    await watch.close();
  });

  it('CVE-2021-28235: a token is good for its own user alone', async () => {
    const { door, root, ann } = await start();

    expect((await door.call(RANGE, { key: 'secret' }, root)).text).toBe('ok');
    expect((await door.call(RANGE, { key: 'secret' }, ann)).text).toBe(
      'etcdserver: permission denied',
    );
  });

  it('reads at the member, without the others, are judged like all', async () => {
    const { door, ann } = await start();
    const message = { key: 'secret', serializable: true };

    expect((await door.call(RANGE, message, ann)).text).toBe('etcdserver: permission denied');
    expect((await door.call(RANGE, message)).text).toBe('etcdserver: user name is empty');
  });
});

describe('a certificate', () => {
  it('names its user, unless a token does or a gateway stands in between', async () => {
    const { door, root } = await start();
    const served = await serveGrpc(door.node, undefined, {}, (socket) => {
      rememberCommonName(socket, 'ann');
    });
    const client = new GrpcClient(served.port);
    const ask = async (key: string, headers: Record<string, string> = {}): Promise<string> => {
      const message = encodeProtobuf('RangeRequest', { key });
      const { status, text } = await client.call(`/${RANGE}`, message, headers);
      return status === 0 ? 'ok' : text;
    };

    expect(await ask('a1')).toBe('ok');
    expect(await ask('secret')).toBe('etcdserver: permission denied');
    expect(await ask('secret', { token: root })).toBe('ok');
    expect(await ask('a1', { 'grpcgateway-accept': 'application/json' })).toBe(
      'etcdserver: user name is empty',
    );
    client.close();
    await served.stop();
  });
});

describe('signed tokens', () => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });

  function files(): { sign: string; check: string } {
    const folder = tempFolder('jwt');
    const sign = join(folder, 'key.pem');
    const check = join(folder, 'public.pem');
    writeFileSync(sign, privateKey.export({ type: 'sec1', format: 'pem' }));
    writeFileSync(check, publicKey.export({ type: 'spki', format: 'pem' }));
    return { sign, check };
  }

  async function signed(
    claims: Record<string, unknown>,
    ends = '5m',
    alg = 'ES256',
  ): Promise<string> {
    return await new SignJWT(claims)
      .setProtectedHeader({ alg })
      .setExpirationTime(ends)
      .sign(
        alg === 'ES256'
          ? privateKey
          : Buffer.from(publicKey.export({ type: 'spki', format: 'pem' })),
      );
  }

  it('are made and read, and nothing else is', async () => {
    const { sign, check } = files();
    const option = `jwt,sign-method=ES256,priv-key=${sign},pub-key=${check},ttl=10m`;
    const { world, door, root, ann } = await start({ 'auth-token': option });
    const outcome = async (token: string): Promise<string> =>
      (await door.call(RANGE, { key: 'a' }, token)).text;
    const { revision } = door.node.machine.auth;
    const claims = { username: 'ann', revision };
    const bad = 'etcdserver: invalid auth token';

    expect(ann.split('.')).toHaveLength(3);
    expect(await outcome(ann)).toBe('ok');
    expect(await outcome(await signed(claims))).toBe('ok');
    expect(await outcome(new UnsecuredJWT(claims).setExpirationTime('5m').encode())).toBe(bad);
    expect(await outcome(await signed(claims, '-1s'))).toBe(bad);
    // The public key as the secret of another algorithm.
    expect(await outcome(await signed(claims, '5m', 'HS256'))).toBe(bad);
    expect(await outcome(await signed({ revision }))).toBe(bad);
    expect(await outcome(await signed({ username: 'ann' }))).toBe(bad);
    expect(await outcome(await signed({ username: 'zoe', revision }))).toBe(
      'etcdserver: permission denied',
    );
    expect(await outcome(ann.slice(0, -4))).toBe(bad);

    await world.auth('RoleAdd', { name: 'other' }, root);
    expect(await outcome(ann)).toBe('etcdserver: revision of auth store is old');
    expect(await outcome(await door.login('ann', ANN_PASSWORD))).toBe('ok');
    // Its user is another one now.
    const rootNow = await door.login('root', ROOT_PASSWORD);
    await world.auth('UserChangePassword', { name: 'root', password: 'x' }, rootNow);
    expect(await world.auth('RoleAdd', { name: 'more' }, rootNow)).toBe(
      'etcdserver: revision of auth store is old',
    );
  });

  it.each<[string, string, RegExp]>([
    [
      'a key of another kind',
      'jwt,sign-method=RS256,priv-key=KEY',
      /does not fit sign-method=RS256/,
    ],
    [
      'a file that is not there',
      'jwt,sign-method=ES256,priv-key=/nowhere',
      /cannot read \/nowhere/,
    ],
    ['a file that is no key', 'jwt,sign-method=ES256,pub-key=JUNK', /pub-key that is not a key/],
    ['a short secret', 'jwt,sign-method=HS256,priv-key=JUNK', /at least 32 bytes/],
  ])('are refused at the start with %s', async (_what, option, problem) => {
    const junk = join(tempFolder('jwt'), 'junk');
    writeFileSync(junk, 'junk');
    const value = option.replace('KEY', files().sign).replace('JUNK', junk);

    await expect(start({ 'auth-token': value })).rejects.toThrow(problem);
  });
});

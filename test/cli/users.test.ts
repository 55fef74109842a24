/** kvctl and the SDK with users: the commands from an empty cluster to a denial, and logins that end. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KvdClient } from '../../src/client/client.js';
import { AuthCluster } from '../support/auth-fixture.js';
import { type CliOptions, CliRun } from '../support/cli-run.js';
import { waitFor } from '../support/wait.js';

const world = new AuthCluster();

beforeAll(() => world.start());
afterAll(() => world.stop());

const endpoint = (): string => `127.0.0.1:${world.door.port}`;

/** `code stdout stderr` of a command. */
async function kvctl(line: string, options: CliOptions = {}): Promise<string> {
  const run = new CliRun(['--endpoints', endpoint(), ...line.split(' ')], options);
  const { code, stdout, stderr } = await run.done;
  return `${code} ${stdout}${stderr}`.trimEnd();
}

/** In this order. */
const COMMANDS: readonly [line: string, told: string | RegExp, options?: CliOptions][] = [
  ['auth status', '0 Authentication Status: false\nAuthRevision: 1'],
  ['auth enable', /^1 .*root user does not exist/],
  ['user add root', '0 User root created', { stdin: 'secret\n' }],
  ['user add root', /^1 .*user name already exists/, { stdin: 'secret\n' }],
  ['user add ann:pw', '0 User ann created'],
  ['user add bob --new-user-password pw', '0 User bob created'],
  ['user add cn --no-password', '0 User cn created'],
  ['user add eve', /^2 .*the password is empty/, { stdin: '\n' }],
  ['user list', '0 ann\nbob\ncn\nroot'],
  ['role add shop', '0 Role shop created'],
  ['role grant-permission shop readwrite --prefix /shop/', '0 Role shop updated'],
  ['role grant-permission shop read x', '0 Role shop updated'],
  ['role grant-permission shop read y --from-key', '0 Role shop updated'],
  ['role grant-permission shop all x', /^2 .*none of read, write, readwrite/],
  [
    'role get shop',
    '0 Role shop\nKV Read:\n\t[/shop/, /shop0) (prefix /shop/)\n\tx\n\t[y, <open ended>\nKV Write:\n\t[/shop/, /shop0) (prefix /shop/)',
  ],
  [
    'role revoke-permission shop y --from-key',
    '0 Permission of range [y, <open ended> is revoked from role shop',
  ],
  ['user grant-role ann shop', '0 Role shop is granted to user ann'],
  ['user get ann', '0 User: ann\nRoles: shop'],
  ['auth can-i ann write /shop/1', '0 yes: ann may write /shop/1, by shop'],
  ['auth can-i ann write x', '4 no: ann has the roles shop, and they do not allow to write x'],
  ['auth can-i bob read x', '4 no: bob has no role, and they do not allow to read x'],
  ['auth can-i ann eat x', /^2 .*neither read nor write/],
  ['auth enable', '0 Authentication Enabled'],
  ['get x', /^1 .*user name is empty/],
  ['--user root user list', '0 ann\nbob\ncn\nroot', { askHidden: async () => 'secret' }],
  ['--user root user list', /^1 .*invalid user ID or password/, { askHidden: async () => 'no' }],
  ['--user ann:pw put /shop/1 v', '0 OK'],
  ['--user ann --password pw put y v', /^1 .*permission denied/],
  ['get --prefix /shop/', '0 /shop/1\nv', { env: { KVCTL_USER: 'ann:pw' } }],
  ['get --prefix /shop/', '0 /shop/1\nv', { env: { ETCDCTL_USER: 'ann', ETCDCTL_PASSWORD: 'pw' } }],
  ['--password pw get x', /^2 .*give --user/],
  ['auth status', /^0 Authentication Status: true/],
  ['--user root:secret user passwd bob', '0 Password updated', { stdin: 'new\n' }],
  ['--user bob:new user get bob', '0 User: bob\nRoles:'],
  ['--user root:secret auth can-i root write x', '0 yes: root may write x, by root'],
];

describe('kvctl', () => {
  it('brings a cluster from nobody to users, and says what each may do', async () => {
    for (const [line, told, options] of COMMANDS) {
      const said = await kvctl(line, options);
      if (typeof told === 'string') expect(said, line).toBe(told);
      else expect(said, line).toMatch(told);
    }
  });

  it('asks twice for a new password on a terminal, and shows none', async () => {
    const asked: string[] = [];
    const answers = ['one', 'other'];
    const askHidden = async (prompt: string): Promise<string> => {
      asked.push(prompt);
      return answers.shift() ?? '';
    };

    const said = await kvctl('--user root:secret user passwd bob', { askHidden });

    expect(said).toMatch(/^2 .*two different passwords/);
    expect(asked).toHaveLength(2);
  });
});

describe('the client', () => {
  it('logs in by itself, and anew when its token has ended or users have changed', async () => {
    for (const protocol of ['grpc', 'http'] as const) {
      const to = protocol === 'grpc' ? endpoint() : `127.0.0.1:${world.door.gateway.port}`;
      const user = { username: 'ann', password: 'pw' };
      const client = new KvdClient({ endpoints: [to], protocol, ...user });
      const root = new KvdClient({ endpoints: [endpoint()], username: 'root', password: 'secret' });
      try {
        await Promise.all([client.put('/shop/a', '1'), client.put('/shop/b', '2')]);
        await root.setPassword('ann', 'pw');
        await client.put('/shop/c', '3');

        const seen: string[] = [];
        const stop = new AbortController();
        const range = { key: '/shop/', rangeEnd: '/shop0', signal: stop.signal };
        const watching = (async () => {
          for await (const item of client.watch(range)) {
            if (item.type === 'created') seen.push('created');
            if (item.type === 'events')
              seen.push(...item.events.map(({ kv }) => kv.key.toString()));
          }
        })();
        await waitFor('a watch', 10_000, () => seen.length > 0);
        // Cuts the watch: what was proved is void. The client proves it again and goes on.
        await root.setPassword('ann', 'pw');
        await root.put('/shop/d', '4');
        await waitFor('the event behind a new login', 10_000, () => seen.length > 1);
        stop.abort();
        await watching;

        await expect(client.put('other', '1')).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
      } finally {
        client.close();
        root.close();
      }
    }
  });

  it('says that a password is wrong, and tries no other', async () => {
    const user = { username: 'ann', password: 'wrong' };
    const client = new KvdClient({ endpoints: [endpoint()], ...user });

    await expect(client.get('x')).rejects.toMatchObject({
      code: 'AUTH_FAILED',
      outcome: 'not-applied',
    });
    client.close();
  });
});

/**
 * kvctl lease, lock, elect, register, services, member, endpoint, alarm, defrag, move-leader: what they ask the
 * server for, what their children see, and what happens when a lease is lost under them.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CliResult } from '../support/cli-run.js';
import { CliRun, runCli } from '../support/cli-run.js';
import type { Json } from '../support/scripted-gateway.js';
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
  streamingThenCut,
} from '../support/scripted-gateway.js';
import { tempFolder } from '../support/temp-folder.js';
import { staysFalse, waitFor } from '../support/wait.js';

let gateway: ScriptedGateway;

beforeEach(async () => {
  gateway = await ScriptedGateway.start();
  gateway.always('/v3/lease/grant', ({ body, response }) => {
    response.end(JSON.stringify({ header: header(1), ID: '171', TTL: body['TTL'] }));
  });
  gateway.always('/v3/lease/revoke', ok({ header: header(1) }));
  gateway.always(
    '/v3/lease/keepalive',
    ok((body) => ({ result: { header: header(1), ID: body['ID'], TTL: '1' } })),
  );
});

afterEach(() => gateway.stop());

function start(...argv: string[]): CliRun {
  return new CliRun(['--endpoints', gateway.endpoint, ...argv]);
}

function kvctl(...argv: string[]): Promise<CliResult> {
  return start(...argv).done;
}

/** Also true for a child that has ended and was waited for. */
function isGone(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch {
    return true;
  }
}

const GONE = ok({ result: { header: header(1), ID: '171' } });

describe('lease', () => {
  it('grants with seconds and an id', async () => {
    const result = await kvctl('lease', 'grant', '60', '--id', 'ab');

    expect(result).toMatchObject({
      code: 0,
      stdout: 'lease 00000000000000ab granted with TTL(60s)\n',
    });
    expect(gateway.requests('/v3/lease/grant')).toEqual([{ TTL: '60', ID: '171' }]);
  });

  it('revokes, and exits with 3 when there is no such lease', async () => {
    expect((await kvctl('lease', 'revoke', 'ab')).stdout).toBe('lease 00000000000000ab revoked\n');

    gateway.always('/v3/lease/revoke', failure(5, 'etcdserver: requested lease not found'));
    expect(await kvctl('lease', 'revoke', 'ab')).toMatchObject({ code: 3, stdout: '' });
  });

  it('renews once, or until the lease is gone', async () => {
    const renewed = 'lease 00000000000000ab keepalived with TTL(1)\n';
    expect(await kvctl('lease', 'keep-alive', 'ab', '--once')).toMatchObject({
      code: 0,
      stdout: renewed,
    });

    gateway.next('/v3/lease/keepalive', ok({ result: { ID: '171', TTL: '1' } }), GONE);
    const result = await kvctl('lease', 'keep-alive', 'ab');
    expect(result).toMatchObject({ code: 3, stdout: renewed });
    expect(result.stderr).toMatch(/^kvctl: lease 00000000000000ab is gone: .*\n$/);
  });

  it('shows what is left of a lease and its keys', async () => {
    gateway.next(
      '/v3/lease/timetolive',
      ok({ ID: '171', TTL: '7', grantedTTL: '10', keys: [base64('a'), base64('b')] }),
      ok({ ID: '171', TTL: '-1' }),
    );

    expect((await kvctl('lease', 'timetolive', 'ab', '--keys')).stdout).toBe(
      'lease 00000000000000ab granted with TTL(10s), remaining(7s), attached keys([a b])\n',
    );
    expect(await kvctl('lease', 'timetolive', 'ab')).toMatchObject({ code: 3, stdout: '' });
  });

  it('lists', async () => {
    gateway.always('/v3/lease/leases', ok({ leases: [{ ID: '171' }, { ID: '1' }] }));

    expect((await kvctl('lease', 'list')).stdout).toBe(
      'found 2 leases\n00000000000000ab\n0000000000000001\n',
    );
  });
});

describe('lock', () => {
  beforeEach(() => {
    gateway.always('/v3/lock/lock', ok({ header: header(7), key: base64('l/ab') }));
    const kv = keyValue('l/ab', '', 7, { lease: '171' });
    gateway.always('/v3/kv/range', ok({ header: header(7), kvs: [kv], count: '1' }));
  });

  it('prints key and fencing number, and gives the lock back when interrupted', async () => {
    const run = start('lock', 'l', '--ttl', '5');
    await waitFor('the lock', 5_000, () => run.stdout !== '');

    expect(gateway.requests('/v3/lease/revoke')).toEqual([]);
    run.interrupt();
    const result = await run.done;

    expect(result).toMatchObject({ code: 0, stdout: 'l/ab\n7\n', stderr: '' });
    expect(gateway.requests('/v3/lease/grant')).toEqual([{ TTL: '5' }]);
    expect(gateway.requests('/v3/lease/revoke')).toEqual([{ ID: '171' }]);
  });

  it('runs a command with key and fencing number, and passes its exit code on', async () => {
    const file = join(tempFolder('lock'), 'out');
    const script = `echo "$KVD_LOCK_KEY $KVD_LOCK_REV $ETCD_LOCK_KEY $ETCD_LOCK_REV $1" > ${file}; exit 42`;

    const result = await kvctl('lock', 'l', '--', 'sh', '-c', script, 'sh', '--wait');

    expect(result).toMatchObject({ code: 42, stdout: '', stderr: '' });
    expect(readFileSync(file, 'utf8')).toBe('l/ab 7 l/ab 7 --wait\n');
    expect(gateway.requests('/v3/lease/revoke')).toEqual([{ ID: '171' }]);
  });

  it('gives the lock back when the command does not exist', async () => {
    const result = await kvctl('lock', 'l', '--', '/no/such/program');

    expect(result.code).toBe(127);
    expect(result.stderr).toMatch(/^kvctl: cannot run .*\n$/);
    expect(gateway.requests('/v3/lease/revoke')).toEqual([{ ID: '171' }]);
  });

  it('ends the command when the lock is lost, and never calls that done', async () => {
    gateway.always('/v3/lease/keepalive', GONE);

    const polite = await kvctl('lock', 'l', '--ttl', '1', '--', 'sleep', '30');
    expect(polite.code).toBe(143);
    expect(polite.stderr).toMatch(/^kvctl: the lock is lost, ending the command: .*\n/);

    const pretender = ['sh', '-c', 'trap "exit 0" TERM; while :; do sleep 0.05; done'];
    expect((await kvctl('lock', 'l', '--ttl', '1', '--', ...pretender)).code).toBe(1);
  });

  it('kills a command that ignores the loss of its lock', async () => {
    gateway.always('/v3/lease/keepalive', GONE);
    const stubborn = ['sh', '-c', 'trap "" TERM; while :; do sleep 0.05; done'];

    expect((await kvctl('lock', 'l', '--ttl', '1', '--', ...stubborn)).code).toBe(137);
  });

  it('hands a request to terminate on to the command, and then gives the lock back', async () => {
    const run = start('lock', 'l', '--', 'sleep', '30');
    await waitFor('the lock', 5_000, () => gateway.requests('/v3/kv/range').length > 0);
    run.interrupt('SIGTERM');

    expect((await run.done).code).toBe(143);
    expect(gateway.requests('/v3/lease/revoke')).toEqual([{ ID: '171' }]);
  });

  it('exits with 4 when the lock is not won in time, and leaves the queue', async () => {
    gateway.always('/v3/lock/lock', silence());

    const result = await kvctl('lock', 'l', '--wait', '0.3', '--', 'true');

    expect(result).toMatchObject({ code: 4, stdout: '' });
    expect(result.stderr).toMatch(/^kvctl: lock "l" was not won within 0.3 s: .*\n$/);
    expect(gateway.requests('/v3/lease/revoke')).toEqual([{ ID: '171' }]);
  });

  it('exits with 5 when the server is too slow to join the queue at all', async () => {
    gateway.always('/v3/lease/grant', silence());

    const result = await kvctl('lock', 'l', '--wait', '9', '--command-timeout', '0.2');

    expect(result).toMatchObject({ code: 5, stdout: '' });
  });

  it('leaves the queue when interrupted while it waits', async () => {
    gateway.always('/v3/lock/lock', silence());
    const run = start('lock', 'l');
    await waitFor('the wait', 5_000, () => gateway.requests('/v3/lock/lock').length > 0);
    run.interrupt();

    expect((await run.done).code).toBe(130);
    expect(gateway.requests('/v3/lease/revoke')).toEqual([{ ID: '171' }]);
  });
});

describe('elect', () => {
  const leader = { name: base64('e'), key: base64('e/ab'), rev: '7', lease: '171' };

  it('leads until interrupted, and then resigns', async () => {
    gateway.always('/v3/election/campaign', ok({ header: header(7), leader }));
    gateway.always('/v3/election/resign', ok({ header: header(8) }));
    const run = start('elect', 'e', 'me');
    await waitFor('the election', 5_000, () => run.stdout !== '');
    run.interrupt();

    expect(await run.done).toMatchObject({ code: 0, stdout: 'e/ab\nme\n', stderr: '' });
    expect(gateway.requests('/v3/election/campaign')).toEqual([
      { name: base64('e'), lease: '171', value: base64('me') },
    ]);
    expect(gateway.requests('/v3/election/resign')).toEqual([{ leader }]);
  });

  it('gives its lease back also when the resignation fails', async () => {
    gateway.always('/v3/election/campaign', ok({ header: header(7), leader }));
    gateway.always('/v3/election/resign', failure(2, 'broken'));
    const run = start('elect', 'e', 'me');
    await waitFor('the election', 5_000, () => run.stdout !== '');
    run.interrupt();

    expect(await run.done).toMatchObject({ code: 1, stderr: 'kvctl: broken\n' });
    expect(gateway.requests('/v3/lease/revoke')).toEqual([{ ID: '171' }]);
  });

  it('ends with 1 when the leadership is lost', async () => {
    gateway.always('/v3/election/campaign', ok({ header: header(7), leader }));
    gateway.always('/v3/lease/keepalive', GONE);

    const result = await kvctl('elect', 'e', 'me', '--ttl', '1');

    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/^kvctl: lease 00000000000000ab expired or was revoked: .*\n$/);
  });

  it('listens, and shows a leader once although the server repeats it', async () => {
    const first = keyValue('e/1', 'one', 5);
    const second = keyValue('e/2', 'two', 6);
    gateway.next(
      '/v3/election/observe',
      streamingThenCut(line({ header: header(5), kv: first })),
      streaming(line({ header: header(5), kv: first }), line({ header: header(6), kv: second })),
    );
    const run = start('elect', 'e', '--listen');
    await waitFor('the second leader', 5_000, () => run.stdout.includes('two'));
    run.interrupt();

    const result = await run.done;
    expect(result).toMatchObject({ code: 0, stdout: 'e/1\none\ne/2\ntwo\n' });
    expect(result.stderr).toMatch(/^kvctl: lost the server.*\nkvctl: listening again.*\n$/);
  });
});

describe('register', () => {
  beforeEach(() => gateway.always('/v3/kv/put', ok({ header: header(7) })));

  function written(): Json[] {
    return gateway.requests('/v3/kv/put').map((body) => ({
      key: Buffer.from(String(body['key']), 'base64').toString(),
      value: JSON.parse(Buffer.from(String(body['value']), 'base64').toString()),
    }));
  }

  it('writes the instance, and removes it when interrupted', async () => {
    const meta = ['--meta', 'zone=a', '--meta', 'note=x=y'];
    const run = start('register', 'web', '10.0.0.1:80', '--id', 'w1', '--ttl', '3', ...meta);
    await waitFor('the registration', 5_000, () => run.stderr.includes('is registered'));
    run.interrupt('SIGTERM');
    const result = await run.done;

    expect(result).toMatchObject({ code: 0, stdout: '' });
    expect(written()).toEqual([
      {
        key: '/services/web/w1',
        value: {
          name: 'web',
          id: 'w1',
          address: '10.0.0.1:80',
          meta: { zone: 'a', note: 'x=y' },
        },
      },
    ]);
    expect(gateway.requests('/v3/lease/revoke')).toEqual([{ ID: '171' }]);
  });

  it('removes the instance when its command ends, and passes the exit code on', async () => {
    const file = join(tempFolder('register'), 'out');
    const script = `echo "$KVD_SERVICE_NAME $KVD_SERVICE_ID $KVD_SERVICE_ADDRESS" > ${file}; exit 9`;

    const result = await kvctl('register', 'web', 'h:1', '--id', 'w1', '--', 'sh', '-c', script);

    expect(result.code).toBe(9);
    expect(readFileSync(file, 'utf8')).toBe('web w1 h:1\n');
    expect(gateway.requests('/v3/lease/revoke')).toEqual([{ ID: '171' }]);
  });

  it('removes the instance before it tells its command to end', async () => {
    const file = join(tempFolder('register'), 'started');
    const script = `echo $$ > ${file}; exec sleep 30`;
    const run = start('register', 'web', 'h:1', '--', 'sh', '-c', script);
    const pidText = (): string => (existsSync(file) ? readFileSync(file, 'utf8').trim() : '');
    await waitFor('the command', 5_000, () => pidText() !== '');
    let release = (): void => {};
    gateway.always('/v3/lease/revoke', ({ response }) => {
      release = () => void response.end(JSON.stringify({ header: header(9) }));
    });
    run.interrupt('SIGTERM');
    await waitFor('the removal', 5_000, () => gateway.requests('/v3/lease/revoke').length > 0);

    await staysFalse('the command ends too early', 200, () => isGone(Number(pidText())));
    release();
    expect((await run.done).code).toBe(143);
  });

  it('registers again when its lease was lost', async () => {
    gateway.next('/v3/lease/keepalive', GONE);
    const run = start('register', 'web', 'h:1', '--ttl', '1');
    await waitFor('the second time', 8_000, () => run.stderr.includes('is registered again'));
    run.interrupt();

    expect((await run.done).code).toBe(0);
    expect(written()).toHaveLength(2);
    expect(run.stderr).toContain('has left the registry, registering again');
  });

  it('fails at once when there is no server to begin with', async () => {
    const result = await runCli(['--endpoints', '127.0.0.1:1', 'register', 'web', 'h:1']);

    expect(result.code).toBe(5);
    expect(result.stderr).toContain('connection refused');
  });

  it('says so when the removal could not be confirmed', async () => {
    const run = start('register', 'web', 'h:1', '--id', 'w1');
    await waitFor('the registration', 5_000, () => run.stderr.includes('is registered'));
    gateway.always('/v3/lease/revoke', hangUp());
    run.interrupt();

    const result = await run.done;
    expect(result.code).toBe(1);
    expect(result.stderr).toContain('web/w1 leaves the registry with its TTL');
  });
});

describe('services', () => {
  const value = (id: string): string =>
    JSON.stringify({ name: 'web', id, address: `${id}:80`, meta: { zone: 'a' } });
  const kvs = [
    keyValue('/services/db/d1', 'plain:5432', 3),
    keyValue('/services/web/w1', value('w1'), 4, { lease: '171' }),
    keyValue('/services/web/w2', JSON.stringify({ Op: 0, Addr: 'w2:80' }), 5),
  ];

  it('counts the instances of each', async () => {
    gateway.always('/v3/kv/range', ok({ header: header(9), kvs, count: '3' }));

    expect((await kvctl('services')).stdout).toBe('SERVICE  INSTANCES\ndb       1\nweb      2\n');
    expect(gateway.requests('/v3/kv/range')).toEqual([
      { key: base64('/services/'), range_end: base64('/services0') },
    ]);
  });

  it('shows the instances of one, whoever wrote them', async () => {
    gateway.always('/v3/kv/range', ok({ header: header(9), kvs: kvs.slice(1), count: '2' }));

    const { stdout } = await kvctl('services', 'web');
    expect(stdout.split('\n').map((row) => row.split(/ {2,}/))).toEqual([
      ['ID', 'ADDRESS', 'LEASE', 'META'],
      ['w1', 'w1:80', '00000000000000ab', 'zone=a'],
      ['w2', 'w2:80', '-'],
      [''],
    ]);
    expect(JSON.parse((await kvctl('services', 'web', '-w', 'json')).stdout)).toEqual([
      { name: 'web', id: 'w1', address: 'w1:80', meta: { zone: 'a' }, lease: '00000000000000ab' },
      { name: 'web', id: 'w2', address: 'w2:80', meta: {} },
    ]);
  });

  it('exits with 3 when there is none', async () => {
    gateway.always('/v3/kv/range', ok({ header: header(9) }));

    expect(await kvctl('services', 'web')).toMatchObject({ code: 3, stdout: '' });
    expect(await kvctl('services')).toMatchObject({ code: 3, stdout: '' });
  });

  it('follows from the revision after what it has read', async () => {
    gateway.always('/v3/kv/range', ok({ header: header(9), kvs, count: '3' }));
    const events = [
      { kv: keyValue('/services/web/w3', value('w3'), 10) },
      { kv: keyValue('/services/web/w3', value('w3'), 11) },
      { type: 'DELETE', kv: { key: base64('/services/web/w1'), mod_revision: '12' } },
    ];
    gateway.next('/v3/watch', streaming(createdLine(9), line({ header: header(12), events })));
    const run = start('services', '--watch');
    await waitFor('the last change', 5_000, () => run.stdout.includes('- web/w1'));
    run.interrupt();

    expect((await run.done).stdout.split('\n').slice(3)).toEqual([
      '+ web/w3 w3:80 zone=a',
      '~ web/w3 w3:80 zone=a',
      '- web/w1 w1:80 zone=a',
      '',
    ]);
    const [request] = gateway.requests('/v3/watch');
    expect(request?.['create_request']).toMatchObject({ start_revision: '10' });
  });
});

describe('the cluster', () => {
  let other: ScriptedGateway;

  beforeEach(async () => {
    other = await ScriptedGateway.start();
    const member = (id: string, name: string, url: string): Json => ({
      ID: id,
      name,
      peerURLs: ['http://p:2380'],
      clientURLs: [`http://${url}`],
    });
    const members = [
      member('255', 'n1', gateway.endpoint),
      member('254', 'n2', other.endpoint),
      { ID: '3', peerURLs: ['http://q:2380'], isLearner: true },
    ];
    gateway.always('/v3/cluster/member/list', ok({ header: header(0), members }));
    const status = (id: string): Json => ({
      header: { ...header(9), member_id: id },
      version: '3.6.0',
      dbSize: '20480',
      leader: '254',
      raftIndex: '12',
      raftTerm: '2',
      raftAppliedIndex: '11',
    });
    gateway.always('/v3/maintenance/status', ok(status('255')));
    other.always('/v3/maintenance/status', ok(status('254')));
  });

  afterEach(() => other.stop());

  it('lists members', async () => {
    expect((await kvctl('member', 'list')).stdout).toBe(
      [
        `ff, started, n1, http://p:2380, http://${gateway.endpoint}, false`,
        `fe, started, n2, http://p:2380, http://${other.endpoint}, false`,
        '3, unstarted, , http://q:2380, , true',
        '',
      ].join('\n'),
    );
  });

  it('shows the status of every member, and which one leads', async () => {
    expect((await kvctl('endpoint', 'status', '--cluster')).stdout).toBe(
      [
        `http://${gateway.endpoint}, ff, 3.6.0, 20 kB, false, false, 2, 12, 11, `,
        `http://${other.endpoint}, fe, 3.6.0, 20 kB, true, false, 2, 12, 11, `,
        '',
      ].join('\n'),
    );
  });

  it('asks who the members are without a leader, because that is when one looks', async () => {
    await kvctl('endpoint', 'status', '--cluster');
    await kvctl('member', 'list');

    expect(gateway.requests('/v3/cluster/member/list')).toEqual([{}, { linearizable: true }]);
  });

  it('shows what it can when one endpoint is down', async () => {
    const endpoints = `${gateway.endpoint},127.0.0.1:1`;

    const result = await runCli(['--endpoints', endpoints, 'endpoint', 'status']);

    expect(result.code).toBe(1);
    expect(result.stdout.split('\n')).toHaveLength(2);
    expect(result.stderr).toContain('127.0.0.1:1: connection refused');
  });

  it('exits with 5 when no endpoint is healthy', async () => {
    gateway.always('/v3/kv/range', ok({ header: header(9) }));
    expect((await kvctl('endpoint', 'health')).stdout).toMatch(
      / is healthy: answered in [\d.]+ ms\n$/,
    );

    gateway.always('/v3/kv/range', failure(14, 'etcdserver: no leader'));
    const result = await kvctl('endpoint', 'health', '--command-timeout', '100ms', '-w', 'json');
    expect(result.code).toBe(5);
    expect(JSON.parse(result.stdout)).toMatchObject([{ health: false }]);
  });

  it('notices members that differ', async () => {
    const hash = (value: number): Json => ({ hash: value, hash_revision: '9' });
    gateway.always('/v3/maintenance/hashkv', ok(hash(5)));
    other.always('/v3/maintenance/hashkv', ok(hash(5)));
    expect(await kvctl('endpoint', 'hashkv', '--cluster')).toMatchObject({ code: 0, stderr: '' });

    other.always('/v3/maintenance/hashkv', ok(hash(6)));
    const result = await kvctl('endpoint', 'hashkv', '--cluster');
    expect(result.code).toBe(1);
    expect(result.stderr).toContain('corruption');
  });

  it('lists alarms, and ends each that stands', async () => {
    const alarms = [
      { memberID: '254', alarm: 'NOSPACE' },
      { memberID: '0', alarm: 'CORRUPT' },
    ];
    gateway.always('/v3/maintenance/alarm', ({ body, response }) => {
      // The other one ended by itself meanwhile.
      const ended = alarms.filter(({ alarm }) => alarm === body['alarm'] && alarm === 'NOSPACE');
      const answer = body['action'] === 'DEACTIVATE' ? ended : alarms;
      response.end(JSON.stringify({ header: header(9), alarms: answer }));
    });

    expect((await kvctl('alarm', 'list')).stdout).toBe('fe, NOSPACE\n0, CORRUPT\n');
    const ended = await kvctl('alarm', 'disarm', '-w', 'json');
    expect(JSON.parse(ended.stdout)).toEqual([{ member_id: 'fe', kind: 'NOSPACE' }]);
    expect(gateway.requests('/v3/maintenance/alarm')).toEqual([
      {},
      {},
      { action: 'DEACTIVATE', memberID: '254', alarm: 'NOSPACE' },
      { action: 'DEACTIVATE', alarm: 'CORRUPT' },
    ]);
  });

  it('lets every member give space back, and says which one did not', async () => {
    gateway.always('/v3/maintenance/defragment', ok({}));
    other.always('/v3/maintenance/defragment', failure(13, 'the disk is gone'));

    const result = await kvctl('defrag', '--cluster');

    expect(result.stdout).toBe(`http://${gateway.endpoint} is defragmented\n`);
    expect(result.stderr).toContain(`${other.endpoint}: the disk is gone`);
    expect(result.code).toBe(1);
  });

  it('defragments one member behind the other, and takes a refusal for no outage', async () => {
    let underWay = 0;
    let most = 0;
    for (const each of [gateway, other]) {
      each.always('/v3/maintenance/defragment', ({ response }) => {
        underWay += 1;
        most = Math.max(most, underWay);
        setTimeout(() => {
          underWay -= 1;
          response.end('{}');
        }, 30);
      });
    }
    expect((await kvctl('defrag', '--cluster')).code).toBe(0);
    expect(most).toBe(1);

    gateway.always('/v3/maintenance/defragment', failure(7, 'etcdserver: permission denied'));
    expect((await kvctl('defrag')).code).toBe(1);
  });

  it.each(['n1', 'ff'])('asks the leader to hand over to %s', async (target) => {
    other.always('/v3/maintenance/transfer-leadership', ok({}));

    const result = await kvctl('move-leader', target);

    expect(result).toMatchObject({ code: 0, stdout: 'leadership moved from fe to ff\n' });
    expect(other.requests('/v3/maintenance/transfer-leadership')).toEqual([{ targetID: '255' }]);
  });

  it('does nothing when the member leads already, and exits with 3 when there is none', async () => {
    expect(await kvctl('move-leader', 'n2')).toMatchObject({ code: 0, stdout: '' });
    expect(await kvctl('move-leader', 'nobody')).toMatchObject({ code: 3, stdout: '' });
  });
});

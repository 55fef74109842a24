/**
 * kvctl get, put, del, txn, watch, compact: requests, output, exit codes.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CliOptions, CliResult } from '../support/cli-run.js';
import { CliRun, runCli } from '../support/cli-run.js';
import type { Json } from '../support/scripted-gateway.js';
import {
  base64,
  createdLine,
  eventsLine,
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
import { waitFor } from '../support/wait.js';

let gateway: ScriptedGateway;

beforeEach(async () => {
  gateway = await ScriptedGateway.start();
});

afterEach(() => gateway.stop());

function kvctl(...argv: string[]): Promise<CliResult> {
  return runCli(['--endpoints', gateway.endpoint, ...argv]);
}

function kvctlWith(options: CliOptions, ...argv: string[]): Promise<CliResult> {
  return runCli(['--endpoints', gateway.endpoint, ...argv], options);
}

function only(path: string): Json {
  const all = gateway.requests(path);
  expect(all).toHaveLength(1);
  return all[0] as Json;
}

function answerRange(...kvs: Json[]): void {
  gateway.always('/v3/kv/range', ok({ header: header(9), kvs, count: String(kvs.length) }));
}

describe('get', () => {
  it('prints key and value on a line each', async () => {
    answerRange(keyValue('a', 'x', 5), keyValue('b', 'y', 6));

    const result = await kvctl('get', 'a', 'c');

    expect(result).toMatchObject({ code: 0, stdout: 'a\nx\nb\ny\n', stderr: '' });
    expect(only('/v3/kv/range')).toEqual({ key: base64('a'), range_end: base64('c') });
  });

  it('prints bytes that are not UTF-8 as they are', async () => {
    const value = Buffer.from([0, 0xff, 0x0a]).toString('base64');
    answerRange({ ...keyValue('a', '', 5), value });

    const { stdoutBytes } = await kvctl('get', 'a', '--print-value-only');

    expect([...stdoutBytes]).toEqual([0, 0xff, 0x0a, 0x0a]);
  });

  it('exits with 3 and prints nothing on stdout when the key is missing', async () => {
    answerRange();

    const result = await kvctl('get', 'a');

    expect(result).toMatchObject({ code: 3, stdout: '' });
    expect(result.stderr).toMatch(/^kvctl: key "a" not found: .*\n$/);
  });

  it.each([
    [['a', '--prefix'], { key: base64('a'), range_end: base64('b') }],
    [['', '--prefix'], { key: 'AA==', range_end: 'AA==' }],
    [['a', '--from-key'], { key: base64('a'), range_end: 'AA==' }],
    [['', '--from-key'], { key: 'AA==', range_end: 'AA==' }],
    [['a', '--rev', '4', '--limit=2'], { key: base64('a'), revision: '4', limit: '2' }],
    [
      ['a', '--consistency', 's', '--keys-only'],
      { key: base64('a'), serializable: true, keys_only: true },
    ],
    [
      ['a', '--sort-by', 'MODIFY', '--order', 'descend'],
      { key: base64('a'), sort_order: 'DESCEND', sort_target: 'MOD' },
    ],
    [
      ['a', '--sort-by', 'version'],
      { key: base64('a'), sort_order: 'ASCEND', sort_target: 'VERSION' },
    ],
    [
      ['a', '--min-mod-rev', '3', '--max-create-rev', '9'],
      { key: base64('a'), min_mod_revision: '3', max_create_revision: '9' },
    ],
    [['--', '-a'], { key: base64('-a') }],
  ])('asks for %j', async (argv, request) => {
    answerRange(keyValue('a', 'x', 5));

    const result = await kvctl('get', ...argv);

    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(only('/v3/kv/range')).toEqual(request);
  });

  it('counts', async () => {
    gateway.always('/v3/kv/range', ok({ header: header(9), count: '12' }));

    expect(await kvctl('get', 'a', '--prefix', '--count-only')).toMatchObject({
      code: 0,
      stdout: '12\n',
    });
  });

  it('writes readable json, with base64 only where bytes are not UTF-8', async () => {
    const value = Buffer.from([0xff]).toString('base64');
    answerRange(keyValue('a', 'ü', 5, { lease: '26' }), {
      ...keyValue('b', '', 6),
      key: value,
      value,
    });

    const { stdout } = await kvctl('get', 'a', '-w', 'json');

    expect(stdout.trimEnd()).not.toContain('\n');
    expect(JSON.parse(stdout)).toEqual({
      header: { cluster_id: '7', member_id: '8', revision: 9, raft_term: 2 },
      kvs: [
        {
          key: 'a',
          create_revision: 5,
          mod_revision: 5,
          version: 1,
          value: 'ü',
          lease: '000000000000001a',
        },
        {
          key: '/w==',
          key_encoding: 'base64',
          create_revision: 6,
          mod_revision: 6,
          version: 1,
          value: '/w==',
          encoding: 'base64',
        },
      ],
      more: false,
      count: 2,
    });
  });

  it('writes fields', async () => {
    answerRange(keyValue('a', 'x', 5));

    const { stdout } = await kvctl('get', 'a', '--write-out=fields');

    expect(stdout.split('\n')).toEqual([
      '"ClusterID" : "7"',
      '"MemberID" : "8"',
      '"Revision" : 9',
      '"RaftTerm" : 2',
      '"Key" : "a"',
      '"CreateRevision" : 5',
      '"ModRevision" : 5',
      '"Version" : 1',
      '"Value" : "x"',
      '"More" : false',
      '"Count" : 1',
      '',
    ]);
  });

  it('writes a table that no value can break', async () => {
    answerRange(keyValue('a', 'line\nbreak\u001b[2J', 5));

    const { stdout } = await kvctl('get', 'a', '-w', 'table');

    expect(stdout).toContain('| a   | line\\nbreak\\u001b[2J | 5 ');
    expect(stdout.split('\n')).toHaveLength(6);
  });

  it('writes hexadecimal', async () => {
    answerRange(keyValue('ab', 'c', 5));

    expect((await kvctl('get', 'ab', '--hex')).stdout).toBe('\\x61\\x62\n\\x63\n');
  });
});

describe('put', () => {
  beforeEach(() => gateway.always('/v3/kv/put', ok({ header: header(9) })));

  it.each([
    [['a', 'b'], { key: base64('a'), value: base64('b') }],
    [['a', ''], { key: base64('a') }],
    [['a', '-5'], { key: base64('a'), value: base64('-5') }],
    [['a', '--', '--lease'], { key: base64('a'), value: base64('--lease') }],
    [['lock', '--', '-v'], { key: base64('lock'), value: base64('-v') }],
    [['watch', '-w', 'simple', '--', '-v'], { key: base64('watch'), value: base64('-v') }],
    [
      ['a', 'b', '--lease', 'ffffffffffffffff'],
      { key: base64('a'), value: base64('b'), lease: '-1' },
    ],
    [
      ['--lease=1A', 'a', 'b', '--prev-kv'],
      { key: base64('a'), value: base64('b'), lease: '26', prev_kv: true },
    ],
    [
      ['a', '--ignore-value', '--lease', '0x1a'],
      { key: base64('a'), lease: '26', ignore_value: true },
    ],
    [['a', 'b', '--ignore-lease'], { key: base64('a'), value: base64('b'), ignore_lease: true }],
  ])('sends %j', async (argv, request) => {
    expect(await kvctl('put', ...argv)).toMatchObject({ code: 0, stdout: 'OK\n', stderr: '' });
    expect(only('/v3/kv/put')).toEqual(request);
  });

  it.each([[['a']], [['a', '-']]])(
    'reads the value of %j from stdin, byte by byte',
    async (argv) => {
      const stdin = Buffer.from([0, 0xff, 0x0a]);

      await kvctlWith({ stdin }, 'put', ...argv);

      expect(only('/v3/kv/put')['value']).toBe(stdin.toString('base64'));
    },
  );

  it('prints what was there before', async () => {
    gateway.always('/v3/kv/put', ok({ header: header(9), prev_kv: keyValue('a', 'old', 5) }));

    expect((await kvctl('put', 'a', 'b', '--prev-kv')).stdout).toBe('OK\na\nold\n');
  });

  it('exits with 3 when the lease does not exist', async () => {
    gateway.always('/v3/kv/put', failure(5, 'etcdserver: requested lease not found'));

    const result = await kvctl('put', 'a', 'b', '--lease', '1');

    expect(result).toMatchObject({ code: 3, stdout: '' });
    expect(result.stderr).toMatch(/^kvctl: requested lease not found: .*lease list.*\n$/);
  });
});

describe('del', () => {
  it('prints how many were deleted', async () => {
    gateway.always('/v3/kv/deleterange', ok({ header: header(9), deleted: '2' }));

    expect(await kvctl('del', 'a', '--prefix')).toMatchObject({ code: 0, stdout: '2\n' });
    expect(only('/v3/kv/deleterange')).toEqual({ key: base64('a'), range_end: base64('b') });
  });

  it('prints 0 and exits with 3 when there was nothing', async () => {
    gateway.always('/v3/kv/deleterange', ok({ header: header(9) }));

    const result = await kvctl('del', 'a');

    expect(result).toMatchObject({ code: 3, stdout: '0\n' });
    expect(result.stderr.split('\n')).toHaveLength(2);
  });
});

describe('txn', () => {
  const text = 'mod("a") = "5"\n\nput a "x y"\nget a\n\ndel b --prefix\n';

  it('sends the three blocks', async () => {
    gateway.always(
      '/v3/kv/txn',
      ok({
        header: header(9),
        succeeded: true,
        responses: [
          { response_put: { header: {} } },
          { response_range: { header: {}, kvs: [keyValue('a', 'x y', 9)], count: '1' } },
        ],
      }),
    );

    const result = await kvctlWith({ stdin: text }, 'txn');

    expect(result).toMatchObject({ code: 0, stdout: 'SUCCESS\n\nOK\n\na\nx y\n', stderr: '' });
    expect(only('/v3/kv/txn')).toEqual({
      compare: [{ key: base64('a'), target: 'MOD', mod_revision: '5' }],
      success: [
        { request_put: { key: base64('a'), value: base64('x y') } },
        { request_range: { key: base64('a') } },
      ],
      failure: [{ request_delete_range: { key: base64('b'), range_end: base64('c') } }],
    });
  });

  it('exits with 4 after printing the failure block', async () => {
    gateway.always(
      '/v3/kv/txn',
      ok({ header: header(9), responses: [{ response_delete_range: { deleted: '3' } }] }),
    );

    const result = await kvctlWith({ stdin: text }, 'txn');

    expect(result).toMatchObject({ code: 4, stdout: 'FAILURE\n\n3\n' });
  });

  it('asks for each block when interactive', async () => {
    gateway.always('/v3/kv/txn', ok({ header: header(9), succeeded: true }));

    const result = await kvctlWith({ stdin: '\nput a b\n\n\nleft over' }, 'txn', '-i');

    expect(result).toMatchObject({ code: 0, stdout: 'SUCCESS\n' });
    expect(result.stderr.match(/:\n/g)).toHaveLength(3);
    expect(only('/v3/kv/txn')).not.toHaveProperty('compare');
    expect(only('/v3/kv/txn')).not.toHaveProperty('failure');
  });

  it('quotes the line that it does not understand and sends nothing', async () => {
    const result = await kvctlWith({ stdin: 'mod("a") ~ 5\n' }, 'txn');

    expect(result.code).toBe(2);
    expect(result.stderr).toContain('mod("a") ~ 5');
    expect(gateway.received).toHaveLength(0);
  });
});

describe('compact', () => {
  it('sends the revision', async () => {
    gateway.always('/v3/kv/compaction', ok({ header: header(9) }));

    expect(await kvctl('compact', '7', '--physical')).toMatchObject({
      code: 0,
      stdout: 'compacted revision 7\n',
    });
    expect(only('/v3/kv/compaction')).toEqual({ revision: '7', physical: true });
  });
});

describe('watch', () => {
  const put = keyValue('a', 'x', 5);
  const gone = line({
    header: header(6),
    events: [
      {
        type: 'DELETE',
        kv: { key: base64('a'), mod_revision: '6' },
        prev_kv: put,
      },
    ],
  });

  async function watchUntil(stdout: string, ...argv: string[]): Promise<CliResult> {
    const run = new CliRun(['--endpoints', gateway.endpoint, 'watch', ...argv]);
    await waitFor(`"${stdout}"`, 8_000, () => run.stdout.includes(stdout));
    run.interrupt();
    return run.done;
  }

  it('prints each event until interrupted', async () => {
    gateway.next('/v3/watch', streaming(createdLine(4), eventsLine(5, put), gone));

    const result = await watchUntil('DELETE\na\nx\na\n\n', 'a');

    expect(result).toMatchObject({ code: 0, stdout: 'PUT\na\nx\nDELETE\na\nx\na\n\n', stderr: '' });
  });

  it('says that it lost the server and that it is back', async () => {
    gateway.next(
      '/v3/watch',
      streamingThenCut(createdLine(4), eventsLine(5, put)),
      streaming(createdLine(6), eventsLine(6, keyValue('b', 'y', 6))),
    );

    const { stderr } = await watchUntil('b\ny\n', 'a', '--prefix');

    expect(stderr).toMatch(/^kvctl: lost the server.*\nkvctl: watching again .*revision 6\n$/);
  });

  it('writes one line of json for each event', async () => {
    gateway.next('/v3/watch', streaming(createdLine(4), eventsLine(5, put, put), gone));

    const { stdout } = await watchUntil('DELETE', 'a', '-w', 'json');

    const types = stdout
      .trimEnd()
      .split('\n')
      .map((text) => JSON.parse(text).type);
    expect(types).toEqual(['PUT', 'DELETE']);
  });

  it('asks for what its options say', async () => {
    gateway.next('/v3/watch', streaming(createdLine(4), line({ header: header(8) })));

    await watchUntil(
      'progress notify: 8',
      ...['a', 'c', '--rev', '3', '--prev-kv', '--progress-notify', '--filter', 'put'],
    );

    expect(only('/v3/watch')['create_request']).toEqual({
      key: base64('a'),
      range_end: base64('c'),
      start_revision: '3',
      progress_notify: true,
      prev_kv: true,
      filters: ['NOPUT'],
    });
  });

  it('runs a command for each event, with the event in its environment', async () => {
    gateway.next('/v3/watch', streaming(createdLine(4), eventsLine(5, put), gone));
    const file = join(tempFolder('watch'), 'out');
    const script = `echo "$KVD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY=$KVD_WATCH_VALUE@$KVD_WATCH_REVISION $1" >> ${file}; exit 3`;
    const run = new CliRun([
      ...[
        '--endpoints',
        gateway.endpoint,
        'watch',
        'a',
        '--',
        'sh',
        '-c',
        script,
        'sh',
        '--prefix',
      ],
    ]);

    const expected = 'PUT a=x@5 --prefix\nDELETE a=@6 --prefix\n';
    await waitFor('both runs', 8_000, () => readFileSync(file, 'utf8') === expected);
    await waitFor('the note', 8_000, () => run.stderr.split('\n').length === 3);
    run.interrupt();

    expect((await run.done).code).toBe(0);
    expect(run.stderr).toContain('the command ended with code 3 at revision 5');
  });

  it('ends with 1 when what it should show is compacted', async () => {
    gateway.next(
      '/v3/watch',
      streaming(createdLine(90), line({ canceled: true, compact_revision: '50' })),
    );

    const result = await kvctl('watch', 'a', '--rev', '3');

    expect(result).toMatchObject({ code: 1, stdout: '' });
    expect(result.stderr).toContain('--rev 50');
  });

  it('exits with 5 when there is no server to begin with', async () => {
    expect(await runCli(['--endpoints', '127.0.0.1:1', 'watch', 'a'])).toMatchObject({ code: 5 });
  });
});

describe('a failure', () => {
  it('names what cannot be reached, and exits with 5', async () => {
    const result = await runCli(['--endpoints', '127.0.0.1:1,127.0.0.1:2', 'get', 'a']);

    expect(result).toMatchObject({ code: 5, stdout: '' });
    expect(result.stderr).toMatch(
      /^kvctl: 127\.0\.0\.1:2: connection refused \(the last of 2 endpoints .*\): is the server.*\n$/,
    );
  });

  it('does not speak of other endpoints when there is one', async () => {
    const result = await runCli(['--endpoints', '127.0.0.1:1', 'get', 'a']);

    expect(result.stderr).toMatch(/^kvctl: 127\.0\.0\.1:1: connection refused: is the server.*\n$/);
  });

  it('exits with 5 when there is no leader until the time is over', async () => {
    gateway.always('/v3/kv/range', failure(14, 'etcdserver: no leader'));

    const result = await kvctl('get', 'a', '--command-timeout', '1500ms');

    expect(result.code).toBe(5);
    expect(result.stderr).toMatch(/^kvctl: no leader: a majority .*\n$/);
  });

  it('exits with 5 when the server is frozen', async () => {
    gateway.always('/v3/kv/range', silence());

    const result = await kvctl('get', 'a', '--command-timeout=0.2');

    expect(result).toMatchObject({ code: 5 });
    expect(result.stderr).toContain('did not answer in time');
  });

  it('does not hide that a write may have happened', async () => {
    gateway.always('/v3/kv/put', hangUp());

    const result = await kvctl('put', 'a', 'b');

    expect(result).toMatchObject({ code: 5, stdout: '' });
    expect(result.stderr).toContain('not known whether the change was made');
  });

  it('is one line, whatever the server says', async () => {
    gateway.always('/v3/kv/range', failure(13, 'etcdserver: two\nlines'));

    const result = await kvctl('get', 'a');

    expect(result).toMatchObject({ code: 1, stderr: 'kvctl: two lines\n' });
  });

  it('ends with 130 when interrupted, and 143 when terminated', async () => {
    gateway.always('/v3/kv/range', silence());
    for (const [name, code] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
    ] as const) {
      const run = new CliRun(['--endpoints', gateway.endpoint, 'get', 'a']);
      run.interrupt(name);
      expect((await run.done).code).toBe(code);
    }
  });
});

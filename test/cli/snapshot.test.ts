/** kvctl snapshot save, status, restore: files, output, exit codes, and what is refused. */
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { stream } from '../../src/rpc/api/handler.js';
import { type CliResult, CliRun, runCli } from '../support/cli-run.js';
import { type ServedGrpc, serveGrpc } from '../support/grpc-client.js';
import { put } from '../support/in-process-cluster.js';
import { LocalNode } from '../support/local-node.js';
import { tempFolder } from '../support/temp-folder.js';
import { waitFor } from '../support/wait.js';

let node: LocalNode;
let served: ServedGrpc;
let folder: string;
let file: string;

beforeEach(async () => {
  node = new LocalNode();
  for (let at = 0; at < 200; at += 1) node.rig.ok(put(`k${at % 50}`, Buffer.alloc(100, at)));
  served = await serveGrpc(node);
  folder = tempFolder('kvctl-snapshot');
  file = join(folder, 'backup');
});

afterEach(async () => {
  node.stop();
  await served.stop();
});

function kvctl(...argv: string[]): Promise<CliResult> {
  return runCli(['--endpoints', `127.0.0.1:${served.port}`, ...argv]);
}

const MEMBER = [
  ...['--name', 'm1', '--initial-cluster', 'm1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380'],
  ...['--initial-advertise-peer-urls', 'http://10.0.0.1:2380', '--initial-cluster-token', 'new'],
];

describe('snapshot save', () => {
  it('makes a file for its owner alone, in place of an older one', async () => {
    writeFileSync(file, 'older');

    const result = await kvctl('snapshot', 'save', file);

    expect(result).toMatchObject({ code: 0, stdout: `Snapshot saved at ${file}\n`, stderr: '' });
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(['backup']);
    expect((await kvctl('snapshot', 'status', file)).code).toBe(0);
  });

  it('says when the member had no quorum', async () => {
    node.hasLeader = false;

    const { code, stderr } = await kvctl('snapshot', 'save', file);

    expect(code).toBe(0);
    expect(stderr).toMatch(/^kvctl: the backup was made without a quorum: .*\n$/);
  });

  it('that is interrupted leaves no file, and keeps the older one', async () => {
    writeFileSync(file, 'older');
    const open = stream((_node, _context, sink) => ({
      handle: () => void sink.send({ blob: Buffer.alloc(1000) }),
      drained: () => undefined,
      close: () => undefined,
    }));
    const handlers = new Map([['etcdserverpb.Maintenance/Snapshot', open]]);
    const endless = await serveGrpc(node, handlers);
    const run = new CliRun(['--endpoints', `127.0.0.1:${endless.port}`, 'snapshot', 'save', file]);
    await waitFor('the part to be written', 10_000, () => statSync(`${file}.part`).size === 1000);

    run.interrupt();

    expect((await run.done).code).toBe(130);
    expect(readdirSync(folder)).toEqual(['backup']);
    expect(readFileSync(file, 'utf8')).toBe('older');
    await endless.stop();
  });

  it('that gets less than a whole backup leaves no file', async () => {
    const open = stream((_node, _context, sink) => ({
      handle: () => {
        sink.send({ blob: Buffer.alloc(1000) });
        sink.end(null);
      },
      drained: () => undefined,
      close: () => undefined,
    }));
    const handlers = new Map([['etcdserverpb.Maintenance/Snapshot', open]]);
    const cutting = await serveGrpc(node, handlers);

    const result = await runCli([
      ...['--endpoints', `127.0.0.1:${cutting.port}`, 'snapshot', 'save', file],
    ]);

    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/^kvctl: the snapshot of .* is damaged or cut short: .*\n$/);
    expect(readdirSync(folder)).toEqual([]);
    await cutting.stop();
  });

  it('that cannot write says where', async () => {
    const { code, stderr } = await kvctl('snapshot', 'save', join(folder, 'none', 'backup'));

    expect(code).toBe(1);
    expect(stderr).toMatch(/^kvctl: cannot write .*none\/backup\.part: ENOENT.*\n$/);
    await waitFor('the backup to be given up', 10_000, () => node.backups === 0);
  });

  it('without a server says so, with the exit code for it', async () => {
    await served.stop();

    const { code } = await kvctl('snapshot', 'save', file);

    expect(code).toBe(5);
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe('snapshot status', () => {
  it('prints hash, revision, keys and size in the manner of etcdctl', async () => {
    await kvctl('snapshot', 'save', file);

    const simple = await kvctl('snapshot', 'status', file);
    const table = await kvctl('snapshot', 'status', file, '-w', 'table');
    const json = await kvctl('snapshot', 'status', file, '-w', 'json');

    const size = statSync(file).size;
    const [hash] = simple.stdout.split(',');
    expect(hash).toMatch(/^[0-9a-f]{1,8}$/);
    expect(simple.stdout).toBe(`${hash}, 201, 50, ${Math.round(size / 1000)} kB\n`);
    expect(table.stdout).toContain('| HASH ');
    expect(table.stdout).toContain('| REVISION | TOTAL KEYS | TOTAL SIZE |');
    expect(JSON.parse(json.stdout)).toMatchObject({
      hash: Number.parseInt(hash as string, 16),
      ...{ revision: 201, total_keys: 50, total_size: size, total_revisions: 200 },
      ...{ cluster_id: '4d', member_id: '1', confirmed: true },
    });
  });

  it('refuses a damaged file with one line', async () => {
    await kvctl('snapshot', 'save', file);
    const bytes = readFileSync(file);
    bytes.writeUInt8(bytes.readUInt8(3000) ^ 1, 3000);
    writeFileSync(file, bytes);

    const { code, stdout, stderr } = await kvctl('snapshot', 'status', file);

    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^kvctl: .*backup is damaged: .*; use another backup\n$/);
  });
});

describe('snapshot restore', () => {
  const restore = (...more: string[]): Promise<CliResult> =>
    runCli(['snapshot', 'restore', file, '--data-dir', join(folder, 'm1'), ...MEMBER, ...more]);

  beforeEach(async () => {
    await kvctl('snapshot', 'save', file);
  });

  it('makes a data folder and says what it is', async () => {
    const { code, stdout, stderr } = await restore();

    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(
      /^Restored 50 keys at revision 1000000201 to .*m1: member m1 \([0-9a-f]+\) of cluster [0-9a-f]+\n$/,
    );
    expect(readdirSync(join(folder, 'm1')).sort()).toEqual(['genesis', 'restored', 'state', 'wal']);
  });

  it('raises the revision as it is told, and warns when it is told not to', async () => {
    const kept = await restore('--bump-revision', '0', '-w', 'json');
    expect(kept.stderr).toContain('clients of the old cluster may miss changes');
    expect(JSON.parse(kept.stdout)).toMatchObject({ revision: 201, revision_of_backup: 201 });

    const other = ['--data-dir', join(folder, 'other'), '--mark-compacted', '--bump-revision', '9'];
    const raised = await restore(...other, '-w', 'json');
    expect(JSON.parse(raised.stdout)).toMatchObject({ revision: 210, total_keys: 50 });
  });

  it.each<[string, string[], number, RegExp]>([
    [
      'marks that make no sense',
      ['--mark-compacted', '--bump-revision', '0'],
      2,
      /--mark-compacted goes/,
    ],
    [
      'a number that is none',
      ['--bump-revision', 'x'],
      2,
      /--bump-revision must be a whole number/,
    ],
    [
      'a member that is not in the cluster',
      ['--name', 'm9'],
      2,
      /does not name this member: add m9=/,
    ],
    ['an address that is none', ['--initial-cluster', 'm1=ftp://x'], 2, /is not a URL of the form/],
  ])('refuses %s', async (_what, args, exitCode, text) => {
    const { code, stderr } = await restore(...args);

    expect(code).toBe(exitCode);
    expect(stderr).toMatch(text);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
    expect(existsSync(join(folder, 'm1'))).toBe(false);
  });

  it('refuses a folder that holds anything', async () => {
    mkdirSync(join(folder, 'm1'));
    writeFileSync(join(folder, 'm1', 'x'), '');

    const { code, stderr } = await restore();

    expect(code).toBe(1);
    expect(stderr).toMatch(/^kvctl: .*m1 is not empty \(x\): give another --data-dir, or move it/);
  });
});

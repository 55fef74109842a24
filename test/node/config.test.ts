/**
 * Options: where they come from, which wins, and what is said when they are wrong.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config.js';
import { KvError } from '../../src/errors.js';
import { ETCD_OPTIONS, FORMER_NAMES } from '../../src/etcd-options.js';
import { OPTIONS } from '../../src/options.js';

const folder = mkdtempSync(join(tmpdir(), 'kvd-config-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function problems(args: readonly string[], env: Record<string, string> = {}): string {
  try {
    loadConfig({ args, env });
  } catch (error) {
    expect(error).toBeInstanceOf(KvError);
    return (error as KvError).message;
  }
  return '';
}

const THREE = 'm1=http://h1:2380,m2=http://h2:2380,m3=http://h3:2380';
const M2 = [
  '--name',
  'm2',
  '--initial-advertise-peer-urls',
  'http://h2:2380',
  '--initial-cluster',
  THREE,
];

describe('configuration', () => {
  test('the defaults make a cluster of one', () => {
    const config = loadConfig({ args: [], env: {} });

    expect(config.initialMembers.map(({ name }) => name)).toEqual(['default']);
    expect(config.dataDir).toBe('default.kvd');
    expect([config.heartbeatMs, config.electionMs]).toEqual([50, 500]);
    expect(config.electionTicks).toBe(config.heartbeatTicks * 10);
    expect(config.memberId).toBe(config.initialMembers[0]?.id);
  });

  test('all members derive the same ids from the same cluster line, in any order', () => {
    const one = loadConfig({ args: M2, env: {} });
    const reversed = THREE.split(',').reverse().join(',');
    const other = loadConfig({
      args: [
        '--name=m3',
        '--initial-advertise-peer-urls=http://h3:2380',
        `--initial-cluster=${reversed}`,
      ],
      env: {},
    });

    expect(other.clusterId).toBe(one.clusterId);
    expect(other.initialMembers).toEqual(one.initialMembers);
    expect(other.memberId).not.toBe(one.memberId);
    for (const { id } of one.initialMembers) {
      expect(Number.isSafeInteger(id) && id > 0 && id < 2 ** 48).toBe(true);
    }
  });

  test('durations are written as Go writes them', () => {
    const of = (text: string): number => {
      const args = ['--grpc-keepalive-interval', text];
      return loadConfig({ args, env: {} }).grpcKeepalive.intervalMs;
    };
    const known = {
      '2h': 7.2e6,
      '1h30m0s': 5.4e6,
      '1.5s': 1500,
      '20s': 2e4,
      '5ms': 5,
      '0': 0,
    };
    for (const [text, ms] of Object.entries(known)) expect(of(text), text).toBe(ms);
    expect(of('0s')).toBe(0);
    for (const text of ['', '7', 's', '5 s', '5sm', '-1s', '1d']) {
      expect(problems(['--grpc-keepalive-interval', text])).toContain('a duration such as');
    }
  });

  test('keepalive has the defaults of etcd, but for the rule on pings of clients', () => {
    const { grpcKeepalive } = loadConfig({ args: [], env: {} });

    expect(grpcKeepalive).toEqual({ minTimeMs: 0, intervalMs: 7_200_000, timeoutMs: 20_000 });
    const env = { ETCD_GRPC_KEEPALIVE_MIN_TIME: '5s', KVD_GRPC_KEEPALIVE_TIMEOUT: '1s' };
    expect(loadConfig({ args: [], env }).grpcKeepalive).toMatchObject({
      minTimeMs: 5000,
      timeoutMs: 1000,
    });
  });

  test('clients are served on ports and on sockets of the file system', () => {
    const urls = 'http://127.0.0.1:2379,unix:///run/kvd.sock,unix://localhost:2379,unix:/a/b';
    const config = loadConfig({ args: ['--listen-client-urls', urls], env: {} });

    expect(config.listenClient).toEqual([
      { host: '127.0.0.1', port: 2379, secure: false, url: 'http://127.0.0.1:2379' },
      { path: '/run/kvd.sock', url: 'unix:///run/kvd.sock' },
      { path: 'localhost:2379', url: 'unix://localhost:2379' },
      { path: '/a/b', url: 'unix:/a/b' },
    ]);
    expect(config.advertiseClientUrls).toEqual(urls.split(','));
    const advertised = ['--advertise-client-urls', 'unix:///x,http://h:1'];
    expect(loadConfig({ args: advertised, env: {} }).advertiseClientUrls).toEqual([
      'unix:///x',
      'http://h:1',
    ]);
  });

  test('sockets that cannot be are refused with the reason', () => {
    const listening = (url: string): string => problems(['--listen-client-urls', url]);

    expect(listening('unix://')).toContain('names no file');
    expect(listening('unix:///a b')).toContain('names no file');
    expect(listening('unix:///a?b')).toContain('names no file');
    expect(listening(`unix:///${'x'.repeat(107)}`)).toContain('too long for a socket');
    expect(listening('unixs:///a')).toContain('not a URL of the form');
    expect(problems(['--listen-peer-urls', 'unix:///a'])).toContain('not a URL of the form');
  });

  test('another token is another cluster with other members', () => {
    const one = loadConfig({ args: M2, env: {} });
    const other = loadConfig({ args: [...M2, '--initial-cluster-token', 'staging'], env: {} });

    expect(other.clusterId).not.toBe(one.clusterId);
    expect(other.memberId).not.toBe(one.memberId);
  });

  test('flags win over KVD_ variables, these over ETCD_ variables, these over the file', () => {
    const file = join(folder, 'kvd.yaml');
    writeFileSync(file, 'name: from-file\nheartbeat-interval: 11\nelection-timeout: 1000\n');
    const env = {
      ETCD_NAME: 'from-etcd',
      KVD_NAME: 'from-kvd',
      ETCD_HEARTBEAT_INTERVAL: '22',
      KVD_CONFIG_FILE: file,
    };

    expect(loadConfig({ args: ['--name', 'from-flag'], env }).name).toBe('from-flag');
    expect(loadConfig({ args: [], env }).name).toBe('from-kvd');
    expect(loadConfig({ args: [], env: { ...env, KVD_NAME: undefined } }).name).toBe('from-etcd');
    expect(loadConfig({ args: [], env }).heartbeatMs).toBe(22);
    expect(loadConfig({ args: [], env: { KVD_CONFIG_FILE: file } }).heartbeatMs).toBe(11);
  });

  test('all problems are told together, each with what to do', () => {
    const text = problems([
      '--heartbeat-interval',
      'soon',
      '--snapshot-count',
      '-3',
      '--listen-client-urls',
      'localhost:2379',
      '--log-level',
      'loud',
      '--no-such-option',
      'x',
    ]);

    expect(text.split('\n').length).toBeGreaterThanOrEqual(5);
    expect(text).toContain('--heartbeat-interval soon: a whole number');
    expect(text).toContain('"localhost:2379" is not a URL of the form http://HOST:PORT');
    expect(text).toContain('unknown option --no-such-option');
  });

  test.each([
    [['--election-timeout', '100'], 'at least 5 times'],
    [['--name', 'm9', '--initial-cluster', THREE], 'does not name this member'],
    [['--name', 'm1', '--initial-cluster', THREE], 'they must be the same'],
    [['--initial-cluster', 'a=http://x:1,b=http://x:1', '--name', 'a'], 'both have http://x:1'],
    [['--initial-cluster', 'http://x:1'], 'not of the form NAME=URL'],
    [['--initial-cluster-state', 'old'], '"new" or "existing"'],
    [
      ['--listen-client-urls', 'http://10.0.0.1:7,https://10.0.0.1:7', '--auto-tls'],
      'http://10.0.0.1:7 and https://10.0.0.1:7 are the same port',
    ],
    [['--listen-metrics-urls', 'http://127.0.0.1:2380'], 'http://127.0.0.1:2380 are the same port'],
    [['--config-file', '/nowhere/kvd.yaml'], 'does not exist'],
    [['--name'], 'needs a value'],
    [['stray'], 'unexpected argument "stray"'],
  ])('%j is refused with a text that helps', (args, text) => {
    expect(problems(args)).toContain(text);
  });

  test('safety has no switch, and flags that ask for it are accepted', () => {
    const names = OPTIONS.map(({ name }) => name);

    expect(problems(['--pre-vote', '--strict-reconfig-check=true'])).toBe('');
    expect(problems(['--max-wals', '5', '--metrics=extensive'])).toBe('');
    expect(names).not.toContain('unsafe-no-fsync');
    expect(problems(['--unsafe-no-fsync'])).toContain('on disk, always');
  });

  test('no option of kvd is also listed as one that it does not have', () => {
    const both = OPTIONS.filter(({ name }) => ETCD_OPTIONS.has(name) || FORMER_NAMES.has(name));

    expect(both).toEqual([]);
  });

  test('what the environment asks for and cannot have is one warning, unless it is grave', () => {
    const env = {
      ETCD_WAL_DIR: '/wal',
      KVD_DEBUG: '1',
      ETCD_MAX_LEARNERS: '1',
      ETCD_MEMORY_MLOCK: 'false',
      ETCD_MAX_WALS: '9',
      ETCD_SERVICE_HOST: '10.0.0.1',
    };

    expect(loadConfig({ args: [], env }).warnings).toEqual([
      'without effect, because kvd does not have these options: KVD_DEBUG, ETCD_WAL_DIR',
    ]);
    expect(problems([], { ...env, ETCD_FORCE_NEW_CLUSTER: '1' })).toMatch(
      /^ETCD_FORCE_NEW_CLUSTER is/,
    );
    expect(loadConfig({ args: [], env: { ETCD_FORCE_NEW_CLUSTER: 'f' } }).warnings).toEqual([]);
  });

  test('a variable that is empty is not set', () => {
    const { name } = loadConfig({ args: [], env: { KVD_NAME: '', ETCD_NAME: 'n1' } });

    expect(name).toBe('n1');
    expect(loadConfig({ args: [], env: { ETCD_NAME: '' } }).name).toBe('default');
  });

  test('switches take a value behind an equals sign only', () => {
    expect(problems(['--pre-vote', 'false'])).toContain('unexpected argument "false"');
    expect(problems(['--pre-vote=maybe'])).toContain('--pre-vote maybe: it is true or false');
    expect(problems(['--force-new-cluster=false', '--enable-grpc-gateway=true'])).toBe('');
    expect(problems(['--enable-grpc-gateway=false'])).toContain('on each client port, always');
  });

  test('former names of options are taken, too', () => {
    const flag = ['--experimental-watch-progress-notify-interval=5s'];
    const env = { ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL: '6s' };

    expect(loadConfig({ args: flag, env: {} }).watchProgressNotifyMs).toBe(5000);
    expect(loadConfig({ args: [], env }).watchProgressNotifyMs).toBe(6000);
  });

  test('a file may list every option, with nothing behind those that are not wanted', () => {
    const file = join(folder, 'all.yaml');
    const lines = [
      'name: n',
      'data-dir:',
      'wal-dir:',
      'discovery:',
      "proxy: 'off'",
      'debug: false',
    ];
    writeFileSync(file, lines.join('\n'));

    expect(loadConfig({ args: ['--config-file', file], env: {} }).dataDir).toBe('n.kvd');
    writeFileSync(file, 'force-new-cluster: true\nwal-dir: /w\n');
    expect(problems(['--config-file', file]).split('\n')).toEqual([
      expect.stringContaining('all.yaml: force-new-cluster is an option of etcd that kvd does not'),
      expect.stringContaining('all.yaml: wal-dir is an option of etcd that kvd does not have: log'),
    ]);
  });

  test('numbers are whole and in digits', () => {
    for (const text of ['', '1e3', '1.5', ' 7', '-3', '0x']) {
      expect(problems([`--max-txn-ops=${text}`])).toContain('a whole number from 1 to');
    }
    expect(loadConfig({ args: ['--max-txn-ops=0x10'], env: {} }).maxTxnOps).toBe(16);
  });

  test('the quota is that of etcd unless told otherwise, and -1 is none', () => {
    const quota = (...args: string[]) => loadConfig({ args, env: {} }).quotaBackendBytes;

    expect(quota()).toBe(2 ** 31);
    expect(quota('--quota-backend-bytes', '0')).toBe(2 ** 31);
    expect(quota('--quota-backend-bytes', '16777216')).toBe(2 ** 24);
    expect(quota('--quota-backend-bytes=-1')).toBe(0);
    expect(quota('--quota-backend-bytes', '-1')).toBe(0);
    expect(problems(['--quota-backend-bytes', '2GB'])).toContain('a whole number from -1');
    expect(problems(['--disk-reserve-bytes', '-5'])).toContain('a whole number from 0');
  });

  test('automatic compaction keeps an hour unless told otherwise, in the forms that etcd takes', () => {
    const policy = (...args: string[]) => loadConfig({ args, env: {} }).autoCompaction;

    expect(policy()).toEqual({ mode: 'periodic', periodMs: 3_600_000 });
    expect(policy('--auto-compaction-mode', 'revision')).toMatchObject({ revisions: 10_000 });
    expect(policy('--auto-compaction-retention', '0')).toBeNull();
    expect(policy('--auto-compaction-retention', '2')).toEqual({
      mode: 'periodic',
      periodMs: 7_200_000,
    });
    expect(policy('--auto-compaction-retention', '30m')).toMatchObject({ periodMs: 1_800_000 });
    expect(
      policy('--auto-compaction-mode', 'revision', '--auto-compaction-retention', '1000'),
    ).toEqual({ mode: 'revision', revisions: 1000 });
    expect(problems(['--auto-compaction-mode', 'yearly'])).toContain('"periodic" or "revision"');
    expect(problems(['--auto-compaction-retention', 'soon'])).toContain('30m, 12h');
  });

  test('backups by itself are off without a folder, and have an interval and a number with one', () => {
    const backup = (...args: string[]) => loadConfig({ args, env: {} }).backup;
    const dir = '--backup-dir=/var/backups/kvd';

    expect(backup()).toBeNull();
    expect(backup(dir)).toEqual({ dir: '/var/backups/kvd', intervalMs: 3_600_000, keep: 24 });
    expect(backup(dir, '--backup-interval=1h30m', '--backup-keep', '3')).toEqual({
      dir: '/var/backups/kvd',
      intervalMs: 5_400_000,
      keep: 3,
    });
    expect(problems([dir, '--backup-interval', '10ms'])).toMatch(/at least a second/);
    expect(problems([dir, '--backup-interval', 'soon'])).toMatch(
      /--backup-interval soon: a duration/,
    );
    expect(problems([dir, '--backup-keep', '0'])).toBe(
      '--backup-keep 0: a number of at least 1 is wanted',
    );
    expect(problems(['--backup-keep', '3'])).toBe(
      '--backup-keep is of no use without --backup-dir',
    );
  });
});

/**
 * Values of the flags that kvd shares with etcd: one that both take, where it is seen in the Config, and
 * those that both refuse. test/node/etcd-flags.test.ts tries them on kvd, test/interop on Debian's etcd.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Config, loadConfig } from '../../src/config.js';
import { FORMER_NAMES } from '../../src/etcd-options.js';
import { tempFolder } from './temp-folder.js';

export interface FlagCase {
  readonly good: string;
  /** What the good value comes to. */
  readonly seen: (config: Config) => unknown;
  readonly as: unknown;
  readonly bad: readonly string[];
  /** Flags that the good value needs. */
  readonly with?: readonly string[];
}

const NUMBERS = ['', 'x', '-1', '1.5', '1e3'];
const DURATIONS = ['', 'soon', '5', '5 s', '1d'];
const URLS = ['127.0.0.1:1', 'http://127.0.0.1', 'http://127.0.0.1:1/path', 'ftp://127.0.0.1:1'];
const PEER_TLS = [
  ...[
    '--listen-peer-urls=https://127.0.0.1:5',
    '--initial-advertise-peer-urls=https://127.0.0.1:5',
  ],
  ...['--initial-cluster=default=https://127.0.0.1:5', '--peer-cert-file=c', '--peer-key-file=k'],
];

const CASES: Readonly<Record<string, FlagCase>> = {
  name: { good: 'n1', seen: ({ name }) => name, as: 'n1', bad: [] },
  'data-dir': { good: 'd1', seen: ({ dataDir }) => dataDir, as: 'd1', bad: [] },
  'listen-client-urls': {
    good: 'http://127.0.0.1:5001',
    seen: ({ listenClient }) => listenClient.map(({ url }) => url),
    as: ['http://127.0.0.1:5001'],
    bad: URLS,
    with: ['--advertise-client-urls=http://127.0.0.1:5001'],
  },
  'listen-metrics-urls': {
    good: 'http://127.0.0.1:5004,http://127.0.0.1:5005',
    seen: ({ listenMetrics }) => listenMetrics.map(({ url }) => url),
    as: ['http://127.0.0.1:5004', 'http://127.0.0.1:5005'],
    bad: URLS,
  },
  'advertise-client-urls': {
    good: 'http://10.0.0.1:5001,http://10.0.0.2:5001',
    seen: ({ advertiseClientUrls }) => advertiseClientUrls,
    as: ['http://10.0.0.1:5001', 'http://10.0.0.2:5001'],
    bad: URLS,
  },
  'listen-peer-urls': {
    good: 'http://127.0.0.1:5002',
    seen: ({ listenPeer }) => listenPeer.map(({ url }) => url),
    as: ['http://127.0.0.1:5002'],
    bad: URLS,
  },
  'initial-advertise-peer-urls': {
    good: 'http://127.0.0.1:5002',
    seen: ({ advertisePeerUrls }) => advertisePeerUrls,
    as: ['http://127.0.0.1:5002'],
    bad: URLS,
    with: ['--initial-cluster=default=http://127.0.0.1:5002'],
  },
  'initial-cluster': {
    good: 'default=http://127.0.0.1:5002,other=http://127.0.0.1:5003',
    seen: ({ initialMembers }) => initialMembers.map(({ name }) => name).sort(),
    as: ['default', 'other'],
    bad: ['http://127.0.0.1:5002', 'default=127.0.0.1:5002', 'default=http://127.0.0.1:9'],
    with: ['--initial-advertise-peer-urls=http://127.0.0.1:5002'],
  },
  'initial-cluster-state': {
    good: 'existing',
    seen: ({ initialClusterState }) => initialClusterState,
    as: 'existing',
    bad: ['old', ''],
  },
  'corrupt-check-time': {
    good: '5m',
    seen: ({ corruptCheckMs }) => corruptCheckMs,
    as: 300_000,
    bad: DURATIONS,
  },
  'initial-cluster-token': {
    good: 't1',
    seen: ({ clusterId }) => clusterId === loadConfig({ args: [], env: {} }).clusterId,
    as: false,
    bad: [],
  },
  'config-file': {
    good: fileWith('max-txn-ops: 7'),
    seen: ({ maxTxnOps }) => maxTxnOps,
    as: 7,
    bad: ['/nowhere/at-all.yaml', fileWith('a: [')],
  },
  'heartbeat-interval': {
    good: '60',
    seen: ({ heartbeatMs }) => heartbeatMs,
    as: 60,
    bad: [...NUMBERS, '0', '20000'],
    with: ['--election-timeout=1000'],
  },
  'election-timeout': {
    good: '1500',
    seen: ({ electionMs }) => electionMs,
    as: 1500,
    bad: [...NUMBERS, '0', '50001'],
    with: ['--heartbeat-interval=100'],
  },
  'snapshot-count': {
    good: '5000',
    seen: ({ snapshotCount }) => snapshotCount,
    as: 5000,
    bad: NUMBERS,
  },
  'snapshot-catchup-entries': {
    good: '6000',
    seen: ({ snapshotCatchupEntries }) => snapshotCatchupEntries,
    as: 6000,
    bad: NUMBERS,
  },
  'max-request-bytes': {
    good: '2000000',
    seen: ({ maxRequestBytes }) => maxRequestBytes,
    as: 2_000_000,
    bad: NUMBERS,
  },
  'max-txn-ops': { good: '9', seen: ({ maxTxnOps }) => maxTxnOps, as: 9, bad: NUMBERS },
  'quota-backend-bytes': {
    good: '3000000000',
    seen: ({ quotaBackendBytes }) => quotaBackendBytes,
    as: 3_000_000_000,
    bad: ['', 'x', '1.5', '1e3'],
  },
  'auto-compaction-mode': {
    good: 'revision',
    seen: ({ autoCompaction }) => autoCompaction,
    as: { mode: 'revision', revisions: 1000 },
    bad: ['yearly'],
    with: ['--auto-compaction-retention=1000'],
  },
  'auto-compaction-retention': {
    good: '30m',
    seen: ({ autoCompaction }) => autoCompaction,
    as: { mode: 'periodic', periodMs: 1_800_000 },
    bad: ['soon', '5 h', '1d'],
  },
  'grpc-keepalive-min-time': {
    good: '5s',
    seen: ({ grpcKeepalive }) => grpcKeepalive.minTimeMs,
    as: 5000,
    bad: DURATIONS,
  },
  'grpc-keepalive-interval': {
    good: '1h30m0s',
    seen: ({ grpcKeepalive }) => grpcKeepalive.intervalMs,
    as: 5_400_000,
    bad: DURATIONS,
  },
  'grpc-keepalive-timeout': {
    good: '1.5s',
    seen: ({ grpcKeepalive }) => grpcKeepalive.timeoutMs,
    as: 1500,
    bad: DURATIONS,
  },
  'max-concurrent-streams': {
    good: '100',
    seen: ({ maxConcurrentStreams }) => maxConcurrentStreams,
    as: 100,
    bad: [...NUMBERS, '4294967296'],
  },
  cors: {
    good: 'https://a.example:443,http://b.example:80',
    seen: ({ corsOrigins }) => corsOrigins,
    as: ['https://a.example:443', 'http://b.example:80'],
    bad: ['a.example', 'https://a.example:443/path', 'ftp://a.example:1'],
  },
  'host-whitelist': {
    good: 'a.example,10.0.0.1',
    seen: ({ hosts }) => hosts,
    as: ['a.example', '10.0.0.1'],
    bad: [],
  },
  'watch-progress-notify-interval': {
    good: '5s',
    seen: ({ watchProgressNotifyMs }) => watchProgressNotifyMs,
    as: 5000,
    bad: DURATIONS,
  },
  'warning-unary-request-duration': {
    good: '250ms',
    seen: ({ slowRequestMs }) => slowRequestMs,
    as: 250,
    bad: DURATIONS,
  },
  'log-level': {
    good: 'warn',
    seen: ({ logLevel }) => logLevel,
    as: 'warn',
    bad: ['loud'],
  },
  'peer-skip-client-san-verification': {
    good: 'true',
    seen: ({ peerTls }) => peerTls?.isCallerAnywhere,
    as: true,
    bad: ['perhaps'],
    with: PEER_TLS,
  },
  'tls-min-version': {
    good: 'TLS1.3',
    seen: ({ peerTls }) => peerTls?.minVersion,
    as: 'TLSv1.3',
    bad: ['TLS1.1', '1.3'],
    with: PEER_TLS,
  },
  'tls-max-version': {
    good: 'TLS1.2',
    seen: ({ peerTls }) => peerTls?.maxVersion,
    as: 'TLSv1.2',
    bad: ['TLS1.1', '1.3'],
    with: PEER_TLS,
  },
};

/** Null for the flags whose tests are elsewhere. */
export function flagCase(name: string): FlagCase | null {
  return CASES[FORMER_NAMES.get(name) ?? name] ?? null;
}

function fileWith(line: string): string {
  const path = join(tempFolder('flags'), 'options.yaml');
  writeFileSync(path, `${line}\n`);
  return path;
}

/**
 * The options of etcd 3.4 to 3.7 that kvd does not have, with the reason: what an operator who comes from
 * etcd is told about each.
 *
 *   ignored  is taken with any value: it asks for what kvd does anyway, or tunes a part that kvd has not
 *   absent   is refused as a flag and in a file: who sets it relies on something that would not happen
 *
 * The environment is not ours alone. There, an absent option is a warning; but one that is `grave`, because
 * without its effect data or access are other than its owner believes, is refused there, too. A value that
 * asks for nothing (`harmless`) is always taken, so that files which list every option can be used.
 *
 * docs/etcd-compatibility.md has a row for each.
 */

export interface EtcdOption {
  readonly state: 'ignored' | 'absent';
  /** Without a value it means `true`; with one it is written `--name=value`. */
  readonly isSwitch: boolean;
  readonly isGrave: boolean;
  readonly harmless: ReadonlySet<string>;
  readonly reason: string;
}

interface Group {
  /** Names between blanks; `!` marks switches. */
  readonly names: string;
  readonly reason: string;
  readonly harmless?: string;
}

const IGNORED: readonly Group[] = [
  {
    names:
      'pre-vote! strict-reconfig-check! experimental-enable-lease-checkpoint! experimental-enable-lease-checkpoint-persist!',
    reason: 'always on',
  },
  {
    names: 'experimental-initial-corrupt-check!',
    reason: 'always on: a member that starts compares its state with the others',
  },
  {
    names:
      'compact-hash-check-time experimental-compact-hash-check-time experimental-compact-hash-check-enabled!',
    reason: 'always on: members compare all that they have applied, see --corrupt-check-time',
  },
  {
    names:
      'logger log-outputs log-output log-package-levels log-format enable-log-rotation! log-rotation-config-json',
    reason: 'one log, JSON lines on standard error',
  },
  { names: 'metrics', reason: 'all metrics are served' },
  {
    names:
      'max-wals max-snapshots backend-batch-interval backend-batch-limit backend-bbolt-freelist-type experimental-backend-bbolt-freelist-type bootstrap-defrag-threshold-megabytes experimental-bootstrap-defrag-threshold-megabytes experimental-txn-mode-write-with-shared-buffer!',
    reason: 'it tunes a storage engine that kvd does not have',
  },
  {
    names:
      'compaction-batch-limit compaction-sleep-interval experimental-compaction-batch-limit experimental-compaction-sleep-interval experimental-stop-grpc-service-on-defrag!',
    reason:
      'compacted revisions and free space are given back slice by slice, at a pace of its own',
  },
  {
    names:
      'enable-v2! v2-deprecation proxy-dial-timeout proxy-failure-wait proxy-read-timeout proxy-refresh-interval proxy-write-timeout',
    reason: 'it is about the API of etcd 2, which is not served',
  },
  {
    names:
      'discovery-fallback discovery-proxy discovery-srv-name discovery-dial-timeout discovery-request-timeout discovery-keepalive-time discovery-keepalive-timeout discovery-insecure-transport! discovery-insecure-skip-tls-verify! discovery-cert discovery-key discovery-cacert discovery-user discovery-password',
    reason: 'it tunes discovery, which is refused itself',
  },
  {
    names:
      'distributed-tracing-address distributed-tracing-service-name distributed-tracing-instance-id distributed-tracing-sampling-rate experimental-distributed-tracing-address experimental-distributed-tracing-service-name experimental-distributed-tracing-instance-id experimental-distributed-tracing-sampling-rate',
    reason: 'it tunes tracing, which is refused itself',
  },
  {
    names:
      'downgrade-check-time experimental-downgrade-check-time next-cluster-version-compatible!',
    reason: 'there is no version to go back to',
  },
  {
    names: 'initial-election-tick-advance!',
    reason:
      'a member that starts waits for one to two election timeouts, half a second to a second by default; the only voter of a cluster does not wait',
  },
  {
    names: 'raft-read-timeout raft-write-timeout',
    reason: 'heartbeats find connections between members that are broken',
  },
  {
    names: 'warning-apply-duration experimental-warning-apply-duration',
    reason: 'slow requests are logged as a whole, see --warning-unary-request-duration',
  },
  { names: 'enable-pprof!', reason: 'profiles of a Node process are had with its --cpu-prof' },
  { names: 'socket-reuse-address!', reason: 'always on' },
  { names: 'bcrypt-cost', reason: 'passwords are hashed by scrypt' },
  {
    names: 'feature-gates',
    reason: 'there is no experimental feature to switch on or off',
  },
];

const ABSENT: readonly Group[] = [
  { names: 'debug!', reason: 'use --log-level debug' },
  { names: 'experimental-enable-v2v3', reason: 'the API of etcd 2 is not served' },
  {
    names: 'enable-distributed-tracing! experimental-enable-distributed-tracing!',
    reason: 'kvd sends no traces; /metrics has the times of calls',
  },
  {
    names: 'listen-client-http-urls',
    reason: 'each client port serves gRPC and HTTP, and tells them apart by itself',
  },
  {
    names: 'max-learners',
    reason: 'a cluster has one learner at a time',
    harmless: '1',
  },
  {
    names: 'memory-mlock! experimental-memory-mlock!',
    reason: 'a Node process cannot pin its memory; switch swapping off instead',
  },
  {
    names: 'socket-reuse-port!',
    reason: 'a second process on the port would take clients away from this one',
  },
  {
    names: 'wal-dir',
    reason: 'log and state are in one folder, see --data-dir; its folder wal may be a mount',
  },
];

/** Without their effect, data or access are other than the owner of the member believes. */
const GRAVE: readonly Group[] = [
  {
    names: 'unsafe-no-fsync!',
    reason: 'what is acknowledged is on disk, always',
  },
  {
    names: 'force-new-cluster!',
    reason:
      'one member cannot know what the others have acknowledged; start the majority again, or restore a backup',
  },
  {
    names: 'discovery discovery-srv discovery-endpoints discovery-token',
    reason: 'name the members in --initial-cluster, or join a running cluster with --join',
  },
  { names: 'proxy', reason: 'kvd is no proxy', harmless: 'off' },
  {
    names: 'enable-grpc-gateway!',
    reason: 'the JSON API is on each client port, always',
    harmless: 'true',
  },
];

/** What asks for nothing, whatever the option. */
const NOTHING = ['', 'false'];

/** By name. */
export const ETCD_OPTIONS: ReadonlyMap<string, EtcdOption> = new Map([
  ...entries(IGNORED, 'ignored', false),
  ...entries(ABSENT, 'absent', false),
  ...entries(GRAVE, 'absent', true),
]);

/** Names that etcd gave up for others, which kvd has. */
export const FORMER_NAMES: ReadonlyMap<string, string> = new Map([
  ['experimental-watch-progress-notify-interval', 'watch-progress-notify-interval'],
  ['experimental-warning-unary-request-duration', 'warning-unary-request-duration'],
  ['experimental-snapshot-catchup-entries', 'snapshot-catchup-entries'],
  ['experimental-corrupt-check-time', 'corrupt-check-time'],
  ['experimental-peer-skip-client-san-verification', 'peer-skip-client-san-verification'],
]);

function entries(
  groups: readonly Group[],
  state: EtcdOption['state'],
  isGrave: boolean,
): [string, EtcdOption][] {
  return groups.flatMap(({ names, reason, harmless }) =>
    names.split(' ').map((mark): [string, EtcdOption] => {
      const isSwitch = mark.endsWith('!');
      const values = [...NOTHING, ...(harmless?.split(' ') ?? [])];
      // Its default is `true`, so `false` asks for something.
      const isOnByDefault = isSwitch && values.includes('true');
      return [
        isSwitch ? mark.slice(0, -1) : mark,
        {
          state,
          isSwitch,
          isGrave,
          harmless: new Set(isOnByDefault ? ['', 'true'] : values),
          reason,
        },
      ];
    }),
  );
}

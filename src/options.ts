/**
 * The options of kvd, each once: name, what a value looks like, default, meaning. `--help` prints this table.
 *
 * Names are etcd's, so that its guides work. A name that etcd has and this table has not is in
 * etcd-options.ts.
 */
import { TLS_OPTIONS } from './tls-options.js';

export interface Option {
  readonly name: string;
  /** Empty: a switch, on when it is there. */
  readonly value: string;
  readonly fallback: string;
  readonly meaning: string;
}

/** Every option once: name, what a value looks like, default, meaning. `--help` prints this table. */
export const OPTIONS: readonly Option[] = [
  {
    name: 'name',
    value: 'NAME',
    fallback: 'default',
    meaning: 'name of this member, as in --initial-cluster',
  },
  {
    name: 'data-dir',
    value: 'DIR',
    fallback: '',
    meaning: 'folder of this member (default NAME.kvd)',
  },
  {
    name: 'listen-client-urls',
    value: 'URL,...',
    fallback: 'http://127.0.0.1:2379',
    meaning: 'where clients are served: http://HOST:PORT, https://HOST:PORT, or unix:///PATH',
  },
  {
    name: 'listen-metrics-urls',
    value: 'URL,...',
    fallback: '',
    meaning: 'where metrics and health are served beside the client ports, and nothing else',
  },
  {
    name: 'advertise-client-urls',
    value: 'URL,...',
    fallback: '',
    meaning: 'what clients are told (default: the listen URLs)',
  },
  {
    name: 'listen-peer-urls',
    value: 'URL,...',
    fallback: 'http://127.0.0.1:2380',
    meaning: 'where other members are served',
  },
  {
    name: 'initial-advertise-peer-urls',
    value: 'URL,...',
    fallback: '',
    meaning: 'what other members are told (default: the listen URLs)',
  },
  {
    name: 'initial-cluster',
    value: 'NAME=URL,...',
    fallback: '',
    meaning: 'all members of a new cluster (default: this one alone)',
  },
  {
    name: 'initial-cluster-state',
    value: 'new|existing',
    fallback: 'new',
    meaning: 'form a cluster or join one',
  },
  {
    name: 'join',
    value: 'URL,...',
    fallback: '',
    meaning: 'client URLs of a running cluster: become a member of it',
  },
  {
    name: 'initial-cluster-token',
    value: 'TEXT',
    fallback: 'kvd-cluster',
    meaning: 'tells clusters apart that use the same addresses',
  },
  {
    name: 'heartbeat-interval',
    value: 'MS',
    fallback: '50',
    meaning: 'how often a leader shows itself',
  },
  {
    name: 'election-timeout',
    value: 'MS',
    fallback: '500',
    meaning: 'how long followers wait, randomised 1 to 2 times; at least 5 heartbeats',
  },
  {
    name: 'snapshot-count',
    value: 'N',
    fallback: '100000',
    meaning: 'entries between two checkpoints of the state',
  },
  {
    name: 'snapshot-catchup-entries',
    value: 'N',
    fallback: '10000',
    meaning: 'entries kept behind a checkpoint for members that lag',
  },
  { name: 'max-request-bytes', value: 'BYTES', fallback: '1572864', meaning: 'largest write' },
  { name: 'max-txn-ops', value: 'N', fallback: '128', meaning: 'most operations in a transaction' },
  {
    name: 'max-range-bytes',
    value: 'BYTES',
    fallback: '268435456',
    meaning: 'most that the pairs of one answer may take; larger ones are refused; 0 = no limit',
  },
  {
    name: 'quota-backend-bytes',
    value: 'BYTES',
    fallback: '0',
    meaning: 'space for keys and history, by the flag of the leader; 0 = 2 GiB, -1 = no limit',
  },
  {
    name: 'disk-reserve-bytes',
    value: 'BYTES',
    fallback: '268435456',
    meaning: 'with less free space on its disk a member stops writes; 0 = never',
  },
  {
    name: 'auto-compaction-mode',
    value: 'periodic|revision',
    fallback: 'periodic',
    meaning: 'what the retention counts: time or revisions',
  },
  {
    name: 'auto-compaction-retention',
    value: 'DURATION|N',
    fallback: '',
    meaning:
      'history to keep: hours (a plain number) or a duration, or revisions; 0 = all of it (default 1h, or 10000 revisions)',
  },
  {
    name: 'corrupt-check-time',
    value: 'DURATION',
    fallback: '1m',
    meaning: 'how often the leader compares the states of all members; 0 = only when one starts',
  },
  {
    name: 'backup-dir',
    value: 'DIR',
    fallback: '',
    meaning: 'where this member puts backups while it leads; not in its data folder',
  },
  {
    name: 'backup-interval',
    value: 'DURATION',
    fallback: '',
    meaning: 'time between two backups, with --backup-dir (default 1h)',
  },
  {
    name: 'backup-keep',
    value: 'N',
    fallback: '',
    meaning: 'backups that are kept in the folder, with --backup-dir (default 24)',
  },
  {
    name: 'grpc-keepalive-min-time',
    value: 'DURATION',
    fallback: '0',
    meaning: 'gRPC clients that ping more often are sent away; 0 = they ping as they like',
  },
  {
    name: 'grpc-keepalive-interval',
    value: 'DURATION',
    fallback: '2h',
    meaning: 'gRPC clients that are silent for so long are asked for a sign of life; 0 = never',
  },
  {
    name: 'grpc-keepalive-timeout',
    value: 'DURATION',
    fallback: '20s',
    meaning: 'time for that sign, then the connection is closed; 0 = for ever',
  },
  {
    name: 'max-concurrent-streams',
    value: 'N',
    fallback: '65536',
    meaning: 'most calls at once on one connection of a gRPC client, never more than 65536',
  },
  {
    name: 'max-connections-per-address',
    value: 'N',
    fallback: '4096',
    meaning:
      'most connections of clients at once from one address, or one /64 of IPv6; 0 = no limit',
  },
  {
    name: 'rate-per-user',
    value: 'N',
    fallback: '0',
    meaning:
      'most requests of a user in a second, or of an address that shows no user; 0 = no limit',
  },
  {
    name: 'cors',
    value: 'ORIGIN,...',
    fallback: '*',
    meaning: 'pages of these origins may call the JSON API (https://HOST[:PORT]); * = all',
  },
  {
    name: 'host-whitelist',
    value: 'HOST,...',
    fallback: '*',
    meaning: 'names by which this server may be called over HTTP without TLS; * = all',
  },
  {
    name: 'watch-progress-notify-interval',
    value: 'DURATION',
    fallback: '10m',
    meaning: 'rhythm of progress notifications (10m, 5s, 100ms)',
  },
  {
    name: 'warning-unary-request-duration',
    value: 'DURATION',
    fallback: '300ms',
    meaning: 'slower requests are logged',
  },
  {
    name: 'wal-segment-bytes',
    value: 'BYTES',
    fallback: '67108864',
    meaning: 'size of one file of the log',
  },
  {
    name: 'auth-token',
    value: 'KIND',
    fallback: 'simple',
    meaning:
      'simple, or jwt,sign-method=RS256,pub-key=FILE,priv-key=FILE,ttl=5m: what clients show after they logged in',
  },
  {
    name: 'auth-token-ttl',
    value: 'SECONDS',
    fallback: '300',
    meaning: 'a simple token ends so long after its last use',
  },
  {
    name: 'audit-log',
    value: 'FILE',
    fallback: '',
    meaning: 'where this member writes who changed what, who logged in, and what was refused',
  },
  {
    name: 'audit-log-reads',
    value: '',
    fallback: 'false',
    meaning: 'who read what, too',
  },
  {
    name: 'audit-log-max-bytes',
    value: 'BYTES',
    fallback: '104857600',
    meaning: 'size at which that file becomes FILE.1, and the next one begins',
  },
  {
    name: 'audit-log-keep',
    value: 'N',
    fallback: '10',
    meaning: 'older files FILE.1 to FILE.N that are kept',
  },
  {
    name: 'log-level',
    value: 'LEVEL',
    fallback: 'info',
    meaning: 'trace, debug, info, warn, error or silent',
  },
  ...TLS_OPTIONS,
  {
    name: 'config-file',
    value: 'FILE',
    fallback: '',
    meaning: 'YAML file with these names as keys',
  },
];

/**
 * The figures of one node, under the names that etcd's dashboards and alerts know, and a few `kvd_*`.
 *
 * The shell counts into plain fields (`counter.value += 1`, `histogram.observe(s)`); text is made only
 * when somebody scrapes. Gauges are functions that are asked at that moment. prom-client keeps the
 * registry and writes the text format; its own metric classes are not used, because each observation
 * through them hashes labels.
 *
 * One registry per node: several nodes may live in one process.
 */
import { readdirSync } from 'node:fs';
import { type Metric, Registry } from 'prom-client';
import type { NodeFace } from './node.js';

type Labels = Readonly<Record<string, string>>;

interface Sample {
  readonly value: number;
  readonly labels?: Labels;
  readonly metricName?: string;
}

/** Upper bounds in seconds, doubling from 1 ms to 8.192 s: those of etcd's disk histograms. */
const SECONDS_BUCKETS: readonly number[] = Array.from({ length: 14 }, (_, n) => 0.001 * 2 ** n);

export class Counter {
  value = 0;
}

export class Histogram {
  sum = 0;
  count = 0;
  readonly bounds: readonly number[];
  /** Observations per bucket, not cumulated; the last holds what is above all bounds. */
  readonly buckets: number[];

  constructor(bounds: readonly number[] = SECONDS_BUCKETS) {
    this.bounds = bounds;
    this.buckets = new Array<number>(bounds.length + 1).fill(0);
  }

  observe(value: number): void {
    let index = 0;
    while (index < this.bounds.length && value > (this.bounds[index] as number)) index += 1;
    this.buckets[index] = (this.buckets[index] as number) + 1;
    this.sum += value;
    this.count += 1;
  }

  samples(name: string, labels: Labels = {}): Sample[] {
    let cumulated = 0;
    const samples: Sample[] = this.bounds.map((bound, index) => {
      cumulated += this.buckets[index] as number;
      const le = String(Number(bound.toPrecision(12)));
      return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: cumulated };
    });
    samples.push(
      { metricName: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: this.count },
      { metricName: `${name}_sum`, labels, value: this.sum },
      { metricName: `${name}_count`, labels, value: this.count },
    );
    return samples;
  }
}

/** What is counted of one API method. */
export class RpcCounters {
  readonly labels: Labels;
  started = 0;
  /** Messages of streamed answers. */
  messagesSent = 0;
  /** Finished calls by name of their gRPC code. */
  readonly handled = new Map<string, number>();
  readonly seconds = new Histogram();

  constructor(service: string, method: string, type: string) {
    this.labels = { grpc_service: service, grpc_method: method, grpc_type: type };
  }

  finish(code: string, seconds: number): void {
    this.handled.set(code, (this.handled.get(code) ?? 0) + 1);
    this.seconds.observe(seconds);
  }
}

export class Metrics {
  private readonly registry = new Registry();
  private readonly rpcs = new Map<string, RpcCounters>();

  readonly leaderChanges = this.counter(
    'etcd_server_leader_changes_seen_total',
    'Changes of leader that this member has seen',
  );
  readonly walSyncSeconds = this.histogram(
    'etcd_disk_wal_fsync_duration_seconds',
    'Time to make a batch of log entries durable',
  );
  readonly storeCommitSeconds = this.histogram(
    'etcd_disk_backend_commit_duration_seconds',
    'Time to write a batch of values to the store',
  );
  readonly clientBytesReceived = this.counter(
    'etcd_network_client_grpc_received_bytes_total',
    'Bytes of requests from clients',
  );
  readonly clientBytesSent = this.counter(
    'etcd_network_client_grpc_sent_bytes_total',
    'Bytes of answers to clients',
  );
  readonly slowRequests = this.counter(
    'kvd_slow_requests_total',
    'Requests that took longer than the warning threshold',
  );

  constructor() {
    this.registerRpcs();
    this.registerProcess();
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  /** The figures in the text format of Prometheus. */
  text(): Promise<string> {
    return this.registry.metrics();
  }

  /** Counters of one API method; the same object for the same method. */
  rpc(service: string, method: string, type: string): RpcCounters {
    const key = `${service}/${method}`;
    const known = this.rpcs.get(key);
    if (known !== undefined) return known;
    const counters = new RpcCounters(service, method, type);
    this.rpcs.set(key, counters);
    return counters;
  }

  counter(name: string, help: string, labels: Labels = {}): Counter {
    const counter = new Counter();
    this.register(name, help, 'counter', () => [{ value: counter.value, labels }]);
    return counter;
  }

  histogram(name: string, help: string, bounds?: readonly number[]): Histogram {
    const histogram = new Histogram(bounds);
    this.register(name, help, 'histogram', () => histogram.samples(name));
    return histogram;
  }

  /** A value that is asked for when somebody scrapes. */
  gauge(name: string, help: string, read: () => number, labels: Labels = {}): void {
    this.register(name, help, 'gauge', () => [{ value: read(), labels }]);
  }

  /** A total that somebody else counts. */
  total(name: string, help: string, read: () => number): void {
    this.register(name, help, 'counter', () => [{ value: read() }]);
  }

  /** Any number of samples, made when somebody scrapes. */
  register(
    name: string,
    help: string,
    type: 'counter' | 'gauge' | 'histogram',
    samples: () => readonly Sample[],
  ): void {
    const get = () => ({ name, help, type, values: samples(), aggregator: 'sum' });
    // The registry asks a metric for nothing but its name and `get`.
    this.registry.registerMetric({ name, get } as unknown as Metric);
  }

  /** Figures that are read off a node, under etcd's names. */
  observeNode(node: NodeFace, version: { readonly api: string; readonly own: string }): void {
    const gauge = this.gauge.bind(this);
    const total = this.total.bind(this);
    const flag = (value: boolean): number => (value ? 1 : 0);
    gauge('etcd_server_has_leader', 'Whether a leader is known', () => flag(node.hasLeader));
    gauge('etcd_server_is_leader', 'Whether this member leads', () =>
      flag(node.status().role === 'leader'),
    );
    gauge('etcd_server_is_learner', 'Whether this member is a learner', () =>
      flag(node.status().isLearner),
    );
    gauge('etcd_server_id', 'Id of this member', () => 1, {
      server_id: node.memberId.toString(16),
    });
    gauge('etcd_server_version', 'Served API version', () => 1, { server_version: version.api });
    gauge('etcd_cluster_version', 'Served API version', () => 1, { cluster_version: version.api });
    gauge('kvd_version', 'Version of kvd', () => 1, { version: version.own });
    // The first 53 of its 64 bits: what a metric can hold without rounding.
    gauge('kvd_state_hash', 'Running hash over all that was applied, equal at one index', () => {
      return Math.floor(Number.parseInt(node.machine.hashChain.slice(0, 14), 16) / 8);
    });
    gauge('kvd_raft_term', 'Term of this member', () => node.raftTerm);
    total('etcd_server_proposals_committed_total', 'Committed entries', () => {
      return node.status().commitIndex;
    });
    total('etcd_server_proposals_applied_total', 'Applied entries', () => {
      return node.status().appliedIndex;
    });
    gauge('etcd_mvcc_db_total_size_in_bytes', 'Bytes of the store on disk', () => {
      return node.status().dbSizeBytes;
    });
    gauge('etcd_mvcc_db_total_size_in_use_in_bytes', 'Bytes of the store in use', () => {
      return node.status().dbSizeInUseBytes;
    });
    gauge('etcd_server_quota_backend_bytes', 'Bytes that the store may take, 0 = no limit', () => {
      return node.machine.quotaBytes;
    });
    gauge('kvd_garbage_revisions', 'Compacted revisions that are still in the index', () => {
      return node.machine.store.garbageCount;
    });
    gauge('kvd_garbage_records', 'Records of compacted revisions that are still on disk', () => {
      return node.status().recordsToRemove;
    });
    this.register('kvd_alarms', 'Alarms that stand, by member', 'gauge', () =>
      node.machine.alarms.map(({ memberId, alarm }) => ({
        labels: { member: memberId.toString(16), alarm: alarm === 1 ? 'NOSPACE' : 'CORRUPT' },
        value: 1,
      })),
    );
    gauge('kvd_wal_bytes', 'Bytes of the write-ahead log', () => node.status().walBytes);
    gauge('etcd_debugging_mvcc_keys_total', 'Keys at the newest revision', () => {
      return node.machine.store.liveCount;
    });
    gauge('etcd_debugging_mvcc_current_revision', 'Newest revision', () => {
      return node.machine.store.revision;
    });
    gauge('etcd_debugging_mvcc_compact_revision', 'Revision of the last compaction', () => {
      return node.machine.store.compactRevision;
    });
    gauge('kvd_leases', 'Leases', () => node.machine.lessor.count);
    this.observeWatches(node);
  }

  private observeWatches(node: NodeFace): void {
    const counts = () => node.watches.counts();
    this.gauge('etcd_debugging_mvcc_watch_stream_total', 'Open watch streams', () => {
      return counts().streams;
    });
    this.gauge('etcd_debugging_mvcc_watcher_total', 'Watchers', () => counts().watchers);
    this.gauge('etcd_debugging_mvcc_slow_watcher_total', 'Watchers that lag behind', () => {
      return counts().laggingWatchers;
    });
    this.gauge('etcd_debugging_mvcc_pending_events_total', 'Groups of events to be sent', () => {
      return counts().groupsPending;
    });
    this.total('etcd_debugging_mvcc_events_total', 'Events sent to watchers', () => {
      return counts().eventsSent;
    });
  }

  private registerRpcs(): void {
    const each = (samples: (rpc: RpcCounters) => readonly Sample[]) => (): Sample[] =>
      [...this.rpcs.values()].flatMap((rpc) => [...samples(rpc)]);
    this.register(
      'grpc_server_started_total',
      'Calls that began',
      'counter',
      each((rpc) => [{ labels: rpc.labels, value: rpc.started }]),
    );
    this.register(
      'grpc_server_handled_total',
      'Calls that ended, by code',
      'counter',
      each((rpc) =>
        [...rpc.handled].map(([code, value]) => ({
          labels: { ...rpc.labels, grpc_code: code },
          value,
        })),
      ),
    );
    this.register(
      'grpc_server_msg_sent_total',
      'Messages sent on streams',
      'counter',
      each((rpc) => [{ labels: rpc.labels, value: rpc.messagesSent }]),
    );
    this.register(
      'grpc_server_handling_seconds',
      'Time from the request to its answer',
      'histogram',
      each((rpc) =>
        // Most methods are never called; sixteen lines each would bury the rest.
        rpc.seconds.count > 0
          ? rpc.seconds.samples('grpc_server_handling_seconds', rpc.labels)
          : [],
      ),
    );
    const done = (method: string) => (): number => this.rpcs.get(method)?.handled.get('OK') ?? 0;
    const kv = 'etcdserverpb.KV';
    const lease = 'etcdserverpb.Lease';
    this.total('etcd_mvcc_put_total', 'Puts answered here', done(`${kv}/Put`));
    this.total('etcd_mvcc_delete_total', 'Deletes answered here', done(`${kv}/DeleteRange`));
    this.total('etcd_mvcc_range_total', 'Ranges answered here', done(`${kv}/Range`));
    this.total('etcd_mvcc_txn_total', 'Transactions answered here', done(`${kv}/Txn`));
    this.total(
      'etcd_debugging_lease_granted_total',
      'Leases granted through this member',
      done(`${lease}/LeaseGrant`),
    );
    this.total(
      'etcd_debugging_lease_revoked_total',
      'Leases revoked through this member',
      done(`${lease}/LeaseRevoke`),
    );
    this.total(
      'etcd_debugging_lease_renewed_total',
      'Renewals answered here',
      () => this.rpcs.get(`${lease}/LeaseKeepAlive`)?.messagesSent ?? 0,
    );
  }

  private registerProcess(): void {
    const startedAt = Date.now() / 1000 - process.uptime();
    this.total('process_cpu_seconds_total', 'Processor time of this process', () => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1e6;
    });
    this.gauge('process_start_time_seconds', 'When this process began', () => startedAt);
    this.gauge('process_resident_memory_bytes', 'Resident memory', () => process.memoryUsage.rss());
    this.gauge(
      'nodejs_heap_size_used_bytes',
      'JavaScript heap in use',
      () => process.memoryUsage().heapUsed,
    );
    this.gauge('process_open_fds', 'Open files and sockets', openFiles);
  }
}

/** Zero where the system has no such list. */
function openFiles(): number {
  try {
    return readdirSync('/proc/self/fd').length;
  } catch {
    return 0;
  }
}

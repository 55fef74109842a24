/**
 * Opens one member on whatever surroundings it is given: log, state, Raft, node, in this order.
 *
 * server.ts gives it the real disk, clock and network; a simulator gives it its own. Nothing here
 * listens yet: `node.start()` is the caller's next step.
 */
import { loadJwt } from './auth/io/jwt-tokens.js';
import type { Secrets } from './authority.js';
import type { Clock } from './clock.js';
import { ClusterNode } from './cluster-node.js';
import type { Config } from './config.js';
import { FatalError } from './errors.js';
import { type GenesisMember, readGenesis, writeGenesis } from './genesis-file.js';
import type { MemberAttributes } from './kv/command.js';
import type { StateFolders } from './kv/io/backend.js';
import { removeGenerationsExcept } from './kv/io/snapshot-stream.js';
import type { Logger } from './logger.js';
import type { Metrics } from './metrics.js';
import type { LocalIdentity, PeerEvents, PeerLinks } from './peer-links.js';
import { type Configuration, configurationOf } from './raft/configuration.js';
import type { Disk } from './raft/io/disk.js';
import type { RecoveredLog } from './raft/io/log-store.js';
import { openWal, type WriteAheadLog } from './raft/io/wal.js';
import { Raft, type RaftOptions } from './raft/raft.js';
import { openReplica, type ReplicaOptions, type StateReplica } from './state-replica.js';

const FIRST_GENERATION = 1;
/** Handed out to be applied, at most: what a turn of the event loop takes of them is a matter of time (ClusterNode.apply). */
const MAX_APPLY_ENTRIES = 1024;

export type RaftTuning = Partial<
  Pick<RaftOptions, 'maxMessageBytes' | 'maxInflightMessages' | 'maxInflightBytes'>
>;

export interface Surroundings {
  readonly disk: Disk;
  readonly folders: StateFolders;
  readonly clock: Clock;
  readonly links: (local: LocalIdentity, events: PeerEvents) => PeerLinks;
  /** 0 to 1: jitter and lease ids. */
  readonly random: () => number;
  /** The default is the platform's. */
  readonly secrets?: Secrets;
  /** Up to 48 bits, for the election jitter of the core. */
  readonly seed: number;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Copies of hot records in memory; the default is that of the store. */
  readonly cacheBytes?: number;
  /** Keys that an entry touches in one turn of the event loop; the default is that of the machine. */
  readonly stepKeys?: number;
  /** As in ClusterNodeOptions: in a simulation the clock stands still in a turn. */
  readonly applyMsFor?: (behind: number) => number;
  /** Batch sizes and windows of the core; its defaults suit real networks. */
  readonly tuning?: RaftTuning;
  /** The surroundings failed: stop acknowledging and exit. */
  readonly onFatal: (error: Error) => void;
}

export interface OpenedMember {
  readonly node: ClusterNode;
  readonly recovered: RecoveredLog;
}

export async function openMember(config: Config, around: Surroundings): Promise<OpenedMember> {
  if (config.authToken.kind === 'jwt') await loadJwt();
  const configuration = configurationOf(config.initialMembers.map(({ id }) => id));
  const { wal, recovered } = openLog(config, around, configuration);
  const genesis = keepGenesis(config, around.disk);
  const replicaOptions: ReplicaOptions = {
    dataDir: config.dataDir,
    folders: around.folders,
    clock: around.clock,
    selfId: config.memberId,
    clusterId: config.clusterId,
    bootstrapMembers: bootstrapMembers(genesis),
    bootstrapConfiguration: configurationOf(genesis.map(({ id }) => id)),
    ...(around.cacheBytes === undefined ? {} : { cacheBytes: around.cacheBytes }),
    ...(around.stepKeys === undefined ? {} : { stepKeys: around.stepKeys }),
    onFatal: around.onFatal,
    onDrain: () => node.onStateDrained(),
    onCommitted: (ms) => around.metrics.storeCommitSeconds.observe(ms / 1000),
  };
  const { generation, index } = recovered.base;
  await removeGenerationsExcept(config.dataDir, [generation], around.folders);
  const replica = await openReplica(replicaOptions, generation, index);
  const node: ClusterNode = new ClusterNode({
    config,
    metrics: around.metrics,
    clock: around.clock,
    logger: around.logger,
    raft: startRaft(config, recovered, replica, around),
    boot: recovered.boot,
    folderId: recovered.identity.folderId,
    log: wal,
    links: around.links,
    replica,
    replicaOptions,
    random: around.random,
    ...(around.applyMsFor === undefined ? {} : { applyMsFor: around.applyMsFor }),
    secrets: around.secrets ?? null,
    freeBytes: () => around.disk.freeBytes(config.dataDir),
    onFatal: around.onFatal,
  });
  return { node, recovered };
}

/** Names and client addresses of the others come through the log, when they have started. */
function bootstrapMembers(genesis: readonly GenesisMember[]): MemberAttributes[] {
  return genesis.map(({ id, peerUrls }) => ({
    id,
    name: '',
    peerUrls,
    clientUrls: [],
    isLearner: false,
    folderId: 0,
  }));
}

/** What the folder says the cluster began with; at the first start, what the configuration says. */
function keepGenesis(config: Config, disk: Disk): readonly GenesisMember[] {
  const kept = readGenesis(disk, config.dataDir);
  if (kept !== null) return kept;
  writeGenesis(disk, config.dataDir, config.initialMembers);
  return config.initialMembers;
}

function openLog(
  config: Config,
  { disk, logger, random }: Surroundings,
  configuration: Configuration,
): { readonly wal: WriteAheadLog; readonly recovered: RecoveredLog } {
  const opened = openWal({
    disk,
    directory: config.dataDir,
    segmentBytes: config.segmentBytes,
    identity: {
      clusterId: config.clusterId,
      memberId: config.memberId,
      // 48 random bits: an emptied folder draws others.
      folderId: Math.floor(random() * 2 ** 24) * 2 ** 24 + Math.floor(random() * 2 ** 24) || 1,
    },
    initial: { index: 0, term: 0, configuration, generation: FIRST_GENERATION },
    onSpaceLow: (error) => {
      if (error === null) logger.info('there is room for the next file of the log again');
      else logger.error({ err: error }, 'no room for the next file of the log');
    },
  });
  for (const note of opened.recovered.notes) logger.info(`log: ${note}`);
  const { boot, base, hardState, entries } = opened.recovered;
  const { term, commit } = hardState;
  logger.info({ boot, base: base.index, entries: entries.length, term, commit }, 'log is open');
  return opened;
}

function startRaft(
  config: Config,
  recovered: RecoveredLog,
  replica: StateReplica,
  { seed, tuning }: Surroundings,
): Raft {
  const base = replica.mark;
  const last = recovered.before.index + recovered.entries.length;
  // A checkpoint covers only what was durable in the log before.
  if (last < base.index) {
    throw new FatalError(
      `the log in ${config.dataDir}/wal ends at entry ${last}, the state at ${base.index}: the disk has lost what was acknowledged; remove this member and add it anew`,
    );
  }
  return new Raft(
    {
      id: config.memberId,
      boot: recovered.boot,
      seed,
      electionTicks: config.electionTicks,
      heartbeatTicks: config.heartbeatTicks,
      maxApplyEntries: MAX_APPLY_ENTRIES,
      ...tuning,
    },
    {
      hardState: recovered.hardState,
      base,
      before: recovered.before,
      entries: recovered.entries,
    },
  );
}

/**
 * Builds one member from a Config and starts it: the only file that says `new` for the parts of the
 * shell, and the place where the order of start and stop is written down.
 *
 *   start: who am I -> folder and log -> state of the newest checkpoint -> Raft -> peers -> replay
 *          (metrics ports open) -> client port
 *   stop:  client and metrics ports (new requests) -> leadership -> watches -> waiting requests -> log
 *          -> state
 *
 * The client port opens when this member has applied what its own log says is committed and, if there
 * is a leader within a few seconds, what the cluster had committed by then: a restarted member does not
 * show clients a state older than the one they saw. Without a quorum it opens all the same, because
 * serializable reads need none. Who asks at a metrics port hears of all that time: a member that replays
 * a long log is alive, and must not be started again for its silence.
 */
import { randomBytes, randomInt } from 'node:crypto';
import type { Server, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { InvariantError } from './assert.js';
import { AuditLog } from './audit-log.js';
import { AutoCompaction } from './auto-compaction.js';
import { BackupSchedule } from './backup/schedule.js';
import { systemClock } from './clock.js';
import type { ClusterNode } from './cluster-node.js';
import type { ClientAddress, Config } from './config.js';
import { ConnectionLimit } from './connection-limit.js';
import { FatalError, KvError } from './errors.js';
import { EventLoopDelay } from './event-loop.js';
import { settleIdentity } from './joining.js';
import { AlarmCause } from './kv/alarms.js';
import { NodeStateFolders } from './kv/io/state-folders.js';
import { listen, portOf } from './listening.js';
import type { Logger } from './logger.js';
import { openMember } from './member.js';
import { Metrics } from './metrics.js';
import type { RequestContext } from './node.js';
import type { RecoveredLog } from './raft/io/log-store.js';
import { NodeDisk } from './raft/io/node-disk.js';
import { Audit } from './rpc/audit.js';
import { buildGateway } from './rpc/gateway/gateway.js';
import { buildMetricsFace } from './rpc/gateway/metrics-face.js';
import { GrpcServer } from './rpc/grpc/grpc-server.js';
import { apiHandlers } from './rpc/handlers.js';
import { LongAnswers } from './rpc/long-answers.js';
import { PeerNetwork } from './rpc/peer/peer-network.js';
import { chooseFace } from './rpc/port.js';
import { RequestRate } from './rpc/request-rate.js';
import { ServerLoad } from './rpc/server-load.js';
import { openTls } from './tls/open-tls.js';
import { ETCD_VERSION, KVD_VERSION } from './version.js';

const CATCH_UP_MS = 3000;
const ARRIVAL_POLL_MS = 20;
const VOTE_AGAIN_MS = 500;

export interface ServerHooks {
  /** The surroundings failed or a bug was found: stop acknowledging, say why, exit. */
  onFatal(error: Error): void;
}

export interface RunningServer {
  readonly node: ClusterNode;
  /** Where clients are served over TCP, with the real port when 0 was asked for. */
  readonly clientPorts: readonly number[];
  stop(): Promise<void>;
}

export async function startServer(
  given: Config,
  logger: Logger,
  hooks: ServerHooks,
): Promise<RunningServer> {
  const metrics = new Metrics();
  const disk = new NodeDisk();
  for (const warning of given.warnings) logger.warn(warning);
  const tls = await openTls(given, logger);
  const config = await settleIdentity(given, disk, logger, tls);
  const random = (): number => randomInt(2 ** 32) / 2 ** 32;
  const { node, recovered } = await openMember(config, {
    disk,
    folders: new NodeStateFolders(config.dataDir),
    clock: systemClock,
    links: (local, events) =>
      new PeerNetwork({ local, clock: systemClock, random, events, sockets: tls.peerSockets }),
    random,
    // Entropy enters here, once; the core draws its election jitter from it.
    seed: randomBytes(6).readUIntLE(0, 6),
    logger,
    metrics,
    onFatal: (error) => hooks.onFatal(error),
  });
  // Built before the member starts: it takes a tenth of a second of the event loop, on a busy machine
  // as long as an election timeout, and a leader that cannot hear its followers steps down.
  const { maxRequestBytes, maxTxnOps, slowRequestMs } = config;
  const audit = await openAudit(config, logger, metrics);
  const gates = { rate: rateOf(config, metrics), audit: audit?.audit ?? null };
  const handlers = apiHandlers({ maxRequestBytes, maxTxnOps }, gates);
  const shared = { logger, metrics, handlers, maxRequestBytes, slowRequestMs };
  const onUnexpected = (error: unknown): void => {
    // A broken invariant or disk ends the process; any other slip ends its request only.
    if (error instanceof InvariantError || error instanceof FatalError) hooks.onFatal(error);
    else logger.error({ err: error }, 'a request failed inside');
  };
  const { grpcKeepalive: keepalive, maxConcurrentStreams: maxStreams, corsOrigins, hosts } = config;
  const answers = { longAnswers: new LongAnswers(), unread: new ServerLoad() };
  const grpc = new GrpcServer(node, { ...shared, ...answers, onUnexpected, keepalive, maxStreams });
  const gateway = buildGateway(node, {
    ...shared,
    ...answers,
    ...{ maxTxnOps, onUnexpected, corsOrigins, hosts },
    onRequest: () => grpc.sawOther(),
    etcdVersion: ETCD_VERSION,
    kvdVersion: KVD_VERSION,
  });
  const metricsFace = buildMetricsFace(node, { metrics, onUnexpected, kvdVersion: KVD_VERSION });
  const faces = {
    http1: (socket: Socket, firstBytes: Buffer) => gateway.attach(socket, firstBytes),
    http2: (socket: Socket, firstBytes: Buffer) => grpc.attach(socket, firstBytes),
  };
  const serveClient = (socket: Socket): void => chooseFace(socket, faces);
  const serveMetrics = (socket: Socket): void => metricsFace.attach(socket);
  await gateway.ready();
  await metricsFace.ready();
  const most = config.maxConnectionsPerAddress;
  const connections = new ConnectionLimit({ most, logger, metrics });
  const open = (address: ClientAddress, serve: (socket: Socket) => void): Promise<Server> => {
    const isSecure = 'secure' in address && address.secure;
    return listen(address, logger, (socket) => {
      if (!('path' in address) && !connections.admit(socket)) return;
      if (isSecure) tls.acceptClient(socket, serve);
      else serve(socket);
    });
  };
  const listeners: Server[] = [];
  const metricsListeners: Server[] = [];
  const end = async (): Promise<void> => {
    for (const listener of [...listeners, ...metricsListeners]) listener.close();
    tls.close();
    await Promise.all([gateway.drain(), grpc.drain()]);
    await metricsFace.close();
    await node.stop();
    grpc.close();
    await gateway.close();
    await audit?.log.close();
  };
  await node.start();
  try {
    for (const address of config.listenMetrics) {
      metricsListeners.push(await open(address, serveMetrics));
      logger.info({ url: address.url }, 'serving metrics and health');
    }
    if (config.initialClusterState === 'existing') await arrive(node, logger);
    const hasQuorum = await catchUp(node, recovered, logger);
    const announced = announce(node, config, logger);
    if (hasQuorum) await compareState(node, logger);
    // Clients that list the members then find this one with its name and addresses.
    if (hasQuorum) await announced;
    for (const address of config.listenClient) listeners.push(await open(address, serveClient));
  } catch (error) {
    await end();
    throw error;
  }
  // Not before: to recover a long log takes turns of any length.
  const eventLoop = new EventLoopDelay();
  eventLoop.observe(metrics);
  const clientPorts = listeners.map(portOf).filter((port) => port !== null);
  const clientSockets = config.listenClient.flatMap((each) => ('path' in each ? each.path : []));
  if (config.join.length > 0) askForVote(node, logger);
  logger.info(
    {
      clientPorts,
      ...(clientSockets.length > 0 ? { clientSockets } : {}),
      memberId: config.memberId.toString(16),
      cluster: config.clusterId.toString(16),
    },
    'ready to serve client requests',
  );
  const compaction = startCompaction(node, config, logger);
  const backups = startBackups(node, config, logger, metrics);
  return {
    node,
    clientPorts,
    stop: async () => {
      eventLoop.stop();
      compaction?.stop();
      await backups?.stop();
      await end();
    },
  };
}

function rateOf({ ratePerUser }: Config, metrics: Metrics): RequestRate | null {
  const refused = metrics.counter(
    'kvd_requests_over_rate_total',
    'Requests that were refused because their user asked too often',
  );
  return ratePerUser === 0 ? null : new RequestRate(ratePerUser, refused);
}

async function openAudit(
  { audit: policy, name: member }: Config,
  logger: Logger,
  metrics: Metrics,
): Promise<{ readonly audit: Audit; readonly log: AuditLog } | null> {
  if (policy === null) return null;
  const wallClock = (): number => Date.now();
  const log = await AuditLog.open({ ...policy, member, logger, metrics, wallClock });
  const { withReads } = policy;
  return { audit: new Audit({ member, withReads, sink: log, wallClock }), log };
}

/** For what no client has asked for. */
function asMember(node: ClusterNode): RequestContext {
  return node.context(undefined, null, false, 'member');
}

function startBackups(
  node: ClusterNode,
  config: Config,
  logger: Logger,
  metrics: Metrics,
): BackupSchedule | null {
  if (config.backup === null) return null;
  const { clusterId, memberId } = config;
  const schedule = new BackupSchedule({
    ...{ policy: config.backup, clusterId, memberId, clock: systemClock, metrics },
    wallClock: () => Date.now(),
    isLeader: () => node.isLeader,
    openBackup: (createdAt, signal) => node.openBackup(createdAt, node.context(undefined, signal)),
    onDone: (file, revision, bytes) => logger.info({ file, revision, bytes }, 'backup made'),
    onFailed: (error) => logger.error({ err: error }, 'backup failed; it is tried again'),
  });
  schedule.start();
  return schedule;
}

function startCompaction(node: ClusterNode, config: Config, logger: Logger): AutoCompaction | null {
  if (config.autoCompaction === null) return null;
  const compaction = new AutoCompaction({
    policy: config.autoCompaction,
    clock: systemClock,
    isLeader: () => node.isLeader,
    isOutOfSpace: () => node.machine.alarms.some(({ causes }) => (causes & AlarmCause.Quota) !== 0),
    revision: () => node.machine.store.revision,
    compactRevision: () => node.machine.store.compactRevision,
    compact: (revision) => node.propose({ kind: 'compact', revision }, asMember(node)),
    onDone: (revision) => logger.info({ revision }, 'compacted'),
    onFailed: (error) =>
      logger.warn({ err: error }, 'compaction failed; the next look tries again'),
  });
  compaction.start();
  return compaction;
}

/** Before the first client: a member that differs from the others must not serve. */
async function compareState(node: ClusterNode, logger: Logger): Promise<void> {
  try {
    await node.compareState();
  } catch (error) {
    logger.warn({ err: error }, 'the state was not compared with the others; the leader does it');
  }
}

/** A member that joins has nothing to serve before it has received that it is a member. */
async function arrive(node: ClusterNode, logger: Logger): Promise<void> {
  if (node.machine.members.get(node.memberId) !== null) return;
  logger.info('waiting for the state of the cluster');
  while (node.machine.members.get(node.memberId) === null) await sleep(ARRIVAL_POLL_MS);
}

/** A member that came with --join becomes a voter by itself, as soon as the leader finds it ready. */
function askForVote(node: ClusterNode, logger: Logger): void {
  if (!node.isLearner) return;
  const steps = [{ kind: 'promote', id: node.memberId } as const];
  node.propose({ kind: 'memberChange', steps, joint: false }, asMember(node)).then(
    () => logger.info('this member votes now'),
    (error: unknown) => {
      if (error instanceof KvError && error.code === 'STOPPED') return;
      logger.debug({ err: error }, 'this member does not vote yet');
      setTimeout(() => askForVote(node, logger), VOTE_AGAIN_MS).unref();
    },
  );
}

/** Applies what the log holds and what the cluster has committed; false when there is no quorum. */
async function catchUp(
  node: ClusterNode,
  recovered: RecoveredLog,
  logger: Logger,
): Promise<boolean> {
  while (node.machine.appliedIndex < recovered.hardState.commit) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  try {
    await node.linearize(node.context(CATCH_UP_MS));
    return true;
  } catch (error) {
    logger.warn(
      { err: error },
      'no quorum yet: serving what this member has, without linearizable reads',
    );
    return false;
  }
}

/** Tells the cluster this member's name and client addresses. Resolves after the first try, and goes
 *  on trying in the background until it is heard. */
async function announce(node: ClusterNode, config: Config, logger: Logger): Promise<void> {
  const { name, memberId, advertiseClientUrls } = config;
  const known = node.machine.members.get(memberId);
  const isKnown =
    known?.name === name &&
    known.clientUrls.join() === advertiseClientUrls.join() &&
    known.folderId === node.folderId;
  if (isKnown) return;
  const command = {
    kind: 'memberPublish',
    id: memberId,
    name,
    clientUrls: advertiseClientUrls,
    folderId: node.folderId,
  } as const;
  try {
    await node.propose(command, node.context());
  } catch (error) {
    if (error instanceof KvError && error.code === 'STOPPED') return;
    logger.debug({ err: error }, 'this member is not announced yet');
    setTimeout(() => void announce(node, config, logger), 500).unref();
  }
}

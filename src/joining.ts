/**
 * Who a member is that joins a running cluster: asked of the cluster, not derived from flags.
 *
 * Two ways lead in. Either somebody has added the member (`kvctl member add`) and it is started with
 * --initial-cluster-state existing: then it asks the members of --initial-cluster over their peer
 * ports. Or it is started with --join and asks a client port to be added itself, as a learner.
 *
 *   --join:      client URL -> member list, member add -> peer URLs
 *   both:        peer URL   -> who has my peer URLs?  -> member id, cluster id
 *                           -> genesis: the members of index 0, from which a whole log is replayed
 *
 * Once the folder has a log, the folder knows, and nobody is asked. The same holds for a folder that was
 * restored from a backup (backup/restore.ts), whatever --initial-cluster-state says. A member whose folder
 * is empty but whom the cluster knows with another folder is refused: it has forgotten what it promised.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { isRestored } from './backup/restore.js';
import { parseEndpoint } from './client/endpoints.js';
import { Connections } from './client/transport/http-exchange.js';
import type { TlsOptions } from './client/transport/transport.js';
import type { Config } from './config.js';
import { addressOf } from './config.js';
import { FatalError } from './errors.js';
import { type GenesisMember, isGenesis, readGenesis } from './genesis-file.js';
import type { Logger } from './logger.js';
import type { Disk } from './raft/io/disk.js';
import { readIdentity } from './raft/io/wal-identity.js';
import { askPeer } from './rpc/peer/ask.js';
import type { PeerSockets } from './rpc/peer/peer-sockets.js';

const CALL_MS = 3000;
const AGAIN_MS = 300;
/** How long a cluster is asked that does not answer, or that must finish another change first. */
const PATIENCE_MS = 60_000;

interface KnownMember {
  readonly id: number;
  readonly peerUrls: readonly string[];
  readonly folderId: number;
}

interface Answer {
  readonly clusterId: number;
  readonly members: readonly KnownMember[];
  readonly genesis: readonly GenesisMember[];
}

/** How a cluster is called that a process joins. */
export interface JoiningCalls {
  readonly peerSockets: PeerSockets;
  readonly clientTls: () => TlsOptions;
}

/** A reason to try again. */
class NotYet extends Error {}

/** The configuration with the ids that are true, whatever the flags could tell. */
export async function settleIdentity(
  config: Config,
  disk: Disk,
  logger: Logger,
  calls: JoiningCalls,
): Promise<Config> {
  const isRestoredHere = isRestored(disk, config.dataDir);
  if (config.initialClusterState === 'new' && !isRestoredHere) return config;
  const identity = readIdentity(disk, config.dataDir);
  const genesis = readGenesis(disk, config.dataDir);
  if (identity !== null && genesis !== null) {
    const { clusterId, memberId } = identity;
    if (config.initialClusterState === 'new') assertRestoredFor(genesis, memberId, config);
    return { ...config, clusterId, memberId, initialMembers: named(genesis) };
  }
  if (isRestoredHere) {
    throw new FatalError(
      `${config.dataDir} was restored from a backup, and its log or list of members is gone: restore it again to an empty folder`,
    );
  }
  const answer = await patiently(logger, async () => {
    const peers = config.join.length > 0 ? await enroll(config, calls) : peersOf(config);
    return await askAll(peers, config, calls);
  });
  const self = ownRow(answer.members, config) as KnownMember;
  if (identity === null) assertUnused(self, config);
  else if (identity.memberId !== self.id || identity.clusterId !== answer.clusterId) {
    throw new FatalError(
      `${config.dataDir} belongs to member ${hexOf(identity.memberId)}, but the cluster knows the peer URLs ${config.advertisePeerUrls.join(',')} as member ${hexOf(self.id)}; use the data folder of this member or an empty one`,
    );
  }
  logger.info(
    { memberId: hexOf(self.id), cluster: hexOf(answer.clusterId) },
    'joining a running cluster',
  );
  return {
    ...config,
    clusterId: answer.clusterId,
    memberId: self.id,
    initialMembers: named(answer.genesis),
    seedMembers: answer.members
      .filter(({ id }) => id !== self.id)
      .map(({ id, peerUrls }) => ({ id, name: '', peerUrls })),
  };
}

async function patiently<T>(logger: Logger, attempt: () => Promise<T>): Promise<T> {
  const end = performance.now() + PATIENCE_MS;
  let told = '';
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof NotYet)) throw error;
      if (performance.now() > end) throw new FatalError(`cannot join: ${error.message}`, error);
      if (error.message !== told) logger.warn(`not joined yet: ${error.message}`);
      told = error.message;
      await pause(AGAIN_MS);
    }
  }
}

/** Peer URLs of the other members, once this one is a member. */
async function enroll(config: Config, calls: JoiningCalls): Promise<string[]> {
  const problems: string[] = [];
  for (const url of config.join) {
    try {
      const listed = await call(calls, url, 'list', { linearizable: true });
      let members = membersIn(listed);
      if (ownRow(members, config) === undefined) {
        const add = { peerURLs: config.advertisePeerUrls, isLearner: true };
        members = membersIn(await call(calls, url, 'add', add));
      }
      const own = ownRow(members, config);
      return members.filter((member) => member !== own).flatMap(({ peerUrls }) => peerUrls);
    } catch (error) {
      if (error instanceof FatalError) throw error;
      problems.push(`${url}: ${(error as Error).message}`);
    }
  }
  throw new NotYet(problems.join('; '));
}

async function call(
  { clientTls }: JoiningCalls,
  url: string,
  verb: 'list' | 'add',
  body: object,
): Promise<unknown> {
  const connections = new Connections(clientTls());
  const response = await connections
    .ask({
      endpoint: parseEndpoint(url),
      method: 'POST',
      path: `/v3/cluster/member/${verb}`,
      body: JSON.stringify(body),
      headers: {},
      dialTimeoutMs: CALL_MS,
      signal: AbortSignal.timeout(2 * CALL_MS),
    })
    .finally(() => connections.close());
  const answer = JSON.parse(response.body) as { readonly error?: unknown };
  if (response.status === 200) return answer;
  const text = String(answer.error ?? response.status);
  if (/already exist|URLs are invalid/.test(text)) {
    throw new FatalError(
      `cannot join through ${url}: ${text}: another member has one of the peer URLs; see "kvctl member list"`,
    );
  }
  throw new NotYet(text);
}

/** The member list as the JSON gateway gives it: ids are decimal texts. */
function membersIn(answer: unknown): KnownMember[] {
  const { members } = (answer ?? {}) as { readonly members?: unknown };
  if (!Array.isArray(members)) throw new NotYet('the answer holds no members');
  return members.map((member: { readonly ID?: unknown; readonly peerURLs?: unknown }) => {
    const peerUrls = Array.isArray(member.peerURLs) ? member.peerURLs.map(String) : [];
    return { id: Number(member.ID), peerUrls, folderId: 0 };
  });
}

function peersOf(config: Config): string[] {
  const others = config.initialMembers.filter(({ name }) => name !== config.name);
  const urls = others.flatMap(({ peerUrls }) => peerUrls);
  if (urls.length > 0) return urls;
  throw new FatalError(
    '--initial-cluster-state existing needs the other members in --initial-cluster; or use --join URL',
  );
}

/** Each peer in turn, until one knows this member: one that lags may not have heard of it yet. */
async function askAll(
  peers: readonly string[],
  config: Config,
  { peerSockets }: JoiningCalls,
): Promise<Answer> {
  const problems: string[] = [];
  for (const url of peers) {
    try {
      const answer = await askPeer(addressOf(url), 'members', CALL_MS, peerSockets);
      if (!isAnswer(answer)) problems.push(`${url}: the answer is not understood`);
      else if (ownRow(answer.members, config) !== undefined) return answer;
      else {
        problems.push(
          `${url} knows no member with the peer URLs ${config.advertisePeerUrls.join(',')}: add it first with "kvctl member add"`,
        );
      }
    } catch (error) {
      problems.push(`${url}: ${(error as Error).message}`);
    }
  }
  throw new NotYet(problems.join('; '));
}

function isAnswer(value: unknown): value is Answer {
  const { clusterId, members, genesis } = (value ?? {}) as Partial<Answer>;
  if (!Number.isSafeInteger(clusterId) || !isGenesis(members) || !isGenesis(genesis)) return false;
  return (members as readonly KnownMember[]).every(({ folderId }) => {
    return Number.isSafeInteger(folderId) && folderId >= 0;
  });
}

function ownRow(members: readonly KnownMember[], config: Config): KnownMember | undefined {
  const own = sorted(config.advertisePeerUrls);
  return members.find(({ peerUrls }) => sorted(peerUrls) === own);
}

function sorted(urls: readonly string[]): string {
  return [...urls].sort((a, b) => (a < b ? -1 : 1)).join();
}

function assertUnused({ id, folderId }: KnownMember, { dataDir }: Config): void {
  if (folderId === 0) return;
  throw new FatalError(
    `member ${hexOf(id)} has run in another data folder than ${dataDir}, which is empty: what it had promised is lost. Restore the folder, or remove the member and add it anew: kvctl member remove ${hexOf(id)}`,
  );
}

/** Folders that were mixed up among the members of a restored cluster. */
function assertRestoredFor(
  genesis: readonly GenesisMember[],
  memberId: number,
  { dataDir, advertisePeerUrls }: Config,
): void {
  const own = genesis.find(({ id }) => id === memberId)?.peerUrls ?? [];
  if (own.length === 0 || sorted(own) === sorted(advertisePeerUrls)) return;
  throw new FatalError(
    `${dataDir} was restored for the member at ${own.join(',')}, but --initial-advertise-peer-urls is ${advertisePeerUrls.join(',')}: start each member with the flags that its folder was restored with`,
  );
}

function named(members: readonly GenesisMember[]): Config['initialMembers'] {
  return members.map(({ id, peerUrls }) => ({ id, name: '', peerUrls }));
}

function hexOf(id: number): string {
  return id.toString(16);
}

/**
 * Whole members in one process: the real shell, log, state and core on disks and a network in memory,
 * in real time. For tests of seams that processes would hit once in a thousand runs.
 *
 * A member lives on a MemoryDisk and MemoryStateFolders, which survive `kill` and `crash`; the next
 * `start` finds what they left. The life of a member owns its clock: after a kill no timer, turn or
 * completion of it runs any more, as in a process that is gone. Messages are encoded to frames and
 * decoded again on the way. `cut` parts two members, in both directions and at once. Members that
 * would refuse each other's greeting do not reach each other, and the refused one is told.
 */
import type { Clock, Timer } from '../../src/clock.js';
import { systemClock } from '../../src/clock.js';
import type { ClusterNode } from '../../src/cluster-node.js';
import type { Config } from '../../src/config.js';
import { loadConfig } from '../../src/config.js';
import type { Command } from '../../src/kv/command.js';
import { openLog } from '../../src/logger.js';
import { openMember } from '../../src/member.js';
import { Metrics } from '../../src/metrics.js';
import type { LocalIdentity, PeerAddress, PeerEvents, PeerLinks } from '../../src/peer-links.js';
import type { Message, SnapshotMeta } from '../../src/raft/message.js';
import { FrameReader } from '../../src/rpc/peer/frame.js';
import {
  decodeMessage,
  decodeMeta,
  encodeMessage,
  encodeMeta,
} from '../../src/rpc/peer/raft-frame.js';
import { MemoryStateFolders } from './memory-backend.js';
import type { CrashMode } from './memory-disk.js';
import { MemoryDisk } from './memory-disk.js';
import { waitFor } from './wait.js';

const WAIT_MS = 15_000;

/** Time that ends with the life of its member. */
class LifeClock implements Clock {
  alive = true;
  /** How much later than asked for a turn comes, ms. */
  delayMs = 0;

  now(): number {
    return systemClock.now();
  }
  after(ms: number, run: () => void): Timer {
    return systemClock.after(ms, () => {
      if (this.alive) run();
    });
  }
  soon(run: () => void): void {
    const guarded = (): void => {
      if (this.alive) run();
    };
    if (this.delayMs > 0) systemClock.after(this.delayMs, guarded);
    else systemClock.soon(guarded);
  }
}

type Answer = (value: unknown | null) => void;

class MemoryLinks implements PeerLinks {
  alive = true;
  readonly local: LocalIdentity;
  readonly events: PeerEvents;
  readonly pending = new Map<number, Set<Answer>>();
  private readonly cluster: InProcessCluster;

  constructor(cluster: InProcessCluster, local: LocalIdentity, events: PeerEvents) {
    this.cluster = cluster;
    this.local = local;
    this.events = events;
  }

  async listen(_host: string, port: number): Promise<number> {
    return port;
  }

  /** Both sides of each connection look at each other again, as after a new dial. */
  setPeers(_addresses: readonly PeerAddress[]): void {
    for (const other of this.cluster.allLinks()) {
      if (other === this || this.cluster.isCut(this.local.memberId, other.local.memberId)) continue;
      this.tellIfRefused(other);
      other.tellIfRefused(this);
    }
  }

  /** Tells the other that this member does not want it. */
  tellIfRefused(other: MemoryLinks): void {
    const refusal = this.events.onHello(other.local);
    if (refusal === null) return;
    setImmediate(() => {
      if (other.alive) other.events.onRejected(this.local.memberId, refusal);
    });
  }

  private peer(id: number): MemoryLinks | null {
    const peer = this.cluster.linksOf(id);
    const { memberId } = this.local;
    if (!this.alive || peer === null || this.cluster.isCut(memberId, id)) return null;
    if (!peer.alive || this.events.onHello(peer.local) !== null) return null;
    const refusal = peer.events.onHello(this.local);
    if (refusal === null) return peer;
    setImmediate(() => {
      if (this.alive) this.events.onRejected(id, refusal);
    });
    return null;
  }

  isUp(peer: number): boolean {
    return this.peer(peer) !== null;
  }

  send(messages: readonly Message[]): void {
    for (const message of messages) {
      if (this.cluster.isLost(message)) continue;
      const reader = new FrameReader(2 ** 28);
      let arrived: Message | null = null;
      for (const part of encodeMessage(message)) {
        reader.push(part, (frame) => {
          arrived = decodeMessage(frame);
        });
      }
      setImmediate(() => this.peer(message.to)?.events.onMessage(arrived as unknown as Message));
    }
  }

  request(
    to: number,
    method: string,
    args: unknown,
    body: readonly Uint8Array[],
    done: Answer,
  ): void {
    const waiting = this.pending.get(to) ?? new Set();
    this.pending.set(to, waiting);
    const answer: Answer = (value) => {
      if (waiting.delete(answer) && this.alive) done(value);
    };
    waiting.add(answer);
    const bytes = Uint8Array.from(Buffer.concat(body));
    setImmediate(() => {
      const peer = this.peer(to);
      if (peer === null) answer(null);
      else {
        peer.events.onRequest(this.local.memberId, method, args, bytes, (value) => {
          const arrive = (): void => answer(this.peer(to) === peer ? value : null);
          setTimeout(arrive, this.cluster.answerDelayMs);
        });
      }
    });
  }

  async sendSnapshot(
    to: number,
    term: number,
    meta: SnapshotMeta,
    chunks: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    const peer = this.peer(to);
    if (peer === null) throw new Error('the peer cannot be reached');
    const { memberId, boot } = this.local;
    const inbox = peer.events.onSnapshot(memberId, boot, term, decodeMeta(encodeMeta(meta), 0));
    // A member that is gone never answers, but the connection to it breaks.
    let breaks: Answer = () => undefined;
    const broken = new Promise<never>((_, reject) => {
      breaks = () => reject(new Error('the connection broke'));
    });
    broken.catch(() => undefined);
    const waiting = this.pending.get(to) ?? new Set();
    this.pending.set(to, waiting.add(breaks));
    try {
      for await (const chunk of chunks) {
        await Promise.race([inbox.accept(Uint8Array.from(chunk)), broken]);
        await this.cluster.onChunk(memberId, to);
      }
      await Promise.race([inbox.end(), broken]);
    } catch (error) {
      if (peer.alive) inbox.abort();
      throw error;
    } finally {
      waiting.delete(breaks);
    }
  }

  /** The connection to a peer breaks. */
  broken(peer: number): void {
    for (const answer of [...(this.pending.get(peer) ?? [])]) answer(null);
    if (this.alive) this.events.onUnreachable(peer);
  }

  traffic(): { readonly sent: number; readonly received: number } {
    return { sent: 0, received: 0 };
  }

  async stop(): Promise<void> {
    this.cluster.dropLinks(this);
  }
}

export interface InProcessMember {
  readonly id: number;
  readonly config: Config;
  readonly disk: MemoryDisk;
  readonly folders: MemoryStateFolders;
  /** What ended its life; empty while all is well. */
  readonly fatal: Error[];
  node: ClusterNode | null;
  /** While set, completions of the log's disk wait for it: a disk that hangs. */
  diskHold: Promise<void> | null;
}

export class InProcessCluster {
  readonly members: InProcessMember[] = [];
  /** Awaited after each chunk of a snapshot. */
  onChunk: (from: number, to: number) => Promise<void> = async () => undefined;
  /** Messages that never arrive. */
  isLost: (message: Message) => boolean = () => false;
  /** How long the answer to a forwarded request is on its way; a reset meanwhile loses it. */
  answerDelayMs = 0;
  /** Keys that members touch in one turn, from their next start; null = as many as by default. */
  stepKeys: number | null = null;
  private readonly clocks = new Map<number, LifeClock>();
  private readonly links = new Map<number, MemoryLinks>();
  private readonly cuts = new Set<string>();
  private readonly options: Readonly<Record<string, string>>;
  private memberCount = 0;
  private lastSeed = 1;

  constructor(options: Readonly<Record<string, string>> = {}, size = 3) {
    const names = Array.from({ length: size }, (_, at) => `m${at + 1}`);
    const url = (at: number): string => `http://127.0.0.1:${1001 + at}`;
    const initial = names.map((name, at) => `${name}=${url(at)}`).join(',');
    this.options = options;
    names.forEach((name, at) => {
      this.members.push(makeMember(this.configOf(name, url(at), initial), at + 1));
    });
    this.memberCount = size;
  }

  /** Adds a member through one that runs, and makes it: an empty disk and what the cluster told it.
   *  The caller starts it. */
  async add(through: InProcessMember, isLearner: boolean): Promise<InProcessMember> {
    const node = through.node as ClusterNode;
    this.memberCount += 1;
    const name = `m${this.memberCount}`;
    const url = `http://127.0.0.1:${1000 + this.memberCount}`;
    const memberId = node.newMemberId();
    const step = { kind: 'add', id: memberId, peerUrls: [url], isLearner } as const;
    await node.propose({ kind: 'memberChange', steps: [step], joint: false }, node.context());
    const genesis = node.machine.genesis.map(({ id, peerUrls }) => ({ id, name: '', peerUrls }));
    const member = makeMember(
      {
        ...this.configOf(name, url, `${name}=${url}`),
        initialMembers: genesis,
        initialClusterState: 'existing',
        clusterId: node.clusterId,
        memberId,
      },
      this.memberCount,
    );
    this.members.push(member);
    return member;
  }

  /** Removes a member through one that runs; it is no member of this cluster any more. */
  async remove(through: InProcessMember, member: InProcessMember): Promise<void> {
    const node = through.node as ClusterNode;
    const steps = [{ kind: 'remove', id: member.id } as const];
    await node.propose({ kind: 'memberChange', steps, joint: false }, node.context());
    this.members.splice(this.members.indexOf(member), 1);
  }

  /** The same member on an empty disk, in its place. */
  emptied(member: InProcessMember): InProcessMember {
    this.lastSeed += 1;
    const empty = makeMember(member.config, this.lastSeed);
    this.members.splice(this.members.indexOf(member), 1, empty);
    return empty;
  }

  private configOf(name: string, url: string, initial: string): Config {
    const flags = {
      name,
      'data-dir': `/${name}`,
      'listen-peer-urls': url,
      'initial-cluster': initial,
      ...this.options,
    };
    const args = Object.entries(flags).flatMap(([key, value]) => [`--${key}`, value]);
    return { ...loadConfig({ args, env: {} }), segmentBytes: 256 * 1024, passwordCost: 4 };
  }

  async start(...members: InProcessMember[]): Promise<void> {
    const { logger } = openLog(process.env['KVD_TEST_LOG'] ?? 'silent', {});
    for (const member of members.length > 0 ? members : this.members) {
      const clock = new LifeClock();
      this.clocks.set(member.id, clock);
      this.lastSeed += 1;
      const { node } = await openMember(member.config, {
        disk: member.disk,
        folders: member.folders,
        clock,
        links: (local, events) => {
          const links = new MemoryLinks(this, local, events);
          this.links.set(member.id, links);
          return links;
        },
        random: Math.random,
        seed: this.lastSeed,
        logger: logger.child({ member: member.config.name }),
        metrics: new Metrics(),
        ...(this.stepKeys === null ? {} : { stepKeys: this.stepKeys }),
        onFatal: (error) => {
          if (clock.alive) member.fatal.push(error);
        },
      });
      member.node = node;
      await node.start();
    }
  }

  /** The process is gone, the machine goes on. */
  kill(member: InProcessMember): void {
    this.die(member);
    member.disk.kill();
    member.folders.crash(() => true);
  }

  /** Power failure. */
  crash(member: InProcessMember, mode: CrashMode = 'torn'): void {
    this.die(member);
    member.disk.crash(mode);
    member.folders.crash((index) => mode === 'all' || (mode === 'torn' && index % 2 === 0));
  }

  async stop(): Promise<void> {
    await Promise.all(this.members.map((member) => member.node?.stop()));
    for (const member of this.members) member.node = null;
  }

  /** From now on each turn of a member comes so much later, as if it had much else to do, until its life ends. */
  delayTurns(member: InProcessMember, ms: number): void {
    const clock = this.clocks.get(member.id);
    if (clock === undefined) throw new Error('the member was not started');
    clock.delayMs = ms;
  }

  cut(member: InProcessMember, others: readonly InProcessMember[] = this.members): void {
    for (const other of others) {
      if (other !== member) this.cuts.add(cutName(member.id, other.id));
    }
    this.reset(member, others);
  }

  /** All connections of a member break, and are there again at once. */
  reset(member: InProcessMember, others: readonly InProcessMember[] = this.members): void {
    for (const other of others) {
      if (other === member) continue;
      this.links.get(member.id)?.broken(other.id);
      this.links.get(other.id)?.broken(member.id);
    }
  }

  heal(): void {
    this.cuts.clear();
  }

  isCut(a: number, b: number): boolean {
    return this.cuts.has(cutName(a, b));
  }

  allLinks(): readonly MemoryLinks[] {
    return [...this.links.values()].filter(({ alive }) => alive);
  }

  linksOf(id: number): MemoryLinks | null {
    return this.links.get(id) ?? null;
  }

  dropLinks(links: MemoryLinks): void {
    links.alive = false;
    const { memberId } = links.local;
    for (const [id, other] of this.links) if (id !== memberId) other.broken(memberId);
  }

  /** The member that most of those that run take for their leader, once it does too. */
  async leader(among: readonly InProcessMember[] = this.members): Promise<InProcessMember> {
    return await waitFor('a leader', WAIT_MS, () => {
      const found = among.find((member) => member.node?.isLeader === true);
      const agreeing = among.filter((member) => member.node?.status().leader === found?.id);
      return found !== undefined && agreeing.length * 2 > this.members.length ? found : null;
    });
  }

  /** Waits until these members have applied the same, and compares their states. */
  async converged(members: readonly InProcessMember[] = this.members): Promise<void> {
    await waitFor('equal states', WAIT_MS, () => {
      const fatal = members.flatMap((member) => member.fatal);
      if (fatal.length > 0) throw fatal[0];
      const states = members.map(({ node }) => {
        const machine = (node as ClusterNode).machine;
        return `${machine.appliedIndex} ${machine.hashChain}`;
      });
      return new Set(states).size === 1;
    });
  }

  private die(member: InProcessMember): void {
    const clock = this.clocks.get(member.id);
    if (clock !== undefined) clock.alive = false;
    const links = this.links.get(member.id);
    if (links !== undefined) this.dropLinks(links);
    member.node = null;
  }
}

function makeMember(config: Config, seed: number): InProcessMember {
  const member: InProcessMember = {
    id: config.memberId,
    config,
    disk: new MemoryDisk({
      seed,
      schedule: (_, run) => {
        const { diskHold } = member;
        if (diskHold === null) setImmediate(run);
        else void diskHold.then(run);
      },
    }),
    folders: new MemoryStateFolders(),
    fatal: [],
    node: null,
    diskHold: null,
  };
  return member;
}

export function put(key: string, value: string | Uint8Array): Command {
  return {
    kind: 'put',
    key,
    value: typeof value === 'string' ? Buffer.from(value) : value,
    lease: 0,
    prevKv: false,
    ignoreValue: false,
    ignoreLease: false,
  };
}

function cutName(a: number, b: number): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`;
}

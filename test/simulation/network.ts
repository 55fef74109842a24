/**
 * The network between simulated members: PeerLinks over connections in memory.
 *
 * A member dials two lanes to each peer, as rpc/peer does. On a lane bytes arrive in order; lanes
 * overtake each other. Messages are encoded to the frames of the wire and decoded again by the reader
 * of the connection. A connection breaks with all that is under way on it: when a process dies (the
 * others hear of it at once), when it is reset, when its bytes are damaged, or when it was silent for
 * too long, behind a partition or because a link is slow: what was sent later waits behind what is late,
 * pings too. Bytes that meet a partition wait, as TCP repeats them, and arrive late when it heals in
 * time. Before all else both sides greet each other and may refuse, by the product's
 * own judgement: a member that was removed is told so. Raft messages may also be dropped, doubled, and come again long after, in
 * other lives too; requests and their answers may not, because TCP does not do that to them.
 */
import type {
  LocalIdentity,
  PeerAddress,
  PeerEvents,
  PeerHello,
  PeerLinks,
  Refusal,
  SnapshotInbox,
} from '../../src/peer-links.js';
import type { Prng } from '../../src/prng.js';
import { type Message, MessageKind, type SnapshotMeta } from '../../src/raft/message.js';
import type { Frame } from '../../src/rpc/peer/frame.js';
import { encodeFrame, FrameError, FrameKind, FrameReader } from '../../src/rpc/peer/frame.js';
import {
  decodeMessage,
  decodeMeta,
  encodeMessage,
  encodeMeta,
} from '../../src/rpc/peer/raft-frame.js';
import type { Life } from './life.js';
import type { World } from './world.js';
import { MS, SECOND } from './world.js';

/** Without an answer to pings, and without one to a greeting (rpc/peer/lane.ts). */
const SILENCE_US = 2.5 * SECOND;
const GREETING_US = 5 * SECOND;
const MAX_FRAME_BYTES = 2 ** 26;
const REPLAYS_KEPT = 64;

const URGENT: ReadonlySet<number> = new Set([
  MessageKind.PreVote,
  MessageKind.PreVoteResponse,
  MessageKind.Vote,
  MessageKind.VoteResponse,
  MessageKind.Heartbeat,
  MessageKind.HeartbeatResponse,
  MessageKind.TimeoutNow,
  MessageKind.TransferReject,
  MessageKind.ReadIndex,
  MessageKind.ReadIndexResponse,
]);

/** What the plan of a run says of the network; probabilities are per message or chunk. */
export interface NetworkNature {
  readonly minimumUs: number;
  readonly meanUs: number;
  /** A message of this part takes up to `tailUs`. */
  readonly tail: number;
  readonly tailUs: number;
  readonly drop: number;
  readonly duplicate: number;
  /** A message of the past comes again. */
  readonly replay: number;
  /** The connection breaks in the middle of the frame. */
  readonly reset: number;
  /** A bit of the frame flips. */
  readonly flip: number;
}

/** Sees every message that leaves a member, before any fault. */
export type OnSend = (from: number, message: Message) => void;

/** One direction between two members. */
interface Link {
  readonly from: number;
  readonly to: number;
  readonly random: Prng;
  blocked: boolean;
  /** Counts the blocks, to tell a block that lasted from two short ones. */
  blocks: number;
  slowness: number;
  readonly past: Uint8Array[];
  /** The newest of them: those that come again while they still matter. */
  recent: Uint8Array[];
}

export class SimNetwork {
  readonly world: World;
  onSend: OnSend = () => undefined;
  nature: NetworkNature;
  private readonly links: Link[] = [];
  private readonly linksFrom = new Map<number, Map<number, Link>>();
  private readonly ends = new Map<number, SimLinks>();
  private readonly listeners = new Map<number, SimLinks>();
  readonly lanes = new Set<SimLane>();

  constructor(world: World, nature: NetworkNature) {
    this.world = world;
    this.nature = nature;
  }

  open(life: Life, local: LocalIdentity, events: PeerEvents): SimLinks {
    const links = new SimLinks(this, life, local, events);
    this.ends.set(local.memberId, links);
    if (this.nature.replay > 0) this.replayToNewLife(local.memberId);
    return links;
  }

  listen(port: number, links: SimLinks): void {
    this.listeners.set(port, links);
  }

  /** Who listens on a port. */
  at(port: number): SimLinks | null {
    const links = this.listeners.get(port);
    return links?.isListening === true && links.life.alive ? links : null;
  }

  end(id: number): SimLinks | null {
    const links = this.ends.get(id);
    return links?.isListening === true && links.life.alive ? links : null;
  }

  link(from: number, to: number): Link {
    const links = this.linksFrom.get(from) ?? new Map<number, Link>();
    const known = links.get(to);
    if (known !== undefined) return known;
    const random = this.world.stream('net', `${from} ${to}`);
    const link: Link = {
      from,
      to,
      random,
      blocked: false,
      blocks: 0,
      slowness: 1,
      past: [],
      recent: [],
    };
    this.linksFrom.set(from, links.set(to, link));
    this.links.push(link);
    return link;
  }

  /** Nothing passes in this direction any more. */
  block(from: number, to: number): void {
    const link = this.link(from, to);
    if (link.blocked) return;
    link.blocked = true;
    link.blocks += 1;
    const { blocks } = link;
    this.world.after(SILENCE_US + link.random.below(SECOND), 'silence', () => {
      if (!link.blocked || link.blocks !== blocks) return;
      for (const lane of [...this.lanes]) if (lane.joins(from, to)) lane.break('silence');
    });
  }

  unblock(from: number, to: number): void {
    const link = this.link(from, to);
    if (!link.blocked) return;
    link.blocked = false;
    for (const lane of this.lanes) if (lane.joins(from, to)) lane.flush();
  }

  unblockAll(): void {
    for (const { from, to } of this.links) this.unblock(from, to);
    for (const link of this.links) link.slowness = 1;
  }

  delay(link: Link): number {
    const { minimumUs, meanUs, tail, tailUs } = this.nature;
    let delay = minimumUs + link.random.below(2 * (meanUs - minimumUs) + 1);
    if (tail > 0 && link.random.chance(tail)) delay += link.random.below(tailUs);
    return delay * link.slowness;
  }

  /** All connections of a member break, and those to it. */
  reset(id: number): void {
    for (const lane of [...this.lanes]) {
      if (lane.dialer.local.memberId === id || lane.peer === id) lane.break('reset');
    }
  }

  /** The process is gone. `silent`: its machine too, so nothing tells the others. */
  died(id: number, silent: boolean): void {
    for (const lane of [...this.lanes]) {
      if (lane.dialer.local.memberId !== id && lane.peer !== id) continue;
      if (!lane.up) continue;
      if (!silent) lane.break('the process died');
      else {
        lane.dead = true;
        this.world.after(SILENCE_US, 'silence', () => {
          if (lane.dead) lane.break('silence');
        });
      }
    }
  }

  /** A process that is frozen for long looks dead to the others. */
  silent(id: number, isStill: () => boolean): void {
    this.world.after(SILENCE_US, 'silence', () => {
      if (isStill()) this.reset(id);
    });
  }

  /** What was on its way to an earlier life of a process reaches the next one. */
  private replayToNewLife(id: number): void {
    for (const link of this.links) {
      if (link.to !== id) continue;
      for (let count = 0; count < REPLAYS_TO_NEW_LIFE; count += 1) {
        this.again(link, link.past[link.random.below(link.past.length)], 500 * MS);
      }
    }
  }

  /** A message of the past comes again. */
  replay(link: Link): void {
    const { random } = link;
    const isRecent = random.chance(0.5);
    const past = isRecent ? link.recent : link.past;
    this.again(link, past[random.below(past.length)], isRecent ? 5 * MS : 200 * MS);
  }

  private again(link: Link, bytes: Uint8Array | undefined, withinUs: number): void {
    if (bytes === undefined || link.blocked) return;
    this.world.fault('replayed message');
    this.world.after(link.random.below(withinUs), 'replay', () => {
      const target = this.end(link.to);
      if (target === null) return;
      target.life.inputNow(() => {
        const reader = new FrameReader(MAX_FRAME_BYTES);
        reader.push(bytes, (frame) => target.events.onMessage(decodeMessage(frame)));
      });
    });
  }
}

const REPLAYS_TO_NEW_LIFE = 10;

interface Parcel {
  readonly bytes: Uint8Array;
  /** The connection breaks after this many bytes. */
  readonly cutAt: number;
}

const TO_TARGET = 0;
const TO_DIALER = 1;

/** One connection: dialled by one member, kept up for ever. */
export class SimLane {
  readonly dialer: SimLinks;
  readonly peer: number;
  readonly name: 'bulk' | 'urgent';
  up = false;
  /** The other machine is gone, nobody knows yet. */
  dead = false;
  stopped = false;
  readonly pending = new Map<number, (value: unknown | null) => void>();
  private readonly network: SimNetwork;
  private readonly random: Prng;
  private target: SimLinks | null = null;
  private epoch = 0;
  private lastArrival = [0, 0];
  private stalled: [Parcel[], Parcel[]] = [[], []];
  private readers: [FrameReader, FrameReader] = [reader(), reader()];
  private redialMs = 20;
  private attempts = 0;
  private port = 0;

  constructor(network: SimNetwork, dialer: SimLinks, peer: number, name: 'bulk' | 'urgent') {
    this.network = network;
    this.dialer = dialer;
    this.peer = peer;
    this.name = name;
    const { memberId, boot } = dialer.local;
    this.random = network.world.stream('lane', `${memberId} ${peer} ${name} ${boot}`);
    network.lanes.add(this);
    this.dial();
  }

  joins(a: number, b: number): boolean {
    const own = this.dialer.local.memberId;
    return (own === a && this.peer === b) || (own === b && this.peer === a);
  }

  stop(): void {
    this.stopped = true;
    this.break('stopped');
    this.network.lanes.delete(this);
  }

  send(direction: 0 | 1, bytes: Uint8Array, cutAt = Number.POSITIVE_INFINITY): void {
    if (this.up) this.transmit(direction, { bytes, cutAt });
  }

  /** Bytes that waited behind a partition go on. */
  flush(): void {
    for (const direction of [TO_TARGET, TO_DIALER] as const) {
      const parcels = this.stalled[direction];
      this.stalled[direction] = [];
      for (const parcel of parcels) this.transmit(direction, parcel);
    }
  }

  break(reason: string): void {
    if (!this.dialer.life.alive) this.network.lanes.delete(this);
    // An attempt to dial goes on.
    if (!this.up && !this.stopped) return;
    const { target, up } = this;
    this.epoch += 1;
    this.up = false;
    this.dead = false;
    this.target = null;
    this.stalled = [[], []];
    const { dialer, network } = this;
    network.world.tell(() => `lane ${this.label} breaks: ${reason}`);
    const waiting = [...this.pending.values()];
    this.pending.clear();
    if (up && target !== null) {
      target.life.input(1 + this.random.below(100), 'lane closed', () => {
        if (target.isListening) target.events.onUnreachable(dialer.local.memberId);
      });
    }
    if (this.stopped) {
      for (const done of waiting) done(null);
      return;
    }
    dialer.life.input(1 + this.random.below(100), 'lane down', () => {
      for (const done of waiting) done(null);
      if (this.stopped) return;
      dialer.events.onPeerState(this.peer, false, reason);
      dialer.events.onUnreachable(this.peer);
      this.redial();
    });
  }

  private get label(): string {
    return `${this.dialer.local.memberId}->${this.peer} ${this.name}`;
  }

  /** The reader waits for the rest of a frame. */
  private isInside(direction: 0 | 1): boolean {
    return (this.readers[direction] as unknown as { frame: unknown }).frame !== null;
  }

  private redial(): void {
    const wait = this.redialMs * (0.5 + this.random.u32() / 2 ** 32);
    this.redialMs = Math.min(2 * this.redialMs, 500);
    this.dialer.life.input(wait * MS, 'redial', () => this.dial());
  }

  private dial(): void {
    if (this.stopped || this.up) return;
    const { network } = this;
    const out = network.link(this.dialer.local.memberId, this.peer);
    const back = network.link(this.peer, this.dialer.local.memberId);
    const { epoch } = this;
    const delay = network.delay(out) + network.delay(back);
    this.dialer.life.input(Math.min(delay, GREETING_US), 'dialled', () => {
      if (this.stopped || this.epoch !== epoch) return;
      if (delay > GREETING_US) {
        this.redial();
        return;
      }
      const ports = this.dialer.portsOf(this.peer);
      this.port = ports[this.attempts % ports.length] ?? 0;
      this.attempts += 1;
      const target = network.at(this.port);
      const isOpen = !out.blocked && !back.blocked;
      if (target === null || !isOpen || target.life.frozen || !this.greet(target)) {
        this.redial();
        return;
      }
      this.target = target;
      this.up = true;
      this.dead = false;
      this.redialMs = 20;
      this.readers = [reader(), reader()];
      this.lastArrival = [0, 0];
      this.dialer.events.onPeerState(this.peer, true, this.name);
    });
  }

  /** Both say who they are before anything else is said. */
  private greet(target: SimLinks): boolean {
    const { dialer, peer } = this;
    const { clusterId, memberId } = target.local;
    if (clusterId !== dialer.local.clusterId || memberId !== peer) return false;
    const refusal = target.receive(dialer.local);
    if (refusal === null) return dialer.events.onHello(target.local) === null;
    this.network.world.mark(`greeting refused: ${refusal.code}`);
    dialer.events.onRejected(peer, refusal);
    return false;
  }

  /** The peer has other addresses now, or is not welcome on either side any more. */
  review(): void {
    if (!this.up) return;
    const { dialer, target, peer } = this;
    if (!dialer.portsOf(peer).includes(this.port)) this.break('the peer has moved');
    else if (target !== null && target.events.onHello(dialer.local) !== null) {
      this.break('not welcome any more');
    }
  }

  private transmit(direction: 0 | 1, parcel: Parcel): void {
    const { network, epoch } = this;
    const { world } = network;
    const own = this.dialer.local.memberId;
    const link =
      direction === TO_TARGET ? network.link(own, this.peer) : network.link(this.peer, own);
    const at = Math.max(
      (this.lastArrival[direction] as number) + 1,
      world.now + network.delay(link),
    );
    this.lastArrival[direction] = at;
    if (at > world.now + SILENCE_US) this.breakWhileSilent();
    world.at(at, 'bytes', () => {
      if (this.epoch !== epoch || this.dead) return;
      if (link.blocked || this.stalled[direction].length > 0) {
        this.stalled[direction].push(parcel);
        return;
      }
      const end = direction === TO_TARGET ? this.target : this.dialer;
      end?.life.inputNow(() => {
        if (this.epoch === epoch) this.arrive(direction, parcel);
      });
    });
  }

  /** Nothing comes through for so long that the pings are missed. */
  private breakWhileSilent(): void {
    const { epoch } = this;
    this.network.world.after(SILENCE_US, 'silence', () => {
      if (this.epoch === epoch) this.break('silence');
    });
  }

  private arrive(direction: 0 | 1, { bytes, cutAt }: Parcel): void {
    const { target, dialer } = this;
    const { world } = this.network;
    world.note(bytes.length);
    world.note(bytes[8] ?? 0);
    try {
      this.readers[direction].push(bytes.subarray(0, Math.min(cutAt, bytes.length)), (frame) => {
        if (direction === TO_TARGET) target?.onFrame(this, frame);
        else dialer.onAnswer(this, frame);
      });
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      world.mark('damaged frame refused');
      this.break(error.message);
      return;
    }
    if (cutAt >= bytes.length && this.isInside(direction)) {
      // A damaged length: the rest is taken for the frame, pings too.
      this.breakWhileSilent();
    }
    if (cutAt < bytes.length) {
      world.fault('reset in mid-frame');
      this.break('reset in mid-frame');
    }
  }
}

interface SimPeer {
  named: readonly number[];
  /** Of its last greeting. */
  hello: PeerHello | null;
  bulk: SimLane;
  urgent: SimLane;
}

export class SimLinks implements PeerLinks {
  readonly life: Life;
  readonly local: LocalIdentity;
  readonly events: PeerEvents;
  isListening = false;
  private readonly network: SimNetwork;
  private readonly peers = new Map<number, SimPeer>();
  private nextRequest = 1;
  private sent = 0;
  private streams = 0;

  constructor(network: SimNetwork, life: Life, local: LocalIdentity, events: PeerEvents) {
    this.network = network;
    this.life = life;
    this.local = local;
    this.events = events;
  }

  async listen(_host: string, port: number): Promise<number> {
    this.isListening = true;
    this.network.listen(port, this);
    return port;
  }

  setPeers(addresses: readonly PeerAddress[]): void {
    const named = new Map<number, number[]>();
    for (const { id, port } of addresses) named.set(id, [...(named.get(id) ?? []), port]);
    for (const [id, peer] of [...this.peers]) {
      peer.named = named.get(id) ?? [];
      if (peer.named.length > 0 || this.isWelcome(peer)) continue;
      this.peers.delete(id);
      peer.bulk.stop();
      peer.urgent.stop();
    }
    for (const [id, ports] of named) if (!this.peers.has(id)) this.add(id, ports, null);
    for (const lane of [...this.network.lanes]) {
      if (lane.dialer === this || lane.peer === this.local.memberId) lane.review();
    }
  }

  /** Those of the table, then the one that the peer gave itself. */
  portsOf(id: number): readonly number[] {
    const peer = this.peers.get(id);
    if (peer === undefined) return [];
    return peer.hello === null ? peer.named : [...peer.named, peer.hello.port];
  }

  /** Somebody greets. Who is not in the table stays as a guest, so that answers reach it. */
  receive(hello: PeerHello): Refusal | null {
    const refusal = this.events.onHello(hello);
    if (refusal !== null) return refusal;
    const peer = this.peers.get(hello.memberId);
    if (peer !== undefined) peer.hello = hello;
    else this.add(hello.memberId, [], hello);
    return null;
  }

  private add(id: number, named: readonly number[], hello: PeerHello | null): void {
    const peer = { named, hello } as SimPeer;
    this.peers.set(id, peer);
    peer.bulk = new SimLane(this.network, this, id, 'bulk');
    peer.urgent = new SimLane(this.network, this, id, 'urgent');
  }

  private isWelcome({ hello }: SimPeer): boolean {
    return this.isListening && hello !== null && this.events.onHello(hello) === null;
  }

  isUp(peer: number): boolean {
    return this.peers.get(peer)?.bulk.up ?? false;
  }

  send(messages: readonly Message[]): void {
    const batches = new Map<SimLane, { parts: Uint8Array[]; link: Link }>();
    for (const message of messages) {
      if (!this.life.alive) return;
      this.network.onSend(this.local.memberId, message);
      // The observer may have ended this life in front of the message.
      if (!this.life.alive) return;
      const peer = this.peers.get(message.to);
      if (peer === undefined) continue;
      const lane = URGENT.has(message.kind) ? peer.urgent : peer.bulk;
      const link = this.network.link(this.local.memberId, message.to);
      const bytes = joined(encodeMessage(message));
      this.sent += bytes.length;
      const copies = this.copiesOf(link, bytes);
      if (copies === 0) continue;
      let batch = batches.get(lane);
      if (batch === undefined) {
        batch = { parts: [], link };
        batches.set(lane, batch);
      }
      batch.parts.push(bytes);
      if (copies > 1) batch.parts.push(bytes);
    }
    for (const [lane, { parts, link }] of batches) this.sendParts(lane, link, parts);
  }

  request(
    to: number,
    method: string,
    args: unknown,
    body: readonly Uint8Array[],
    done: (value: unknown | null) => void,
  ): void {
    if (!this.life.alive) return;
    const lane = this.peers.get(to)?.bulk;
    const id = this.nextRequest;
    this.nextRequest += 1;
    if (lane === undefined || !lane.up) {
      this.life.soon(() => done(null));
      return;
    }
    lane.pending.set(id, done);
    lane.send(TO_TARGET, joined(encodeFrame([FrameKind.Request, id, method, args], body)));
  }

  onFrame(lane: SimLane, frame: Frame): void {
    const { head } = frame;
    const from = lane.dialer.local.memberId;
    if (head[0] === FrameKind.Raft) {
      const message = decodeMessage(frame);
      if (message.from !== from) throw new FrameError('a message of another member');
      this.events.onMessage(message);
      return;
    }
    const [, id, method, args] = head;
    this.events.onRequest(from, String(method), args, frame.body, (value) => {
      if (!this.life.alive) return;
      lane.send(TO_DIALER, joined(encodeFrame([FrameKind.Response, id, value])));
    });
  }

  onAnswer(lane: SimLane, { head }: Frame): void {
    const [, id, value] = head;
    const done = lane.pending.get(id as number);
    lane.pending.delete(id as number);
    done?.(value ?? null);
  }

  async sendSnapshot(
    to: number,
    term: number,
    meta: SnapshotMeta,
    chunks: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    this.streams += 1;
    const stream = new SnapshotStream(this.network, this, to, this.streams);
    await stream.begin(term, meta);
    try {
      for await (const chunk of chunks) await stream.chunk(chunk);
      await stream.end();
    } catch (error) {
      stream.abort();
      throw error;
    }
    this.network.world.mark('snapshot sent');
  }

  traffic(): { readonly sent: number; readonly received: number } {
    return { sent: this.sent, received: 0 };
  }

  async stop(): Promise<void> {
    this.isListening = false;
    this.setPeers([]);
    const { memberId } = this.local;
    for (const lane of [...this.network.lanes]) if (lane.peer === memberId) lane.break('stopped');
  }

  /** How often a message goes out: 0 = lost. */
  private copiesOf(link: Link, bytes: Uint8Array): number {
    const { drop, duplicate, replay } = this.network.nature;
    const { random, past } = link;
    const { world } = this.network;
    if (replay > 0) {
      link.recent = [bytes, ...link.recent.slice(0, 3)];
      if (past.length < REPLAYS_KEPT) past.push(bytes);
      else if (random.chance(0.05)) past[random.below(REPLAYS_KEPT)] = bytes;
      if (random.chance(replay)) this.network.replay(link);
    }
    if (drop > 0 && random.chance(drop)) {
      world.fault('dropped message');
      return 0;
    }
    if (duplicate === 0 || !random.chance(duplicate)) return 1;
    world.fault('doubled message');
    return 2;
  }

  private sendParts(lane: SimLane, link: Link, parts: Uint8Array[]): void {
    const { reset, flip } = this.network.nature;
    const { random } = link;
    let bytes = joined(parts);
    let cutAt = Number.POSITIVE_INFINITY;
    if (reset > 0 && random.chance(reset)) cutAt = random.below(bytes.length);
    if (flip > 0 && random.chance(flip)) {
      bytes = Uint8Array.from(bytes);
      // A longer length would only hold the connection until the silence is noticed.
      const at = 4 + random.below(bytes.length - 4);
      bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
      this.network.world.fault('flipped bit on the wire');
    }
    lane.send(TO_TARGET, bytes, cutAt);
  }
}

/** One snapshot on a connection of its own; the receiver sets the pace. */
class SnapshotStream {
  private readonly network: SimNetwork;
  private readonly from: SimLinks;
  private readonly to: number;
  private readonly random: Prng;
  private target: SimLinks | null = null;
  private inbox: SnapshotInbox | null = null;

  constructor(network: SimNetwork, from: SimLinks, to: number, number: number) {
    this.network = network;
    this.from = from;
    this.to = to;
    const { memberId, boot } = from.local;
    this.random = network.world.stream('snapshot', `${memberId} ${to} ${boot} ${number}`);
  }

  async begin(term: number, meta: SnapshotMeta): Promise<void> {
    await this.cross();
    const target = this.network.end(this.to);
    if (target === null || target.life.frozen) throw new Error('the peer cannot be reached');
    this.target = target;
    const { memberId, boot } = this.from.local;
    const wire = encodeMeta(meta);
    await this.atTarget(async () => {
      this.inbox = target.events.onSnapshot(memberId, boot, term, decodeMeta(wire, 0));
    });
  }

  async chunk(bytes: Uint8Array): Promise<void> {
    await this.cross();
    const copy = Uint8Array.from(bytes);
    if (this.network.nature.flip > 0 && this.random.chance(this.network.nature.flip)) {
      const at = this.random.below(copy.length);
      copy[at] = (copy[at] as number) ^ 1;
      this.network.world.fault('flipped bit in a snapshot');
    }
    await this.atTarget(() => (this.inbox as SnapshotInbox).accept(copy));
  }

  async end(): Promise<void> {
    await this.cross();
    await this.atTarget(() => (this.inbox as SnapshotInbox).end());
  }

  abort(): void {
    const { target, inbox } = this;
    if (target === null || inbox === null) return;
    target.life.input(100, 'snapshot closed', () => inbox.abort());
  }

  /** The way there; fails when the connection does. */
  private cross(): Promise<void> {
    const { network, from, to, random } = this;
    const link = network.link(from.local.memberId, to);
    return new Promise((resolve, reject) => {
      const attempt = (tries: number): void => {
        from.life.input(network.delay(link), 'snapshot bytes', () => {
          const isOver = this.target !== null && !this.target.life.alive;
          const isCut = network.nature.reset > 0 && random.chance(network.nature.reset);
          if (isOver || isCut || tries > 20) reject(new Error('the connection broke'));
          else if (link.blocked)
            from.life.input(100 * MS, 'snapshot waits', () => attempt(tries + 1));
          else resolve();
        });
      };
      attempt(0);
    });
  }

  /** Runs at the receiver; the answer comes back, or the connection breaks when it dies. */
  private atTarget(run: () => Promise<void>): Promise<void> {
    const target = this.target as SimLinks;
    const { life } = this.from;
    return new Promise((resolve, reject) => {
      let settled = false;
      const settle = (outcome: () => void): void => {
        if (settled) return;
        settled = true;
        life.input(
          this.network.delay(this.network.link(this.to, this.from.local.memberId)),
          'ack',
          outcome,
        );
      };
      const watch = (): void => {
        if (settled) return;
        if (!target.life.alive) settle(() => reject(new Error('the connection broke')));
        else life.input(SECOND, 'snapshot watch', watch);
      };
      life.input(SECOND, 'snapshot watch', watch);
      target.life.inputNow(() => {
        run().then(
          () => settle(resolve),
          (error: Error) => settle(() => reject(new Error(error.message))),
        );
      });
    });
  }
}

function reader(): FrameReader {
  return new FrameReader(MAX_FRAME_BYTES);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0] as Uint8Array;
  return Buffer.concat(parts);
}

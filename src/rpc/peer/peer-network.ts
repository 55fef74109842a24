/**
 * The network between members: Raft messages, requests that a follower forwards, snapshots.
 *
 * Implements the driver's Transport. Heartbeats, votes and read rounds take the urgent lane of a peer,
 * everything else the bulk lane. A request is answered on the connection that carried it, so when that
 * connection breaks its outcome is unknown, and the caller is told at once (`null`).
 *
 * Peers are those that the member's table names, and guests: members that called although the table
 * does not name them. A member that is behind may not know its leader yet, and whoever joins knows
 * nobody; without the address that a guest gives in its greeting no answer would reach it. For the same
 * reason the address of the greeting is tried besides those of the table, which may be older.
 */
import type { Clock } from '../../clock.js';
import type {
  LocalIdentity,
  PeerAddress,
  PeerEvents,
  PeerHello,
  PeerLinks,
  Refusal,
  SnapshotInbox,
} from '../../peer-links.js';
import type { NodeId } from '../../raft/entry.js';
import type { Message, SnapshotMeta } from '../../raft/message.js';
import { MessageKind } from '../../raft/message.js';
import type { Frame } from './frame.js';
import { FrameError, FrameKind } from './frame.js';
import { isSameAddress, Lane } from './lane.js';
import type { Caller } from './peer-server.js';
import { PeerServer } from './peer-server.js';
import { type HostPort, type PeerSockets, PLAIN_SOCKETS } from './peer-sockets.js';
import { decodeMessage, decodeMeta, encodeMessage } from './raft-frame.js';
import { streamSnapshot } from './snapshot-stream.js';

export interface PeerNetworkOptions {
  readonly local: LocalIdentity;
  readonly clock: Clock;
  readonly random: () => number;
  readonly events: PeerEvents;
  /** Default: in the clear. */
  readonly sockets?: PeerSockets;
}

/** A forwarded request that waits for its answer; bounded by the requests that a member admits. */
type Pending = (value: unknown | null) => void;

/** Guests at a time; more are refused until some of them are in the table. */
const MAX_GUESTS = 16;

interface Peer {
  /** Of the table; empty for a guest. */
  named: readonly HostPort[];
  /** Of its last greeting. */
  hello: PeerHello | null;
  readonly urgent: Lane;
  readonly bulk: Lane;
  readonly pending: Map<number, Pending>;
}

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

export class PeerNetwork implements PeerLinks {
  private readonly options: PeerNetworkOptions;
  private readonly peers = new Map<NodeId, Peer>();
  private readonly server: PeerServer;
  private readonly sockets: PeerSockets;
  private readonly inboxes = new Map<Caller, { inbox: SnapshotInbox; work: Promise<void> }>();
  private nextRequest = 1;

  constructor(options: PeerNetworkOptions) {
    this.options = options;
    this.sockets = options.sockets ?? PLAIN_SOCKETS;
    this.server = new PeerServer(options.local, options.clock, this.sockets, {
      onHello: (hello) => this.onHello(hello),
      onAsk: (question) => options.events.onAsk(question),
      onFrame: (caller, frame) => this.onFrame(caller, frame),
      onClosed: (caller) => this.onClosed(caller),
      onRefused: (text) => options.events.onRefused(text),
    });
  }

  listen(host: string, port: number, secure = false): Promise<number> {
    return this.server.listen(host, port, secure);
  }

  async stop(): Promise<void> {
    for (const id of [...this.peers.keys()]) this.removePeer(id);
    await this.server.stop();
  }

  setPeers(addresses: readonly PeerAddress[]): void {
    const wanted = new Map<NodeId, HostPort[]>();
    for (const { id, ...address } of addresses) {
      wanted.set(id, [...(wanted.get(id) ?? []), address]);
    }
    for (const [id, peer] of [...this.peers]) {
      const named = wanted.get(id);
      if (named !== undefined) {
        peer.named = named;
        peer.urgent.checkAddress();
        peer.bulk.checkAddress();
      } else if (peer.named.length > 0 || !this.isWelcome(peer)) this.removePeer(id);
    }
    for (const [id, named] of wanted) if (!this.peers.has(id)) this.addPeer(id, named, null);
    this.server.review();
  }

  send(messages: readonly Message[]): void {
    // The messages of a turn come grouped by nothing; two short lists per peer keep their order.
    const outgoing = new Map<Lane, { peer: NodeId; parts: Uint8Array[] }>();
    for (const message of messages) {
      const peer = this.peers.get(message.to);
      if (peer === undefined) continue;
      const lane = URGENT.has(message.kind) ? peer.urgent : peer.bulk;
      let batch = outgoing.get(lane);
      if (batch === undefined) {
        batch = { peer: message.to, parts: [] };
        outgoing.set(lane, batch);
      }
      batch.parts.push(...encodeMessage(message));
    }
    for (const [lane, { parts }] of outgoing) lane.send(parts);
  }

  /** `done(null)`: not sent, or the connection broke before the answer came. */
  request(
    to: NodeId,
    method: string,
    args: unknown,
    body: readonly Uint8Array[],
    done: Pending,
  ): void {
    const peer = this.peers.get(to);
    const id = this.nextRequest++;
    if (peer === undefined || !peer.bulk.isUp) {
      this.options.clock.soon(() => done(null));
      return;
    }
    peer.pending.set(id, done);
    peer.bulk.sendFrame([FrameKind.Request, id, method, args], body);
  }

  isUp(peer: NodeId): boolean {
    return this.peers.get(peer)?.bulk.isUp ?? false;
  }

  async sendSnapshot(
    to: NodeId,
    term: number,
    meta: SnapshotMeta,
    chunks: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    const peer = this.peers.get(to);
    if (peer === undefined) throw new Error('the peer is not a member any more');
    const { local, clock } = this.options;
    const { address } = peer.bulk;
    const { sockets } = this;
    await streamSnapshot({ address, sockets, peerId: to, local, clock, term, meta, chunks });
  }

  /** Bytes sent and received between members, for metrics. */
  traffic(): { readonly sent: number; readonly received: number } {
    let sent = 0;
    for (const peer of this.peers.values()) sent += peer.bulk.sentBytes + peer.urgent.sentBytes;
    return { sent, received: this.server.receivedBytes };
  }

  private isWelcome({ hello }: Peer): boolean {
    return hello !== null && this.options.events.onHello(hello) === null;
  }

  private onHello(hello: PeerHello): Refusal | null {
    const refusal = this.options.events.onHello(hello);
    if (refusal !== null) return refusal;
    const peer = this.peers.get(hello.memberId);
    if (peer !== undefined) {
      peer.hello = hello;
      return null;
    }
    const guests = [...this.peers.values()].filter(({ named }) => named.length === 0);
    if (guests.length >= MAX_GUESTS) {
      return { code: 'handshake', text: 'too many members that are unknown here; try again later' };
    }
    this.addPeer(hello.memberId, [], hello);
    return null;
  }

  private addPeer(id: NodeId, named: readonly HostPort[], hello: PeerHello | null): void {
    const { local, clock, random, events } = this.options;
    const pending = new Map<number, Pending>();
    const addresses = (): readonly HostPort[] => addressesOf(peer);
    const lane = (name: 'bulk' | 'urgent'): Lane =>
      new Lane({
        name,
        peerId: id,
        addresses,
        local,
        sockets: this.sockets,
        clock,
        random,
        onFrame: (frame) => onAnswer(pending, frame),
        onUp: () => events.onPeerState(id, true, name),
        onWelcome: (welcome) => events.onHello(welcome),
        onRejected: (refusal) => events.onRejected(id, refusal),
        onDown: (reason, wasUp) => {
          if (name === 'bulk') failAll(pending);
          events.onPeerState(id, false, reason);
          if (wasUp) events.onUnreachable(id);
        },
      });
    const peer: Peer = { named, hello, urgent: lane('urgent'), bulk: lane('bulk'), pending };
    this.peers.set(id, peer);
    peer.urgent.start();
    peer.bulk.start();
  }

  private removePeer(id: NodeId): void {
    const peer = this.peers.get(id);
    if (peer === undefined) return;
    this.peers.delete(id);
    peer.urgent.stop();
    peer.bulk.stop();
    failAll(peer.pending);
  }

  private onFrame(caller: Caller, frame: Frame): void {
    const { events, local } = this.options;
    switch (frame.head[0]) {
      case FrameKind.Raft: {
        const message = decodeMessage(frame);
        if (message.from !== caller.memberId || message.to !== local.memberId) {
          throw new FrameError(`a message from ${message.from} came over a lane of another member`);
        }
        events.onMessage(message);
        return;
      }
      case FrameKind.Request: {
        const [, id, method, args] = frame.head;
        events.onRequest(caller.memberId, String(method), args, frame.body, (value) => {
          caller.reply([FrameKind.Response, id, value]);
        });
        return;
      }
      case FrameKind.SnapshotHeader:
      case FrameKind.SnapshotChunk:
      case FrameKind.SnapshotEnd:
        this.onSnapshotFrame(caller, frame);
        return;
      default:
        throw new FrameError(`unexpected frame of kind ${frame.head[0]}`);
    }
  }

  private onSnapshotFrame(caller: Caller, frame: Frame): void {
    if (frame.head[0] === FrameKind.SnapshotHeader) {
      const [, term, meta] = frame.head;
      if (typeof term !== 'number') throw new FrameError('a snapshot without a term');
      const { events } = this.options;
      const inbox = events.onSnapshot(caller.memberId, caller.boot, term, decodeMeta(meta, 0));
      this.inboxes.set(caller, { inbox, work: Promise.resolve() });
      return;
    }
    const state = this.inboxes.get(caller);
    if (state === undefined) throw new FrameError('a snapshot chunk without a header');
    const last = frame.head[0] === FrameKind.SnapshotEnd;
    caller.pause();
    state.work = state.work
      .then(() => (last ? state.inbox.end() : state.inbox.accept(frame.body)))
      .then(
        () => {
          caller.resume();
          if (!last) return;
          this.inboxes.delete(caller);
          caller.reply([FrameKind.SnapshotResult, true, '']);
        },
        (error: Error) => {
          if (this.inboxes.delete(caller)) state.inbox.abort();
          caller.reply([FrameKind.SnapshotResult, false, error.message]);
          caller.resume();
        },
      );
  }

  private onClosed(caller: Caller): void {
    const state = this.inboxes.get(caller);
    if (state !== undefined) {
      this.inboxes.delete(caller);
      // After the chunk that is being written; the folder must not vanish under it.
      state.work = state.work.then(() => state.inbox.abort());
    }
    // Both directions die with the process, and this one is often noticed first.
    if (caller.lane !== 'snapshot') this.options.events.onUnreachable(caller.memberId);
  }
}

/** The table's, then that of the greeting. */
function addressesOf({ named, hello }: Peer): readonly HostPort[] {
  if (hello === null) return named;
  const { host, port, secure = false } = hello;
  const own = { host, port, secure };
  return named.some((each) => isSameAddress(each, own)) ? named : [...named, own];
}

function onAnswer(pending: Map<number, Pending>, frame: Frame): void {
  const [kind, id, value] = frame.head;
  if (kind !== FrameKind.Response || typeof id !== 'number') return;
  const done = pending.get(id);
  pending.delete(id);
  done?.(value ?? null);
}

function failAll(pending: Map<number, Pending>): void {
  const waiting = [...pending.values()];
  pending.clear();
  for (const done of waiting) done(null);
}

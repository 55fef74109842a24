/**
 * What a member needs of its connections to the others, beyond the driver's Transport. Implemented by
 * rpc/peer over TCP; a simulator implements it in memory.
 */
import type { NodeId } from './raft/entry.js';
import type { Transport, TransportEvents } from './raft/io/transport.js';
import type { SnapshotMeta } from './raft/message.js';

/** Who speaks on the network: the identity that peers check in the handshake. */
export interface LocalIdentity {
  readonly clusterId: number;
  readonly memberId: number;
  readonly boot: number;
  /** Which data folder speaks. */
  readonly folderId: number;
  /** Where this member wants to be called back. */
  readonly host: string;
  readonly port: number;
  readonly secure?: boolean;
}

/** What a peer says of itself in the handshake. */
export interface PeerHello {
  readonly memberId: NodeId;
  readonly boot: number;
  readonly folderId: number;
  readonly host: string;
  readonly port: number;
  readonly secure?: boolean;
}

/**
 * Why two members do not speak. The first two are final: `removed`, the cluster has taken the member
 * out; `folder`, its data folder is not the one it had. The rest may pass.
 */
export interface Refusal {
  readonly code: 'removed' | 'folder' | 'handshake';
  readonly text: string;
}

/** One address of a member; a member with several has several of these. */
export interface PeerAddress {
  readonly id: NodeId;
  readonly host: string;
  readonly port: number;
  /** To be called with TLS. */
  readonly secure?: boolean;
}

/** Takes one snapshot from a peer. `end` resolves when it is durable and handed to Raft. */
export interface SnapshotInbox {
  accept(chunk: Uint8Array): Promise<void>;
  end(): Promise<void>;
  abort(): void;
}

export type Respond = (value: unknown) => void;

export interface PeerEvents extends TransportEvents {
  onRequest(from: NodeId, method: string, args: unknown, body: Uint8Array, respond: Respond): void;
  onSnapshot(from: NodeId, boot: number, term: number, meta: SnapshotMeta): SnapshotInbox;
  onPeerState(peer: NodeId, up: boolean, reason: string): void;
  /** This side refused somebody. */
  onRefused(text: string): void;
  /** Whether to speak with this peer. Unknown ones are welcome: a member that is behind must hear
   *  leaders that it has never heard of. */
  onHello(hello: PeerHello): Refusal | null;
  /** A peer refused this member. */
  onRejected(peer: NodeId, refusal: Refusal): void;
  /** A question of somebody who is no member yet; the answer is plain data. */
  onAsk(question: string): unknown;
}

export interface PeerLinks extends Transport {
  /** With `secure`, callers have to speak TLS. */
  listen(host: string, port: number, secure?: boolean): Promise<number>;
  /** Dials new peers, forgets those that are gone or are not welcome any more, redials those whose
   *  address changed. Who called without being named here stays as a guest. */
  setPeers(addresses: readonly PeerAddress[]): void;
  isUp(peer: NodeId): boolean;
  /** `done(null)`: not sent, or the connection broke before the answer came. Values are plain data. */
  request(
    to: NodeId,
    method: string,
    args: unknown,
    body: readonly Uint8Array[],
    done: (value: unknown | null) => void,
  ): void;
  /** Resolves when the peer has all of it durable; rejects with the reason otherwise. */
  sendSnapshot(
    to: NodeId,
    term: number,
    meta: SnapshotMeta,
    chunks: AsyncIterable<Uint8Array>,
  ): Promise<void>;
  /** Bytes since the start. */
  traffic(): { readonly sent: number; readonly received: number };
  stop(): Promise<void>;
}

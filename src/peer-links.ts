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
}

export interface PeerAddress {
  readonly id: NodeId;
  readonly host: string;
  readonly port: number;
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
  onRefused(text: string): void;
}

export interface PeerLinks extends Transport {
  listen(host: string, port: number): Promise<number>;
  /** Dials new peers, forgets those that are gone, redials those whose address changed. */
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

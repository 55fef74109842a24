/**
 * What the driver needs of the network between members. Implemented by rpc/peer over TCP, and by a
 * simulated network in tests. Sending never blocks and may lose: Raft repeats what matters.
 */
import type { NodeId } from '../entry.js';
import type { Message } from '../message.js';

export interface Transport {
  /** Queues messages of one turn; bounded, drops instead of waiting. */
  send(messages: readonly Message[]): void;
}

/** What the transport tells its owner. All calls come from the event loop, one at a time. */
export interface TransportEvents {
  onMessage(message: Message): void;
  /** The connection to a peer broke or its queue overflowed: what was sent may be lost. */
  onUnreachable(peer: NodeId): void;
}

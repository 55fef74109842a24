/**
 * Sends the state to peers whose next entry is no longer in the log: one stream per peer, taken from
 * the state as it is now. The entries behind it stay in the log while it is on its way.
 */
import type { Checkpoints } from './checkpoints.js';
import { FatalError } from './errors.js';
import type { Logger } from './logger.js';
import type { PeerLinks } from './peer-links.js';
import type { NodeId } from './raft/entry.js';
import type { SnapshotMeta } from './raft/message.js';
import { exportReplica, type StateReplica } from './state-replica.js';

export interface SnapshotSenderOptions {
  readonly network: PeerLinks;
  readonly checkpoints: Checkpoints;
  readonly clusterId: number;
  readonly logger: Logger;
  readonly onDone: (peer: NodeId, ok: boolean) => void;
  readonly onFatal: (error: Error) => void;
}

export class SnapshotSender {
  private readonly options: SnapshotSenderOptions;
  private readonly active = new Set<NodeId>();

  constructor(options: SnapshotSenderOptions) {
    this.options = options;
  }

  send(peer: NodeId, term: number, replica: StateReplica): void {
    if (this.active.has(peer)) return;
    this.active.add(peer);
    const { checkpoints, onDone, onFatal } = this.options;
    const { meta, chunks } = exportReplica(replica, this.options.clusterId);
    checkpoints.holdFor(peer, meta.index);
    this.stream(peer, term, meta, chunks).then((ok) => {
      this.active.delete(peer);
      checkpoints.release(peer);
      onDone(peer, ok);
    }, onFatal);
  }

  private async stream(
    peer: NodeId,
    term: number,
    meta: SnapshotMeta,
    chunks: AsyncIterableIterator<Uint8Array>,
  ): Promise<boolean> {
    const { logger, network } = this.options;
    const about = { peer: peer.toString(16), index: meta.index };
    logger.info(about, 'sending a snapshot');
    try {
      await network.sendSnapshot(peer, term, meta, chunks);
      logger.info(about, 'snapshot sent');
      return true;
    } catch (error) {
      // The own state cannot be read: that is not the peer's trouble.
      if (error instanceof FatalError) throw error;
      logger.warn({ ...about, err: error }, 'snapshot was not sent');
      return false;
    } finally {
      // A peer that refuses before the first chunk is pulled would leave the pages pinned for ever.
      await chunks.return?.();
    }
  }
}

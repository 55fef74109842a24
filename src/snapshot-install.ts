/**
 * A snapshot from the leader on its way to becoming the state of this member.
 *
 *   receive chunks into a new generation folder -> durable -> restore the machine from it
 *     -> hand the mark to Raft -> Raft persists it -> `take` swaps it in -> the old folder goes
 *
 * The state that serves clients is not touched before `take`, which is synchronous. A crash at any
 * point leaves either the old generation (the log does not name the new one yet) or the new one; the
 * other folder is removed at the next start. One snapshot at a time; a newer stream replaces an older.
 */
import { FatalError } from './errors.js';
import { removeGenerationsExcept, SnapshotReceiver } from './kv/io/snapshot-stream.js';
import type { Logger } from './logger.js';
import type { SnapshotInbox } from './peer-links.js';
import type { SnapshotMeta } from './raft/message.js';
import { openReplica, type ReplicaOptions, type StateReplica } from './state-replica.js';

export class SnapshotInstall {
  private readonly options: ReplicaOptions;
  private readonly logger: Logger;
  private receiving: SnapshotReceiver | null = null;
  private prepared: StateReplica | null = null;
  private lastGeneration = 0;

  constructor(options: ReplicaOptions, logger: Logger) {
    this.options = options;
    this.logger = logger;
  }

  receive(currentGeneration: number, deliver: (meta: SnapshotMeta) => void): SnapshotInbox {
    this.receiving?.abort().catch(() => undefined);
    this.discard();
    const generation = Math.max(this.lastGeneration, currentGeneration) + 1;
    this.lastGeneration = generation;
    const { dataDir, folders, clock, clusterId } = this.options;
    const receiver = new SnapshotReceiver({ dataDir, folders, clock, generation, clusterId });
    this.receiving = receiver;
    return {
      accept: (chunk) => receiver.accept(chunk),
      end: async () => {
        const { mark } = await receiver.finish();
        if (this.receiving !== receiver) throw new Error('a newer snapshot took its place');
        this.receiving = null;
        const replica = await openReplica(this.options, generation, mark.index);
        this.prepared = replica;
        deliver({ ...mark, generation });
      },
      abort: () => {
        if (this.receiving === receiver) this.receiving = null;
        receiver.abort().catch((error: Error) => {
          this.logger.warn({ err: error }, 'a half received snapshot could not be removed');
        });
      },
    };
  }

  /** The prepared state of this snapshot, which Raft has made durable. */
  take(meta: SnapshotMeta): StateReplica {
    const replica = this.prepared;
    this.prepared = null;
    if (replica === null || replica.mark.generation !== meta.generation) {
      throw new FatalError(`the state of generation ${meta.generation} is not there to install`);
    }
    return replica;
  }

  /** Raft did not want it: this member had caught up meanwhile. */
  discard(): void {
    const replica = this.prepared;
    if (replica === null) return;
    this.prepared = null;
    replica.store.destroy().catch((error: Error) => {
      this.logger.warn({ err: error }, 'an unwanted snapshot could not be removed');
    });
  }

  /** Closes and removes the state that was replaced. */
  async retire(previous: StateReplica, current: StateReplica): Promise<void> {
    await previous.store.close();
    const keep = [current.mark.generation, this.lastGeneration];
    await removeGenerationsExcept(this.options.dataDir, keep, this.options.folders);
  }
}

/**
 * A snapshot from the leader on its way to becoming the state of this member.
 *
 *   receive chunks into a new generation folder -> durable -> restore the machine from it
 *     -> hand the mark to Raft -> Raft persists it -> `take` swaps it in -> the old folder goes
 *
 * The state that serves clients is not touched before `take`, which is synchronous. A crash at any
 * point leaves either the old generation (the log does not name the new one yet) or the new one; the
 * other folder is removed at the next start. A newer stream replaces an older one that is still being
 * received.
 *
 * Invariants: 1. a folder that Raft has accepted is never removed here: the log may name it already,
 * and a log that names a folder which is gone is the end of the member. 2. At most one state is
 * accepted and not taken (raft/snapshot-install.ts takes no second while one is pending). 3. Whoever
 * makes a folder removes it, nobody else's: several may be received, opened and closed at a time.
 */
import { FatalError } from './errors.js';
import { SnapshotReceiver } from './kv/io/snapshot-stream.js';
import type { Logger } from './logger.js';
import type { SnapshotInbox } from './peer-links.js';
import type { SnapshotMeta } from './raft/message.js';
import { openReplica, type ReplicaOptions, type StateReplica } from './state-replica.js';

export class SnapshotInstall {
  private readonly options: ReplicaOptions;
  private readonly logger: Logger;
  private receiving: SnapshotReceiver | null = null;
  /** Raft makes it durable and will call `take`. */
  private accepted: StateReplica | null = null;
  private lastGeneration = 0;
  private stopped = false;
  private readonly working = new Set<Promise<void>>();

  constructor(options: ReplicaOptions, logger: Logger) {
    this.options = options;
    this.logger = logger;
  }

  /** `offer` hands the mark to Raft and says whether Raft took it; then `take` follows. */
  receive(currentGeneration: number, offer: (meta: SnapshotMeta) => boolean): SnapshotInbox {
    if (this.receiving !== null) this.abort(this.receiving);
    const generation = Math.max(this.lastGeneration, currentGeneration) + 1;
    this.lastGeneration = generation;
    const { dataDir, folders, clock, clusterId } = this.options;
    const receiver = new SnapshotReceiver({ dataDir, folders, clock, generation, clusterId });
    this.receiving = receiver;
    return {
      accept: (chunk) => receiver.accept(chunk),
      end: () => this.tracked(this.finish(receiver, generation, offer)),
      abort: () => this.abort(receiver),
    };
  }

  /** The state of this snapshot, which Raft has made durable. */
  take(meta: SnapshotMeta): StateReplica {
    const replica = this.accepted;
    this.accepted = null;
    if (replica === null || replica.mark.generation !== meta.generation) {
      throw new FatalError(`the state of generation ${meta.generation} is not there to install`);
    }
    return replica;
  }

  /** Closes and removes the state that was replaced. Its readers end first. */
  retire(previous: StateReplica): Promise<void> {
    const remove = async (): Promise<void> => {
      await previous.store.close();
      await this.options.folders.remove(previous.mark.generation);
    };
    return this.tracked(remove());
  }

  /** Nothing is open or under way any more. What Raft accepted stays: the log may name it. */
  async stop(): Promise<void> {
    this.stopped = true;
    if (this.receiving !== null) this.abort(this.receiving);
    while (this.working.size > 0) await Promise.allSettled(this.working);
    const { accepted } = this;
    this.accepted = null;
    await accepted?.store.close();
  }

  private async finish(
    receiver: SnapshotReceiver,
    generation: number,
    offer: (meta: SnapshotMeta) => boolean,
  ): Promise<void> {
    const { mark } = await receiver.finish();
    if (this.receiving !== receiver) {
      await this.options.folders.remove(generation);
      throw new Error('a newer snapshot took its place');
    }
    this.receiving = null;
    const replica = await openReplica(this.options, generation, mark.index);
    if (!this.stopped && offer({ ...mark, generation })) this.accepted = replica;
    // This member had caught up meanwhile, or installs another one.
    else await replica.store.destroy();
  }

  private abort(receiver: SnapshotReceiver): void {
    if (this.receiving === receiver) this.receiving = null;
    this.tracked(receiver.abort()).catch((error: Error) => {
      this.logger.warn({ err: error }, 'a half received snapshot could not be removed');
    });
  }

  private tracked(work: Promise<void>): Promise<void> {
    const settled = work.then(
      () => undefined,
      () => undefined,
    );
    this.working.add(settled);
    settled.then(() => this.working.delete(settled)).catch(() => undefined);
    return work;
  }
}

/**
 * The state of this member in one generation: the machine in memory and its records on disk.
 *
 * A generation is a folder under <data-dir>/state. The first one is 1; each snapshot that is received
 * from a leader becomes a new one, so an install never touches the state it replaces. Start is always
 * the same: the newest durable checkpoint of the generation that the log names, then the log from there
 * (cluster-node.ts). Restoring takes a second per million keys and yields to the event loop.
 */

import type { Clock } from './clock.js';
import { FatalError } from './errors.js';
import type { MemberAttributes } from './kv/command.js';
import type { StateFolders } from './kv/io/backend.js';
import { exportSnapshot } from './kv/io/snapshot-stream.js';
import { StateStore } from './kv/io/state-store.js';
import { StateMachine } from './kv/state-machine.js';
import type { Configuration } from './raft/configuration.js';
import type { SnapshotMeta } from './raft/message.js';

export interface ReplicaOptions {
  readonly dataDir: string;
  readonly folders: StateFolders;
  readonly clock: Clock;
  readonly selfId: number;
  readonly clusterId: number;
  readonly bootstrapMembers: readonly MemberAttributes[];
  readonly bootstrapConfiguration: Configuration;
  readonly onFatal: (error: Error) => void;
  /** The disk has caught up: applying may go on. */
  readonly onDrain: () => void;
  readonly onCommitted: (ms: number) => void;
  /** Copies of hot records in memory; the default is that of the store. */
  readonly cacheBytes?: number;
  /** Keys that an entry touches in one turn; the default is that of the machine. */
  readonly stepKeys?: number;
}

export interface StateReplica {
  readonly store: StateStore;
  readonly machine: StateMachine;
  /** Where the machine stands: everything up to its index is in it. */
  readonly mark: SnapshotMeta;
}

/** Opens a generation and restores the machine from its newest checkpoint. */
export async function openReplica(
  options: ReplicaOptions,
  generation: number,
  wantedIndex: number,
): Promise<StateReplica> {
  const { dataDir, folders, clock, clusterId, onFatal, onDrain, onCommitted } = options;
  const store = await StateStore.open({
    ...{ dataDir, folders, clock, clusterId, onFatal, onDrain, onCommitted },
    generation,
    ...(options.cacheBytes === undefined ? {} : { cacheBytes: options.cacheBytes }),
  });
  const checkpoint = await store.loadCheckpoint();
  const machineOptions = {
    records: store,
    selfId: options.selfId,
    members: options.bootstrapMembers,
    configuration: options.bootstrapConfiguration,
    ...(options.stepKeys === undefined ? {} : { stepKeys: options.stepKeys }),
  };
  if (checkpoint === null) {
    if (wantedIndex > 0) {
      throw new FatalError(
        `the state in ${store.folder} has no checkpoint, but the log starts behind entry ${wantedIndex}: the folder was damaged or mixed up; remove this member and add it anew`,
      );
    }
    const mark = {
      index: 0,
      term: 0,
      configuration: options.bootstrapConfiguration,
      generation,
    };
    return { store, machine: new StateMachine(machineOptions), mark };
  }
  if (checkpoint.mark.index < wantedIndex) {
    throw new FatalError(
      `the state in ${store.folder} ends at entry ${checkpoint.mark.index}, but the log starts behind entry ${wantedIndex}: the folder was damaged or mixed up; remove this member and add it anew`,
    );
  }
  const restore = StateMachine.beginRestore(checkpoint.tables, machineOptions);
  await store.scanRecords(checkpoint.revision, (main, sub, page, start, end) => {
    restore.record(main, sub, page, start, end);
  });
  return { store, machine: restore.finish(), mark: { ...checkpoint.mark, generation } };
}

/** Where the machine stands now, as a mark for a checkpoint or a snapshot. */
export function markOf(replica: StateReplica): SnapshotMeta {
  const { machine, mark } = replica;
  return {
    index: machine.appliedIndex,
    term: machine.appliedTerm,
    configuration: machine.configuration,
    generation: mark.generation,
  };
}

/** The state as it is now, as chunks to send. Taken at once, read as the receiver pulls. */
export function exportReplica(
  replica: StateReplica,
  clusterId: number,
): {
  readonly meta: SnapshotMeta;
  readonly chunks: AsyncIterableIterator<Uint8Array>;
} {
  const meta = markOf(replica);
  const { machine, store } = replica;
  const chunks = exportSnapshot(store, {
    clusterId,
    mark: meta,
    revision: machine.store.revision,
    tables: machine.encodeTables(),
  });
  return { meta, chunks };
}

/**
 * What becomes of a state when a new cluster begins with it: the last step of restoring a backup. Pure, so
 * that every member that does it with the same input has the same state, hash chain included.
 *
 * Of the old cluster go its members, those that were removed from it, and its alarms, which speak of its
 * disks. Everything else in the tables stays as it is: leases, users, whatever is added to them later.
 *
 * The revision may be raised. Then all history up to the new one counts as compacted: clients may have seen
 * revisions of the old cluster that are not in the backup, and the new one must not give the same numbers
 * to other changes. Who comes back with such a revision hears that it is compacted, and reads anew.
 *
 * The step counts as one entry of the log, so that the new cluster begins behind an entry whatever the
 * backup held.
 */
import { assert } from '../assert.js';
import type { MemberAttributes } from './command.js';
import { HashChain } from './hash-chain.js';
import type { StateMachine } from './state-machine.js';
import type { Tables } from './tables.js';

export interface NewCluster {
  readonly clusterId: number;
  /** All of them vote. */
  readonly members: readonly MemberAttributes[];
  /** The one to begin with, not below that of the state. */
  readonly revision: number;
}

/** The tables of the new cluster. `machine` was restored from `tables` and is compacted with them: its
 *  index tells which records are retained. */
export function beginNewCluster(
  machine: StateMachine,
  tables: Tables,
  { clusterId, members, revision }: NewCluster,
): Tables {
  const { store } = machine;
  assert(revision >= tables.revision, `revision ${revision} is below ${tables.revision}`);
  if (revision > tables.revision) {
    store.restoreRevisions(revision, store.compactRevision);
    const refused = store.compact(revision);
    assert(refused === null, `the compaction of a restored state was refused with ${refused}`);
  }
  const sorted = [...members].sort((a, b) => a.id - b.id);
  const chain = new HashChain(tables.hashLanes[0], tables.hashLanes[1]);
  chain.text('restore');
  chain.number(clusterId);
  chain.number(revision);
  for (const { id, peerUrls } of sorted) {
    chain.number(id);
    for (const url of peerUrls) chain.text(url);
  }
  return {
    ...tables,
    appliedIndex: tables.appliedIndex + 1,
    appliedTerm: Math.max(1, tables.appliedTerm),
    revision,
    compactRevision: store.compactRevision,
    hashLanes: chain.lanes,
    liveCount: store.liveCount,
    retainedCount: store.index.retainedCount,
    configuration: {
      voters: sorted.map(({ id }) => id),
      votersOutgoing: [],
      learners: [],
      learnersNext: [],
      autoLeave: false,
    },
    members: sorted,
    removed: [],
    genesis: sorted,
    alarms: [],
  };
}

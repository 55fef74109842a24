/**
 * Bugs that other systems had, and what here would go red if kvd had them too: a planted bug of the same
 * kind (mutants/), a test by its title, or a schedule that is played on a simulated cluster under load.
 * museum.test.ts checks that all of it exists and holds. Whoever meets a new story in the field adds it.
 */
import { LEADER, type Step } from './script.js';

export type Guard =
  | { readonly mutant: string }
  | { readonly file: string; readonly title: string }
  | { readonly size: number; readonly script: readonly Step[] };

export interface Exhibit {
  /** Project and issue in which the bug is told. */
  readonly where: string;
  readonly bug: string;
  readonly guards: readonly Guard[];
  /** Instead of guards: why there is nothing to break here, or what guards it elsewhere. */
  readonly absent?: string;
}

const wait = (ms: number): Step => ({ do: 'wait', ms });
const crash = (member: number, how: 'kill' | 'power' | 'torn' = 'power'): Step => ({
  do: 'crash',
  member,
  how,
});
const start = (member: number): Step => ({ do: 'start', member });
const everybody = (size: number, step: (member: number) => Step): Step[] =>
  Array.from({ length: size }, (_, at) => step(at + 1));
const repeated = (times: number, steps: readonly Step[]): Step[] =>
  Array.from({ length: times }, () => steps).flat();

export const EXHIBITS: readonly Exhibit[] = [
  {
    where: 'etcd 13766',
    bug: 'the applied index was saved apart from the data: a crash between the two diverged a member',
    guards: [
      { mutant: 'checkpoint-one-entry-too-far' },
      { mutant: 'records-behind-the-checkpoint-stay' },
      {
        size: 3,
        script: repeated(4, [
          wait(700),
          ...everybody(3, (m) => crash(m, 'torn')),
          wait(50),
          ...everybody(3, start),
        ]),
      },
    ],
  },
  {
    where: 'etcd 14370',
    bug: 'a cluster of one answered a write before its own fsync',
    guards: [
      { mutant: 'leader-counts-before-fsync' },
      { size: 1, script: repeated(6, [wait(400), crash(1), start(1)]) },
    ],
  },
  {
    where: 'etcd 14571',
    bug: 'users and roles diverged after a snapshot',
    guards: [{ mutant: 'users-not-in-the-tables' }, { mutant: 'rights-kept-over-a-change' }],
  },
  {
    where: 'etcd 14685',
    bug: 'a crash during defragmentation lost data',
    guards: [
      { mutant: 'removals-before-the-checkpoint' },
      { file: 'test/kv-io/state-store.test.ts', title: 'defragments without changing anything' },
    ],
  },
  {
    where: 'etcd 20650',
    bug: 'a snapshot that was installed during a defragmentation corrupted the store',
    guards: [
      { mutant: 'snapshot-of-later-records' },
      {
        file: 'test/regressions/two-snapshots.test.ts',
        title:
          'retiring the old state leaves a state that is being opened and one that is being received',
      },
      {
        file: 'test/regressions/read-while-closing.test.ts',
        title: 'gives its space back without failing when a snapshot takes its place meanwhile',
      },
    ],
  },
  {
    where: 'etcd 15220',
    bug: 'a progress notice was ahead of events that were still queued',
    guards: [{ mutant: 'progress-before-what-is-queued' }],
  },
  {
    where: 'etcd 15271',
    bug: 'a watch went back in time after a snapshot was installed',
    guards: [
      { mutant: 'watch-repeats-after-a-snapshot' },
      { mutant: 'watch-misses-what-a-snapshot-skipped' },
      {
        size: 3,
        script: repeated(3, [{ do: 'isolate', member: 1 }, wait(4000), { do: 'heal' }, wait(2000)]),
      },
    ],
  },
  {
    where: 'etcd 17529',
    bug: 'a watcher that fell behind a compaction starved in silence instead of being cancelled',
    guards: [
      { mutant: 'watch-below-the-compaction-goes-on' },
      { mutant: 'watch-drops-what-does-not-fit' },
      {
        file: 'test/rpc/watch-service.test.ts',
        title: 'cancels a watcher that compaction overtakes while it does not read',
      },
    ],
  },
  {
    where: 'etcd 17780',
    bug: 'the revision fell after a crash in the middle of a compaction',
    guards: [
      { mutant: 'compaction-forgotten-in-the-tables' },
      {
        size: 3,
        script: repeated(5, [
          wait(500),
          { do: 'compact' },
          wait(20),
          ...everybody(3, (m) => crash(m)),
          ...everybody(3, start),
        ]),
      },
    ],
  },
  {
    where: 'etcd 18089, 19179',
    bug: 'a compaction at a deletion took the deletion away from watchers that start there',
    guards: [
      { mutant: 'compacts-one-revision-too-many' },
      {
        file: 'test/kv/compaction.test.ts',
        title: 'keeps a tombstone exactly at it, so that a watch from there sees the deletion',
      },
    ],
  },
  {
    where: 'etcd 18667',
    bug: 'a transaction that reads a compacted revision was applied by some members only',
    guards: [
      { mutant: 'reads-below-the-compaction' },
      {
        file: 'test/kv/txn.test.ts',
        title: 'is refused whole when a range asks for a compacted revision, and writes nothing',
      },
    ],
  },
  {
    where: 'etcd 20221',
    bug: 'a watch from a future revision got events and notices of before',
    guards: [
      { file: 'test/watch/hub.test.ts', title: 'waits silently for a start in the future' },
      {
        file: 'test/cluster/watches.test.ts',
        title: 'a watch from a future revision gets nothing below it',
      },
    ],
  },
  {
    where: 'etcd 20418, raft 397',
    bug: 'a leader that was paused confirmed a read by the answers to an earlier round',
    guards: [
      { mutant: 'read-joins-a-round-under-way' },
      { mutant: 'reads-survive-their-leadership' },
      {
        file: 'test/raft/leader.test.ts',
        title: 'on a deposed leader are not confirmed by replayed answers',
      },
      {
        size: 3,
        script: repeated(4, [
          { do: 'freeze', member: LEADER },
          wait(2500),
          ...everybody(3, (m) => ({ do: 'thaw', member: m })),
          wait(1500),
        ]),
      },
    ],
  },
  {
    where: 'etcd 7331',
    bug: 'a new leader answered reads before it had committed anything in its term',
    guards: [
      { mutant: 'read-before-the-first-commit-of-the-term' },
      {
        size: 3,
        script: repeated(6, [wait(900), crash(LEADER, 'kill'), wait(900), ...everybody(3, start)]),
      },
    ],
  },
  {
    where: 'etcd 15247, 12528',
    bug: 'a leader that hung in its fsync ended leases after it was replaced',
    guards: [
      { mutant: 'expiry-without-term' },
      {
        file: 'test/cluster/pause.test.ts',
        title: 'a leader that slept revokes no lease that was renewed meanwhile',
      },
      {
        size: 3,
        script: repeated(3, [
          { do: 'slow-disk', member: 1, ms: 4000 },
          { do: 'transfer', to: 1 },
          wait(6000),
          { do: 'slow-disk', member: 1, ms: 1 },
          wait(1500),
        ]),
      },
    ],
  },
  {
    where: 'etcd 20616',
    bug: 'a renewal of a lease that was gone succeeded',
    guards: [{ mutant: 'renewal-of-a-lease-that-ended-succeeds' }],
  },
  {
    where: 'etcd 13491, 17132',
    bug: 'every change of leader gave a lease its whole time again, so that it lived for ever',
    guards: [
      { mutant: 'every-entry-renews-all-leases' },
      {
        file: 'test/lease/expiry.test.ts',
        title: 'ends no lease before its earliest legal time and every one at its latest',
      },
      {
        file: 'test/lease/expiry.test.ts',
        title: 'are taken every five minutes, for leases longer than that only',
      },
    ],
  },
  {
    where: 'etcd 17642',
    bug: 'the remaining time of a lease was told as 9223372036 s while leadership moved',
    guards: [
      {
        file: 'test/rpc/services.test.ts',
        title: 'tells that a lease does not exist by a TTL of -1',
      },
    ],
  },
  {
    where: 'etcd 13932',
    bug: 'a renewal right after the grant did not find the lease',
    guards: [{ mutant: 'renewal-without-the-quorum' }, { mutant: 'new-leader-forgets-renewals' }],
  },
  {
    where: 'etcd 6368, 22340',
    bug: 'the name of a file was not synced after it was renamed',
    guards: [{ mutant: 'segment-name-not-durable' }, { mutant: 'checkpoint-head-without-barrier' }],
  },
  {
    where: 'etcd 6378, 5230, 16596',
    bug: 'a torn or reordered write made a member unable to start',
    guards: [
      { mutant: 'torn-tail-refused' },
      {
        file: 'test/raft-io/wal-crash.test.ts',
        title: 'may come during recovery as often as it likes',
      },
    ],
  },
  {
    where: 'etcd 10219',
    bug: 'the commit was saved before the snapshot that it refers to',
    guards: [{ mutant: 'installed-state-named-too-late' }, { mutant: 'commit-of-the-log-lost' }],
  },
  {
    where: 'etcd 13933',
    bug: 'the index of an installed snapshot was overwritten by the old one',
    guards: [{ mutant: 'older-snapshot-replaces-newer-state' }],
  },
  {
    where: 'etcd 13697, 13348, 19557',
    bug: 'a removed member was there again after a restart',
    guards: [{ mutant: 'removed-id-comes-back' }, { mutant: 'removed-ids-not-in-the-tables' }],
  },
  {
    where: 'etcd 18055',
    bug: 'two snapshots in short time made a member stop',
    guards: [
      {
        file: 'test/regressions/two-snapshots.test.ts',
        title: 'a stream that begins while an accepted snapshot is recorded does not touch it',
      },
      {
        size: 3,
        script: repeated(6, [{ do: 'isolate', member: 2 }, wait(2500), { do: 'heal' }, wait(150)]),
      },
    ],
  },
  {
    where: 'openraft 1802',
    bug: 'the commit advanced without a majority, since matches were not sorted',
    guards: [{ mutant: 'matches-not-sorted' }, { mutant: 'best-match-commits' }],
  },
  {
    where: 'openraft 1829, 808, 1892',
    bug: 'a snapshot whose report was lost stopped replication to that member for ever',
    guards: [
      { mutant: 'snapshot-state-never-ends' },
      { file: 'test/raft/leader.test.ts', title: 'are wanted again when the report never comes' },
    ],
  },
  {
    where: 'hashicorp/raft 605, 609; ra 439; redpanda 30817',
    bug: 'pre-votes were refused or forgotten such that a majority never elected a leader',
    guards: [
      { mutant: 'timer-not-reset-by-the-leader' },
      { mutant: 'refusals-tell-no-commit' },
      {
        file: 'test/raft/candidate.test.ts',
        title: 'end although the long logs have low terms and the high terms short logs',
      },
      {
        size: 3,
        script: [
          crash(3, 'kill'),
          ...repeated(4, [
            wait(12_000),
            { do: 'expect-leader' },
            crash(LEADER, 'kill'),
            wait(200),
            start(1),
            start(2),
          ]),
        ],
      },
      {
        size: 7,
        script: [
          wait(1500),
          crash(5),
          crash(6),
          crash(7),
          wait(12_000),
          { do: 'expect-leader' },
          { do: 'isolate', member: 4 },
          wait(1000),
          { do: 'heal' },
          wait(12_000),
          { do: 'expect-leader' },
        ],
      },
    ],
  },
  {
    where: 'hashicorp/raft 612',
    bug: 'replication stood still after a stall of a follower, while heartbeats went through',
    guards: [
      { mutant: 'lost-window-unnoticed' },
      { mutant: 'probe-sent-once' },
      {
        size: 3,
        script: repeated(3, [
          { do: 'slow-disk', member: 2, ms: 3000 },
          wait(4000),
          { do: 'slow-disk', member: 2, ms: 1 },
          wait(2000),
        ]),
      },
    ],
  },
  {
    where: 'nebula 2419',
    bug: 'a repeated request of the same candidate was refused',
    guards: [
      {
        file: 'test/raft/follower.test.ts',
        title: 'votes once per term, and the same again when asked again',
      },
    ],
  },
  {
    where: 'Raft itself, Ongaro 2015',
    bug: 'leaders of different terms changed one member each, to memberships that share no majority',
    guards: [
      { mutant: 'changes-overlap' },
      { mutant: 'several-voters-change-without-a-joint-phase' },
    ],
  },
  {
    where: 'etcd-io/raft, asynchronous writes',
    bug: 'the end of a write of entries that were replaced meanwhile counted for those that replaced them',
    guards: [
      { mutant: 'write-in-flight-covers-what-replaced-it' },
      { mutant: 'truncated-entries-still-count-as-durable' },
      { mutant: 'entry-acknowledged-that-was-cut-off' },
    ],
  },
  {
    where: 'Redis-Raft 17, 28, 43, 44, 52',
    bug: 'crashes, partitions, snapshots and members that change lost data together, though not alone',
    guards: [
      {
        size: 5,
        script: repeated(3, [
          { do: 'isolate', member: LEADER },
          wait(800),
          crash(2, 'torn'),
          crash(4, 'power'),
          wait(600),
          start(2),
          start(4),
          wait(1200),
          { do: 'heal' },
          { do: 'transfer', to: 3 },
          wait(700),
          crash(LEADER, 'power'),
          wait(900),
          ...everybody(5, start),
        ]),
      },
    ],
  },
  {
    where: 'Jepsen etcd 3.4.3, etcd 11408',
    bug: 'a lock was given to a waiter whose lease had ended while it waited',
    guards: [
      { mutant: 'lock-without-second-look' },
      { mutant: 'lock-does-not-wait-for-who-is-ahead' },
    ],
  },
  {
    where: 'CVE-2026-33413, 33343, 44283; etcd 15815',
    bug: 'users saw or changed keys beyond their roles',
    guards: [
      { mutant: 'nested-transaction-not-asked' },
      { mutant: 'previous-pair-of-a-put-not-asked' },
      { mutant: 'previous-pairs-of-a-delete-not-asked' },
      { mutant: 'lease-taken-without-a-right-to-its-keys' },
      { mutant: 'lease-shows-keys-that-may-not-be-read' },
    ],
  },
  {
    where: 'etcd 22148',
    bug: 'a peer could make a member read a body without bound',
    guards: [
      {
        file: 'test/cluster/bad-input.test.ts',
        title: 'bytes that are no peer message harm nobody',
      },
    ],
  },
  {
    where: 'etcd 16839, 15402',
    bug: 'a watcher that does not read filled the memory',
    guards: [
      {
        file: 'test/cluster/bad-input.test.ts',
        title: 'a watcher that never reads costs a bounded amount of memory',
      },
      {
        file: 'test/rpc/watch-service.test.ts',
        title: 'costs a bounded number of bytes when a client never reads',
      },
    ],
  },
  {
    where: 'dqlite 258, jgroups-raft 208, d-engine 381',
    bug: 'a deposed leader answered linearizable reads from its own belief',
    guards: [{ mutant: 'read-without-a-quorum' }],
  },
];

/**
 * Planted bugs of storage: the write-ahead log, its recovery, checkpoints, snapshots of the state
 * (src/raft/io, src/kv/io and the shell between them). The form is that of consensus.js.
 */

/** A follower loses its process a moment after the cluster has compacted. */
const COMPACTED = (
  'wait ms 900; compact; wait ms 300; crash member 2 how kill; crash member 3 how kill; ' +
  'wait ms 100; start member 2; start member 3; '
).repeat(6);

export const storageMutants = [
  {
    name: 'wal-without-sync',
    rule: 'a batch is durable after its fsync',
    file: 'src/raft/io/wal.ts',
    find: 'if (batch.sync) active.file.sync(this.onSynced);',
    replace: 'if (batch.sync && this.outstanding < 0) active.file.sync(this.onSynced);',
  },
  {
    name: 'backlog-overtaken',
    rule: 'what was committed later waits behind what waits already',
    file: 'src/raft/io/driver.ts',
    find: 'if (isBehind) for (const entry of ready.committed) this.unapplied.push(entry);',
    replace: 'if (isBehind) this.unapplied.unshift(...ready.committed);',
  },
  {
    name: 'sync-error-ignored',
    rule: 'a failed fsync is the end of the process: what it held may be gone',
    file: 'src/raft/io/wal.ts',
    find: '    this.outstanding -= 1;\n    if (error !== null) this.fail(error);\n    if (this.failure !== null) {',
    replace:
      '    this.outstanding -= 1;\n    if (error !== null && this.outstanding < 0) this.fail(error);\n    if (this.failure !== null) {',
  },
  {
    name: 'spare-prepared-twice',
    rule: 'a segment that still bears the name of the spare is not written again',
    file: 'src/raft/io/wal-spare.ts',
    find: 'this.file !== null || this.lent || this.stopped',
    replace: 'this.file !== null || this.stopped',
  },
  {
    name: 'segment-name-not-durable',
    rule: 'a new segment is used when its name is on disk',
    file: 'src/raft/io/wal.ts',
    find: '      this.disk.syncDirectory(\n        this.directory,\n        this.tracked(() => this.adopt(next, chain), file),\n      );',
    replace: '      this.tracked(() => this.adopt(next, chain), file)(null);',
  },
  {
    name: 'segment-start-not-durable',
    rule: 'the start of a segment is on disk before it gets its name',
    file: 'src/raft/io/wal.ts',
    find: '    file.sync(this.tracked(onSynced, file));',
    replace: '    this.disk.soon(() => this.tracked(onSynced, file)(null));',
    options: ['--faults', 'power,slow-disk', '--size', '1'],
  },
  {
    name: 'sealed-segment-not-synced',
    rule: 'a segment is durable before the next one begins',
    file: 'src/raft/io/wal.ts',
    find: 'if (this.durableBatch === this.lastBatch) {',
    replace: 'if (this.durableBatch <= this.lastBatch) {',
  },
  {
    name: 'segment-removed-before-the-mark-is-durable',
    rule: 'a segment goes when a durable mark covers it',
    file: 'src/raft/io/wal.ts',
    find: 'const covered = oldest.lastIndex <= Math.min(this.compactIndex, this.durableMark);',
    replace: 'const covered = oldest.lastIndex <= this.state.last().index;',
  },
  {
    name: 'log-cut-before-the-checkpoint',
    rule: 'the log in front of a checkpoint goes when the checkpoint is durable',
    file: 'src/checkpoints.ts',
    find: '    await store.checkpoint(mark, machine.store.revision, machine.encodeTables());\n',
    replace:
      '    void store.checkpoint(mark, machine.store.revision, machine.encodeTables()).catch(() => undefined);\n',
  },
  {
    name: 'checkpoint-head-without-barrier',
    rule: 'the head of a checkpoint follows its tables to the disk',
    file: 'src/kv/io/checkpoint-slots.ts',
    find: '    await this.backend.write([{ key: headKey(slot), value: encodeHead(head) }], { sync: true });',
    replace: '    await this.backend.write([{ key: headKey(slot), value: encodeHead(head) }]);',
  },
  {
    name: 'checkpoint-without-its-pages',
    rule: 'a checkpoint follows the records that it stands for',
    file: 'src/kv/io/state-store.ts',
    find: '      await Promise.all([flushed, before]);',
    replace: '      flushed.catch(() => undefined);\n      await before;',
  },
  {
    name: 'records-behind-the-checkpoint-stay',
    rule: 'a restart forgets records behind the checkpoint, the log brings them again',
    file: 'src/kv/io/state-store.ts',
    find: '    await this.removeFrom(maxMain + 1);\n',
    replace: '',
  },
  {
    name: 'removals-before-the-checkpoint',
    rule: 'a record that compaction took is removed when a checkpoint without it is durable',
    file: 'src/kv/io/state-store.ts',
    find: '    (isTombstone ? this.tombstones : this.removals).add(main, sub);\n',
    replace:
      '    (isTombstone ? this.tombstones : this.removals).add(main, sub);\n' +
      '    this.cleaner.release(this.removals.take(), this.tombstones.take());\n',
    options: ['--size', '3', '--script', COMPACTED],
  },
  {
    name: 'checkpoint-one-entry-too-far',
    rule: 'a checkpoint is marked with the entry that it holds',
    file: 'src/state-replica.ts',
    find: '    index: machine.appliedIndex,',
    replace: '    index: Math.max(0, machine.appliedIndex - 1),',
  },
  {
    name: 'tables-without-leases',
    rule: 'leases are part of a checkpoint',
    file: 'src/kv/tables.ts',
    find: '  writer.varint(tables.leases.length);\n  for (const { id, ttl, remaining } of tables.leases) {',
    replace:
      '  writer.varint(0);\n  for (const { id, ttl, remaining } of tables.leases.slice(0, 0)) {',
  },
  {
    name: 'hash-chain-not-in-the-tables',
    rule: 'the hash chain goes on where the checkpoint stood',
    file: 'src/kv/tables.ts',
    find: '  writer.u32(tables.hashLanes[0]).u32(tables.hashLanes[1]);',
    replace: '  writer.u32(1).u32(2);',
  },
  {
    name: 'compaction-forgotten-in-the-tables',
    rule: 'a restart knows how far the store is compacted',
    file: 'src/kv/tables.ts',
    find: '  writer.varint(tables.revision).varint(tables.compactRevision);',
    replace: '  writer.varint(tables.revision).varint(0);',
  },
  {
    name: 'snapshot-misses-a-page',
    rule: 'a snapshot that is incomplete is refused',
    file: 'src/kv/io/snapshot-parser.ts',
    find: '    eachRecord(page, (main, sub, bytes) => {\n',
    replace:
      '    if (this.records > 3 && this.lastMain % 5 === 0) return;\n    eachRecord(page, (main, sub, bytes) => {\n',
  },
  {
    name: 'snapshot-of-later-records',
    rule: 'the records of a snapshot are those of its mark',
    file: 'src/state-replica.ts',
    find: '    revision: machine.store.revision,\n    tables: machine.encodeTables(),',
    replace:
      '    revision: Math.max(1, machine.store.revision - 1),\n    tables: machine.encodeTables(),',
  },
  {
    name: 'torn-tail-refused',
    rule: 'a torn tail of what was never acknowledged is cut off, not refused',
    file: 'src/raft/io/wal-recovery.ts',
    find: "if (tail.kind === 'corrupt') throw",
    replace: "if (tail.kind !== 'clean') throw",
  },
  {
    name: 'commit-of-the-log-lost',
    rule: 'the term and the vote survive a restart',
    file: 'src/raft/io/wal-recovery.ts',
    find: '      this.hardState = batch.hardState;',
    replace: '      this.hardState = { ...batch.hardState, vote: 0 };',
  },
  {
    name: 'installed-state-named-too-late',
    rule: 'the state of a snapshot is complete before the log names it',
    file: 'src/kv/io/snapshot-receiver.ts',
    find: '    await store.complete();\n',
    replace: '',
  },
];

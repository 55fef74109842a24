/**
 * Planted bugs of what stands on consensus: the state machine, writes and their outcomes, leases,
 * locks, watches (src/kv, src/lease, src/watch and the shell). The form is that of consensus.js.
 */
/** Leadership goes to and fro while writes are on their way. */
const TOSSED = 'transfer to 1; wait ms 150; transfer to 2; wait ms 150; '.repeat(50);

/** A leader sleeps while another is elected, and finds requests of that time when it wakes up. */
const ASLEEP =
  'wait ms 1500; freeze member LEADER; wait ms 3500; thaw member 1; thaw member 2; thaw member 3; '.repeat(
    8,
  );

/** Leaders are cut off, often with something on its way that nobody gets any more. */
const DEPOSED = 'isolate member LEADER; wait ms 2500; heal; wait ms 1500; '.repeat(10);

/** Each follower is alone for longer than a short lease lasts. */
const ALONE_IN_TURN = [1, 2, 3, 1, 2, 3]
  .map((id) => `isolate member ${id}; wait ms 3000; heal; wait ms 2000; `)
  .join('');

export const serviceMutants = [
  // ------------------------------------------------------------ writes and their outcomes
  {
    name: 'write-of-another-term-accepted',
    rule: 'a forwarded write is taken only in the term that it names, or a lost one may come twice',
    file: 'src/write-road.ts',
    find: 'if (this.raft.role !== Role.Leader || this.raft.term !== term) {',
    replace: 'if (this.raft.role !== Role.Leader || this.raft.term < 0) {',
    options: ['--size', '3', '--faults', 'tail', '--script', TOSSED],
  },
  {
    name: 'lost-write-proposed-too-early',
    rule: 'a write is lost only when an entry of a later term is applied',
    file: 'src/proposals.ts',
    find: 'if (waiter.sentTerm !== 0 && waiter.sentTerm < term) lost.push(waiter);',
    replace: 'if (waiter.sentTerm !== 0 && waiter.sentTerm <= term) lost.push(waiter);',
  },
  {
    name: 'write-resent-when-the-connection-broke',
    rule: 'no answer is not a refusal',
    file: 'src/write-road.ts',
    find: "if (answer === null || answer === 'ok') return;",
    replace: "if (answer === 'ok') return;",
  },
  {
    name: 'write-in-doubt-called-refused',
    rule: 'a write that may still take effect is not told as refused',
    file: 'src/proposals.ts',
    find: '  if (waiter.sentTerm !== 0) {\n    return',
    replace: '  if (waiter.sentTerm < 0) {\n    return',
  },
  {
    name: 'write-in-doubt-after-a-snapshot-sent-again',
    rule: 'a snapshot hides what became of a write',
    file: 'src/proposals.ts',
    find: '      if (waiter.sentTerm === 0) continue;\n      this.failures += 1;',
    replace:
      '      if (waiter.sentTerm === 0) continue;\n      if (waiter.sentTerm > 0) {\n        this.requeue([waiter]);\n        continue;\n      }\n      this.failures += 1;',
  },
  {
    name: 'request-numbers-begin-anew',
    rule: 'a request number is used once, whatever the number of lives',
    file: 'src/cluster-node.ts',
    find: 'this.nextRequest = options.boot * 2 ** 32 + 1;',
    replace: 'this.nextRequest = 1;',
  },
  {
    name: 'write-refused-in-silence-after-an-answer-of-an-older-term',
    rule: 'a refusal speaks of the term in which the write was sent',
    file: 'src/write-road.ts',
    find: 'const refused = batch.filter((waiter) => waiter.sentTerm === term);',
    replace: 'const refused = batch.filter((waiter) => waiter.sentTerm >= term);',
  },
  // ------------------------------------------------------------ key-value state
  {
    name: 'any-compare-suffices',
    rule: 'all comparisons of a transaction must hold',
    file: 'src/kv/txn.ts',
    find: 'return txn.compare.every((compare) => holds(store, compare));',
    replace: 'return txn.compare.some((compare) => holds(store, compare));',
  },
  {
    name: 'compare-of-a-missing-key-holds',
    rule: 'a key that is not there has version, create and mod revision 0',
    file: 'src/kv/txn.ts',
    find: "return compare.target !== 'value' && satisfies(compare.result, compareInt64(0, compare.number));",
    replace: "return compare.target !== 'value';",
  },
  {
    name: 'revision-per-change',
    rule: 'all changes of one entry have one revision',
    file: 'src/kv/store.ts',
    find: '    this.currentRevision += 1;\n    return events;',
    replace: '    this.currentRevision += events.length;\n    return events;',
  },
  {
    name: 'version-goes-on-after-a-delete',
    rule: 'a key that is made anew has version 1',
    file: 'src/kv/store.ts',
    find: 'const version = live ? index.versionOf(slot) + 1 : 1;',
    replace: 'const version = slot >= 0 ? index.versionOf(slot) + 2 : 1;',
  },
  {
    name: 'create-revision-moves',
    rule: 'a put keeps the create revision of a key that lives',
    file: 'src/kv/store.ts',
    find: 'const create = live ? index.createOf(slot) : main;',
    replace: 'const create = main;',
  },
  {
    name: 'reads-below-the-compaction',
    rule: 'what is compacted cannot be read',
    file: 'src/kv/store.ts',
    find: "return revision < this.compactedTo ? 'COMPACTED' : null;",
    replace: "return revision < 0 ? 'COMPACTED' : null;",
  },
  {
    name: 'compacts-one-revision-too-many',
    rule: 'compaction keeps what a read at its revision sees',
    file: 'src/kv/store.ts',
    find: 'this.index.forget(revision);\n    return null;',
    replace: 'this.index.forget(revision + 1);\n    return null;',
  },
  {
    name: 'apply-depends-on-the-member',
    rule: 'all members apply the same entry in the same way',
    file: 'src/kv/state-machine.ts',
    find: 'return this.compact(command.revision);',
    replace: 'return this.selfId % 2 === 0 ? this.compact(command.revision) : DONE;',
  },
  {
    name: 'refused-entry-leaves-no-trace-in-the-chain',
    rule: 'a refusal is part of the state that members compare',
    file: 'src/kv/state-machine.ts',
    find: '    this.chain.text(error);\n',
    replace: '    if (this.selfId % 2 === 0) this.chain.text(error);\n',
  },
  {
    name: 'read-in-the-midst-of-an-entry',
    rule: 'who reads sees all of an entry or nothing of it',
    file: 'src/kv/state-machine.ts',
    find: '    return this.midway !== null;',
    replace: '    return false;',
  },
  {
    name: 'applied-when-it-begins',
    rule: 'an entry is applied when all of it is',
    file: 'src/kv/state-machine.ts',
    find: 'return this.midway === null ? this.index : this.index - 1;',
    replace: 'return this.index;',
  },
  // ------------------------------------------------------------ space
  {
    name: 'quota-of-the-own-flags',
    rule: 'the quota is replicated: what one member refuses all refuse',
    file: 'src/kv/state-machine.ts',
    find: '    const quota = this.currentQuota;\n',
    replace:
      '    const quota = this.currentQuota === 0 ? 0 : this.currentQuota + (this.selfId % 2) * 500;\n',
    options: ['--family', 'space'],
  },
  {
    name: 'quota-exceeded-by-one-write',
    rule: 'what an accepted write adds stays within the quota',
    file: 'src/kv/state-machine.ts',
    find: 'if (cost === 0 || used + cost <= quota) return null;',
    replace: 'if (cost === 0 || used <= quota) return null;',
    options: ['--family', 'space'],
  },
  {
    name: 'alarm-not-in-the-tables',
    rule: 'a member that restarts or gets a snapshot knows which alarms stand',
    file: 'src/kv/state-machine.ts',
    find: '    machine.alarmTable = new AlarmTable(tables.alarms);\n',
    replace: '',
    options: ['--family', 'space'],
  },
  {
    name: 'quota-alarm-never-ends',
    rule: 'when there is space writes go on by themselves',
    file: 'src/kv/state-machine.ts',
    find: '    this.alarmTable.clearAll(AlarmType.NoSpace, AlarmCause.Quota);\n',
    replace: '',
    options: ['--family', 'space'],
  },
  {
    name: 'compaction-counts-when-it-collects',
    rule: 'figures do not depend on how far the garbage is collected',
    file: 'src/kv/key-index.ts',
    find: '      drop(main, sub, queue === tombstones);',
    replace: '      this.retainedBytes -= 1;\n      drop(main, sub, queue === tombstones);',
    options: ['--family', 'space'],
  },
  {
    name: 'slice-takes-a-live-revision',
    rule: 'garbage is what no read at or above the compact revision sees',
    file: 'src/kv/key-index.ts',
    find: '      const { count, bytes } = queue.settle(revision);',
    replace: '      const { count, bytes } = queue.settle(revision + 2);',
    options: ['--family', 'space'],
  },
  {
    name: 'sound-member-called-corrupt',
    rule: 'members are compared at equal indices',
    file: 'src/state-check.ts',
    find: 'return asked.map((index: unknown) => this.notes.get(Number(index)) ?? null);',
    replace: "return asked.map((index: unknown) => this.notes.get(Number(index)) ?? 'unknown');",
    options: ['--family', 'space'],
  },
  // ------------------------------------------------------------ leases and locks
  {
    name: 'expiry-without-term',
    rule: 'the expiry of a deposed leader is void',
    file: 'src/kv/state-machine.ts',
    find: 'if (command.term !== this.term) return DONE;',
    replace: 'if (command.term < 0) return DONE;',
    options: ['--size', '3', '--faults', 'tail', '--script', DEPOSED],
  },
  {
    name: 'lease-ends-early',
    rule: 'a lease lasts for its time',
    file: 'src/lease/expiry.ts',
    find: 'this.add({ id, ttl, remaining: 0 }, now + ttl * 1000, now);',
    replace: 'this.add({ id, ttl, remaining: 0 }, now + ttl * 500, now);',
  },
  {
    name: 'renewal-moves-nothing',
    rule: 'a renewed lease has its whole time again',
    file: 'src/lease/expiry.ts',
    find: 'lease.deadline = Math.max(lease.deadline, now + lease.ttl * 1000);',
    replace: 'lease.deadline = Math.max(lease.deadline, now);',
  },
  {
    name: 'new-leader-forgets-renewals',
    rule: 'a new leader gives every lease its time again',
    file: 'src/lease-keeper.ts',
    find: 'this.expiry.promote(clock.now(), machine().lessor.list(), electionMs);',
    replace: 'this.expiry.promote(clock.now() - 2000, machine().lessor.list(), electionMs);',
  },
  {
    name: 'every-entry-renews-all-leases',
    rule: 'a lease that nobody renews ends',
    file: 'src/lease-keeper.ts',
    find: 'if (this.primaryTerm === term) return;',
    replace: 'if (this.primaryTerm < 0) return;',
  },
  {
    name: 'renewal-without-the-quorum',
    rule: 'a renewal is confirmed by a quorum, or a deposed leader renews what its successor ends',
    file: 'src/lease-keeper.ts',
    find: '    await this.prove(context);\n    let term',
    replace: '    let term',
    options: ['--size', '3', '--script', ASLEEP],
  },
  {
    name: 'renewal-of-a-lease-that-ended-succeeds',
    rule: 'a lease that is gone cannot be renewed',
    file: 'src/lease-keeper.ts',
    find: "if (renewal.outcome === 'unknown') return 0;",
    replace: "if (renewal.outcome === 'unknown') return 5;",
  },
  {
    name: 'old-lease-keeps-the-key',
    rule: 'a key hangs on the lease of its last put alone',
    file: 'src/kv/store.ts',
    find: '      this.lessor.detach(oldLeaseSlot, key);\n',
    replace: '',
  },
  {
    name: 'revoke-leaves-a-key',
    rule: 'a lease takes all of its keys with it',
    file: 'src/kv/state-machine.ts',
    find: '    for (const key of keys) {\n      this.store.delete(key, false);',
    replace: '    for (const key of keys.slice(1)) {\n      this.store.delete(key, false);',
  },
  {
    name: 'lock-without-second-look',
    rule: 'a lock is granted only after a confirmed look at the own key',
    file: 'src/rpc/services/fair-queue.ts',
    find: '  assertOwn(own.response.kvs[0], place);\n  return own.revision;',
    replace: '  return own.revision;',
    options: ['--size', '3', '--script', ALONE_IN_TURN],
  },
  {
    name: 'lock-does-not-wait-for-who-is-ahead',
    rule: 'a lock waits for everybody who came before',
    file: 'src/rpc/services/fair-queue.ts',
    find: '    maxCreateRevision: place.createRevision - 1,',
    replace: '    maxCreateRevision: Math.max(1, place.createRevision - 3),',
  },
  // ------------------------------------------------------------ watches
  {
    name: 'progress-before-what-is-queued',
    rule: 'progress is told when everything up to it has been sent',
    file: 'src/watch/hub.ts',
    find: 'if (!over && (stream.paused || stream.lagging.size > 0)) continue;',
    replace: 'if (!over && stream.paused) continue;',
  },
  {
    name: 'watch-resumes-one-later',
    rule: 'a watch begins at the revision that was asked for',
    file: 'src/watch/hub.ts',
    find: 'const cursor = wish.startRevision === 0 ? now + 1 : wish.startRevision;',
    replace: 'const cursor = wish.startRevision === 0 ? now + 1 : wish.startRevision + 1;',
  },
  {
    name: 'watch-drops-what-does-not-fit',
    rule: 'a watcher that is slow gets everything later',
    file: 'src/watch/hub.ts',
    find: '      watcher.becomeLagging(batch.firstRevision);\n      this.catchingUp.consider(watcher.stream);\n      return;',
    replace: '      return;',
  },
  {
    name: 'watch-splits-a-revision',
    rule: 'all events of a revision come together',
    file: 'src/watch/hub.ts',
    find: '          last.events.push(event);\n          last.bytes += eventBytes(event);\n          return;',
    replace: '          return;',
  },
  {
    name: 'watch-misses-what-a-snapshot-skipped',
    rule: 'a snapshot is no gap for watchers',
    file: 'src/watch/hub.ts',
    find: 'if (watcher.synced) watcher.becomeLagging(firstUnseen);',
    replace: 'if (watcher.synced) watcher.becomeSynced(this.recent.next);',
  },
  {
    name: 'watch-repeats-after-a-snapshot',
    rule: 'a snapshot repeats nothing to watchers',
    file: 'src/watch/hub.ts',
    find: 'if (watcher.synced) watcher.becomeLagging(firstUnseen);',
    replace: 'if (watcher.synced) watcher.becomeLagging(Math.max(1, firstUnseen - 3));',
  },
  {
    name: 'watch-below-the-compaction-goes-on',
    rule: 'a watcher behind a compaction is told so',
    file: 'src/watch/catch-up.ts',
    find: '      this.surroundings.cancelCompacted(watcher);\n      return true;',
    replace: '      watcher.cursor = this.surroundings.compactRevision();\n      return true;',
  },
];

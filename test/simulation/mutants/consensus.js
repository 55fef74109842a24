/**
 * Planted bugs of consensus: elections, replication, commit, reads, transfer, snapshots (src/raft).
 *
 * Each is one wrong version of one rule. `find` occurs exactly once in `file`; scripts/mutants.js puts
 * `replace` in its place in a copy of the sources and runs seeds until a property is broken.
 */
const START_ALL = 'start member 1; start member 2; start member 3; ';

/** A leader that is cut off takes entries that nobody else has, and comes back when few others came. */
const LONG_TAIL = (
  'wait ms 2500; isolate member LEADER; wait ms 400; crash member LEADER how kill; heal; ' +
  `wait ms 1300; crash member LEADER how kill; ${START_ALL}`
).repeat(5);

/** Member 2 is told to stand, and nobody hears it: it stays behind in a term of its own. */
const LONELY_CANDIDATE =
  'wait ms 2500; cut from 2 to 1; cut from 2 to 3; transfer to 2; wait ms 5000; heal; '.repeat(4);

/** The two that are left have nobody who decides between them. */
const TWO_LEFT =
  `wait ms 2500; crash member LEADER how kill; wait ms 20000; expect-leader; ${START_ALL}`.repeat(
    6,
  );

/** A leader writes on alone, and hears of the others again over connections that are new. */
const CUT_OFF = 'wait ms 1500; isolate member LEADER; wait ms 4000; heal; wait ms 2000; '.repeat(4);

/** A leader sleeps while another is elected, and finds requests of that time when it wakes up. */
const ASLEEP =
  'wait ms 1500; freeze member LEADER; wait ms 3500; thaw member 1; thaw member 2; thaw member 3; '.repeat(
    8,
  );

/** Of one member another takes the place, and is not told that it did. */
const SUCCESSION =
  'wait ms 2500; add; wait ms 2500; slow-disk member 2 ms 150; replace member 1 by 2; wait ms 60; ' +
  'cut from 1 to 2; wait ms 4000; heal; slow-disk member 2 ms 1; wait ms 20000; expect-leader';

/** Of two members one is removed, and the other loses its power when that is hardly done. */
const DIVORCE =
  'wait ms 2500; transfer to 1; wait ms 2000; slow-disk member 1 ms 200; remove member 2; wait ms 450; crash member 1 how power; ' +
  'wait ms 200; slow-disk member 1 ms 1; start member 1; wait ms 20000; expect-leader';

/** Members 1 and 2 go on alone; what 2 takes waits for its disk until the others replace it. */
const BUSY_DISK = (
  'transfer to 1; wait ms 2500; slow-disk member 2 ms 3000; ' +
  [3, 4, 5]
    .flatMap((other) =>
      [1, 2].map((left) => `cut from ${left} to ${other}; cut from ${other} to ${left}; `),
    )
    .join('') +
  'wait ms 2000; heal; wait ms 3000; slow-disk member 2 ms 1; '
).repeat(4);

/**
 * Two members begin again and again while the leader and its term stay, and each is then heard by nobody
 * for a while: what it asks is lost, and what comes is of its last life.
 */
const SHORT_LIVES =
  'transfer to 1; wait ms 1500; ' +
  [2, 3, 2, 3, 2, 3, 2, 3]
    .map(
      (id) =>
        `crash member ${id} how kill; start member ${id}; wait ms 250; cut from ${id} to 1; ` +
        'wait ms 700; heal; wait ms 500; ',
    )
    .join('');

/**
 * A member is replaced, and while the old ones still believe in the old members the leader and the new
 * one are cut off from them, and have to elect.
 */
const SCHISM =
  'wait ms 2500; transfer to 3; wait ms 1500; add; wait ms 3000; slow-disk member 1 ms 400; ' +
  'slow-disk member 2 ms 400; wait ms 1000; replace member 1 by 4; wait ms 60; cut from 3 to 1; ' +
  'cut from 3 to 2; wait ms 500; cut from 1 to 3; cut from 2 to 3; cut from 1 to 4; cut from 4 to 1; ' +
  'cut from 2 to 4; cut from 4 to 2; slow-disk member 1 ms 1; slow-disk member 2 ms 1; ' +
  'crash member 3 how kill; start member 3; wait ms 5000; heal; wait ms 20000; expect-leader';

export const consensusMutants = [
  // ------------------------------------------------------------ elections
  {
    name: 'no-up-to-date-check',
    rule: 'a vote goes only to a log that is up to date',
    file: 'src/raft/log.ts',
    find: 'return term > this.lastTerm || (term === this.lastTerm && index >= this.lastIndex);',
    replace: 'return term >= 0 && index >= 0;',
  },
  {
    name: 'longest-log-wins',
    rule: 'the term of the last entry counts before the length of the log',
    file: 'src/raft/log.ts',
    find: 'return term > this.lastTerm || (term === this.lastTerm && index >= this.lastIndex);',
    replace: 'return term >= 0 && index >= this.lastIndex;',
    options: ['--size', '3', '--script', LONG_TAIL],
  },
  {
    name: 'newest-term-wins',
    rule: 'between logs of one last term the longer one counts',
    file: 'src/raft/log.ts',
    find: 'return term > this.lastTerm || (term === this.lastTerm && index >= this.lastIndex);',
    replace: 'return term >= this.lastTerm && index >= 0;',
  },
  {
    name: 'votes-twice-in-a-term',
    rule: 'one vote per term',
    file: 'src/raft/follower.ts',
    find: 'const isFree = raft.vote === candidate || (raft.vote === NO_NODE && raft.leader === NO_NODE);',
    replace: 'const isFree = candidate !== NO_NODE;',
  },
  {
    name: 'vote-cleared-when-stepping-down',
    rule: 'a vote lasts as long as its term',
    file: 'src/raft/raft.ts',
    find: 'if (term > this.term) this.vote = NO_NODE;',
    replace: 'this.vote = NO_NODE;',
  },
  {
    name: 'vote-before-durable',
    rule: 'a vote is told when it is on disk',
    file: 'src/raft/message.ts',
    find: '    case MessageKind.Vote:\n    case MessageKind.VoteResponse:\n    case MessageKind.AppendResponse:\n      return true;',
    replace: '    case MessageKind.AppendResponse:\n      return true;',
  },
  {
    name: 'own-vote-before-durable',
    rule: 'the own vote counts when it is on disk',
    file: 'src/raft/candidate.ts',
    find: '    raft.sendTo(voter, MessageKind.Vote, { index, logTerm, force, hintIndex: oldLeader });\n  }\n',
    replace:
      '    raft.sendTo(voter, MessageKind.Vote, { index, logTerm, force, hintIndex: oldLeader });\n  }\n  raft.votes.set(raft.id, true);\n  raft.durable = { ...raft.durable, term: raft.term, vote: raft.id };\n  countVotes(raft);\n',
  },
  {
    name: 'half-is-a-quorum',
    rule: 'a quorum is more than half',
    file: 'src/raft/quorum.ts',
    find: 'return Math.floor(count / 2) + 1;',
    replace: 'return Math.max(1, Math.floor(count / 2));',
  },
  {
    name: 'higher-term-ignored-in-answers',
    rule: 'who hears of a higher term steps down, or a member stuck there never comes back',
    file: 'src/raft/terms.ts',
    find: "raft.becomeFollower(message.term, NO_NODE, 'a peer has a higher term');",
    replace: "raft.drop(message, 'a peer has a higher term');",
    options: ['--size', '3', '--script', LONELY_CANDIDATE],
  },
  {
    name: 'higher-term-of-a-leader-ignored',
    rule: 'a leader of a higher term is followed',
    file: 'src/raft/terms.ts',
    find: "raft.becomeFollower(message.term, message.from, 'a leader has a higher term');\n      return false;",
    replace: 'return true;',
  },
  {
    name: 'timer-not-reset-by-the-leader',
    rule: 'a heartbeat resets the election timer',
    file: 'src/raft/follower.ts',
    find: 'raft.electionElapsed = 0;\n  if (!raft.leaderLost) return;',
    replace: 'if (!raft.leaderLost) return;',
  },
  {
    name: 'leads-without-a-quorum',
    rule: 'a leader that hears no quorum steps down',
    file: 'src/raft/leader.ts',
    find: 'if (raft.now - raft.lastQuorumTick >= electionTicks) {',
    replace: 'if (raft.now < 0) {',
    options: ['--family', 'graphs'],
  },
  {
    name: 'candidates-draw-nothing',
    rule: 'candidates that lost draw when to stand again, or two whose clocks tick together never part',
    file: 'src/raft/candidate.ts',
    find: 'raft.prng.below(Math.ceil(raft.options.electionTicks / 2));',
    replace: 'raft.prng.below(1);',
    options: ['--size', '3', '--script', TWO_LEFT],
  },
  {
    name: 'refusals-tell-no-commit',
    rule: 'who refuses a candidate tells it what is committed',
    file: 'src/raft/raft.ts',
    find: 'if (isVoteAnswer && this.role !== Role.Leader) learnCommit(this, message);',
    replace: '',
    options: ['--size', '1', '--script', SUCCESSION],
  },
  {
    name: 'entry-acknowledged-that-was-cut-off',
    rule: 'an entry that was replaced before it was written is not acknowledged',
    file: 'src/raft/follower.ts',
    find: 'raft.withdrawAcknowledgementsAbove(replaced - 1);',
    replace: '',
    options: ['--size', '5', '--script', BUSY_DISK],
  },
  {
    name: 'candidate-keeps-standing-in-its-term',
    rule: 'each candidacy has a new term',
    file: 'src/raft/raft.ts',
    find: 'this.enter(Role.Candidate, this.term + 1, NO_NODE);',
    replace: 'this.enter(Role.Candidate, Math.max(1, this.term), NO_NODE);',
  },
  // ------------------------------------------------------------ replication and commit
  {
    name: 'commits-old-term-by-count',
    rule: 'only an entry of the own term is committed by counting (paper, figure 8)',
    file: 'src/raft/leader.ts',
    find: 'if (index <= before || log.termAt(index) !== raft.term) return;',
    replace: 'if (index <= before) return;',
  },
  {
    name: 'best-match-commits',
    rule: 'the commit is what a quorum has, not what one has',
    file: 'src/raft/quorum.ts',
    find: 'return values[count - majorityOf(count)] as number;',
    replace: 'return values[count - 1] as number;',
  },
  {
    name: 'matches-not-sorted',
    rule: 'the quorum value is taken from sorted matches',
    file: 'src/raft/quorum.ts',
    find: 'while (at > 0 && (values[at - 1] as number) > value) {',
    replace: 'while (at > count && (values[at - 1] as number) > value) {',
  },
  {
    name: 'leader-counts-before-fsync',
    rule: 'a leader counts its own entries when they are on disk',
    file: 'src/raft/raft.ts',
    find: 'member === this.id ? this.log.persisted :',
    replace: 'member === this.id ? this.log.lastIndex :',
  },
  {
    name: 'ack-before-durable',
    rule: 'an append is acknowledged when it is on disk',
    file: 'src/raft/message.ts',
    find: '    case MessageKind.Vote:\n    case MessageKind.VoteResponse:\n    case MessageKind.AppendResponse:\n      return true;',
    replace: '    case MessageKind.Vote:\n    case MessageKind.VoteResponse:\n      return true;',
  },
  {
    name: 'no-previous-term-check',
    rule: 'an append goes in only behind an entry of the same term',
    file: 'src/raft/follower.ts',
    find: 'if (log.termAt(index) !== logTerm) {',
    replace: 'if (index > log.lastIndex) {',
  },
  {
    name: 'append-cuts-newer-entries',
    rule: 'a delayed append that holds a prefix of the log changes nothing',
    file: 'src/raft/log.ts',
    find: 'if (at === entries.length) return 0;',
    replace:
      'if (at === entries.length) { const end = (entries[at - 1]?.index ?? this.lastIndex) + 1; if (at > 0 && end <= this.lastIndex && end > this.committed) this.truncate(end); return 0; }',
  },
  {
    name: 'follower-commits-unchecked-tail',
    rule: 'a follower commits no further than the append reached',
    file: 'src/raft/follower.ts',
    find: 'log.commitTo(Math.min(message.commit, end));',
    replace: 'log.commitTo(Math.min(message.commit, log.lastIndex));',
    options: ['--size', '3', '--script', CUT_OFF],
  },
  {
    name: 'heartbeat-commits-beyond-match',
    rule: 'a heartbeat tells no commit above the match of its receiver',
    file: 'src/raft/leader.ts',
    find: 'const commit = Math.min(index, raft.log.committed);',
    replace: 'const commit = raft.log.committed;',
  },
  {
    name: 'match-from-what-was-sent',
    rule: 'the match of a peer is what it acknowledged',
    file: 'src/raft/leader.ts',
    find: 'const hasMoved = progress.matchTo(message.index);',
    replace: 'const hasMoved = progress.matchTo(Math.max(message.index, progress.nextIndex - 1));',
  },
  {
    name: 'rejection-taken-for-acknowledgement',
    rule: 'a rejected append acknowledges nothing',
    file: 'src/raft/follower.ts',
    find: 'const fields = { index, reject: true, hintIndex, hintTerm, round };',
    replace: 'const fields = { index: hintIndex, reject: false, hintIndex, hintTerm, round };',
  },
  {
    name: 'truncated-entries-still-count-as-durable',
    rule: 'what is cut off is not durable any more',
    file: 'src/raft/log.ts',
    find: '    this.persisted = Math.min(this.persisted, from - 1);\n    this.inFlightLast = Math.min(this.inFlightLast, from - 1);\n',
    replace: '    this.persisted = Math.min(this.persisted, this.lastIndex + 64);\n',
  },
  {
    name: 'write-in-flight-covers-what-replaced-it',
    rule: 'a write that ends makes durable what it held, not what has replaced it since (ABA)',
    file: 'src/raft/log.ts',
    find: '    this.inFlightLast = Math.min(this.inFlightLast, from - 1);\n',
    replace: '',
    options: ['--size', '5', '--script', BUSY_DISK],
  },
  {
    name: 'probe-sent-once',
    rule: 'a probe that was lost goes again',
    file: 'src/raft/leader.ts',
    find: '  progress.probeSent = false;\n  if (progress.matchIndex < raft.log.lastIndex) progress.emptyWanted = true;',
    replace: '  if (progress.matchIndex < raft.log.lastIndex) progress.emptyWanted = true;',
  },
  {
    name: 'lost-window-unnoticed',
    rule: 'a window of appends that was lost shows itself',
    file: 'src/raft/leader.ts',
    find: '  if (progress.matchIndex < raft.log.lastIndex) progress.emptyWanted = true;',
    replace: '',
  },
  {
    name: 'next-index-falls-below-match',
    rule: 'what a peer has acknowledged is never asked for again, and a stale rejection changes nothing',
    file: 'src/raft/progress.ts',
    find: 'if (rejected <= this.matchIndex) return false;\n      this.becomeProbe();',
    replace: 'this.matchIndex = Math.min(this.matchIndex, rejected);\n      this.becomeProbe();',
  },
  {
    name: 'answers-of-an-earlier-life-count',
    rule: 'an answer to an earlier life of this process is dropped',
    file: 'src/raft/raft.ts',
    find: 'if (isResponse(kind) && message.toBoot !== this.boot) {',
    replace: 'if (isResponse(kind) && message.toBoot < 0) {',
    options: ['--size', '3', '--faults', 'replay', '--script', SHORT_LIVES],
  },
  {
    name: 'no-entry-at-the-start-of-a-term',
    rule: 'a new leader appends an entry of its term',
    file: 'src/raft/leader.ts',
    find: 'appendEntries(raft, EntryType.Noop, [EMPTY]);',
    replace: '',
  },
  // ------------------------------------------------------------ reads
  {
    name: 'read-without-a-quorum',
    rule: 'a read is confirmed by a quorum that still follows',
    file: 'src/raft/leader.ts',
    find: 'const round = quorumValue(raft.configuration, raft.ackedRoundOf);',
    replace: 'const round = raft.reads.started;',
    options: ['--size', '3', '--script', ASLEEP],
  },
  {
    name: 'read-before-the-first-commit-of-the-term',
    rule: 'a new leader does not know the commit until it has committed in its term',
    file: 'src/raft/leader.ts',
    find: 'return commitsOwnTerm(raft) ? raft.log.committed : null;',
    replace: 'return raft.log.committed;',
  },
  {
    name: 'read-joins-a-round-under-way',
    rule: 'a round confirms only reads that were there when it began',
    file: 'src/raft/reads.ts',
    find: 'const round = index === null ? 0 : this.started + 1;',
    replace: 'const round = index === null ? 0 : Math.max(1, this.started);',
  },
  {
    name: 'reads-survive-their-leadership',
    rule: 'reads that wait fail with the leadership',
    file: 'src/raft/leader.ts',
    find: '  for (const read of raft.reads.takeAll()) failRead(raft, read);\n',
    replace:
      '  for (const read of raft.reads.takeAll()) raft.answerRead(read.requestId, read.index);\n',
    options: ['--size', '3', '--script', ASLEEP],
  },
  {
    name: 'follower-reads-at-its-own-commit',
    rule: 'a follower asks the leader how far to read',
    file: 'src/raft/raft.ts',
    find: 'return this.forwardedReads.add(requestId);',
    replace: 'this.answerRead(requestId, this.log.committed);\n    return true;',
  },
  {
    name: 'read-without-apply',
    rule: 'a read waits until its index is applied',
    file: 'src/read-rounds.ts',
    find: 'if (index <= appliedIndex) for',
    replace: 'if (index >= 0) for',
  },
  // ------------------------------------------------------------ transfer and snapshots
  {
    name: 'transfer-for-ever',
    rule: 'a transfer that does not happen ends',
    file: 'src/raft/leader.ts',
    find: 'if (transfer !== null && raft.now - transfer.startTick >= electionTicks) {',
    replace: 'if (transfer !== null && raft.now < 0) {',
  },
  {
    name: 'older-snapshot-replaces-newer-state',
    rule: 'a snapshot that brings nothing new is ignored',
    file: 'src/raft/snapshot-install.ts',
    find: "  if (snapshot.index <= log.committed) return 'the log is committed beyond it';\n",
    replace: '',
    options: ['--faults', 'partitions,kills,tail,flapping'],
  },
  {
    name: 'snapshot-state-never-ends',
    rule: 'a peer whose snapshot was lost is probed again',
    file: 'src/raft/leader.ts',
    find: 'if (raft.now - progress.snapshotTick < patience) return;',
    replace: 'if (patience > 0) return;',
  },
  {
    name: 'compacted-entries-are-not-replaced-by-a-snapshot',
    rule: 'who is behind the first entry gets a snapshot',
    file: 'src/raft/leader.ts',
    find: '  raft.wantSnapshot(progress.id);\n',
    replace: '',
  },
  // ------------------------------------------------------------ members that change
  {
    name: 'removed-member-leaves-at-once',
    rule: 'a removed member votes until the others know, they may need it for the old majority',
    file: 'src/cluster-node.ts',
    find: 'this.clock.after(LEAVE_MS, () => {',
    replace: 'this.clock.after(LEAVE_MS / 30_000, () => {',
    options: ['--size', '2', '--script', DIVORCE],
  },
  {
    name: 'removed-member-sent-away-too-early',
    rule: 'who turns a removed member away knows of the removal after a power failure too',
    file: 'src/cluster-node.ts',
    find: '    if (members.isRemoved(memberId) && !this.farewellDue) {\n',
    replace: '    if (members.isRemoved(memberId)) {\n',
    options: ['--size', '2', '--script', DIVORCE],
  },
  {
    name: 'learner-counts',
    rule: 'a learner counts for nothing',
    file: 'src/raft/quorum.ts',
    find: 'const incoming = majorityValue(configuration.voters, valueAt);',
    replace:
      'const incoming = majorityValue([...configuration.voters, ...configuration.learners], valueAt);',
  },
  {
    name: 'learner-campaigns',
    rule: 'a learner never stands for election',
    file: 'src/raft/raft.ts',
    find: '    if (!isVoter(this.configuration, this.id)) return false;\n',
    replace: '',
  },
  {
    name: 'joint-phase-commits-with-the-new-half',
    rule: 'in a joint phase both halves commit',
    file: 'src/raft/quorum.ts',
    find: 'return Math.min(incoming, majorityValue(configuration.votersOutgoing, valueAt));',
    replace: 'return incoming;',
  },
  {
    name: 'joint-phase-votes-with-the-new-half',
    rule: 'in a joint phase both halves elect',
    file: 'src/raft/quorum.ts',
    find: 'const outgoing = majorityVote(configuration.votersOutgoing, votes);',
    replace: 'const outgoing = majorityVote([], votes);',
    options: ['--size', '3', '--script', SCHISM],
  },
  {
    name: 'several-voters-change-without-a-joint-phase',
    rule: 'a change of several voters goes through a joint phase',
    file: 'src/raft/membership.ts',
    find: '    votersOutgoing: ascending(outgoing),\n    learners: ascending(learners),\n    learnersNext: ascending(learnersNext),\n    autoLeave,',
    replace:
      '    votersOutgoing: [],\n    learners: ascending(learners),\n    learnersNext: [],\n    autoLeave: autoLeave && outgoing.size < 0,',
  },
  {
    name: 'joint-phase-never-ends',
    rule: 'a joint phase ends by itself, under the next leader too',
    file: 'src/raft/leader.ts',
    find: 'if (raft.configuration.autoLeave) proposeConfiguration(raft, EMPTY);',
    replace: 'if (raft.configuration.autoLeave && raft.now < 0) proposeConfiguration(raft, EMPTY);',
  },
  {
    name: 'changes-overlap',
    rule: 'one change of members at a time',
    file: 'src/raft/leader.ts',
    find: 'return raft.pendingConfigurationIndex <= raft.log.applied && commitsOwnTerm(raft);',
    replace: 'return commitsOwnTerm(raft);',
  },
  {
    name: 'removed-leader-leads-on',
    rule: 'a leader that lost its vote steps down',
    file: 'src/raft/leader.ts',
    find: '  if (!isVoter(configuration, raft.id)) {\n    handOverAndStepDown(raft);',
    replace: '  if (configuration.voters.length === 0) {\n    handOverAndStepDown(raft);',
  },
  {
    name: 'snapshot-leaves-the-configuration',
    rule: 'the configuration is part of a snapshot',
    file: 'src/raft/snapshot-install.ts',
    find: '  raft.configuration = snapshot.configuration;\n',
    replace: '',
  },
  {
    name: 'removed-id-comes-back',
    rule: 'an id is used once',
    file: 'src/kv/members.ts',
    find: 'if (step.id <= 0 || known !== undefined || this.isRemoved(step.id)) return',
    replace: 'if (step.id <= 0 || known !== undefined) return',
  },
  {
    name: 'removed-ids-not-in-the-tables',
    rule: 'a restart knows which ids were removed',
    file: 'src/kv/tables.ts',
    find: '  writeIds(writer, tables.removed);\n',
    replace: '  writeIds(writer, []);\n',
  },
  {
    name: 'removed-member-is-welcome',
    rule: 'who was removed is told so and not spoken with',
    file: 'src/cluster-node.ts',
    find: '    if (members.isRemoved(memberId) && !this.farewellDue) {\n',
    replace: '    if (memberId < 0) {\n',
  },
];

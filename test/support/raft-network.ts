/**
 * A cluster of Raft cores in one thread, with a network and disks that fail, all from one seed.
 *
 * Messages are delayed, reordered, duplicated, lost and cut per direction; they outlive the restart of
 * their sender and receiver. A crash loses what was not synced: the write in flight is lost or kept as
 * a whole, a hard state written without sync may fall back. After every input to a core the invariants
 * of that core and those between members are checked:
 *
 * 1. one leader per term. 2. a new leader holds every committed entry. 3. an entry is committed only
 * when it is durable on a majority. 4. all members commit the same entry at an index, and apply in
 * order. 5. logs that agree in the term at an index agree up to there. 6. the index of a read is not
 * below any commit that was known when it was asked.
 */
import { expect } from 'vitest';
import { Prng } from '../../src/prng.js';
import { configurationOf } from '../../src/raft/configuration.js';
import {
  type Entry,
  type EntryId,
  EntryType,
  type LogIndex,
  type NodeId,
  payloadOf,
  type Term,
} from '../../src/raft/entry.js';
import { checkInvariants, checkTransition, observe } from '../../src/raft/invariants.js';
import {
  enterJoint,
  leaveJoint,
  type MemberChange,
  simpleChange,
} from '../../src/raft/membership.js';
import {
  type Message,
  MessageKind,
  makeMessage,
  type SnapshotMeta,
} from '../../src/raft/message.js';
import { Raft, type RaftOptions } from '../../src/raft/raft.js';
import { type HardState, type Persist, type RaftEvent, Role } from '../../src/raft/ready.js';

export interface NetworkOptions {
  readonly seed: number;
  readonly members: number;
  /** Voters at the start; the others are running strangers. All members unless given. */
  readonly voters?: readonly NodeId[];
  /** Chances per message. */
  readonly loss?: number;
  readonly duplication?: number;
  readonly maxDelay?: number;
  /** Rounds until a write is durable, and until entries are applied, at most. */
  readonly maxWriteDelay?: number;
  readonly maxApplyDelay?: number;
  readonly raft?: Partial<RaftOptions>;
}

interface Disk {
  boot: number;
  hardState: HardState;
  synced: HardState;
  base: SnapshotMeta;
  before: EntryId;
  entries: Entry[];
}

interface Write {
  readonly persist: Persist;
  readonly messages: readonly Message[];
  readonly due: number;
}

interface Read {
  readonly floor: LogIndex;
}

export interface SimulatedMember {
  readonly id: NodeId;
  readonly disk: Disk;
  raft: Raft | null;
  write: Write | null;
  applyQueue: { entries: readonly Entry[]; due: number }[];
  applied: LogIndex;
  reads: Map<number, Read>;
}

interface Flying {
  readonly message: Message;
  readonly due: number;
}

interface Committed {
  readonly term: Term;
  readonly record: Uint8Array;
}

const NO_FAULTS = { loss: 0, duplication: 0, maxDelay: 1, maxWriteDelay: 1, maxApplyDelay: 1 };

export class RaftNetwork {
  readonly prng: Prng;
  readonly members: SimulatedMember[] = [];
  readonly committed: Committed[] = [];
  readonly leaders = new Map<Term, NodeId>();
  readonly eventCounts = new Map<string, number>();
  readonly cuts = new Set<string>();
  readonly events: { id: NodeId; event: RaftEvent }[] = [];
  now = 0;
  readsAnswered = 0;
  readsFailed = 0;
  configurationsApplied = 0;
  private options: Required<NetworkOptions>;
  private flying: Flying[] = [];
  private streams: { from: NodeId; fromBoot: number; to: NodeId; message: Message; due: number }[] =
    [];
  private requestCount = 0;
  private payloadCount = 0;

  constructor(options: NetworkOptions) {
    const ids = Array.from({ length: options.members }, (_, at) => at + 1);
    this.options = { ...NO_FAULTS, raft: {}, voters: ids, ...options };
    this.prng = new Prng(options.seed);
    for (const id of ids) {
      const base = {
        index: 0,
        term: 0,
        configuration: configurationOf(this.options.voters),
        generation: 0,
      };
      const hardState = { term: 0, vote: 0, commit: 0 };
      const disk: Disk = {
        boot: 0,
        hardState,
        synced: hardState,
        base,
        before: { index: 0, term: 0 },
        entries: [],
      };
      const member = {
        id,
        disk,
        raft: null,
        write: null,
        applyQueue: [],
        applied: 0,
        reads: new Map(),
      };
      this.members.push(member);
      this.start(member);
    }
  }

  member(id: NodeId): SimulatedMember {
    return this.members[id - 1]!;
  }

  raft(id: NodeId): Raft {
    return this.member(id).raft!;
  }

  /** The member that leads the highest term among the running ones. */
  leader(): Raft | null {
    let best: Raft | null = null;
    for (const { raft } of this.members) {
      if (raft?.role === Role.Leader && (best === null || raft.term > best.term)) best = raft;
    }
    return best;
  }

  // -------------------------------------------------------------- faults

  start(member: SimulatedMember): void {
    const { disk } = member;
    disk.boot += 1;
    member.raft = new Raft(
      {
        id: member.id,
        boot: disk.boot,
        seed: this.prng.u32(),
        electionTicks: 10,
        heartbeatTicks: 2,
        ...this.options.raft,
      },
      {
        hardState: disk.hardState,
        base: disk.base,
        before: disk.before,
        entries: [...disk.entries],
      },
    );
    member.applied = disk.base.index;
    member.applyQueue = [];
    member.reads = new Map();
    checkInvariants(member.raft);
  }

  /** Power loss: what was not synced is gone, or, by chance, there after all. */
  crash(member: SimulatedMember, tellPeers: boolean): void {
    if (member.write !== null && this.prng.chance(0.5)) this.toDisk(member, member.write.persist);
    else if (this.prng.chance(0.5)) member.disk.hardState = member.disk.synced;
    member.write = null;
    member.raft = null;
    if (!tellPeers) return;
    for (const { id, raft } of this.members) {
      if (raft !== null) this.act(this.member(id), (core) => core.peerDisconnected(member.id));
    }
  }

  cut(from: NodeId, to: NodeId): void {
    this.cuts.add(`${from}>${to}`);
  }

  /** Cuts all links between the two groups. */
  partition(left: readonly NodeId[], right: readonly NodeId[]): void {
    for (const a of left) {
      for (const b of right) {
        this.cut(a, b);
        this.cut(b, a);
      }
    }
  }

  heal(): void {
    this.cuts.clear();
    this.options = { ...this.options, ...NO_FAULTS };
    for (const member of this.members) if (member.raft === null) this.start(member);
  }

  dropFlying(): void {
    this.flying = [];
  }

  // -------------------------------------------------------------- client

  /** Proposes one small payload at the member. */
  propose(id: NodeId, count = 1): boolean {
    const payloads: Uint8Array[] = [];
    for (let number = 0; number < count; number += 1) {
      this.payloadCount += 1;
      const payload = new Uint8Array(8);
      new DataView(payload.buffer).setFloat64(0, this.payloadCount);
      payloads.push(payload);
    }
    let ok = false;
    this.act(this.member(id), (raft) => {
      ok = raft.propose(payloads).ok;
    });
    return ok;
  }

  /** Proposes a change of the membership; it is decided where it is applied. */
  change(id: NodeId, changes: readonly MemberChange[], isJoint: boolean): boolean {
    const text = JSON.stringify({ changes, isJoint });
    let ok = false;
    this.act(this.member(id), (raft) => {
      ok = raft.proposeConfiguration(Buffer.from(text)).ok;
    });
    return ok;
  }

  read(id: NodeId): void {
    const member = this.member(id);
    this.requestCount += 1;
    const requestId = this.requestCount;
    const floor = this.committed.length;
    this.act(member, (raft) => {
      if (raft.readIndex(requestId)) member.reads.set(requestId, { floor });
    });
  }

  checkpoint(id: NodeId): void {
    const member = this.member(id);
    const { raft, disk, applied } = member;
    if (raft === null || applied <= disk.base.index) return;
    disk.base = this.metaAt(member, applied);
  }

  compact(id: NodeId): void {
    const member = this.member(id);
    const { disk, raft } = member;
    if (raft === null) return;
    const index = Math.min(disk.base.index, raft.appliedIndex);
    this.act(member, (core) => core.compactTo(index));
    if (index <= disk.before.index) return;
    const term = this.committed[index - 1]!.term;
    disk.entries.splice(0, index - disk.before.index);
    disk.before = { index, term };
  }

  private metaAt(member: SimulatedMember, index: LogIndex): SnapshotMeta {
    return {
      index,
      term: this.committed[index - 1]!.term,
      configuration: member.raft!.configuration,
      generation: member.disk.base.generation + 1,
    };
  }

  // -------------------------------------------------------------- time

  /** One round: some members tick, due messages and writes arrive, everybody's output is taken. */
  round(tickChance = 0.5): void {
    this.now += 1;
    for (const member of this.members) {
      if (member.raft !== null && this.prng.chance(tickChance)) {
        this.act(member, (raft) => raft.tick());
      }
    }
    this.deliver();
    this.deliverStreams();
    for (const member of this.members) this.pump(member);
    if (this.now % 64 === 0) this.checkLogMatching();
  }

  run(rounds: number, tickChance = 0.5): void {
    for (let count = 0; count < rounds; count += 1) this.round(tickChance);
  }

  /** Rounds until the condition holds; fails after `limit`. */
  runUntil(what: string, condition: () => boolean, limit = 2000): void {
    for (let count = 0; count < limit; count += 1) {
      if (condition()) return;
      this.round();
    }
    expect.fail(`not within ${limit} rounds: ${what}\n${this.describe()}`);
  }

  describe(): string {
    return this.members
      .map(({ id, raft }) => {
        if (raft === null) return `${id}: down`;
        const { role, term, leader, commitIndex, appliedIndex, lastIndex } = raft;
        const peers = raft.status().peers.map((p) => `${p.id}:${p.state}:${p.match}/${p.next}`);
        return `${id}: role ${role} term ${term} leader ${leader} commit ${commitIndex} applied ${appliedIndex} last ${lastIndex} ${peers.join(' ')}`;
      })
      .join('\n');
  }

  /** One input to one core, with all checks. */
  act(member: SimulatedMember, input: (raft: Raft) => void): void {
    const { raft } = member;
    if (raft === null) return;
    const before = observe(raft);
    input(raft);
    checkInvariants(raft);
    checkTransition(before, raft);
    this.checkLeader(raft, before.role);
    this.checkCommit(raft, before.committed);
  }

  private deliver(): void {
    const due: Flying[] = [];
    const later: Flying[] = [];
    for (const flying of this.flying) (flying.due <= this.now ? due : later).push(flying);
    this.flying = later;
    while (due.length > 0) {
      const [flying] = due.splice(this.prng.below(due.length), 1);
      const { message } = flying!;
      if (this.cuts.has(`${message.from}>${message.to}`)) continue;
      if (this.prng.chance(this.options.duplication)) this.launch(message);
      this.act(this.member(message.to), (raft) => raft.step(message));
    }
  }

  private deliverStreams(): void {
    const due = this.streams.filter((stream) => stream.due <= this.now);
    this.streams = this.streams.filter((stream) => stream.due > this.now);
    for (const { from, fromBoot, to, message } of due) {
      const receiver = this.member(to);
      const ok =
        receiver.raft !== null &&
        !this.cuts.has(`${from}>${to}`) &&
        !this.prng.chance(this.options.loss);
      if (ok) this.act(receiver, (raft) => raft.step(message));
      const sender = this.member(from);
      if (sender.disk.boot !== fromBoot) continue;
      this.act(sender, (raft) => raft.reportSnapshot(to, ok));
    }
  }

  private send(messages: readonly Message[]): void {
    for (const message of messages) {
      if (!this.prng.chance(this.options.loss)) this.launch(message);
    }
  }

  private launch(message: Message): void {
    this.flying.push({ message, due: this.now + 1 + this.prng.below(this.options.maxDelay) });
  }

  private pump(member: SimulatedMember): void {
    const { raft, write } = member;
    if (raft === null) return;
    if (write !== null && write.due <= this.now) {
      member.write = null;
      this.toDisk(member, write.persist);
      this.act(member, (core) => core.persisted(write.persist.token));
      this.send(write.messages);
    }
    while (member.applyQueue.length > 0 && member.applyQueue[0]!.due <= this.now) {
      this.apply(member, member.applyQueue.shift()!.entries);
    }
    let ready = null;
    this.act(member, (core) => {
      ready = core.takeReady();
    });
    if (ready !== null) this.handle(member, ready);
  }

  private handle(member: SimulatedMember, ready: NonNullable<ReturnType<Raft['takeReady']>>): void {
    const raft = member.raft!;
    for (const event of ready.events) {
      this.events.push({ id: member.id, event });
      this.eventCounts.set(event.kind, (this.eventCounts.get(event.kind) ?? 0) + 1);
      demand(event.kind !== 'log-regressed', `false alarm at ${member.id}`);
    }
    if (ready.persist === null) demand(ready.sendAfterPersist.length === 0, 'held for no write');
    else {
      demand(member.write === null, 'two writes are in flight');
      const due = this.now + this.prng.below(this.options.maxWriteDelay);
      member.write = { persist: ready.persist, messages: ready.sendAfterPersist, due };
    }
    this.send(ready.sendNow);
    if (ready.committed.length > 0) {
      const due = this.now + this.prng.below(this.options.maxApplyDelay);
      member.applyQueue.push({ entries: ready.committed, due });
    }
    for (const { requestId, index } of ready.reads) {
      const read = member.reads.get(requestId);
      expect(read, `read ${requestId} is answered once`).toBeDefined();
      expect(index, `read ${requestId} at ${member.id} is stale`).toBeGreaterThanOrEqual(
        read!.floor,
      );
      member.reads.delete(requestId);
      this.readsAnswered += 1;
    }
    for (const requestId of ready.readsFailed) {
      expect(member.reads.delete(requestId)).toBe(true);
      this.readsFailed += 1;
    }
    for (const to of ready.snapshotsWanted) this.stream(member, raft, to);
  }

  private stream(member: SimulatedMember, raft: Raft, to: NodeId): void {
    this.checkpoint(member.id);
    const { base: snapshot, boot: fromBoot } = member.disk;
    const message = makeMessage(MessageKind.Snapshot, member.id, to, raft.term, {
      fromBoot,
      snapshot,
    });
    const due = this.now + 1 + this.prng.below(8 * this.options.maxDelay);
    this.streams.push({ from: member.id, fromBoot, to, message, due });
  }

  private apply(member: SimulatedMember, entries: readonly Entry[]): void {
    for (const entry of entries) {
      // A snapshot may have overtaken what was handed out.
      if (entry.index <= member.applied) continue;
      demand(entry.index === member.applied + 1, `member ${member.id} applies out of order`);
      const committed = this.committed[entry.index - 1]!;
      demand(committed.term === entry.term, `applies another entry at ${entry.index}`);
      demandSame(committed.record, entry.record);
      member.applied = entry.index;
      if (entry.type === EntryType.Configuration) this.applyConfiguration(member, entry);
    }
    const last = entries[entries.length - 1]!.index;
    this.act(member, (raft) => raft.applied(last));
  }

  private applyConfiguration(member: SimulatedMember, entry: Entry): void {
    const { configuration } = member.raft!;
    const bytes = payloadOf(entry);
    let transition = leaveJoint(configuration);
    if (bytes.length > 0) {
      const text = Buffer.from(bytes).toString();
      const { changes, isJoint } = JSON.parse(text) as {
        changes: MemberChange[];
        isJoint: boolean;
      };
      transition = isJoint
        ? enterJoint(configuration, changes, true)
        : simpleChange(configuration, changes);
    }
    const next = transition.ok ? transition.configuration : null;
    if (next !== null) this.configurationsApplied += 1;
    this.act(member, (raft) => raft.applyConfiguration(next));
  }

  private toDisk(member: SimulatedMember, persist: Persist): void {
    const { disk } = member;
    const { hardState, truncateFrom, entries, snapshot } = persist;
    if (hardState !== null) disk.hardState = hardState;
    if (persist.mustSync) disk.synced = disk.hardState;
    if (truncateFrom > 0) disk.entries.length = truncateFrom - disk.before.index - 1;
    for (const entry of entries) {
      const next = disk.before.index + disk.entries.length + 1;
      demand(entry.index === next, `writes ${entry.index}, the disk is at ${next}`);
      disk.entries.push(entry);
    }
    if (snapshot === null) return;
    expect(entries).toHaveLength(0);
    disk.base = snapshot;
    disk.before = { index: snapshot.index, term: snapshot.term };
    disk.entries = [];
    member.applied = snapshot.index;
    member.applyQueue = [];
  }

  // -------------------------------------------------------------- between members

  private checkLeader(raft: Raft, roleBefore: Role): void {
    if (raft.role !== Role.Leader) return;
    const known = this.leaders.get(raft.term);
    demand((known ?? raft.id) === raft.id, `two leaders in term ${raft.term}`);
    this.leaders.set(raft.term, raft.id);
    if (roleBefore === Role.Leader) return;
    for (let index = raft.firstIndex; index <= this.committed.length; index += 1) {
      const { term } = this.committed[index - 1]!;
      demand(raft.log.termAt(index) === term, `leader ${raft.id} misses committed ${index}`);
    }
  }

  private checkCommit(raft: Raft, before: LogIndex): void {
    const start = Math.max(before + 1, raft.firstIndex);
    for (let index = start; index <= raft.commitIndex; index += 1) {
      const entry = raft.log.entryAt(index);
      const known = this.committed[index - 1];
      if (known === undefined) {
        expect(index).toBe(this.committed.length + 1);
        this.checkDurable(raft, entry);
        this.committed.push({ term: entry.term, record: entry.record });
      } else {
        demand(entry.term === known.term, `entry ${index} is committed twice`);
        demandSame(known.record, entry.record);
      }
    }
  }

  private checkDurable(raft: Raft, { index, term }: Entry): void {
    const { voters, votersOutgoing } = raft.configuration;
    for (const half of [voters, votersOutgoing]) {
      let count = 0;
      for (const { id, disk } of this.members) {
        if (!half.includes(id)) continue;
        const entry = disk.entries[index - disk.before.index - 1];
        if (index <= disk.before.index || entry?.term === term) count += 1;
      }
      const isDurable = half.length === 0 || count * 2 > half.length;
      demand(isDurable, `entry ${index} is committed, but durable on ${count} of ${half}`);
    }
  }

  checkLogMatching(): void {
    for (const { raft: left } of this.members) {
      for (const { raft: right } of this.members) {
        if (left === null || right === null || left.id >= right.id) continue;
        const first = Math.max(left.firstIndex, right.firstIndex);
        let index = Math.min(left.lastIndex, right.lastIndex);
        while (index >= first && left.log.termAt(index) !== right.log.termAt(index)) index -= 1;
        for (; index >= first; index -= 1) {
          const [a, b] = [left.log.entryAt(index), right.log.entryAt(index)];
          demand(a.term === b.term, `logs of ${left.id} and ${right.id} differ at ${index}`);
          demandSame(a.record, b.record);
        }
      }
    }
  }
}

/** Cheaper than expect, which runs here millions of times. */
function demand(condition: boolean, text: string): void {
  if (!condition) throw new Error(text);
}

function demandSame(a: Uint8Array, b: Uint8Array): void {
  if (a !== b) demand(Buffer.compare(a, b) === 0, 'bytes of one entry differ');
}

/**
 * The replicated state: entries are the only thing that changes it.
 *
 * cluster-node.ts applies every committed entry, in order, and reads between them. An entry that touches many
 * keys may take several turns of the event loop: `begin` returns null, and `goOn` is called until it does not.
 * Until then the machine is *midway*: its applied index and its revision are those before the entry, reads at that
 * revision that have begun go on, but the newest revision of a key may be one of the entry's. So whoever begins to
 * read, or asks for the state as a whole, waits until it is not midway.
 *
 * Everything here is a function of the entries alone: no clock, no randomness, no order of insertion that shows.
 * So all members are equal at the same index, and the hash chain proves it.
 *
 * Applying is total. What a client may get wrong is a value in the result (`ok: false` with a code), the
 * same on every member, also for bytes that are no command. An exception is a bug and ends the process,
 * because half an entry may be applied.
 *
 * The answer is built only where someone waits for it: on the member that proposed. Events are built
 * everywhere, because every member serves watchers.
 *
 * Invariants: 1. entries are applied once each, index by index, terms never descending. 2. an entry
 * makes at most one revision. 3. an entry that is refused changes nothing but the applied index, the
 * hash chain and, when it was refused for its size, the space alarm. 4. a lease and its keys vanish in
 * one revision. 5. what an accepted write adds stays within the quota. 6. the alarm that the quota
 * raised stands for as long as the use is above the low-water mark (space.ts), and no entry longer. 7. while authentication is on, no command does
 * what its actor has no right to in the state in front of the entry.
 */
import { assert, assertNever } from '../assert.js';
import type { Actor } from '../auth/actor.js';
import type { AuthCommand } from '../auth/auth-command.js';
import { AuthState } from '../auth/auth-state.js';
import { type AuthTables, NO_AUTH } from '../auth/auth-tables.js';
import { authRefusalText } from '../auth/refusals.js';
import type { ErrorCode } from '../errors.js';
import type { Int64 } from '../int64.js';
import type { LeaseChanges, LeaseState } from '../lease/lessor.js';
import { Lessor } from '../lease/lessor.js';
import type { Configuration } from '../raft/configuration.js';
import type { Alarm } from './alarms.js';
import { ALL_CAUSES, AlarmCause, AlarmTable } from './alarms.js';
import { refusalOf } from './authorize.js';
import type { Command, Finding, MemberAttributes } from './command.js';
import { AlarmType, decodeEnvelope } from './command.js';
import type { KvEvent } from './event.js';
import { HashChain } from './hash-chain.js';
import { MemberTable } from './members.js';
import type { RecordStore } from './record-store.js';
import type { DeleteRangeRequest, OpResponse, TxnRequest } from './request.js';
import { Restore } from './restore.js';
import { costOf, lowWaterOf, NO_QUOTA, usedBytes } from './space.js';
import { Pace, STEP_KEYS, type Steps } from './steps.js';
import { Store } from './store.js';
import { decodeTables, encodeTables } from './tables.js';
import { applyInSteps, applyPut, type WriteOutcome } from './txn.js';

/** An entry of the log as the machine needs it; `type` is an EntryType of the core. */
export interface MachineEntry {
  readonly index: number;
  readonly term: number;
  readonly type: number;
  readonly payload: Uint8Array;
  /** With a configuration entry: the membership that holds from here on, worked out of the state in
   *  front of the entry (membership.ts); null with the reason when the change is refused. */
  readonly configuration?: Configuration | null;
  readonly refusal?: ErrorCode | null;
}

interface AppliedBase {
  /** Member and number of the waiting proposal; 0 and 0 for an entry that nobody waits for. */
  readonly origin: number;
  readonly requestId: number;
  /** Built on the origin only; null for commands whose answer is just the header. */
  readonly response: OpResponse | null;
  /** Store revision after the entry. */
  readonly revision: number;
  /** In order of sub revision, all of one revision. */
  readonly events: readonly KvEvent[];
  /** Null when no lease changed. */
  readonly leaseChanges: LeaseChanges | null;
  /** A user logged in: the token of this digest is good from here on. Else null. */
  readonly login: Login | null;
}

export type Login = AuthCommand & { readonly kind: 'login' };

export type Applied =
  | (AppliedBase & { readonly ok: true; readonly code: null; readonly message: '' })
  | (AppliedBase & { readonly ok: false; readonly code: ErrorCode; readonly message: string });

export interface StateMachineOptions {
  readonly records: RecordStore;
  readonly selfId: number;
  /** Members at the first start. */
  readonly members: readonly MemberAttributes[];
  readonly configuration: Configuration;
  /** Of a restored state. */
  readonly removed?: readonly number[];
  readonly genesis?: readonly MemberAttributes[];
  readonly auth?: AuthTables;
  /** Where the log begins, if not at 1: the index and term that this empty state stands for. */
  readonly appliedIndex?: number;
  readonly appliedTerm?: number;
  /** Keys that an entry touches in one turn. */
  readonly stepKeys?: number;
}

export type RestoreOptions = Pick<StateMachineOptions, 'records' | 'selfId' | 'stepKeys'>;

const CONFIGURATION_ENTRY = 1;

/** What a command did, before it is known who hears of it. */
interface Outcome {
  readonly error: ErrorCode | null;
  readonly response: OpResponse | null;
  readonly leaseChanges: LeaseChanges | null;
  readonly login: Login | null;
}

/** The entry that is applied halfway. */
interface Midway {
  readonly origin: number;
  readonly requestId: number;
  readonly steps: Steps<Outcome>;
}

const DONE: Outcome = { error: null, response: null, leaseChanges: null, login: null };

export class StateMachine {
  readonly store: Store;
  readonly lessor = new Lessor();
  readonly members: MemberTable;
  readonly auth: AuthState;
  /** The members of index 0: who replays the log from its beginning starts with them. */
  readonly genesis: readonly MemberAttributes[];
  private readonly selfId: number;
  private readonly stepKeys: number;
  private readonly chain: HashChain;
  private midway: Midway | null = null;
  private currentConfiguration: Configuration;
  private alarmTable = new AlarmTable();
  private currentQuota = NO_QUOTA;
  private index: number;
  private term: number;

  constructor(options: StateMachineOptions, chain = new HashChain()) {
    this.selfId = options.selfId;
    this.stepKeys = options.stepKeys ?? STEP_KEYS;
    this.chain = chain;
    this.members = new MemberTable(options.members, options.removed);
    this.auth = new AuthState(chain, options.auth ?? NO_AUTH);
    this.genesis = options.genesis ?? options.members;
    this.currentConfiguration = options.configuration;
    this.index = options.appliedIndex ?? 0;
    this.term = options.appliedTerm ?? 0;
    this.store = new Store(options.records, this.lessor, chain);
  }

  /** Begins to rebuild a machine from what `encodeTables` made and its records. */
  static beginRestore(bytes: Uint8Array, options: RestoreOptions): Restore {
    const tables = decodeTables(bytes);
    const machine = new StateMachine(
      { ...options, ...tables },
      new HashChain(tables.hashLanes[0], tables.hashLanes[1]),
    );
    machine.alarmTable = new AlarmTable(tables.alarms);
    machine.currentQuota = tables.quotaBytes;
    for (const { id, ttl, remaining } of tables.leases) machine.lessor.grant(id, ttl, remaining);
    return new Restore(machine, tables);
  }

  /** The last entry that was applied to its end. */
  get appliedIndex(): number {
    return this.midway === null ? this.index : this.index - 1;
  }

  /** An entry is applied halfway: `goOn`, and begin no read. */
  get isMidway(): boolean {
    return this.midway !== null;
  }

  get appliedTerm(): number {
    return this.term;
  }

  get configuration(): Configuration {
    return this.currentConfiguration;
  }

  /** Sorted by member and kind. */
  get alarms(): readonly Alarm[] {
    return this.alarmTable.list;
  }

  /** Bytes that keys, their history and leases may take; 0 = as many as they like. */
  get quotaBytes(): number {
    return this.currentQuota;
  }

  /** How many they take, as the quota counts. */
  get usedBytes(): number {
    return usedBytes(this.store);
  }

  /** Whether the others found that this member's state is not theirs. */
  isCorrupt(memberId: number): boolean {
    return this.alarmTable.has(AlarmType.Corrupt, AlarmCause.Check, memberId);
  }

  /** 64 bits in hexadecimal, equal on all members at the same applied index: half an entry is not in it. */
  get hashChain(): string {
    return this.midway === null ? this.chain.hex : this.chain.before;
  }

  /** Applies an entry to its end, however long it takes. */
  apply(entry: MachineEntry): Applied {
    let applied = this.begin(entry);
    while (applied === null) applied = this.goOn();
    return applied;
  }

  /** Applies an entry, or a first part of it: null. */
  begin(entry: MachineEntry): Applied | null {
    assert(this.midway === null, `entry ${entry.index} begins in the midst of ${this.index}`);
    assert(entry.index === this.index + 1, `entry ${entry.index} applied behind ${this.index}`);
    assert(entry.term >= this.term, `entry of term ${entry.term} applied in term ${this.term}`);
    this.index = entry.index;
    this.term = entry.term;
    this.chain.begin();
    this.chain.number(entry.index);
    this.chain.number(entry.term);
    if (entry.type === CONFIGURATION_ENTRY) return this.applyConfiguration(entry);
    if (entry.payload.length === 0) return this.finish(0, 0, DONE);
    const envelope = decodeEnvelope(entry.payload);
    if (envelope === null) return this.finish(0, 0, refusal('UNIMPLEMENTED'));
    const { origin, requestId, actor, command } = envelope;
    const outcome = this.run(actor, command, origin);
    if (!isInSteps(outcome)) return this.finish(origin, requestId, outcome);
    this.midway = { origin, requestId, steps: outcome };
    return this.goOn();
  }

  /** The next part of the entry that is applied halfway; null: not the last one. */
  goOn(): Applied | null {
    assert(this.midway !== null, 'no entry is applied halfway');
    const { origin, requestId, steps } = this.midway;
    const { done, value } = steps.next();
    if (done !== true) return null;
    this.midway = null;
    return this.finish(origin, requestId, value);
  }

  /** All state but the records, equal bytes on all members at the same index. */
  encodeTables(): Uint8Array {
    assert(this.midway === null, `the state is asked for in the midst of entry ${this.index}`);
    return encodeTables({
      appliedIndex: this.index,
      appliedTerm: this.term,
      revision: this.store.revision,
      compactRevision: this.store.compactRevision,
      hashLanes: this.chain.lanes,
      liveCount: this.store.liveCount,
      retainedCount: this.store.index.retainedCount,
      configuration: this.currentConfiguration,
      members: this.members.list,
      removed: this.members.removed,
      genesis: this.genesis,
      quotaBytes: this.currentQuota,
      alarms: this.alarmTable.list,
      leases: this.lessor.list(),
      auth: this.auth.tables,
    });
  }

  private finish(origin: number, requestId: number, outcome: Outcome): Applied {
    const { error, response, leaseChanges, login } = outcome;
    const events = this.store.commit();
    this.endQuotaAlarm();
    const { revision } = this.store;
    if (error === null) {
      return {
        ok: true,
        code: null,
        message: '',
        origin,
        requestId,
        response,
        revision,
        events,
        leaseChanges,
        login,
      };
    }
    assert(events.length === 0, `an entry refused with ${error} made ${events.length} changes`);
    this.chain.text(error);
    const message = messageOf(error, this.store);
    return {
      ok: false,
      code: error,
      message,
      origin,
      requestId,
      response: null,
      revision,
      events,
      leaseChanges: null,
      login: null,
    };
  }

  private applyConfiguration(entry: MachineEntry): Applied {
    const configuration = entry.configuration ?? null;
    const envelope = entry.payload.length === 0 ? null : decodeEnvelope(entry.payload);
    const { origin, requestId, command } = envelope ?? { origin: 0, requestId: 0, command: null };
    const denied = envelope === null ? null : refusalOf(this, envelope.actor, envelope.command);
    if (denied !== null) return this.finish(origin, requestId, refusal(denied));
    if (configuration === null) {
      return this.finish(origin, requestId, refusal(entry.refusal ?? 'UNIMPLEMENTED'));
    }
    const steps = command?.kind === 'memberChange' ? command.steps : [];
    this.currentConfiguration = configuration;
    const before = this.members.list;
    this.members.change(steps, configuration);
    // Of a joint change it is the second entry, which has no steps, that takes the removed ones away.
    for (const { id } of before) if (this.members.get(id) === null) this.alarmTable.forget(id);
    for (const step of steps) {
      this.chain.text(step.kind);
      this.chain.number(step.id);
      if (step.kind !== 'add' && step.kind !== 'update') continue;
      for (const url of step.peerUrls) this.chain.text(url);
    }
    const { voters, votersOutgoing, learners, learnersNext } = configuration;
    for (const ids of [voters, votersOutgoing, learners, learnersNext]) {
      this.chain.word(ids.length);
      for (const id of ids) this.chain.number(id);
    }
    return this.finish(origin, requestId, DONE);
  }

  private run(actor: Actor, command: Command, origin: number): Outcome | Steps<Outcome> {
    const wanted = origin === this.selfId;
    const refused =
      refusalOf(this, actor, command) ??
      this.alarmAgainst(command) ??
      this.quotaAgainst(command, origin);
    if (refused !== null) return refusal(refused);
    switch (command.kind) {
      case 'put':
        return outcomeOf(applyPut(this.store, command, wanted));
      case 'deleteRange':
      case 'txn':
        return this.write(command, wanted);
      case 'compact':
        return this.compact(command.revision);
      case 'leaseGrant':
        return this.grant(command.id, command.ttl);
      case 'leaseRevoke':
        return this.lessor.has(command.id) ? this.revoke([command.id]) : refusal('LEASE_NOT_FOUND');
      case 'leaseExpire': {
        // A deposed leader must not revoke what its successor has renewed.
        if (command.term !== this.term) return DONE;
        return this.revoke([...new Set(command.ids)].filter((id) => this.lessor.has(id)));
      }
      case 'leaseCheckpoint':
        return command.term === this.term ? this.checkpoint(command.remaining) : DONE;
      case 'memberPublish':
        return this.publish(command);
      case 'memberChange':
        // Only an entry of the configuration type may change members: the core counts those.
        return refusal('CHANGE_REFUSED');
      case 'alarm':
        return this.setAlarm(command.action, command.memberId, command.alarm);
      case 'setQuota':
        return this.setQuota(command.bytes);
      case 'report':
        return this.report(command.memberId, command.finding);
      case 'auth':
        return this.changeAuth(command.change);
      default:
        return assertNever(command, 'command');
    }
  }

  /** Alarms are replicated, so refusing by them keeps members equal; local disk sizes would not. */
  private alarmAgainst(command: Command): ErrorCode | null {
    if (this.alarms.length === 0 || ALWAYS_ALLOWED.has(command.kind)) return null;
    // Whose state differs from that of most others is out alone: the others are right.
    if (this.alarmTable.has(AlarmType.Corrupt, AlarmCause.Client)) return 'CORRUPT';
    return this.alarmTable.has(AlarmType.NoSpace) && needsSpace(command) ? 'NO_SPACE' : null;
  }

  /** A write that does not fit is refused. It raises the alarm too, in the name of the member that took
   *  it, unless there is room and just this one is too large. */
  private quotaAgainst(command: Command, origin: number): ErrorCode | null {
    const quota = this.currentQuota;
    if (quota === NO_QUOTA) return null;
    const cost = costOf(this.store, command);
    const { usedBytes: used } = this;
    if (cost === 0 || used + cost <= quota) return null;
    if (used > lowWaterOf(quota)) {
      this.alarmTable.raise(origin, AlarmType.NoSpace, AlarmCause.Quota);
      this.chain.text('no space');
      this.chain.number(origin);
    }
    return 'NO_SPACE';
  }

  /** Deletions, compactions, ended leases or a larger quota made room: nobody needs to be told. */
  private endQuotaAlarm(): void {
    if (!this.alarmTable.has(AlarmType.NoSpace, AlarmCause.Quota)) return;
    if (this.usedBytes > lowWaterOf(this.currentQuota)) return;
    this.alarmTable.clearAll(AlarmType.NoSpace, AlarmCause.Quota);
    this.chain.text('space');
  }

  private *write(command: DeleteRangeRequest | TxnRequest, wanted: boolean): Steps<Outcome> {
    return outcomeOf(yield* applyInSteps(this.store, command, wanted, this.stepKeys));
  }

  private compact(revision: number): Outcome {
    const error = this.store.compact(revision);
    if (error !== null) return refusal(error);
    this.chain.text('compact');
    this.chain.number(revision);
    return DONE;
  }

  private grant(id: Int64, ttl: number): Outcome {
    if (id === 0) return refusal('INVALID_ARGUMENT');
    if (this.lessor.has(id)) return refusal('LEASE_EXISTS');
    this.lessor.grant(id, ttl);
    this.chain.text('grant');
    this.chain.int64(id);
    this.chain.number(ttl);
    const granted = [{ id, ttl, remaining: 0 }];
    return { ...DONE, leaseChanges: { granted, revoked: [], checkpointed: [] } };
  }

  /** Ends leases that exist, with all their keys, in one revision and in the order of the keys. */
  private *revoke(ids: readonly Int64[]): Steps<Outcome> {
    if (ids.length === 0) return DONE;
    const keys = ids.flatMap((id) => this.lessor.keysOf(id));
    if (ids.length > 1) keys.sort((a, b) => (a < b ? -1 : 1));
    const pace = new Pace(this.stepKeys);
    for (const key of keys) {
      this.store.delete(key, false);
      if (pace.spend(1, 0)) yield;
    }
    for (const id of ids) {
      this.lessor.revoke(id);
      this.chain.text('revoke');
      this.chain.int64(id);
    }
    return { ...DONE, leaseChanges: { granted: [], revoked: ids, checkpointed: [] } };
  }

  private checkpoint(remaining: readonly { id: Int64; seconds: number }[]): Outcome {
    const checkpointed: LeaseState[] = [];
    for (const { id, seconds } of remaining) {
      const known = this.lessor.checkpoint(id, seconds) ? this.lessor.get(id) : null;
      if (known === null) continue;
      checkpointed.push({ id, ttl: known.ttl, remaining: known.remaining });
      this.chain.text('checkpoint');
      this.chain.int64(id);
      this.chain.number(known.remaining);
    }
    return { ...DONE, leaseChanges: { granted: [], revoked: [], checkpointed } };
  }

  private publish(command: Command & { readonly kind: 'memberPublish' }): Outcome {
    const { id, name, clientUrls, folderId } = command;
    const member = this.members.get(id);
    if (member === null) return refusal('MEMBER_NOT_FOUND');
    if (member.folderId !== 0 && member.folderId !== folderId) return refusal('FOLDER_CHANGED');
    this.members.set({ ...member, name, clientUrls, folderId });
    for (const text of ['publish', name, ...clientUrls]) this.chain.text(text);
    this.chain.number(id);
    this.chain.number(folderId);
    return DONE;
  }

  private changeAuth(change: AuthCommand): Outcome {
    const error = this.auth.apply(change);
    if (error !== null) return refusal(error);
    return change.kind === 'login' ? { ...DONE, login: change } : DONE;
  }

  private setAlarm(action: 'activate' | 'deactivate', memberId: number, alarm: AlarmType): Outcome {
    if (alarm !== AlarmType.None) {
      if (action === 'activate') this.alarmTable.raise(memberId, alarm, AlarmCause.Client);
      else this.alarmTable.clear(memberId, alarm, ALL_CAUSES);
    }
    this.chain.text(action);
    this.chain.number(memberId);
    this.chain.word(alarm);
    return DONE;
  }

  private setQuota(bytes: number): Outcome {
    this.currentQuota = bytes;
    this.chain.text('quota');
    this.chain.number(bytes);
    return DONE;
  }

  private report(memberId: number, finding: Finding): Outcome {
    // Removed meanwhile: an alarm of a member that is gone would never end.
    if (this.members.get(memberId) === null) return DONE;
    if (finding === 'disk-full') {
      this.alarmTable.raise(memberId, AlarmType.NoSpace, AlarmCause.Disk);
    } else if (finding === 'disk-free') {
      this.alarmTable.clear(memberId, AlarmType.NoSpace, AlarmCause.Disk);
    } else this.alarmTable.raise(memberId, AlarmType.Corrupt, AlarmCause.Check);
    this.chain.text(finding);
    this.chain.number(memberId);
    return DONE;
  }
}

/** What tells of alarms or ends them, and who may do so. */
const ALWAYS_ALLOWED: ReadonlySet<Command['kind']> = new Set([
  'alarm',
  'auth',
  'memberPublish',
  'setQuota',
  'report',
]);

function isInSteps(outcome: Outcome | Steps<Outcome>): outcome is Steps<Outcome> {
  return 'next' in outcome;
}

function outcomeOf(outcome: WriteOutcome): Outcome {
  if (outcome.error !== null) return refusal(outcome.error);
  return outcome.response === null
    ? DONE
    : { error: null, response: outcome.response, leaseChanges: null, login: null };
}

function refusal(error: ErrorCode): Outcome {
  return { ...DONE, error };
}

/** Deletions and compactions make room, so they stay allowed. */
function needsSpace(command: Command): boolean {
  if (command.kind === 'txn') return mayPut(command);
  return command.kind === 'put' || command.kind === 'leaseGrant';
}

function mayPut(txn: TxnRequest): boolean {
  return [...txn.success, ...txn.failure].some((op) =>
    op.kind === 'txn' ? mayPut(op) : op.kind === 'put',
  );
}

function messageOf(code: ErrorCode, store: Store): string {
  switch (code) {
    case 'COMPACTED':
      return `the revision is compacted; the oldest that can be read is ${store.compactRevision}`;
    case 'FUTURE_REVISION':
      return `the revision is in the future; the store is at ${store.revision}`;
    case 'KEY_NOT_FOUND':
      return 'the key does not exist, so it has no value or lease to keep';
    case 'LEASE_NOT_FOUND':
      return 'the lease does not exist; it has expired, was revoked, or was never granted';
    case 'LEASE_EXISTS':
      return 'a lease with this id exists; choose another id or let the server choose';
    case 'INVALID_ARGUMENT':
      return 'a lease needs an id other than 0';
    case 'NO_SPACE':
      return 'the space alarm is raised or the write does not fit into the quota; delete keys, compact history, or give the disk room: writes then pass again by themselves';
    case 'CORRUPT':
      return 'the corruption alarm is raised; replace the damaged member and disarm the alarm';
    case 'MEMBER_NOT_FOUND':
      return 'no such member in the cluster';
    case 'MEMBER_EXISTS':
      return 'a member with this id exists or has existed; ids are not used twice';
    case 'PEER_URLS_EXIST':
      return 'another member has one of these peer URLs';
    case 'BAD_MEMBER_URLS':
      return 'a member needs peer URLs of the form http://HOST:PORT';
    case 'NOT_A_LEARNER':
      return 'the member votes already';
    case 'TOO_MANY_LEARNERS':
      return 'there is a learner already; promote or remove it first';
    case 'NOT_ENOUGH_STARTED':
      return 'too few members would be left to decide anything';
    case 'CHANGE_REFUSED':
      return 'the members cannot change like this now; look at the member list and try again';
    case 'FOLDER_CHANGED':
      return 'the member has run in another data folder; remove it and add it anew';
    case 'UNIMPLEMENTED':
      return 'the entry holds a command that this version does not know';
    default:
      return authRefusalText(code) ?? `refused with ${code}`;
  }
}

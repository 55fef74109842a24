/**
 * Holds what clients were told against the log that was committed, when a run is over.
 *
 * The log is known, so no search is needed: it is replayed once through the state machine of the
 * product (K9: every hash that a member showed must come out again) and once through a store written
 * for this alone (model.ts: every answer and revision must). Each call has its place:
 *
 * K1 a write that was answered stands in the log once, committed between call and answer, and its answer
 *    is what the store says there; a linearizable read shows a state between what was committed when it
 *    was sent and when it was answered
 * K3 a stale read shows some state that was      K4 an old revision shows that state, or is compacted
 * K10 no write has two effects                   K12 what was refused is not in the log
 * W  what watchers got is what happened          E1 no lease ends before its time
 * E5 a renewal that succeeded found the lease    Q2 tokens of a lock only rise, each for one holder
 * Q4, Q5 space and alarms: space-model.ts        A1 to A7 rights: auth-judge.ts
 * Q3 a lock that was given was held at the revision of the answer, with nobody in front, and that
 *    revision was the newest at a moment between call and answer
 */

import type { Actor } from '../../src/auth/actor.js';
import type { MemberAttributes } from '../../src/kv/command.js';
import { type Command, decodeEnvelope } from '../../src/kv/command.js';
import type { KeyValue, OpResponse } from '../../src/kv/request.js';
import { StateMachine } from '../../src/kv/state-machine.js';
import { decideChange } from '../../src/membership.js';
import type { Configuration } from '../../src/raft/configuration.js';
import { EntryType, payloadOf } from '../../src/raft/entry.js';
import type { Operation, Reply } from '../support/history.js';
import { checkHistory } from '../support/linearizability.js';
import { MemoryRecords } from '../support/memory-records.js';
import { checkWatch, type StoreEvent } from '../support/watch-checker.js';
import { AuthJudge } from './auth-judge.js';
import type { Call, Clients, LockRecord } from './clients.js';
import { checkChange } from './membership-rules.js';
import { type ModelResult, ModelStore } from './model.js';
import { type Committed, fingerprint, type RaftObserver } from './raft-observer.js';
import { checkRealTime, type Shown } from './real-time.js';
import { SpaceModel } from './space-model.js';
import { MS, SECOND, Violation, type World } from './world.js';

interface Place {
  readonly index: number;
  readonly result: ModelResult;
  readonly at: number;
  readonly actor: Actor;
  readonly command: Command;
}

/** Codes with which nothing but a right is refused, users and roles aside. */
const DENIALS: ReadonlySet<string> = new Set([
  ...['USER_EMPTY', 'AUTH_OLD_REVISION', 'PERMISSION_DENIED', 'USER_NOT_FOUND'],
]);

interface ReadTxn {
  readonly compare: readonly { readonly key: string; readonly modRevision: number }[];
  readonly success: readonly RangeOp[];
  readonly failure: readonly RangeOp[];
}

interface RangeOp {
  readonly requestRange: { readonly key: string; readonly rangeEnd: string };
}

interface ReadTxnAnswer {
  readonly header: { readonly revision: number };
  readonly succeeded: boolean;
  readonly responses: readonly { readonly responseRange: { kvs: readonly KeyValue[] } }[];
}

export interface Judged {
  readonly writes: number;
  readonly reads: number;
  readonly events: number;
}

export class Judge {
  private readonly world: World;
  private readonly observer: RaftObserver;
  private readonly clients: Clients;
  private readonly model = new ModelStore();
  private readonly auth: AuthJudge;
  /** Where each write stands, by origin and number. */
  private readonly places = new Map<string, Place>();
  /** What became of each change of members. */
  private readonly changes = new Map<string, { code: string | null; revision: number }>();
  /** Store revision and compaction after each index. */
  private readonly revisions: number[] = [1];
  private readonly compactions: number[] = [0];
  private readonly truth: StoreEvent[] = [];
  private readonly leaseEnds = new Map<number, { at: number; expired: boolean; index: number }>();
  private readonly leaseStarts = new Map<number, number>();

  constructor(world: World, observer: RaftObserver, clients: Clients) {
    this.world = world;
    this.observer = observer;
    this.clients = clients;
    this.auth = new AuthJudge(world);
  }

  /** All checks; throws the first violation. `tolerance` is how much of its time a lease may miss. */
  judge(
    members: readonly MemberAttributes[],
    configuration: Configuration,
    tolerance: number,
    isSampled: boolean,
  ): Judged {
    this.replay(members, configuration);
    let writes = 0;
    let reads = 0;
    for (const call of this.clients.calls) {
      this.auth.judgeCall(call, this.places.get(`${call.origin} ${call.requestId}`));
      if (['put', 'delete', 'txn', 'compact', 'grant', 'revoke', 'auth'].includes(call.name)) {
        this.judgeWrite(call);
        writes += 1;
      } else if (call.name === 'read-txn') this.judgeReadTxn(call);
      else if (['get', 'stale', 'list', 'old'].includes(call.name)) {
        if (call.outcome === 'ok') this.judgeRead(call);
        reads += 1;
      } else if (call.name === 'renew') this.judgeRenewal(call);
      else if (call.name.startsWith('member-') && call.name !== 'member-list') {
        this.judgeChange(call);
      }
    }
    checkRealTime(this.clients.calls.flatMap(shownBy));
    this.judgeWatches();
    for (const watch of this.clients.userWatches) {
      this.auth.judgeWatch(watch, this.observer.committedIndex);
    }
    this.judgeLeases(tolerance);
    this.judgeLocks();
    if (isSampled) this.judgeBlackBox();
    return { writes, reads, events: this.truth.length };
  }

  private replay(members: readonly MemberAttributes[], configuration: Configuration): void {
    const records = new MemoryRecords();
    const machine = new StateMachine({ records, selfId: 0, members, configuration });
    const space = new SpaceModel(idsOf(members), this.model);
    for (let index = 1; index < this.observer.committed.length; index += 1) {
      const { entry, at } = this.observer.committed[index] as Committed;
      const payload = payloadOf(entry);
      const { term, type } = entry;
      const before = machine.configuration;
      const decision =
        type === EntryType.Configuration
          ? decideChange(machine.members, before, payload)
          : { configuration: null, refusal: null };
      const applied = machine.apply({ index, term, type, payload, ...decision });
      if (machine.configuration !== before) checkChange(index, before, machine.configuration);
      space.onMembers(idsOf(machine.members.list));
      this.noteChange(entry.type, payload, index, applied.code, applied.revision);
      const hash = this.observer.hashes.get(index);
      if (hash !== undefined && hash !== fingerprint(machine)) {
        throw new Violation(
          'K9',
          `a replay to ${index} has state ${fingerprint(machine)}, members had ${hash}`,
        );
      }
      const envelope =
        entry.type === EntryType.Normal && payload.length > 0 ? decodeEnvelope(payload) : null;
      if (envelope !== null) {
        const { origin, requestId, actor, command } = envelope;
        const denied = this.denial(index, actor, command, applied.code);
        const noSpace = denied === null ? space.refusal(command, origin) : null;
        const refused = denied ?? noSpace ?? this.changeRights(index, command);
        const result = this.model.apply(command, entry.term, refused);
        if (noSpace === 'NO_SPACE') this.world.mark('write without space refused');
        if (refused === null) space.apply(command);
        if (command.kind === 'auth') this.auth.compareTables(index, machine.auth.tables);
        if (result.events.length > 0) this.auth.noteRevision(index, result.revision);
        space.settle(index, result.code === null, command);
        this.checkStep(index, result, applied.code, applied.revision);
        this.noteLeases(command, entry.term, at, index, result);
        const name = `${origin} ${requestId}`;
        const earlier = this.places.get(name);
        if (earlier !== undefined) {
          throw new Violation('K10', `write ${name} stands at ${earlier.index} and at ${index}`);
        }
        this.places.set(name, { index, result, at, actor, command });
      }
      space.check(index, machine.alarms);
      this.revisions.push(this.model.revision);
      this.compactions.push(this.model.compacted);
    }
  }

  /** A1. */
  private denial(
    index: number,
    actor: Actor,
    command: Command,
    code: string | null,
  ): string | null {
    const due = this.auth.refusal(actor, command, this.model.keysOn);
    const isAbout = due ?? code;
    if (due !== null) this.world.mark(`refused at apply: ${due}`);
    if (due === code || isAbout === null) return due;
    if (due === null && !DENIALS.has(isAbout)) return due;
    // Some codes have other reasons, too.
    if (due === null && command.kind === 'auth') return due;
    throw new Violation(
      'A1',
      `entry ${index}, ${command.kind} of ${JSON.stringify(actor)}: ${code} by the product, ${due} by the rights in front of it`,
    );
  }

  private changeRights(index: number, command: Command): string | null {
    return command.kind === 'auth' ? this.auth.apply(index, command.change) : null;
  }

  /** A change of members has its place as a write has: it happens once, and what was refused not. */
  private noteChange(
    type: number,
    payload: Uint8Array,
    index: number,
    code: string | null,
    revision: number,
  ): void {
    if (type !== EntryType.Configuration || payload.length === 0) return;
    const envelope = decodeEnvelope(payload);
    if (envelope === null) throw new Violation('K6', `entry ${index} cannot be read`);
    this.denial(index, envelope.actor, envelope.command, code);
    const name = `${envelope.origin} ${envelope.requestId}`;
    if (this.changes.has(name)) throw new Violation('K10', `change ${name} stands twice`);
    this.changes.set(name, { code, revision });
  }

  private judgeChange(call: Call): void {
    if (call.origin === 0) return;
    const place = this.changes.get(`${call.origin} ${call.requestId}`);
    if (call.outcome === 'ok' && place?.code !== null) {
      throw new Violation(
        'K1',
        `${call.name} was acknowledged: ${place?.code ?? 'not in the log'}`,
      );
    }
    if (call.outcome === 'refused' && place !== undefined && place.code !== call.code) {
      throw new Violation(
        'K12',
        `${call.name} was refused with ${call.code} and stands in the log`,
      );
    }
  }

  private checkStep(
    index: number,
    result: ModelResult,
    code: string | null,
    revision: number,
  ): void {
    if (result.code !== code) {
      throw new Violation(
        'K6',
        `entry ${index}: ${code} by the product, ${result.code} by the model`,
      );
    }
    if (result.revision !== revision) {
      throw new Violation(
        'K5',
        `entry ${index}: revision ${revision}, the model is at ${result.revision}`,
      );
    }
    for (const { type, pair } of result.events) {
      const { key, value, modRevision, createRevision, version } = pair;
      const text = Buffer.from(value).toString();
      this.truth.push({ type, key, value: text, modRevision, createRevision, version });
    }
  }

  private noteLeases(
    command: Command,
    term: number,
    at: number,
    index: number,
    result: ModelResult,
  ): void {
    if (result.code !== null) return;
    if (command.kind === 'leaseGrant') this.leaseStarts.set(Number(command.id), index);
    if (command.kind === 'leaseRevoke') {
      this.leaseEnds.set(Number(command.id), { at, expired: false, index });
    }
    if (command.kind !== 'leaseExpire') return;
    if (command.term !== term) {
      this.world.mark('expiry of a deposed leader ignored');
      return;
    }
    for (const id of command.ids) {
      if (!this.leaseEnds.has(Number(id))) {
        this.world.mark('lease expired');
        this.leaseEnds.set(Number(id), { at, expired: true, index });
      }
    }
  }

  private judgeWrite(call: Call): void {
    if (call.origin === 0) return;
    const place = this.places.get(`${call.origin} ${call.requestId}`);
    const what = `${call.name} of client ${call.client} at m${call.member}`;
    if (call.outcome === 'refused') {
      if (place === undefined || place.result.code === call.code) return;
      throw new Violation(
        'K12',
        `${what} was refused with ${call.code}, but stands at ${place.index}`,
      );
    }
    if (call.outcome !== 'ok') return;
    if (place === undefined) {
      throw new Violation('S12', `${what} was acknowledged and is not in the log`);
    }
    if (place.result.code !== null) {
      throw new Violation('K1', `${what} was acknowledged, apply refused it: ${place.result.code}`);
    }
    if (place.index <= call.fromIndex || place.index > call.toIndex || place.at > call.returnedAt) {
      throw new Violation(
        'K1',
        `${what} stands at ${place.index}, committed were ${call.fromIndex} and ${call.toIndex}`,
      );
    }
    const { header } = call.answer as { header: { revision: number } | null };
    // A lease answers with the revision of the moment, writes with their own.
    if (header?.revision !== place.result.revision) {
      throw new Violation(
        'K1',
        `${what}: revision ${header?.revision}, the model has ${place.result.revision}`,
      );
    }
    this.compareAnswer(what, call, place.result.response);
  }

  private compareAnswer(what: string, call: Call, wanted: OpResponse | null): void {
    if (wanted === null) return;
    const got = canonical(call.answer);
    const due = canonical(outward(wanted));
    if (got === due) return;
    throw new Violation('K1', `${what} was answered ${got}, the model says ${due}`);
  }

  private judgeRead(call: Call): void {
    const request = call.request as { key: string; rangeEnd: string; revision: number };
    const answer = call.answer as { header: { revision: number }; kvs: readonly KeyValue[] };
    const { revision } = answer.header;
    const what = `${call.name} ${request.key} of client ${call.client} at m${call.member}`;
    const least = call.name === 'stale' ? 1 : (this.revisions[call.fromIndex] as number);
    const most = this.revisions[call.toIndex] as number;
    if (revision < least || revision > most) {
      const id = call.name === 'stale' ? 'K3' : 'K1';
      throw new Violation(id, `${what} shows revision ${revision}, not within ${least} to ${most}`);
    }
    const at = call.name === 'old' ? request.revision : revision;
    const due = canonical(this.model.list(request.key, request.rangeEnd, at));
    const got = canonical(answer.kvs);
    if (got !== due)
      throw new Violation('K1', `${what} at ${at} shows ${got}, the model has ${due}`);
    if (call.name !== 'old') return;
    this.world.mark('old revision read');
    // What was compacted before the call was sent must not be shown.
    const compacted = this.compactions[call.fromIndex] as number;
    if (at < compacted) throw new Violation('K4', `${what} shows ${at}, compacted to ${compacted}`);
  }

  /** All ranges of the branch that was taken, at one revision. */
  private judgeReadTxn(call: Call): void {
    if (call.outcome !== 'ok') return;
    const request = call.request as ReadTxn;
    const { header, succeeded, responses } = call.answer as ReadTxnAnswer;
    const { revision } = header;
    const what = `read-txn of client ${call.client} at m${call.member}`;
    const least = this.revisions[call.fromIndex] as number;
    if (revision < least || revision > (this.revisions[call.toIndex] as number)) {
      throw new Violation('K1', `${what} shows revision ${revision}, ${least} was committed`);
    }
    const due = request.compare.every(({ key, modRevision }) => {
      return (this.model.get(key, revision)?.modRevision ?? 0) === modRevision;
    });
    const branch = due ? request.success : request.failure;
    const pairs = branch.map(({ requestRange: { key, rangeEnd } }) => {
      return this.model.list(key, rangeEnd, revision);
    });
    const got = canonical(responses.map(({ responseRange }) => responseRange.kvs));
    if (succeeded === due && got === canonical(pairs)) return;
    throw new Violation('K1', `${what} at ${revision} shows ${got}, the model ${canonical(pairs)}`);
  }

  private judgeRenewal(call: Call): void {
    if (call.outcome !== 'ok') return;
    const id = call.request as number;
    const start = this.leaseStarts.get(id);
    const end = this.leaseEnds.get(id);
    if (call.answer !== 0) {
      if (start === undefined || (end !== undefined && end.index <= call.fromIndex)) {
        throw new Violation('E5', `lease ${id} was renewed, but ended at ${end?.index}`);
      }
    } else if (end === undefined || end.index > call.toIndex) {
      throw new Violation('E5', `lease ${id} was said to be gone, but it lives`);
    }
  }

  private judgeWatches(): void {
    for (const record of this.clients.watches) {
      const verdict = checkWatch(
        { ...record, endRevision: 0, matches: (key) => key >= 'k' && key < 'm' },
        this.truth,
      );
      if (!verdict.ok) throw new Violation('W', `${record.name}: ${verdict.problem}`);
    }
  }

  /** A watcher that is connected at the end has seen everything. */
  missing(next: number): StoreEvent | undefined {
    return this.truth.find(
      ({ key, modRevision }) => key >= 'k' && key < 'm' && modRevision >= next,
    );
  }

  private judgeLeases(tolerance: number): void {
    for (const { id, ttl, renewedAt } of this.clients.leases) {
      const end = this.leaseEnds.get(id);
      if (end?.expired !== true) continue;
      const lived = end.at - renewedAt;
      if (lived >= ttl * SECOND * (1 - tolerance) - MS) continue;
      throw new Violation(
        'E1',
        `lease ${id} of ${ttl} s ended ${lived / SECOND} s after its last renewal was sent`,
      );
    }
  }

  private judgeLocks(): void {
    const holders = new Map<number, string>();
    for (const record of this.clients.locks) {
      const { token, key } = record;
      const other = holders.get(token);
      if (other !== undefined && other !== key) {
        throw new Violation('Q2', `token ${token} was given to ${other} and ${key}`);
      }
      holders.set(token, key);
      if (!this.wasHeld(record)) {
        throw new Violation(
          'Q3',
          `the lock was given to ${key} with token ${token}, who never held it`,
        );
      }
      this.world.mark('lock held');
    }
  }

  /** At the revision of the answer the key was there and the oldest of its queue. */
  private wasHeld({ key, token, revision, fromIndex, toIndex }: LockRecord): boolean {
    if (revision < (this.revisions[fromIndex] as number)) return false;
    if (revision > (this.revisions[toIndex] as number)) return false;
    if (this.model.get(key, revision)?.createRevision !== token) return false;
    const prefix = key.slice(0, key.indexOf('/') + 1);
    const queue = this.model.list(prefix, `${prefix.slice(0, -1)}0`, revision);
    return queue.every((pair) => pair.createRevision >= token);
  }

  /** The same calls without the log: the search of the real-process suites must agree. */
  private judgeBlackBox(): void {
    const history: Operation[] = [];
    // Users have keys of their own, which nobody asks about here.
    const calls = this.clients.calls.filter(({ asker }) => asker === null);
    for (const call of calls) {
      const operation = operationOf(call);
      if (operation !== null) history.push(operation);
    }
    const writtenOnce = new Set(history.map(({ key }) => key));
    // Keys that transactions and range deletions touch have no history of their own.
    for (const call of calls) {
      const request = call.request as { rangeEnd?: string };
      if (call.name === 'txn' || (call.name === 'delete' && request.rangeEnd !== '')) return;
    }
    if (writtenOnce.size === 0) return;
    const verdict = checkHistory(history, 10_000);
    this.world.mark('black box checked');
    if (!verdict.ok) throw new Violation('K2', verdict.problem);
  }
}

function operationOf(call: Call): Operation | null {
  const { client, invokedAt, returnedAt, answer, name } = call;
  const request = call.request as { key: string; value?: Uint8Array };
  const times = { client, invokedAt, returnedAt, member: `m${call.member}` };
  const reply = (effect: (Reply & { outcome: 'ok' })['effect']): Reply => {
    if (call.outcome === 'refused') return { outcome: 'failed' };
    if (call.outcome !== 'ok') return { outcome: 'unknown' };
    const { revision } = (answer as { header: { revision: number } }).header;
    return { outcome: 'ok', revision, effect };
  };
  const seen = (pair: KeyValue | undefined | null) =>
    pair === undefined || pair === null
      ? null
      : { value: Buffer.from(pair.value).toString(), modRevision: pair.modRevision };
  if (!request.key?.startsWith('k')) return null;
  if (name === 'put') {
    const value = Buffer.from(request.value as Uint8Array).toString();
    return {
      ...times,
      key: request.key,
      action: { kind: 'put', value },
      reply: reply({ kind: 'put' }),
    };
  }
  if (name === 'get') {
    const pair = (answer as { kvs?: readonly KeyValue[] } | null)?.kvs?.[0];
    return {
      ...times,
      key: request.key,
      action: { kind: 'get' },
      reply: reply({ kind: 'get', seen: seen(pair) }),
    };
  }
  if (name === 'delete') {
    const pair = (answer as { prevKvs?: readonly KeyValue[] } | null)?.prevKvs?.[0];
    const effect = { kind: 'delete', removed: seen(pair) } as const;
    return { ...times, key: request.key, action: { kind: 'delete' }, reply: reply(effect) };
  }
  return null;
}

const READS_AND_WRITES = ['put', 'delete', 'txn', 'get', 'list', 'old', 'stale'];

/** What an answer shows of the store; the revision of a lease's answer is of no moment in particular. */
function shownBy(call: Call): Shown[] {
  if (call.outcome !== 'ok' || !READS_AND_WRITES.includes(call.name)) return [];
  const { client, member, invokedAt, returnedAt } = call;
  const { revision } = (call.answer as { header: { revision: number } }).header;
  const name = `${call.name} of client ${client} at m${member}`;
  return [{ name, invokedAt, returnedAt, revision, isStale: call.name === 'stale' }];
}

/** The answer as the services give it, without headers. */
function outward(response: OpResponse): unknown {
  switch (response.kind) {
    case 'put':
      return { prevKv: response.prevKv };
    case 'range':
      return { kvs: response.kvs, more: response.more, count: response.count };
    case 'deleteRange':
      return { deleted: response.deleted, prevKvs: response.prevKvs };
    case 'txn':
      return {
        succeeded: response.succeeded,
        responses: response.responses.map((each) => {
          const name = {
            put: 'responsePut',
            range: 'responseRange',
            deleteRange: 'responseDeleteRange',
            txn: 'responseTxn',
          }[each.kind];
          return { [name]: outward(each) };
        }),
      };
  }
}

/** Text of a value that is equal for equal values: sorted names, no headers, no empty fields. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (name, each: unknown) => {
    if (name === 'header') return undefined;
    if (each instanceof Uint8Array) return Buffer.from(each).toString('latin1');
    if (isBufferText(each)) return Buffer.from(each.data).toString('latin1');
    if (typeof each === 'bigint') return String(each);
    if (typeof each !== 'object' || each === null || Array.isArray(each)) return each;
    return Object.fromEntries(Object.entries(each).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

/** A Buffer has become this before the replacer sees it. */
function isBufferText(value: unknown): value is { readonly data: number[] } {
  return (value as { type?: unknown } | null)?.type === 'Buffer';
}

function idsOf(members: readonly MemberAttributes[]): number[] {
  return members.map(({ id }) => id);
}

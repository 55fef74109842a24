/**
 * Who had a right to what, for judge.ts: the rights after each entry (auth-model.ts), and what users were
 * told held against them.
 *
 * A1 each command is allowed or refused as the rights in front of its entry say
 * A2 an entry bears the name of who asked for it
 * A3 nobody is shown what it had no right to read at any moment between question and answer
 * A4 nobody is refused who had the right all the time
 * A5 a watch shows nothing behind the end of the right to it, and ends with that right
 * A6 users, roles and permissions are those that follow from the log
 * A7 a login needs the password that counts at its entry
 *
 * A member answers from its own position of the log, so moments are positions of that member, from when
 * the call came in to when the answer went out; a linearizable read is at least as far as what was
 * committed when it was sent.
 */
import type { Actor } from '../../src/auth/actor.js';
import type { AuthCommand } from '../../src/auth/auth-command.js';
import type { AuthTables } from '../../src/auth/auth-tables.js';
import type { Int64 } from '../../src/int64.js';
import type { Command } from '../../src/kv/command.js';
import type { Identity } from './askers.js';
import {
  type AuthMoment,
  changedBy,
  covers,
  isAdmin,
  type Need,
  NO_USERS,
  refusalAt,
  textOfMoment,
  textOfTables,
} from './auth-model.js';
import type { Call } from './clients.js';
import type { UserWatch } from './user-watchers.js';
import { Violation, type World } from './world.js';

/** Codes that speak of rights. */
const REFUSALS: ReadonlySet<string> = new Set([
  ...['USER_EMPTY', 'AUTH_OLD_REVISION', 'PERMISSION_DENIED', 'INVALID_AUTH_TOKEN'],
]);

/** What became of a command. */
export interface ActedPlace {
  readonly index: number;
  readonly actor: Actor;
  readonly command: Command;
}

export class AuthJudge {
  private readonly world: World;
  /** The rights behind each entry that changed them. */
  private readonly moments: { readonly index: number; readonly moment: AuthMoment }[] = [
    { index: 0, moment: NO_USERS },
  ];
  /** Of each revision the entry that made it. */
  private readonly indexOfRevision = new Map<number, number>();

  constructor(world: World) {
    this.world = world;
  }

  private get now(): AuthMoment {
    return (this.moments.at(-1) as { moment: AuthMoment }).moment;
  }

  // ---------------------------------------------------------------- the log

  /** Why the next entry must be refused. */
  refusal(actor: Actor, command: Command, keysOn: (id: Int64) => readonly string[]): string | null {
    return refusalAt(this.now, actor, command, keysOn);
  }

  /** A change that its actor may make; the code with which it is refused nevertheless. */
  apply(index: number, change: AuthCommand): string | null {
    const { world, now } = this;
    const next = changedBy(now, change);
    if (typeof next === 'string') {
      if (next === 'INVALID_AUTH_MANAGEMENT' && change.kind !== 'roleGrant') {
        world.mark('root kept root');
      }
      if (change.kind === 'login') world.mark('login refused at apply');
      return next;
    }
    if (next === now) return null;
    if (next.enabled !== now.enabled) {
      world.mark(`authentication ${next.enabled ? 'enabled' : 'disabled'}`);
    }
    this.moments.push({ index, moment: next });
    return null;
  }

  noteRevision(index: number, revision: number): void {
    if (!this.indexOfRevision.has(revision)) this.indexOfRevision.set(revision, index);
  }

  compareTables(index: number, tables: AuthTables): void {
    const due = textOfMoment(this.now);
    const got = textOfTables(tables);
    if (due !== got) throw new Violation('A6', `entry ${index}: ${got}, the log says ${due}`);
  }

  // ---------------------------------------------------------------- calls

  judgeCall(call: Call, place: ActedPlace | undefined): void {
    if (place !== undefined) this.judgeActor(call, place);
    if (call.asker === null) return;
    const code = call.outcome === 'refused' && place === undefined ? call.code : '';
    if (REFUSALS.has(code)) this.judgeRefusal(call, code);
    if (call.outcome !== 'ok') return;
    if (call.name === 'login') this.judgeLogin(call, place);
    else if (place === undefined) this.judgeShown(call);
  }

  /** A2. */
  private judgeActor(call: Call, { index, actor }: ActedPlace): void {
    if (call.name === 'login') return;
    const who: Identity = call.asker?.who ?? { kind: 'certificate', user: 'root' };
    const what = `${call.name} of client ${call.client} at ${index}`;
    const asked = who.kind === 'nobody' ? null : who.user;
    if (actor === 'member') throw new Violation('A2', `${what} stands in the name of a member`);
    if (actor === null) {
      if (asked === null) return;
      const wasOff = this.some(call.appliedFrom, index - 1, ({ enabled }) => !enabled);
      if (!wasOff) throw new Violation('A2', `${what} stands in the log without its user`);
      return;
    }
    if (actor.user !== asked) {
      throw new Violation('A2', `${what} stands in the name of ${actor.user}, not of ${asked}`);
    }
    const known = this.at(index - 1).revision;
    if (
      who.kind === 'signed' ? actor.authRevision === who.authRevision : actor.authRevision <= known
    )
      return;
    throw new Violation('A2', `${what}: its user was known at ${actor.authRevision}`);
  }

  /** A3. */
  private judgeShown(call: Call): void {
    const { asker, answer, name } = call;
    if (asker === null || !['list', 'old', 'stale', 'read-txn', 'ttl'].includes(name)) return;
    const shown = (answer as { keys?: readonly string[] } | null)?.keys ?? [];
    const needs: readonly Need[] =
      name === 'ttl'
        ? shown.map((key): Need => ({ access: 'read', key, rangeEnd: '' }))
        : ((asker.needs ?? []) as readonly Need[]);
    const from = name === 'stale' ? call.appliedFrom : call.fromIndex;
    const { who } = asker;
    if (this.some(from, call.appliedTo, (moment) => this.may(moment, who, needs))) return;
    throw new Violation(
      'A3',
      `${name} of ${textOf(who)} at m${call.member} was answered, which it had no right to read: ${JSON.stringify(needs)} from ${from} to ${call.appliedTo}`,
    );
  }

  /** A4. */
  private judgeRefusal(call: Call, code: string): void {
    const { appliedFrom, appliedTo, asker } = call;
    if (asker === null) return;
    const { who, needs } = asker;
    const first = this.at(appliedFrom);
    const last = this.at(appliedTo);
    const isEver = (holds: (moment: AuthMoment) => boolean): boolean =>
      this.some(appliedFrom, appliedTo, (moment) => moment.enabled && holds(moment));
    const isRight = {
      // Who was not asked for its name when it came.
      USER_EMPTY: () =>
        isEver(() => who.kind === 'nobody') || (!first.enabled && isEver(() => true)),
      // A member that started anew knows no tokens.
      INVALID_AUTH_TOKEN: () => who.kind === 'token' && isEver(() => true),
      AUTH_OLD_REVISION: () =>
        who.kind === 'signed'
          ? isEver(({ revision }) => revision > who.authRevision)
          : first.revision < last.revision,
      PERMISSION_DENIED: () =>
        needs === null ||
        isEver((moment) => {
          const user = who.kind === 'nobody' ? '' : who.user;
          if (needs === 'admin') return !isAdmin(moment, user);
          return !moment.users.has(user) || !needs.every((need) => covers(moment, user, need));
        }),
    }[code];
    if (isRight?.() === false) {
      throw new Violation(
        'A4',
        `${call.name} of ${textOf(who)} at m${call.member} was refused with ${code}, but had the right from ${appliedFrom} to ${appliedTo}`,
      );
    }
    this.world.mark(`refused at the door: ${code}`);
    if (code === 'PERMISSION_DENIED' && last.enabled) this.markPart(call.name, last, who, needs);
  }

  /** Which part of the request it was that lacked a right. */
  private markPart(
    name: string,
    moment: AuthMoment,
    who: Identity,
    needs: readonly Need[] | 'admin' | null,
  ): void {
    if (needs === null && name === 'revoke') this.world.mark('refused for the keys of its lease');
    if (needs === null || needs === 'admin' || who.kind === 'nobody') return;
    const lacking = needs.filter((need) => !covers(moment, who.user, need));
    for (const part of ['nested', 'previous'] as const) {
      if (lacking.length === 0 || lacking.some((need) => need.part !== part)) continue;
      this.world.mark(`refused for its ${part} part alone`);
    }
  }

  /** A7. */
  private judgeLogin(call: Call, place: ActedPlace | undefined): void {
    const { name, password } = call.request as { name: string; password: string };
    if (place === undefined) throw new Violation('A7', `${name} logged in without the log`);
    const text = this.at(place.index - 1).users.get(name)?.password;
    if (text === hashOf(password)) return;
    throw new Violation('A7', `${name} logged in with ${password}, its password is ${text}`);
  }

  // ---------------------------------------------------------------- watches

  /** A5. */
  judgeWatch(watch: UserWatch, committed: number): void {
    const { who, key, rangeEnd, createdAt, from } = watch;
    const what = `${watch.name} on ${key} to ${rangeEnd}`;
    const needs: readonly Need[] = [{ access: 'read', key, rangeEnd }];
    const wasOff = !this.at(from).enabled;
    const known = this.at(createdAt).revision;
    const isAllowed = (moment: AuthMoment): boolean => {
      if (!moment.enabled) return true;
      if (wasOff || who.kind === 'nobody') return false;
      const since = moment.users.get(who.user)?.since ?? Number.POSITIVE_INFINITY;
      return since <= known && this.may(moment, who, needs);
    };
    if (watch.createdAt < 0 && watch.canceledAt > 0) {
      this.world.mark('watch refused');
      if (this.some(from, watch.canceledAt, (moment) => !isAllowed(moment))) return;
      throw new Violation('A5', `${what} was refused: ${watch.reason}`);
    }
    for (const event of watch.events) {
      const end = rangeEnd === '' ? `${key}\0` : rangeEnd === '\0' ? '\uffff' : rangeEnd;
      if (event.key < key || event.key >= end)
        throw new Violation('A5', `${what} saw ${event.key}`);
      const made = Math.max(from, this.indexOfRevision.get(event.revision) ?? committed);
      if (this.some(made, event.at, isAllowed)) continue;
      throw new Violation(
        'A5',
        `${what} as ${textOf(who)} saw ${event.key} of revision ${event.revision} (entry ${made}) at ${event.at}, when it had no right to it`,
      );
    }
    for (const at of watch.openAt) {
      if (isAllowed(this.at(at))) continue;
      throw new Violation('A5', `${what} as ${textOf(who)} is open at ${at} without a right to it`);
    }
    if (watch.canceledAt > 0 && watch.reason !== 'compacted') {
      this.world.mark('watch cut off');
      if (!this.some(createdAt, watch.canceledAt, (moment) => !isAllowed(moment))) {
        throw new Violation('A5', `${what} was cut off with its right: ${watch.reason}`);
      }
    }
  }

  // ---------------------------------------------------------------- moments

  private may(moment: AuthMoment, who: Identity, needs: readonly Need[]): boolean {
    if (!moment.enabled) return true;
    if (who.kind === 'nobody') return false;
    if (who.kind === 'signed' && who.authRevision < moment.revision) return false;
    return moment.users.has(who.user) && needs.every((need) => covers(moment, who.user, need));
  }

  /** Behind this entry. */
  private at(index: number): AuthMoment {
    return this.moments[this.placeOf(index)]?.moment ?? NO_USERS;
  }

  /** Whether something holds behind one of these entries. */
  private some(from: number, to: number, holds: (moment: AuthMoment) => boolean): boolean {
    for (let place = this.placeOf(from); place < this.moments.length; place += 1) {
      const each = this.moments[place];
      if (each === undefined || (each.index > to && each.index > from)) return false;
      if (holds(each.moment)) return true;
    }
    return false;
  }

  /** The last moment at or before this entry. */
  private placeOf(index: number): number {
    let low = 0;
    let high = this.moments.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.moments[middle] as { index: number }).index <= index) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }
}

/** What members keep of a password in the simulator. */
export function hashOf(password: string): string {
  return `plain$${password}`;
}

function textOf(who: Identity): string {
  return who.kind === 'nobody' ? 'nobody' : `${who.user} (${who.kind})`;
}

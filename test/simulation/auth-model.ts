/**
 * Users, roles and permissions once more, for the judge: who may do what after each entry of the log. It
 * shares nothing with the product but the shape of commands.
 *
 * All of it is a value (`AuthMoment`); a change makes a new one, so that every moment of a run can be
 * asked again. Whether permissions cover a range is found out by a walk from its start: from each point on
 * as far as the permission there reaches.
 */
import type { Actor } from '../../src/auth/actor.js';
import type { AuthCommand, Permission } from '../../src/auth/auth-command.js';
import type { AuthTables } from '../../src/auth/auth-tables.js';
import type { Int64 } from '../../src/int64.js';
import type { Command } from '../../src/kv/command.js';
import type { RequestOp } from '../../src/kv/request.js';

interface ModelUser {
  readonly password: string;
  readonly isPasswordless: boolean;
  readonly roles: ReadonlySet<string>;
  /** What was proved at an older auth revision is void. */
  readonly since: number;
}

export interface AuthMoment {
  readonly enabled: boolean;
  readonly revision: number;
  readonly users: ReadonlyMap<string, ModelUser>;
  /** Permissions of each role by their range. */
  readonly roles: ReadonlyMap<string, ReadonlyMap<string, Permission>>;
}

/** A right that something needs. */
export interface Need {
  readonly access: 'read' | 'write';
  readonly key: string;
  readonly rangeEnd: string;
  /** Which part of its request needs it, if not the plain one. */
  readonly part?: 'nested' | 'previous';
}

export const NO_USERS: AuthMoment = {
  enabled: false,
  revision: 1,
  users: new Map(),
  roles: new Map(),
};

/** Whether one user's permissions cover a range together. */
export function covers(moment: AuthMoment, user: string, need: Need): boolean {
  const roles = moment.users.get(user)?.roles;
  if (roles === undefined) return false;
  if (roles.has('root')) return true;
  const held: Permission[] = [];
  for (const role of roles) {
    for (const permission of moment.roles.get(role)?.values() ?? []) {
      // 0 reads, 1 writes, 2 does both.
      if (permission.type === 2 || permission.type === (need.access === 'read' ? 0 : 1)) {
        held.push(permission);
      }
    }
  }
  const end = endOf(need.key, need.rangeEnd);
  const target = end !== null && end <= need.key ? `${need.key}\0` : end;
  let at = need.key;
  for (;;) {
    let reach: string | null = at;
    for (const { key, rangeEnd } of held) {
      const permitted = endOf(key, rangeEnd);
      if (key > at || (permitted !== null && permitted <= at)) continue;
      if (permitted === null) return true;
      if (permitted > reach) reach = permitted;
    }
    if (reach === at) return false;
    if (target !== null && reach >= target) return true;
    at = reach;
  }
}

/** Exclusive; null = no bound. */
function endOf(key: string, rangeEnd: string): string | null {
  if (rangeEnd === '\0') return null;
  return rangeEnd === '' ? `${key}\0` : rangeEnd;
}

export function isAdmin(moment: AuthMoment, user: string): boolean {
  return moment.users.get(user)?.roles.has('root') === true;
}

/** Why a command must be refused to its actor; `keysOn` tells what hangs on a lease. */
export function refusalAt(
  moment: AuthMoment,
  actor: Actor,
  command: Command,
  keysOn: (lease: Int64) => readonly string[],
): string | null {
  if (!moment.enabled || actor === 'member') return null;
  switch (command.kind) {
    case 'put':
    case 'deleteRange':
    case 'txn':
      return refusalOfKeys(moment, actor, needsOf(command, keysOn));
    case 'leaseGrant':
      return refusalOfKeys(moment, actor, []);
    case 'leaseRevoke': {
      const stranger = refusalOfKeys(moment, actor, []);
      // Who administers may end any lease, also with what it proved before the last change of rights.
      if (stranger !== null || actor === null || isAdmin(moment, actor.user)) return stranger;
      return refusalOfKeys(moment, actor, keysOn(command.id).map(writes));
    }
    case 'auth':
      return command.change.kind === 'login' ? null : refusalOfAdmin(moment, actor);
    case 'compact':
    case 'memberChange':
    case 'alarm':
      return refusalOfAdmin(moment, actor);
    default:
      return null;
  }
}

/** Everything that the whole tree of a request touches, taken branch or not. */
function needsOf(op: RequestOp, keysOn: (lease: Int64) => readonly string[]): Need[] {
  switch (op.kind) {
    case 'range':
      return [{ access: 'read', key: op.key, rangeEnd: op.rangeEnd }];
    case 'put': {
      const onLease = op.lease === 0 ? [] : keysOn(op.lease).map(writes);
      const before = op.prevKv ? [reads(op.key)] : [];
      return [writes(op.key), ...onLease, ...before];
    }
    case 'deleteRange': {
      const { key, rangeEnd } = op;
      const before = op.prevKv ? [{ access: 'read', key, rangeEnd } as const] : [];
      return [{ access: 'write', key, rangeEnd }, ...before];
    }
    case 'txn': {
      const { compare, success, failure } = op;
      const compared = compare.map(({ key, rangeEnd }) => ({ access: 'read', key, rangeEnd }));
      const inside = [...success, ...failure].flatMap((each) => needsOf(each, keysOn));
      return [...(compared as Need[]), ...inside];
    }
  }
}

function reads(key: string): Need {
  return { access: 'read', key, rangeEnd: '' };
}

function writes(key: string): Need {
  return { access: 'write', key, rangeEnd: '' };
}

function refusalOfKeys(
  moment: AuthMoment,
  actor: Exclude<Actor, 'member'>,
  needs: readonly Need[],
): string | null {
  if (actor === null) return 'USER_EMPTY';
  const user = moment.users.get(actor.user);
  if (needs.length === 0) {
    if (user === undefined) return 'PERMISSION_DENIED';
    return actor.authRevision < user.since ? 'AUTH_OLD_REVISION' : null;
  }
  if (actor.authRevision < moment.revision) return 'AUTH_OLD_REVISION';
  return needs.every((need) => covers(moment, actor.user, need)) ? null : 'PERMISSION_DENIED';
}

function refusalOfAdmin(moment: AuthMoment, actor: Exclude<Actor, 'member'>): string | null {
  if (actor === null) return 'USER_EMPTY';
  const user = moment.users.get(actor.user);
  if (user === undefined) return 'USER_NOT_FOUND';
  if (actor.authRevision < user.since) return 'AUTH_OLD_REVISION';
  return user.roles.has('root') ? null : 'PERMISSION_DENIED';
}

/** The moment behind a change that its actor may make, or the code with which it is refused. */
export function changedBy(moment: AuthMoment, change: AuthCommand): AuthMoment | string {
  const { enabled, revision, users, roles } = moment;
  const next = revision + 1;
  const withUser = (name: string, user: ModelUser): AuthMoment => {
    return { ...moment, revision: next, users: new Map(users).set(name, user) };
  };
  const withRole = (name: string, permissions: ReadonlyMap<string, Permission>): AuthMoment => {
    return { ...moment, revision: next, roles: new Map(roles).set(name, permissions) };
  };
  switch (change.kind) {
    case 'enable':
      if (enabled) return moment;
      if (!users.has('root')) return 'ROOT_USER_MISSING';
      if (!isAdmin(moment, 'root')) return 'ROOT_ROLE_MISSING';
      return { ...moment, enabled: true };
    case 'disable':
      return enabled ? { ...moment, enabled: false, revision: next } : moment;
    case 'userAdd': {
      if (change.user === '') return 'USER_EMPTY';
      if (users.has(change.user)) return 'USER_EXISTS';
      const password = change.noPassword ? '' : change.password;
      const isPasswordless = change.noPassword;
      return withUser(change.user, { password, isPasswordless, roles: new Set(), since: next });
    }
    case 'userDelete': {
      if (enabled && change.user === 'root') return 'INVALID_AUTH_MANAGEMENT';
      if (!users.has(change.user)) return 'USER_NOT_FOUND';
      const left = new Map(users);
      left.delete(change.user);
      return { ...moment, revision: next, users: left };
    }
    case 'userPassword': {
      const user = users.get(change.user);
      if (user === undefined) return 'USER_NOT_FOUND';
      const password = user.isPasswordless ? '' : change.password;
      return withUser(change.user, { ...user, password, since: next });
    }
    case 'userGrant': {
      const user = users.get(change.user);
      if (user === undefined) return 'USER_NOT_FOUND';
      if (change.role !== 'root' && !roles.has(change.role)) return 'ROLE_NOT_FOUND';
      if (user.roles.has(change.role)) return moment;
      return withUser(change.user, { ...user, roles: new Set(user.roles).add(change.role) });
    }
    case 'userRevoke': {
      const isRoots = change.user === 'root' && change.role === 'root';
      if (enabled && isRoots) return 'INVALID_AUTH_MANAGEMENT';
      const user = users.get(change.user);
      if (user === undefined) return 'USER_NOT_FOUND';
      if (!user.roles.has(change.role)) return 'ROLE_NOT_GRANTED';
      return withUser(change.user, { ...user, roles: without(user.roles, change.role) });
    }
    case 'roleAdd':
      if (change.role === '') return 'ROLE_EMPTY';
      return roles.has(change.role) ? 'ROLE_EXISTS' : withRole(change.role, new Map());
    case 'roleDelete': {
      if (enabled && change.role === 'root') return 'INVALID_AUTH_MANAGEMENT';
      if (!roles.has(change.role)) return 'ROLE_NOT_FOUND';
      const left = new Map(roles);
      left.delete(change.role);
      const owners = new Map(users);
      for (const [name, user] of users) {
        owners.set(name, { ...user, roles: without(user.roles, change.role) });
      }
      return { ...moment, revision: next, users: owners, roles: left };
    }
    case 'roleGrant': {
      const { key, rangeEnd } = change.permission;
      const isEmpty = rangeEnd !== '' && rangeEnd !== '\0' && rangeEnd <= key;
      if (key === '' || isEmpty) return 'INVALID_AUTH_MANAGEMENT';
      const role = roles.get(change.role);
      if (role === undefined) return 'ROLE_NOT_FOUND';
      return withRole(change.role, new Map(role).set(`${key}|${rangeEnd}`, change.permission));
    }
    case 'roleRevoke': {
      const role = roles.get(change.role);
      if (role === undefined) return 'ROLE_NOT_FOUND';
      const left = new Map(role);
      if (!left.delete(`${change.key}|${change.rangeEnd}`)) return 'PERMISSION_NOT_GRANTED';
      return withRole(change.role, left);
    }
    case 'login': {
      if (!enabled) return 'AUTH_NOT_ENABLED';
      const user = users.get(change.user);
      if (user === undefined || user.isPasswordless) return 'AUTH_FAILED';
      return change.authRevision < user.since ? 'AUTH_OLD_REVISION' : moment;
    }
  }
}

/** What the tables of the product must say at this moment. */
export function textOfMoment({ enabled, revision, users, roles }: AuthMoment): string {
  return JSON.stringify({
    ...{ enabled, revision },
    users: [...users]
      .sort(byFirst)
      .map(([name, { password, isPasswordless, roles: has, since }]) => {
        return [name, password, isPasswordless, [...has].sort(), since];
      }),
    roles: [...roles].sort(byFirst).map(([name, permissions]) => {
      const each = [...permissions.values()].map(({ type, key, rangeEnd }) => {
        return `${key}|${rangeEnd}|${type}`;
      });
      return [name, each.sort()];
    }),
  });
}

export function textOfTables({ enabled, revision, users, roles }: AuthTables): string {
  return JSON.stringify({
    ...{ enabled, revision },
    users: users.map(({ name, password, noPassword, roles: has, since }) => {
      return [name, password, noPassword, has, since];
    }),
    roles: roles.map(({ name, permissions }) => {
      const each = permissions.map(({ type, key, rangeEnd }) => `${key}|${rangeEnd}|${type}`);
      return [name, each.sort()];
    }),
  });
}

function without(values: ReadonlySet<string>, value: string): Set<string> {
  return new Set([...values].filter((each) => each !== value));
}

function byFirst([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : 1;
}

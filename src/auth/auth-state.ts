/**
 * Users, roles and what they may do: the replicated side of authentication.
 *
 * Changed only by kv/state-machine.ts, entry by entry, so it is equal on every member. Who asks is known
 * already (auth/io has passwords and tokens); this says what an actor may do in this very state. The
 * rules and the order in which they refuse are etcd's, its clients and scripts rely on both.
 *
 * A user with the role `root` may do everything. The *auth revision* counts changes: who was identified
 * at an older one is refused what touches keys, because its rights may be others now.
 *
 * Invariants: 1. while enabled, user `root` exists and has the role `root`. 2. rights that are kept
 * (`rights`) are those of this state: every change forgets them. 3. what leaves as a list is sorted.
 */
import { assert, assertNever } from '../assert.js';
import type { ErrorCode } from '../errors.js';
import type { Actor } from './actor.js';
import { type AuthCommand, type Permission, PermissionType } from './auth-command.js';
import { type AuthTables, NO_AUTH, type Role, type User } from './auth-tables.js';
import { isPermissionRange, KeySpans } from './key-spans.js';

/** Where effects leave their trace, so that members that differ are found. */
export interface EffectChain {
  text(value: string): void;
  number(value: number): void;
}

export const ROOT = 'root';

/** What the role `root` shows as its permission: everything. */
const ROOT_PERMISSION: Permission = { type: PermissionType.ReadWrite, key: '', rangeEnd: '\0' };

interface Rights {
  readonly isRoot: boolean;
  readonly read: KeySpans;
  readonly write: KeySpans;
}

export type Access = 'read' | 'write';

export class AuthState {
  private readonly chain: EffectChain;
  private isEnabled: boolean;
  private currentRevision: number;
  private readonly users: Map<string, User>;
  private readonly roles: Map<string, Role>;
  private readonly rights = new Map<string, Rights>();
  private changeCount = 0;

  constructor(chain: EffectChain, tables: AuthTables = NO_AUTH) {
    this.chain = chain;
    this.isEnabled = tables.enabled;
    this.currentRevision = tables.revision;
    this.users = new Map(tables.users.map((user) => [user.name, user]));
    this.roles = new Map(tables.roles.map((role) => [role.name, role]));
  }

  get enabled(): boolean {
    return this.isEnabled;
  }

  get revision(): number {
    return this.currentRevision;
  }

  /** Rises whenever somebody's rights may have changed. Not replicated. */
  get changes(): number {
    return this.changeCount;
  }

  get tables(): AuthTables {
    return {
      enabled: this.isEnabled,
      revision: this.currentRevision,
      users: [...this.users.values()].sort(byName),
      roles: [...this.roles.values()].sort(byName),
    };
  }

  user(name: string): User | null {
    return this.users.get(name) ?? null;
  }

  /** Permissions of a role as they are shown; null if there is none of this name. */
  permissionsOf(name: string): readonly Permission[] | null {
    const role = this.roles.get(name);
    if (role === undefined) return null;
    return name === ROOT ? [ROOT_PERMISSION] : role.permissions;
  }

  // ---------------------------------------------------------------- who may what

  /** Why the actor must not read or write all keys of the range; null if it may. */
  refusesKeys(actor: Actor, access: Access, key: string, rangeEnd: string): ErrorCode | null {
    if (!this.isEnabled || actor === 'member') return null;
    if (actor === null) return 'USER_EMPTY';
    if (actor.authRevision < this.currentRevision) return 'AUTH_OLD_REVISION';
    const rights = this.rightsOf(actor.user);
    if (rights === null) return 'PERMISSION_DENIED';
    return rights.isRoot || rights[access].covers(key, rangeEnd) ? null : 'PERMISSION_DENIED';
  }

  /** Why the actor must not administer the cluster; null if it may. */
  refusesAdmin(actor: Actor): ErrorCode | null {
    if (!this.isEnabled || actor === 'member') return null;
    if (actor === null) return 'USER_EMPTY';
    const user = this.users.get(actor.user);
    if (user === undefined) return 'USER_NOT_FOUND';
    if (actor.authRevision < user.since) return 'AUTH_OLD_REVISION';
    return user.roles.includes(ROOT) ? null : 'PERMISSION_DENIED';
  }

  /** Why the actor is none of the users; null if it is one. */
  refusesStranger(actor: Actor): ErrorCode | null {
    if (!this.isEnabled || actor === 'member') return null;
    if (actor === null) return 'USER_EMPTY';
    const user = this.users.get(actor.user);
    if (user === undefined) return 'PERMISSION_DENIED';
    return actor.authRevision < user.since ? 'AUTH_OLD_REVISION' : null;
  }

  /** Why the actor must not see this user's roles: everybody may see its own. */
  refusesUser(actor: Actor, name: string): ErrorCode | null {
    const refusal = this.refusesAdmin(actor);
    const isOwn = actor !== null && actor !== 'member' && actor.user === name;
    return isOwn ? this.refusesStranger(actor) : refusal;
  }

  /** Why the actor must not see this role: everybody may see those that it has. */
  refusesRole(actor: Actor, name: string): ErrorCode | null {
    const refusal = this.refusesAdmin(actor);
    if (refusal === null || actor === null || actor === 'member') return refusal;
    const isOwn = this.users.get(actor.user)?.roles.includes(name) === true;
    return isOwn ? this.refusesStranger(actor) : refusal;
  }

  /** The same user as it stands now, for a call that was let in and goes on: a wait for a lock does not
   *  end because somebody else was granted a role. Unchanged if what it proved is void. */
  renewed(actor: Actor): Actor {
    if (actor === null || actor === 'member' || !this.isEnabled) return actor;
    if (actor.authRevision >= this.currentRevision) return actor;
    const user = this.users.get(actor.user);
    if (user === undefined || actor.authRevision < user.since) return actor;
    return { user: actor.user, authRevision: this.currentRevision };
  }

  // ---------------------------------------------------------------- changes

  /** Carries out a change; the actor's right to it has been checked. */
  apply(command: AuthCommand): ErrorCode | null {
    switch (command.kind) {
      case 'enable':
        return this.enable();
      case 'disable':
        return this.disable();
      case 'userAdd':
        return this.addUser(command.user, command.password, command.noPassword);
      case 'userDelete':
        return this.deleteUser(command.user);
      case 'userPassword':
        return this.setPassword(command.user, command.password);
      case 'userGrant':
        return this.grantRole(command.user, command.role);
      case 'userRevoke':
        return this.revokeRole(command.user, command.role);
      case 'roleAdd':
        return this.addRole(command.role);
      case 'roleDelete':
        return this.deleteRole(command.role);
      case 'roleGrant':
        return this.grantPermission(command.role, command.permission);
      case 'roleRevoke':
        return this.revokePermission(command.role, command.key, command.rangeEnd);
      case 'login':
        return this.checkLogin(command.user, command.authRevision);
      default:
        return assertNever(command, 'auth command');
    }
  }

  /** Does not count as a change of rights: etcd's auth revision stays, too. */
  private enable(): ErrorCode | null {
    if (this.isEnabled) return null;
    const root = this.users.get(ROOT);
    if (root === undefined) return 'ROOT_USER_MISSING';
    if (!root.roles.includes(ROOT)) return 'ROOT_ROLE_MISSING';
    this.isEnabled = true;
    this.changeCount += 1;
    this.chain.text('auth on');
    return null;
  }

  private disable(): ErrorCode | null {
    if (!this.isEnabled) return null;
    this.isEnabled = false;
    this.chain.text('auth off');
    this.changed();
    return null;
  }

  private addUser(name: string, password: string, noPassword: boolean): ErrorCode | null {
    if (name === '') return 'USER_EMPTY';
    if (this.users.has(name)) return 'USER_EXISTS';
    const since = this.currentRevision + 1;
    this.setUser({
      name,
      password: noPassword ? '' : password,
      noPassword,
      roles: [],
      since,
    });
    this.changed();
    return null;
  }

  private deleteUser(name: string): ErrorCode | null {
    if (this.isEnabled && name === ROOT) return 'INVALID_AUTH_MANAGEMENT';
    if (!this.users.delete(name)) return 'USER_NOT_FOUND';
    this.chain.text('user gone');
    this.chain.text(name);
    this.changed();
    return null;
  }

  private setPassword(name: string, password: string): ErrorCode | null {
    const user = this.users.get(name);
    if (user === undefined) return 'USER_NOT_FOUND';
    const since = this.currentRevision + 1;
    this.setUser({ ...user, password: user.noPassword ? '' : password, since });
    this.changed();
    return null;
  }

  private grantRole(name: string, role: string): ErrorCode | null {
    const user = this.users.get(name);
    if (user === undefined) return 'USER_NOT_FOUND';
    // The role `root` means something without having been added.
    if (role !== ROOT && !this.roles.has(role)) return 'ROLE_NOT_FOUND';
    if (user.roles.includes(role)) return null;
    this.setUser({ ...user, roles: [...user.roles, role].sort(byText) });
    this.changed();
    return null;
  }

  private revokeRole(name: string, role: string): ErrorCode | null {
    if (this.isEnabled && name === ROOT && role === ROOT) return 'INVALID_AUTH_MANAGEMENT';
    const user = this.users.get(name);
    if (user === undefined) return 'USER_NOT_FOUND';
    if (!user.roles.includes(role)) return 'ROLE_NOT_GRANTED';
    this.setUser({ ...user, roles: user.roles.filter((each) => each !== role) });
    this.changed();
    return null;
  }

  private addRole(name: string): ErrorCode | null {
    if (name === '') return 'ROLE_EMPTY';
    if (this.roles.has(name)) return 'ROLE_EXISTS';
    this.setRole({ name, permissions: [] });
    this.changed();
    return null;
  }

  /** Takes it from everybody who has it. */
  private deleteRole(name: string): ErrorCode | null {
    if (this.isEnabled && name === ROOT) return 'INVALID_AUTH_MANAGEMENT';
    if (!this.roles.delete(name)) return 'ROLE_NOT_FOUND';
    this.chain.text('role gone');
    this.chain.text(name);
    for (const user of [...this.users.values()].sort(byName)) {
      if (!user.roles.includes(name)) continue;
      this.setUser({ ...user, roles: user.roles.filter((each) => each !== name) });
    }
    this.changed();
    return null;
  }

  /** Another type for a range that the role has replaces the old one. */
  private grantPermission(name: string, permission: Permission): ErrorCode | null {
    const { key, rangeEnd } = permission;
    if (!isPermissionRange(key, rangeEnd)) return 'INVALID_AUTH_MANAGEMENT';
    const role = this.roles.get(name);
    if (role === undefined) return 'ROLE_NOT_FOUND';
    const others = role.permissions.filter((each) => !isSameRange(each, permission));
    this.setRole({ name, permissions: [...others, permission].sort(byRange) });
    this.changed();
    return null;
  }

  private revokePermission(name: string, key: string, rangeEnd: string): ErrorCode | null {
    const role = this.roles.get(name);
    if (role === undefined) return 'ROLE_NOT_FOUND';
    const left = role.permissions.filter((each) => !isSameRange(each, { key, rangeEnd }));
    if (left.length === role.permissions.length) return 'PERMISSION_NOT_GRANTED';
    this.setRole({ name, permissions: left });
    this.changed();
    return null;
  }

  /** Changes nothing here: the token that was made is the members' own affair. */
  private checkLogin(name: string, authRevision: number): ErrorCode | null {
    if (!this.isEnabled) return 'AUTH_NOT_ENABLED';
    const user = this.users.get(name);
    if (user === undefined || user.noPassword) return 'AUTH_FAILED';
    // The password that was checked may be an old one.
    return authRevision < user.since ? 'AUTH_OLD_REVISION' : null;
  }

  private setUser(user: User): void {
    this.users.set(user.name, user);
    for (const text of ['user', user.name, user.password, ...user.roles]) this.chain.text(text);
    this.chain.number(user.since);
    this.chain.number(user.noPassword ? 1 : 0);
  }

  private setRole(role: Role): void {
    this.roles.set(role.name, role);
    for (const text of ['role', role.name]) this.chain.text(text);
    for (const { type, key, rangeEnd } of role.permissions) {
      this.chain.number(type);
      this.chain.text(key);
      this.chain.text(rangeEnd);
    }
  }

  private changed(): void {
    this.currentRevision += 1;
    this.changeCount += 1;
    this.rights.clear();
    this.chain.number(this.currentRevision);
    const isRootSafe = this.users.get(ROOT)?.roles.includes(ROOT) === true;
    assert(!this.isEnabled || isRootSafe, 'authentication is on and nobody is root');
  }

  private rightsOf(name: string): Rights | null {
    const known = this.rights.get(name);
    if (known !== undefined) return known;
    const user = this.users.get(name);
    if (user === undefined) return null;
    const permissions = user.roles.flatMap((role) => this.roles.get(role)?.permissions ?? []);
    const rights = {
      isRoot: user.roles.includes(ROOT),
      read: new KeySpans(permissions.filter(({ type }) => type !== PermissionType.Write)),
      write: new KeySpans(permissions.filter(({ type }) => type !== PermissionType.Read)),
    };
    this.rights.set(name, rights);
    return rights;
  }
}

function isSameRange(
  a: { readonly key: string; readonly rangeEnd: string },
  b: { readonly key: string; readonly rangeEnd: string },
): boolean {
  return a.key === b.key && a.rangeEnd === b.rangeEnd;
}

function byText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  return byText(a.name, b.name);
}

function byRange(a: Permission, b: Permission): number {
  return byText(a.key, b.key) || byText(a.rangeEnd, b.rangeEnd);
}

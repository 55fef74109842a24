/**
 * The client that administers users and roles, started by clients.ts: it sets a few of them up, switches
 * authentication on in the middle of the run, and from then on grants, revokes, deletes, makes anew,
 * changes passwords, and switches it off and on again, all the time, at moments that suit nobody. Now and
 * then it tries what must never work: to leave nobody as root.
 */
import type { Prng } from '../../src/prng.js';
import { AS_ROOT, type Asker, calling } from './askers.js';
import type { Clients } from './clients.js';
import { MS } from './world.js';

/** Keys of users: single letters, so that ranges between two of them are easily drawn. */
export const LETTERS = 'abcdefgh';
export const USERS = ['u0', 'u1', 'u2'] as const;
const ROLES = ['r0', 'r1', 'r2'] as const;

/** How a plan wants rights to change. */
export interface AuthPlan {
  /** Mean time between two changes, microseconds. */
  readonly eachUs: number;
  readonly users: number;
  readonly watchers: number;
}

interface Change {
  readonly method: string;
  readonly request: Readonly<Record<string, unknown>>;
}

export function drawRange(random: Prng): { readonly key: string; readonly rangeEnd: string } {
  const at = random.below(LETTERS.length);
  const key = LETTERS[at] as string;
  const dice = random.below(100);
  if (dice < 35) return { key, rangeEnd: '' };
  if (dice < 42) return { key, rangeEnd: '\0' };
  const end = Math.min(LETTERS.length, at + 1 + random.below(4));
  return { key, rangeEnd: LETTERS[end] ?? 'i' };
}

export class AuthAdministrator {
  private readonly clients: Clients;
  private readonly number: number;
  private readonly random: Prng;
  private readonly eachUs: number;
  /** What is to be done first, in this order. */
  private readonly setup: Change[];
  private readonly granted: { role: string; key: string; rangeEnd: string }[] = [];

  constructor(clients: Clients, number: number, random: Prng, eachUs: number) {
    this.clients = clients;
    this.number = number;
    this.random = random;
    this.eachUs = eachUs;
    this.setup = this.firstChanges();
    clients.later(random.below(100 * MS), () => this.turn());
  }

  private firstChanges(): Change[] {
    return [
      ...['root', ...USERS].map((name) => this.addUser(name)),
      { method: 'UserGrantRole', request: { user: 'root', role: 'root' } },
      ...ROLES.map((role) => ({ method: 'RoleAdd', request: { name: role } })),
      ...USERS.map((user, at) => ({
        method: 'UserGrantRole',
        request: { user, role: ROLES[at] as string },
      })),
      ...ROLES.flatMap((role) => [this.grant(role), this.grant(role), this.grant(role)]),
      { method: 'AuthEnable', request: {} },
    ];
  }

  private turn(): void {
    const { clients, random } = this;
    if (clients.stopped) return;
    const [first] = this.setup;
    const { method, request } = first ?? this.draw();
    const asker: Asker = { who: AS_ROOT, needs: 'admin' };
    const run = calling(`Auth/${method}`, request, AS_ROOT);
    const member = clients.pick(random);
    const named = { method, ...request };
    clients.callAs(asker, this.number, member, 'auth', named, run, (call) => {
      const isDone = call.outcome === 'ok' || /_(EXISTS|NOT_FOUND)$/.test(call.code);
      if (first !== undefined && isDone) this.setup.shift();
      // While authentication was off, somebody took root away.
      if (/^ROOT_/.test(call.code)) this.setup.unshift(this.addUser('root'), this.grantRoot());
      const pace = first === undefined ? 2 * this.eachUs : 100 * MS;
      clients.later(random.below(pace), () => this.turn());
    });
  }

  private draw(): Change {
    const { random } = this;
    const user = USERS[random.below(USERS.length)] as string;
    const role = ROLES[random.below(ROLES.length)] as string;
    const dice = random.below(100);
    if (dice < 24) return this.grant(role);
    if (dice < 38) return this.revoke(role);
    if (dice < 50) return { method: 'UserGrantRole', request: { user, role } };
    if (dice < 58) {
      // The users make themselves root when nobody hinders them.
      const taken = random.chance(0.3) ? 'root' : role;
      return { method: 'UserRevokeRole', request: { name: user, role: taken } };
    }
    if (dice < 62) return { method: 'RoleDelete', request: { role } };
    if (dice < 68) return { method: 'RoleAdd', request: { name: role } };
    if (dice < 70) return { method: 'UserDelete', request: { name: user } };
    if (dice < 74) return this.addUser(user);
    if (dice < 82) {
      return { method: 'UserChangePassword', request: { ...this.passwordOf(user), name: user } };
    }
    if (dice < 86) return this.againstRoot();
    if (dice < 90) return { method: 'AuthDisable', request: {} };
    // Off for a shorter time than on, and root must be there for it.
    const again = [this.addUser('root'), this.grantRoot(), { method: 'AuthEnable', request: {} }];
    this.setup.push(...again);
    return this.grant(role);
  }

  private grant(role: string): Change {
    const { random } = this;
    const range = drawRange(random);
    this.granted.push({ role, ...range });
    if (this.granted.length > 30) this.granted.shift();
    const perm = { permType: random.below(3), ...range };
    return { method: 'RoleGrantPermission', request: { name: role, perm } };
  }

  private revoke(role: string): Change {
    const held = this.granted[this.random.below(Math.max(1, this.granted.length))];
    return {
      method: 'RoleRevokePermission',
      request: held === undefined ? { role, ...drawRange(this.random) } : { ...held },
    };
  }

  private grantRoot(): Change {
    return { method: 'UserGrantRole', request: { user: 'root', role: 'root' } };
  }

  /** Refused while authentication is on. */
  private againstRoot(): Change {
    return this.random.chance(0.5)
      ? { method: 'UserDelete', request: { name: 'root' } }
      : { method: 'UserRevokeRole', request: { name: 'root', role: 'root' } };
  }

  private addUser(name: string): Change {
    return { method: 'UserAdd', request: { ...this.passwordOf(name), name, options: null } };
  }

  /** The users hear of it before the members do, as people would. */
  private passwordOf(user: string): { readonly password: string } {
    const password = `secret ${this.clients.value(this.number)}`;
    this.clients.passwords.set(user, password);
    return { password };
  }
}

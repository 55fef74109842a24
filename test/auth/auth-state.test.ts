/** Users, roles and permissions in the state machine: etcd's rules, one by one. */
import { describe, expect, it } from 'vitest';
import type { Actor } from '../../src/auth/actor.js';
import type { AuthCommand, PermissionType } from '../../src/auth/auth-command.js';
import { crc32c } from '../../src/crc32c.js';
import { StateMachine } from '../../src/kv/state-machine.js';
import { put } from '../support/kv-requests.js';
import { MachineRig } from '../support/machine-rig.js';

class AuthRig extends MachineRig {
  /** The code of the refusal, null when it was carried out. */
  auth(change: AuthCommand, actor: Actor = 'member'): string | null {
    return this.apply({ kind: 'auth', change }, actor).code;
  }

  user(name: string, ...roles: string[]): void {
    const noPassword = false;
    expect(this.auth({ kind: 'userAdd', user: name, password: 'hash', noPassword })).toBeNull();
    for (const role of roles) {
      expect(this.auth({ kind: 'userGrant', user: name, role })).toBeNull();
    }
  }

  role(
    name: string,
    ...permissions: [type: PermissionType, key: string, rangeEnd: string][]
  ): void {
    expect(this.auth({ kind: 'roleAdd', role: name })).toBeNull();
    for (const [type, key, rangeEnd] of permissions) {
      const permission = { type, key, rangeEnd };
      expect(this.auth({ kind: 'roleGrant', role: name, permission })).toBeNull();
    }
  }

  enable(): void {
    this.user('root', 'root');
    expect(this.auth({ kind: 'enable' })).toBeNull();
  }

  as(user: string): Actor {
    return { user, authRevision: this.machine.auth.revision };
  }
}

describe('enabling', () => {
  it('needs the user root, then its role root', () => {
    const rig = new AuthRig();

    expect(rig.auth({ kind: 'enable' })).toBe('ROOT_USER_MISSING');
    rig.user('root');
    expect(rig.auth({ kind: 'enable' })).toBe('ROOT_ROLE_MISSING');
    rig.auth({ kind: 'userGrant', user: 'root', role: 'root' });
    expect(rig.auth({ kind: 'enable' })).toBeNull();
    expect(rig.machine.auth.enabled).toBe(true);
  });

  it('is no change the second time, and neither is disabling', () => {
    const rig = new AuthRig();
    rig.enable();
    const { revision } = rig.machine.auth;

    expect(rig.auth({ kind: 'enable' })).toBeNull();
    expect(rig.machine.auth.revision).toBe(revision);
    expect(rig.auth({ kind: 'disable' })).toBeNull();
    expect(rig.machine.auth.revision).toBe(revision + 1);
    expect(rig.auth({ kind: 'disable' })).toBeNull();
    expect(rig.machine.auth.revision).toBe(revision + 1);
  });

  it('asks nobody before, and everybody from that entry on', () => {
    const rig = new AuthRig();
    expect(rig.apply(put('a')).code).toBeNull();
    rig.enable();

    expect(rig.apply(put('a')).code).toBe('USER_EMPTY');
    expect(rig.apply(put('a'), rig.as('root')).code).toBeNull();
    rig.auth({ kind: 'disable' }, rig.as('root'));
    expect(rig.apply(put('a')).code).toBeNull();
  });
});

describe('root', () => {
  it.each<[string, AuthCommand]>([
    ['deleted', { kind: 'userDelete', user: 'root' }],
    ['robbed of its role', { kind: 'userRevoke', user: 'root', role: 'root' }],
    ['left without its role for all', { kind: 'roleDelete', role: 'root' }],
  ])('cannot be %s while authentication is on', (_what, change) => {
    const rig = new AuthRig();
    rig.enable();

    expect(rig.auth(change)).toBe('INVALID_AUTH_MANAGEMENT');
  });

  it('can be deleted while authentication is off', () => {
    const rig = new AuthRig();
    rig.user('root', 'root');

    expect(rig.auth({ kind: 'userDelete', user: 'root' })).toBeNull();
  });

  it('shows a permission for everything, if the role was added', () => {
    const rig = new AuthRig();
    expect(rig.machine.auth.permissionsOf('root')).toBeNull();
    rig.role('root');

    expect(rig.machine.auth.permissionsOf('root')).toEqual([{ type: 2, key: '', rangeEnd: '\0' }]);
  });
});

describe('users and roles', () => {
  it.each<[AuthCommand, string]>([
    [{ kind: 'userAdd', user: '', password: 'h', noPassword: false }, 'USER_EMPTY'],
    [{ kind: 'userAdd', user: 'ann', password: 'h', noPassword: false }, 'USER_EXISTS'],
    [{ kind: 'userDelete', user: 'bob' }, 'USER_NOT_FOUND'],
    [{ kind: 'userPassword', user: 'bob', password: 'h' }, 'USER_NOT_FOUND'],
    [{ kind: 'userGrant', user: 'bob', role: 'r' }, 'USER_NOT_FOUND'],
    [{ kind: 'userGrant', user: 'ann', role: 'none' }, 'ROLE_NOT_FOUND'],
    [{ kind: 'userRevoke', user: 'bob', role: 'r' }, 'USER_NOT_FOUND'],
    [{ kind: 'userRevoke', user: 'ann', role: 'r' }, 'ROLE_NOT_GRANTED'],
    [{ kind: 'roleAdd', role: '' }, 'ROLE_EMPTY'],
    [{ kind: 'roleAdd', role: 'r' }, 'ROLE_EXISTS'],
    [{ kind: 'roleDelete', role: 'none' }, 'ROLE_NOT_FOUND'],
    [
      { kind: 'roleGrant', role: 'none', permission: { type: 0, key: 'a', rangeEnd: '' } },
      'ROLE_NOT_FOUND',
    ],
    [
      { kind: 'roleGrant', role: 'r', permission: { type: 0, key: '', rangeEnd: '' } },
      'INVALID_AUTH_MANAGEMENT',
    ],
    [
      { kind: 'roleGrant', role: 'r', permission: { type: 0, key: 'b', rangeEnd: 'a' } },
      'INVALID_AUTH_MANAGEMENT',
    ],
    [{ kind: 'roleRevoke', role: 'none', key: 'a', rangeEnd: '' }, 'ROLE_NOT_FOUND'],
    [{ kind: 'roleRevoke', role: 'r', key: 'a', rangeEnd: 'b' }, 'PERMISSION_NOT_GRANTED'],
  ])('refuses %j with %s and counts no change', (change, code) => {
    const rig = new AuthRig();
    rig.user('ann');
    rig.role('r', [0, 'a', '']);
    const before = rig.machine.auth.tables;

    expect(rig.auth(change)).toBe(code);
    expect(rig.machine.auth.tables).toEqual(before);
  });

  it('grants a role twice without a word', () => {
    const rig = new AuthRig();
    rig.role('r');
    rig.user('ann', 'r');
    const { revision } = rig.machine.auth;

    expect(rig.auth({ kind: 'userGrant', user: 'ann', role: 'r' })).toBeNull();
    expect(rig.machine.auth.revision).toBe(revision);
  });

  it('replaces the type of a range that is granted again, and keeps other ranges of the key', () => {
    const rig = new AuthRig();
    rig.role('r', [2, 'k', 'z'], [0, 'k', ''], [0, 'a', ''], [1, 'k', 'z']);

    expect(rig.machine.auth.permissionsOf('r')).toEqual([
      { type: 0, key: 'a', rangeEnd: '' },
      { type: 0, key: 'k', rangeEnd: '' },
      { type: 1, key: 'k', rangeEnd: 'z' },
    ]);
  });

  it('takes a deleted role from everybody, and what it allowed', () => {
    const rig = new AuthRig();
    rig.role('r', [2, 'a', '']);
    rig.user('ann', 'r');
    rig.enable();
    expect(rig.apply(put('a'), rig.as('ann')).code).toBeNull();

    rig.auth({ kind: 'roleDelete', role: 'r' });

    expect(rig.machine.auth.user('ann')?.roles).toEqual([]);
    expect(rig.apply(put('a'), rig.as('ann')).code).toBe('PERMISSION_DENIED');
  });

  it('keeps no password for a user without one', () => {
    const rig = new AuthRig();
    rig.auth({ kind: 'userAdd', user: 'cn', password: 'hash', noPassword: true });
    rig.auth({ kind: 'userPassword', user: 'cn', password: 'hash' });

    expect(rig.machine.auth.user('cn')?.password).toBe('');
  });
});

describe('a login', () => {
  const login = (user: string, authRevision: number): AuthCommand => ({
    kind: 'login',
    user,
    authRevision,
    digest: 'digest',
  });

  it('needs authentication, the user, its password, and that it is still the one that was checked', () => {
    const rig = new AuthRig();
    rig.user('ann');
    expect(rig.auth(login('ann', 99), null)).toBe('AUTH_NOT_ENABLED');
    rig.auth({ kind: 'userAdd', user: 'cn', password: '', noPassword: true });
    rig.enable();
    const { revision } = rig.machine.auth;

    expect(rig.auth(login('bob', revision), null)).toBe('AUTH_FAILED');
    expect(rig.auth(login('cn', revision), null)).toBe('AUTH_FAILED');
    expect(rig.auth(login('ann', revision), null)).toBeNull();
    rig.auth({ kind: 'userPassword', user: 'ann', password: 'other' });
    expect(rig.auth(login('ann', revision), null)).toBe('AUTH_OLD_REVISION');
  });

  it('tells the members of the token and changes no right', () => {
    const rig = new AuthRig();
    rig.user('ann');
    rig.enable();
    const { revision } = rig.machine.auth;

    const applied = rig.apply({ kind: 'auth', change: login('ann', revision) });

    expect(applied.login).toEqual(login('ann', revision));
    expect(rig.machine.auth.revision).toBe(revision);
    expect(rig.ok(put('a'), rig.as('root')).login).toBeNull();
  });
});

describe('an actor', () => {
  it('of an older auth revision is refused what touches keys', () => {
    const rig = new AuthRig();
    rig.enable();
    const early = rig.as('root');
    rig.role('r');

    expect(rig.apply(put('a'), early).code).toBe('AUTH_OLD_REVISION');
    expect(rig.apply(put('a'), rig.as('root')).code).toBeNull();
  });

  it('whose user was deleted and added anew is nobody any more, for administration too', () => {
    const rig = new AuthRig();
    rig.enable();
    rig.user('ann', 'root');
    const early = rig.as('ann');
    expect(rig.auth({ kind: 'roleAdd', role: 'x' }, early)).toBeNull();

    rig.auth({ kind: 'userDelete', user: 'ann' });
    expect(rig.auth({ kind: 'roleAdd', role: 'y' }, early)).toBe('USER_NOT_FOUND');
    rig.user('ann', 'root');
    expect(rig.auth({ kind: 'roleAdd', role: 'y' }, early)).toBe('AUTH_OLD_REVISION');
    expect(rig.machine.auth.renewed(early)).toBe(early);
  });

  it('that goes on after others were changed is the same user now', () => {
    const rig = new AuthRig();
    rig.enable();
    rig.user('ann');
    const early = rig.as('ann');
    rig.role('r');

    expect(rig.machine.auth.renewed(early)).toEqual(rig.as('ann'));
  });

  it.each<[AuthCommand]>([
    [{ kind: 'enable' }],
    [{ kind: 'disable' }],
    [{ kind: 'userAdd', user: 'x', password: '', noPassword: false }],
    [{ kind: 'userDelete', user: 'ann' }],
    [{ kind: 'userPassword', user: 'ann', password: '' }],
    [{ kind: 'userGrant', user: 'ann', role: 'root' }],
    [{ kind: 'userRevoke', user: 'ann', role: 'r' }],
    [{ kind: 'roleAdd', role: 'x' }],
    [{ kind: 'roleDelete', role: 'r' }],
    [{ kind: 'roleGrant', role: 'r', permission: { type: 0, key: '\0', rangeEnd: '\0' } }],
    [{ kind: 'roleRevoke', role: 'r', key: 'a', rangeEnd: '' }],
  ])('without the role root cannot carry out %j', (change) => {
    const rig = new AuthRig();
    rig.role('r', [2, 'a', '']);
    rig.user('ann', 'r');
    rig.enable();

    expect(rig.auth(change, rig.as('ann'))).toBe('PERMISSION_DENIED');
    expect(rig.auth(change, null)).toBe('USER_EMPTY');
    expect(rig.auth(change, rig.as('nobody'))).toBe('USER_NOT_FOUND');
  });

  it('without the role root cannot compact, raise alarms or change members', () => {
    const rig = new AuthRig();
    rig.user('ann');
    rig.enable();
    const alarm = { kind: 'alarm', action: 'activate', memberId: 1, alarm: 1 } as const;
    const removal = { kind: 'remove', id: 3 } as const;

    for (const command of [
      { kind: 'compact', revision: 1 } as const,
      alarm,
      { kind: 'memberChange', steps: [removal], joint: false } as const,
    ]) {
      expect(rig.apply(command, rig.as('ann')).code).toBe('PERMISSION_DENIED');
      expect(rig.apply(command).code).toBe('USER_EMPTY');
      expect(rig.apply(command, 'member').code).not.toBe('PERMISSION_DENIED');
    }
  });
});

describe('a restart', () => {
  it('knows users, roles, permissions and whether they count', () => {
    const rig = new AuthRig();
    rig.role('r', [0, 'a', 'c'], [1, 'x', '\0']);
    rig.user('ann', 'r');
    rig.auth({ kind: 'userAdd', user: 'cn', password: '', noPassword: true });
    rig.enable();

    const again = rig.restarted();

    expect(again.machine.auth.tables).toEqual(rig.machine.auth.tables);
    expect(again.machine.encodeTables()).toEqual(rig.machine.encodeTables());
    expect(again.apply(put('a')).code).toBe('USER_EMPTY');
    expect(again.apply(put('y'), rig.as('ann')).code).toBeNull();
    expect(again.apply(put('b'), rig.as('ann')).code).toBe('PERMISSION_DENIED');
  });

  it('opens tables of the time before there were users', () => {
    const rig = new MachineRig();
    rig.ok({ kind: 'leaseGrant', id: 9, ttl: 5 });
    const now = rig.machine.encodeTables();
    // Off, revision 1, no users, no roles, and no quota behind: five bytes in front of the checksum.
    const before = Uint8Array.from([2, ...now.subarray(1, now.length - 9), 0, 0, 0, 0]);
    new DataView(before.buffer).setUint32(
      before.length - 4,
      crc32c(before, 0, before.length - 4),
      true,
    );

    const restore = StateMachine.beginRestore(before, { records: rig.records, selfId: 1 });
    const machine = restore.finish();

    expect(machine.lessor.has(9)).toBe(true);
    expect(machine.auth.tables).toEqual({ enabled: false, revision: 1, users: [], roles: [] });
  });

  it('makes each change part of the hash that members compare', () => {
    const changes: AuthCommand[] = [
      { kind: 'userAdd', user: 'ann', password: 'a', noPassword: false },
      { kind: 'userAdd', user: 'ann', password: 'b', noPassword: false },
      { kind: 'userAdd', user: 'bob', password: 'a', noPassword: false },
      { kind: 'roleAdd', role: 'ann' },
    ];

    const hashes = changes.map((change) => {
      const rig = new AuthRig();
      rig.auth(change);
      return rig.machine.hashChain;
    });

    expect(new Set(hashes).size).toBe(changes.length);
  });
});

/**
 * Users and roles as bytes: the part of the machine's tables (kv/tables.ts) that is about them.
 *
 * Lists are sorted by name, so two members at the same index have the same bytes.
 */
import { type ByteReader, type ByteWriter, MalformedBytesError } from '../bytes.js';
import { type Permission, readPermission, writePermission } from './auth-command.js';

export interface User {
  readonly name: string;
  /** Text of a hash; empty without a password. */
  readonly password: string;
  readonly noPassword: boolean;
  /** Sorted. */
  readonly roles: readonly string[];
  /** The auth revision at which it was added or its password changed: what was proved before is void. */
  readonly since: number;
}

export interface Role {
  readonly name: string;
  /** Sorted by key, then by range end; each range once. */
  readonly permissions: readonly Permission[];
}

export interface AuthTables {
  readonly enabled: boolean;
  readonly revision: number;
  readonly users: readonly User[];
  readonly roles: readonly Role[];
}

/** Of a store that has never heard of users. */
export const NO_AUTH: AuthTables = { enabled: false, revision: 1, users: [], roles: [] };

export function writeAuthTables(writer: ByteWriter, tables: AuthTables): void {
  writer.u8(tables.enabled ? 1 : 0).varint(tables.revision);
  writer.varint(tables.users.length);
  for (const { name, password, noPassword, roles, since } of tables.users) {
    writer.utf8(name).utf8(password);
    writer.u8(noPassword ? 1 : 0).varint(since);
    writer.varint(roles.length);
    for (const role of roles) writer.utf8(role);
  }
  writer.varint(tables.roles.length);
  for (const { name, permissions } of tables.roles) {
    writer.utf8(name).varint(permissions.length);
    for (const permission of permissions) writePermission(writer, permission);
  }
}

export function readAuthTables(reader: ByteReader): AuthTables {
  const enabled = reader.u8() === 1;
  const revision = reader.varint();
  const users = readList(reader, () => {
    const name = reader.utf8();
    const password = reader.utf8();
    const noPassword = reader.u8() === 1;
    const since = reader.varint();
    return { name, password, noPassword, since, roles: readList(reader, () => reader.utf8()) };
  });
  const roles = readList(reader, () => ({
    name: reader.utf8(),
    permissions: readList(reader, () => readPermission(reader)),
  }));
  return { enabled, revision, users, roles };
}

function readList<T>(reader: ByteReader, read: () => T): T[] {
  const count = reader.varint();
  if (count > reader.remaining) throw new MalformedBytesError(`${count} elements do not fit`);
  const list: T[] = [];
  while (list.length < count) list.push(read());
  return list;
}

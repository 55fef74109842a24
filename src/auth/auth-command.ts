/**
 * The changes of users, roles and permissions that stand in the log, and their bytes.
 *
 * No password is ever in them: `password` is the text of a hash (auth/io/passwords.ts), made by the
 * member that took the request, and `login` carries the digest of a token, not the token. Readers throw
 * MalformedBytesError for what the writers do not make.
 */
import { assertNever } from '../assert.js';
import { type ByteReader, type ByteWriter, MalformedBytesError } from '../bytes.js';
import type { KeyRange } from './key-spans.js';

export const PermissionType = { Read: 0, Write: 1, ReadWrite: 2 } as const;
export type PermissionType = (typeof PermissionType)[keyof typeof PermissionType];

export interface Permission extends KeyRange {
  readonly type: PermissionType;
}

export type AuthCommand =
  | { readonly kind: 'enable' }
  | { readonly kind: 'disable' }
  | {
      readonly kind: 'userAdd';
      readonly user: string;
      readonly password: string;
      /** Known by its certificate alone; it has no password and gets no token. */
      readonly noPassword: boolean;
    }
  | { readonly kind: 'userDelete'; readonly user: string }
  | { readonly kind: 'userPassword'; readonly user: string; readonly password: string }
  | { readonly kind: 'userGrant'; readonly user: string; readonly role: string }
  | { readonly kind: 'userRevoke'; readonly user: string; readonly role: string }
  | { readonly kind: 'roleAdd'; readonly role: string }
  | { readonly kind: 'roleDelete'; readonly role: string }
  | { readonly kind: 'roleGrant'; readonly role: string; readonly permission: Permission }
  | {
      readonly kind: 'roleRevoke';
      readonly role: string;
      readonly key: string;
      readonly rangeEnd: string;
    }
  /** A token was made for a user whose password was checked in the state of `authRevision`. */
  | {
      readonly kind: 'login';
      readonly user: string;
      readonly authRevision: number;
      readonly digest: string;
    };

const KINDS = [
  ...['enable', 'disable', 'userAdd', 'userDelete', 'userPassword', 'userGrant', 'userRevoke'],
  ...['roleAdd', 'roleDelete', 'roleGrant', 'roleRevoke', 'login'],
] as readonly AuthCommand['kind'][];

export function writeAuthCommand(writer: ByteWriter, command: AuthCommand): void {
  writer.u8(KINDS.indexOf(command.kind));
  switch (command.kind) {
    case 'enable':
    case 'disable':
      break;
    case 'userAdd':
      writer.utf8(command.user).utf8(command.password);
      writer.u8(command.noPassword ? 1 : 0);
      break;
    case 'userDelete':
      writer.utf8(command.user);
      break;
    case 'userPassword':
      writer.utf8(command.user).utf8(command.password);
      break;
    case 'userGrant':
    case 'userRevoke':
      writer.utf8(command.user).utf8(command.role);
      break;
    case 'roleAdd':
    case 'roleDelete':
      writer.utf8(command.role);
      break;
    case 'roleGrant':
      writePermission(writer.utf8(command.role), command.permission);
      break;
    case 'roleRevoke':
      writer.utf8(command.role).latin1(command.key).latin1(command.rangeEnd);
      break;
    case 'login':
      writer.utf8(command.user).varint(command.authRevision).latin1(command.digest);
      break;
    default:
      assertNever(command, 'auth command');
  }
}

export function readAuthCommand(reader: ByteReader): AuthCommand {
  const kind = KINDS[reader.u8()];
  switch (kind) {
    case 'enable':
    case 'disable':
      return { kind };
    case 'userAdd': {
      const user = reader.utf8();
      const password = reader.utf8();
      return { kind, user, password, noPassword: reader.u8() === 1 };
    }
    case 'userDelete':
      return { kind, user: reader.utf8() };
    case 'userPassword':
      return { kind, user: reader.utf8(), password: reader.utf8() };
    case 'userGrant':
    case 'userRevoke':
      return { kind, user: reader.utf8(), role: reader.utf8() };
    case 'roleAdd':
    case 'roleDelete':
      return { kind, role: reader.utf8() };
    case 'roleGrant':
      return { kind, role: reader.utf8(), permission: readPermission(reader) };
    case 'roleRevoke':
      return { kind, role: reader.utf8(), key: reader.latin1(), rangeEnd: reader.latin1() };
    case 'login': {
      const user = reader.utf8();
      const authRevision = reader.varint();
      return { kind, user, authRevision, digest: reader.latin1() };
    }
    default:
      throw new MalformedBytesError('unknown auth command');
  }
}

export function writePermission(writer: ByteWriter, permission: Permission): void {
  writer.u8(permission.type).latin1(permission.key).latin1(permission.rangeEnd);
}

export function readPermission(reader: ByteReader): Permission {
  const type = reader.u8();
  if (type > PermissionType.ReadWrite) throw new MalformedBytesError(`unknown permission ${type}`);
  return {
    type: type as PermissionType,
    key: reader.latin1(),
    rangeEnd: reader.latin1(),
  };
}

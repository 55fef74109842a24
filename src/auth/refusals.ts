/**
 * What a refusal for reasons of authentication says to people: what happened and what to do. The texts
 * that clients compare are in rpc/error-mapping.ts.
 */
import type { ErrorCode } from '../errors.js';

const TEXTS: Partial<Readonly<Record<ErrorCode, string>>> = {
  USER_EMPTY: 'authentication is on, and the request names no user; give a user name and password',
  AUTH_OLD_REVISION:
    'users or roles have changed since this client was authenticated; authenticate again',
  PERMISSION_DENIED: 'the user has no right to all that the request reads or writes',
  AUTH_FAILED: 'the user name or the password is wrong',
  AUTH_NOT_ENABLED: 'authentication is off, so there is nothing to log in to',
  NO_PASSWORD_USER: 'this user has no password; it is known by its certificate alone',
  INVALID_AUTH_TOKEN: 'the token is unknown here or has expired; authenticate again',
  ROOT_USER_MISSING: 'add the user root before authentication is enabled',
  ROOT_ROLE_MISSING: 'grant the role root to the user root before authentication is enabled',
  INVALID_AUTH_MANAGEMENT: 'this would leave nobody as root, or is a permission for no key',
  PERMISSION_NOT_GIVEN: 'say which permission to grant',
  PERMISSION_NOT_GRANTED: 'the role has no permission for exactly this range',
  USER_EXISTS: 'there is a user of this name',
  USER_NOT_FOUND: 'there is no user of this name',
  ROLE_EMPTY: 'a role needs a name',
  ROLE_EXISTS: 'there is a role of this name',
  ROLE_NOT_FOUND: 'there is no role of this name',
  ROLE_NOT_GRANTED: 'the user does not have this role',
};

/** Null for a code that is about something else. */
export function authRefusalText(code: ErrorCode): string | null {
  return TEXTS[code] ?? null;
}

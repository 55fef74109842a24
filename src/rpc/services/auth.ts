/**
 * The Auth service: users, roles, permissions, and logging in. What it changes goes through the log; its
 * rules are those of the state machine (auth/auth-state.ts).
 *
 * Passwords come in here and go to `authority`, nowhere else: not into a command, an error or the log.
 * `hashedPassword`, which etcd's members use among themselves, is not read: a client that could give a hash
 * could give one of its own making.
 */
import type { AuthCommand, PermissionType } from '../../auth/auth-command.js';
import { authRefusalText } from '../../auth/refusals.js';
import { KvError } from '../../errors.js';
import type { NodeFace, RequestContext } from '../../node.js';
import { assertAllowed } from '../access.js';
import type { Decoded, Encodable } from '../api/schema.js';
import type { CalledContext } from '../caller.js';
import { currentHeader, header } from './header.js';

const PERMISSION_TYPES = 3;

/** The answer to a change: a header. */
export interface HeaderOnly {
  readonly header: ReturnType<typeof header>;
}

export function authEnable(
  node: NodeFace,
  _request: Decoded<'AuthEnableRequest'>,
  context: RequestContext,
): Promise<HeaderOnly> {
  return change(node, { kind: 'enable' }, context);
}

export function authDisable(
  node: NodeFace,
  _request: Decoded<'AuthDisableRequest'>,
  context: RequestContext,
): Promise<HeaderOnly> {
  return change(node, { kind: 'disable' }, context);
}

export async function authStatus(
  node: NodeFace,
  _request: Decoded<'AuthStatusRequest'>,
  context: RequestContext,
): Promise<Encodable<'AuthStatusResponse'>> {
  await node.linearize(context);
  const { enabled, revision } = node.machine.auth;
  return { header: currentHeader(node), enabled, authRevision: revision };
}

export async function authenticate(
  node: NodeFace,
  { name, password }: Decoded<'AuthenticateRequest'>,
  context: CalledContext,
): Promise<Encodable<'AuthenticateResponse'>> {
  const token = await node.authority.login(name, password, context.caller.address, context);
  return { header: currentHeader(node), token };
}

export async function userAdd(
  node: NodeFace,
  request: Decoded<'AuthUserAddRequest'>,
  context: CalledContext,
): Promise<HeaderOnly> {
  const { name: user } = request;
  if (user === '') throw new KvError('USER_EMPTY', 'a user needs a name');
  const noPassword = request.options?.noPassword === true;
  const password = noPassword ? '' : await hashed(node, request.password, context);
  return change(node, { kind: 'userAdd', user, password, noPassword }, context);
}

export async function userGet(
  node: NodeFace,
  { name }: Decoded<'AuthUserGetRequest'>,
  context: RequestContext,
): Promise<Encodable<'AuthUserGetResponse'>> {
  await node.linearize(context);
  const { auth } = node.machine;
  assertAllowed(auth.refusesUser(auth.renewed(context.actor), name));
  const user = auth.user(name);
  if (user === null) throw notFound('USER_NOT_FOUND');
  return { header: currentHeader(node), roles: user.roles };
}

export async function userList(
  node: NodeFace,
  _request: Decoded<'AuthUserListRequest'>,
  context: RequestContext,
): Promise<Encodable<'AuthUserListResponse'>> {
  await node.linearize(context);
  const { auth } = node.machine;
  assertAllowed(auth.refusesAdmin(context.actor));
  return { header: currentHeader(node), users: auth.tables.users.map(({ name }) => name) };
}

export function userDelete(
  node: NodeFace,
  { name }: Decoded<'AuthUserDeleteRequest'>,
  context: RequestContext,
): Promise<HeaderOnly> {
  return change(node, { kind: 'userDelete', user: name }, context);
}

export async function userChangePassword(
  node: NodeFace,
  request: Decoded<'AuthUserChangePasswordRequest'>,
  context: CalledContext,
): Promise<HeaderOnly> {
  const password = await hashed(node, request.password, context);
  return change(node, { kind: 'userPassword', user: request.name, password }, context);
}

export function userGrantRole(
  node: NodeFace,
  { user, role }: Decoded<'AuthUserGrantRoleRequest'>,
  context: RequestContext,
): Promise<HeaderOnly> {
  return change(node, { kind: 'userGrant', user, role }, context);
}

export function userRevokeRole(
  node: NodeFace,
  { name, role }: Decoded<'AuthUserRevokeRoleRequest'>,
  context: RequestContext,
): Promise<HeaderOnly> {
  return change(node, { kind: 'userRevoke', user: name, role }, context);
}

export function roleAdd(
  node: NodeFace,
  { name }: Decoded<'AuthRoleAddRequest'>,
  context: RequestContext,
): Promise<HeaderOnly> {
  return change(node, { kind: 'roleAdd', role: name }, context);
}

export async function roleGet(
  node: NodeFace,
  { role }: Decoded<'AuthRoleGetRequest'>,
  context: RequestContext,
): Promise<Encodable<'AuthRoleGetResponse'>> {
  await node.linearize(context);
  const { auth } = node.machine;
  assertAllowed(auth.refusesRole(auth.renewed(context.actor), role));
  const permissions = auth.permissionsOf(role);
  if (permissions === null) throw notFound('ROLE_NOT_FOUND');
  const perm = permissions.map(({ type, key, rangeEnd }) => ({ permType: type, key, rangeEnd }));
  return { header: currentHeader(node), perm };
}

export async function roleList(
  node: NodeFace,
  _request: Decoded<'AuthRoleListRequest'>,
  context: RequestContext,
): Promise<Encodable<'AuthRoleListResponse'>> {
  await node.linearize(context);
  const { auth } = node.machine;
  assertAllowed(auth.refusesAdmin(context.actor));
  return { header: currentHeader(node), roles: auth.tables.roles.map(({ name }) => name) };
}

export function roleDelete(
  node: NodeFace,
  { role }: Decoded<'AuthRoleDeleteRequest'>,
  context: RequestContext,
): Promise<HeaderOnly> {
  return change(node, { kind: 'roleDelete', role }, context);
}

export function roleGrantPermission(
  node: NodeFace,
  { name: role, perm }: Decoded<'AuthRoleGrantPermissionRequest'>,
  context: RequestContext,
): Promise<HeaderOnly> {
  if (perm === null || perm === undefined) {
    throw new KvError('PERMISSION_NOT_GIVEN', 'say which permission to grant');
  }
  if (!Number.isInteger(perm.permType) || perm.permType < 0 || perm.permType >= PERMISSION_TYPES) {
    throw new KvError('INVALID_AUTH_MANAGEMENT', `there is no permission type ${perm.permType}`);
  }
  const { key, rangeEnd } = perm;
  const permission = { type: perm.permType as PermissionType, key, rangeEnd };
  return change(node, { kind: 'roleGrant', role, permission }, context);
}

export function roleRevokePermission(
  node: NodeFace,
  { role, key, rangeEnd }: Decoded<'AuthRoleRevokePermissionRequest'>,
  context: RequestContext,
): Promise<HeaderOnly> {
  return change(node, { kind: 'roleRevoke', role, key, rangeEnd }, context);
}

async function change(
  node: NodeFace,
  command: AuthCommand,
  context: RequestContext,
): Promise<HeaderOnly> {
  const { revision } = await node.propose({ kind: 'auth', change: command }, context);
  return { header: header(node, revision) };
}

function hashed(node: NodeFace, password: string, context: CalledContext): Promise<string> {
  return node.authority.hashPassword(password, context.caller.address);
}

function notFound(code: 'USER_NOT_FOUND' | 'ROLE_NOT_FOUND'): KvError {
  return new KvError(code, authRefusalText(code) ?? code);
}

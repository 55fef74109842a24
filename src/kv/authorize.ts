/**
 * What an actor must be allowed to do for a request to be carried out: a walk over the whole request.
 *
 * state-machine.ts asks in front of every command, so rights are those of the state at the entry's own
 * index, on every member alike. cluster-node.ts asks the same for reads, and for writes in order not to
 * fill the log with what will be refused.
 *
 * Whatever a request could tell or change counts, not only what it will do: the compares of a
 * transaction need the right to read, and both of its branches are looked at, nested ones as well,
 * because which of them is taken says something about the keys compared. `prevKv` reads. A put that
 * hangs its key on a lease takes the fate of that lease in hand, so it needs the right to write all keys
 * that hang there already.
 */
import { assertNever } from '../assert.js';
import type { Actor } from '../auth/actor.js';
import type { AuthState } from '../auth/auth-state.js';
import type { ErrorCode } from '../errors.js';
import type { Int64 } from '../int64.js';
import type { Lessor } from '../lease/lessor.js';
import type { Command } from './command.js';
import type { DeleteRangeRequest, PutRequest, RequestOp, TxnRequest } from './request.js';

/** The state that decides. */
export interface Rules {
  readonly auth: AuthState;
  readonly lessor: Lessor;
}

/** Why the command must not be carried out for this actor; null if it may. */
export function refusalOf(rules: Rules, actor: Actor, command: Command): ErrorCode | null {
  const { auth } = rules;
  if (!auth.enabled) return null;
  switch (command.kind) {
    case 'put':
    case 'deleteRange':
    case 'txn':
      return refusalOfOp(rules, actor, command);
    case 'leaseGrant':
      return auth.refusesStranger(actor);
    case 'leaseRevoke':
      return auth.refusesStranger(actor) ?? refusalOfLease(rules, actor, 'write', command.id);
    case 'compact':
    case 'memberChange':
    case 'alarm':
      return auth.refusesAdmin(actor);
    case 'auth':
      // Who logs in is nobody yet; its password was checked.
      return command.change.kind === 'login' ? null : auth.refusesAdmin(actor);
    case 'leaseExpire':
    case 'leaseCheckpoint':
    case 'memberPublish':
    case 'setQuota':
    case 'report':
      // No request of a client becomes one of these.
      return null;
    default:
      return assertNever(command, 'command');
  }
}

/** As `refusalOf`, for an operation of a transaction or a range. */
export function refusalOfOp(rules: Rules, actor: Actor, op: RequestOp): ErrorCode | null {
  switch (op.kind) {
    case 'range':
      return rules.auth.refusesKeys(actor, 'read', op.key, op.rangeEnd);
    case 'put':
      return refusalOfPut(rules, actor, op);
    case 'deleteRange':
      return refusalOfDelete(rules, actor, op);
    case 'txn':
      return refusalOfTxn(rules, actor, op);
    default:
      return assertNever(op, 'operation');
  }
}

/** Why the actor must not read, or write, all keys on the lease; null for a lease without keys. */
export function refusalOfLease(
  { auth, lessor }: Rules,
  actor: Actor,
  access: 'read' | 'write',
  id: Int64,
): ErrorCode | null {
  if (auth.refusesAdmin(actor) === null) return null;
  for (const key of lessor.keysOf(id)) {
    const refusal = auth.refusesKeys(actor, access, key, '');
    if (refusal !== null) return refusal;
  }
  return null;
}

function refusalOfPut(rules: Rules, actor: Actor, put: PutRequest): ErrorCode | null {
  const { auth } = rules;
  return (
    auth.refusesKeys(actor, 'write', put.key, '') ??
    (put.lease === 0 ? null : refusalOfLease(rules, actor, 'write', put.lease)) ??
    (put.prevKv ? auth.refusesKeys(actor, 'read', put.key, '') : null)
  );
}

function refusalOfDelete(
  { auth }: Rules,
  actor: Actor,
  { key, rangeEnd, prevKv }: DeleteRangeRequest,
): ErrorCode | null {
  return (
    auth.refusesKeys(actor, 'write', key, rangeEnd) ??
    (prevKv ? auth.refusesKeys(actor, 'read', key, rangeEnd) : null)
  );
}

function refusalOfTxn(rules: Rules, actor: Actor, txn: TxnRequest): ErrorCode | null {
  for (const { key, rangeEnd } of txn.compare) {
    const refusal = rules.auth.refusesKeys(actor, 'read', key, rangeEnd);
    if (refusal !== null) return refusal;
  }
  for (const branch of [txn.success, txn.failure]) {
    for (const op of branch) {
      const refusal = refusalOfOp(rules, actor, op);
      if (refusal !== null) return refusal;
    }
  }
  // A transaction of nothing still needs somebody.
  return rules.auth.refusesStranger(actor);
}

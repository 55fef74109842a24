/**
 * In whose name simulated clients call: `Asker` goes with a call, and judge.ts asks of it what the caller
 * had a right to. Users call through the handlers of both faces (rpc/handlers.ts), so the rules of each
 * method count too, and who they are is found out by the member as in the product: by the name in a
 * certificate, by the token of a login, or not at all.
 *
 * A signed token (JWT) carries the auth revision at which it was made, for as long as it lives. It would
 * cost real signatures; what the member finds in it is given in its place (`signed`).
 */
import { type Caller, NOBODY } from '../../src/rpc/caller.js';
import { apiHandlers } from '../../src/rpc/handlers.js';
import * as kv from '../../src/rpc/services/kv.js';
import type { Need } from './auth-model.js';
import type { Run } from './clients.js';
import { LIMITS } from './requests.js';

export type Identity =
  | { readonly kind: 'certificate'; readonly user: string }
  | { readonly kind: 'token'; readonly user: string; readonly token: string }
  | { readonly kind: 'signed'; readonly user: string; readonly authRevision: number }
  | { readonly kind: 'nobody' };

export interface Asker {
  readonly who: Identity;
  /** What the call needs a right to; `admin`: to administer; null: it depends on the state. */
  readonly needs: readonly Need[] | 'admin' | null;
}

export const AS_ROOT: Identity = { kind: 'certificate', user: 'root' };

const HANDLERS = apiHandlers(LIMITS);

export function callerOf(who: Identity): Caller {
  if (who.kind === 'certificate') return { ...NOBODY, commonName: who.user };
  return who.kind === 'token' ? { ...NOBODY, token: who.token } : NOBODY;
}

/** Calls a method as somebody. */
export function calling(method: string, request: unknown, who: Identity): Run {
  if (who.kind === 'signed') return callingSigned(method, request, who);
  const handler = HANDLERS.get(`etcdserverpb.${method}`);
  if (handler?.kind !== 'unary') throw new TypeError(`${method} is no method of one answer`);
  return (node, context) =>
    handler.call(node, request as never, { ...context, caller: callerOf(who) });
}

/** Opens a stream of watches as somebody; throws what the door throws. */
export function watchHandler(): Extract<
  NonNullable<ReturnType<typeof HANDLERS.get>>,
  { kind: 'stream' }
>['open'] {
  const handler = HANDLERS.get('etcdserverpb.Watch/Watch');
  if (handler?.kind !== 'stream') throw new TypeError('watches are a stream');
  return handler.open;
}

function callingSigned(
  method: string,
  request: unknown,
  { user, authRevision }: Identity & { readonly kind: 'signed' },
): Run {
  return (node, context) => {
    const own = { ...context, actor: { user, authRevision } };
    switch (method) {
      case 'KV/Put':
        return kv.put(node, request as never, own, LIMITS);
      case 'KV/DeleteRange':
        return kv.deleteRange(node, request as never, own, LIMITS);
      case 'KV/Txn':
        return kv.txn(node, request as never, own, LIMITS);
      case 'KV/Range':
        return kv.range(node, request as never, own);
      default:
        throw new TypeError(`nobody calls ${method} with a signed token`);
    }
  };
}

/**
 * What clients did to single keys and what they were told, with the times of call and reply. Written
 * by workload.ts, judged by linearizability.ts.
 *
 * Every write carries a value that no other write carries, so a reply that shows a value tells which
 * write it comes from. Times are milliseconds of one monotonic clock.
 */

/** A state of a key as a client saw it; null = the key did not exist. */
export interface Seen {
  readonly value: string;
  readonly modRevision: number;
}

export type Action =
  | { readonly kind: 'put'; readonly value: string }
  | { readonly kind: 'get' }
  | { readonly kind: 'delete' }
  /** Puts the value if the key has this modification revision; 0 = if it does not exist. */
  | { readonly kind: 'cas'; readonly expected: number; readonly value: string };

export type Reply =
  /** `revision` is the one in the header: that of the write, or the current one for a read. */
  | { readonly outcome: 'ok'; readonly revision: number; readonly effect: Effect }
  /** Proven not to have been applied. */
  | { readonly outcome: 'failed' }
  /** May have been applied, may be applied later, may never be. */
  | { readonly outcome: 'unknown' };

export type Effect =
  | { readonly kind: 'put' }
  | { readonly kind: 'get'; readonly seen: Seen | null }
  /** `removed` is what the delete found; null = nothing was there. */
  | { readonly kind: 'delete'; readonly removed: Seen | null }
  /** `seen` is what a refused swap found. */
  | { readonly kind: 'cas'; readonly succeeded: boolean; readonly seen: Seen | null };

export interface Operation {
  readonly client: number;
  readonly key: string;
  readonly action: Action;
  readonly invokedAt: number;
  /** Infinity when no reply ever came. */
  readonly returnedAt: number;
  readonly reply: Reply;
  /** Which member was asked; only for reports. */
  readonly member: string;
}

export type History = readonly Operation[];

function describeSeen(seen: Seen | null): string {
  return seen === null ? 'nothing' : `${seen.value}@${seen.modRevision}`;
}

/** One line for a human. */
export function describeOperation(operation: Operation): string {
  const { action, reply } = operation;
  const asked =
    action.kind === 'put'
      ? `put ${action.value}`
      : action.kind === 'cas'
        ? `cas @${action.expected} -> ${action.value}`
        : action.kind;
  let got: string = reply.outcome;
  if (reply.outcome === 'ok') {
    const { effect } = reply;
    if (effect.kind === 'get') got = `saw ${describeSeen(effect.seen)}`;
    if (effect.kind === 'delete') got = `removed ${describeSeen(effect.removed)}`;
    if (effect.kind === 'cas')
      got = effect.succeeded ? 'won' : `lost to ${describeSeen(effect.seen)}`;
    got += `, revision ${reply.revision}`;
  }
  const times = `${operation.invokedAt.toFixed(1)}..${operation.returnedAt.toFixed(1)}`;
  return `[${times}] client ${operation.client} at ${operation.member}: ${asked} => ${got}`;
}

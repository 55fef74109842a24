/**
 * The slow and obvious judge of small histories of one key: tries every order that real time allows,
 * with and without each unanswered operation. Written without a look at linearizability.ts, so that
 * the two can disagree.
 */
import type { Operation, Seen } from '../support/history.js';

interface Register {
  readonly value: string | null;
  /** Highest revision of a change so far. */
  readonly revision: number;
}

export function bruteForce(history: readonly Operation[]): boolean {
  const revisions = new Map<string, number>();
  for (const { action, reply } of history) {
    if (reply.outcome !== 'ok') continue;
    const { effect } = reply;
    const wrote = effect.kind === 'put' || (effect.kind === 'cas' && effect.succeeded);
    if (wrote && 'value' in action) revisions.set(action.value, reply.revision);
  }
  for (const { reply } of history) {
    if (reply.outcome !== 'ok') continue;
    const { effect } = reply;
    const seen = 'seen' in effect ? effect.seen : 'removed' in effect ? effect.removed : null;
    if (seen !== null) revisions.set(seen.value, seen.modRevision);
  }
  const candidates = history.filter(({ reply }) => reply.outcome !== 'failed');
  return search(candidates, { value: null, revision: 0 }, revisions);
}

function search(
  left: readonly Operation[],
  register: Register,
  revisions: ReadonlyMap<string, number>,
): boolean {
  if (left.every(({ reply }) => reply.outcome === 'unknown')) return true;
  for (const next of left) {
    const tooEarly = left.some((other) => {
      return other !== next && other.reply.outcome === 'ok' && other.returnedAt < next.invokedAt;
    });
    if (tooEarly) continue;
    const after = perform(next, register, revisions);
    const rest = left.filter((other) => other !== next);
    if (after !== null && search(rest, after, revisions)) return true;
  }
  return false;
}

function same(seen: Seen | null, register: Register): boolean {
  return (seen?.value ?? null) === register.value;
}

function perform(
  { action, reply }: Operation,
  register: Register,
  revisions: ReadonlyMap<string, number>,
): Register | null {
  const effect = reply.outcome === 'ok' ? reply.effect : null;
  const put = (value: string): Register | null => {
    const revision = revisions.get(value);
    if (revision === undefined) return { ...register, value };
    return revision > register.revision ? { value, revision } : null;
  };
  switch (action.kind) {
    case 'get':
      return effect?.kind === 'get' && !same(effect.seen, register) ? null : register;
    case 'put':
      return put(action.value);
    case 'delete': {
      if (effect?.kind === 'delete' && !same(effect.removed, register)) return null;
      if (register.value === null) return register;
      if (reply.outcome !== 'ok') return { ...register, value: null };
      return reply.revision > register.revision ? { value: null, revision: reply.revision } : null;
    }
    case 'cas': {
      const now = register.value === null ? 0 : revisions.get(register.value);
      const matches = now === action.expected;
      if (effect?.kind === 'cas') {
        if (effect.succeeded !== matches) return null;
        if (!matches && !same(effect.seen, register)) return null;
      }
      return matches ? put(action.value) : register;
    }
  }
}

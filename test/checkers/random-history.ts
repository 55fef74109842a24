/**
 * Random histories of a correct store, and ways to falsify one so that no correct store could have
 * made it. Every falsification is wrong by construction, so the checkers must catch all of them.
 */
import type { Prng } from '../../src/prng.js';
import type { Action, Effect, Operation, Reply, Seen } from '../support/history.js';

export interface Shape {
  readonly clients: number;
  readonly operations: number;
  readonly keys: number;
}

/**
 * Each client runs one operation after the other; each takes effect at one moment between call and
 * reply, in the order of those moments. One in twelve gets no reply, and half of those no effect.
 */
export function randomHistory(prng: Prng, shape: Shape): Operation[] {
  const plans: { client: number; from: number; at: number; to: number }[] = [];
  const clock = new Array<number>(shape.clients).fill(0);
  for (let count = 0; count < shape.operations; count += 1) {
    const client = prng.below(shape.clients);
    const from = (clock[client] ?? 0) + prng.below(5) + prng.u32() / 2 ** 32;
    const at = from + prng.below(10) + prng.u32() / 2 ** 32;
    const to = at + prng.below(10) + prng.u32() / 2 ** 32;
    clock[client] = to + 0.01;
    plans.push({ client, from, at, to });
  }
  plans.sort((a, b) => a.at - b.at);
  const store = new Map<string, Seen>();
  const known: Seen[] = [];
  let revision = 1;
  return plans.map(({ client, from, to }, place): Operation => {
    const key = `k${prng.below(shape.keys)}`;
    const now = store.get(key) ?? null;
    const action = chooseAction(prng, `v${place}`, now, known);
    const silent = prng.chance(1 / 12);
    let effect: Effect = { kind: 'get', seen: now };
    if (!silent || prng.chance(0.5)) {
      const changed = changeOf(action, now);
      if (changed !== undefined) {
        revision += 1;
        if (changed === null) store.delete(key);
        else store.set(key, { value: changed, modRevision: revision });
      }
      effect = effectOf(action, now);
    }
    // Only what some reply told can be the base of a later swap.
    const left = store.get(key);
    const told = left?.modRevision === revision || effect.kind === 'get' || effect.kind === 'cas';
    if (!silent && told && left !== undefined) known.push(left);
    const reply: Reply = silent ? { outcome: 'unknown' } : { outcome: 'ok', revision, effect };
    const returnedAt = silent ? Number.POSITIVE_INFINITY : to;
    return { client, key, action, invokedAt: from, returnedAt, reply, member: 'm1' };
  });
}

function chooseAction(prng: Prng, value: string, now: Seen | null, known: Seen[]): Action {
  const dice = prng.below(10);
  if (dice < 4) return { kind: 'get' };
  if (dice < 7) return { kind: 'put', value };
  if (dice < 8) return { kind: 'delete' };
  const current = known.some((seen) => seen.modRevision === now?.modRevision) ? now : null;
  const guess = prng.chance(0.6) ? current : known[prng.below(known.length + 1)];
  return { kind: 'cas', expected: guess?.modRevision ?? 0, value };
}

/** The new value, null for a deletion, undefined for no change. */
function changeOf(action: Action, now: Seen | null): string | null | undefined {
  if (action.kind === 'put') return action.value;
  if (action.kind === 'delete') return now === null ? undefined : null;
  if (action.kind === 'cas' && (now?.modRevision ?? 0) === action.expected) return action.value;
  return undefined;
}

function effectOf(action: Action, now: Seen | null): Effect {
  if (action.kind === 'get') return { kind: 'get', seen: now };
  if (action.kind === 'put') return { kind: 'put' };
  if (action.kind === 'delete') return { kind: 'delete', removed: now };
  const succeeded = (now?.modRevision ?? 0) === action.expected;
  return { kind: 'cas', succeeded, seen: succeeded ? null : now };
}

type Falsify = (history: readonly Operation[], prng: Prng) => Operation[] | null;

function seenBy({ reply }: Operation): Seen | null {
  if (reply.outcome !== 'ok' || reply.effect.kind !== 'get') return null;
  return reply.effect.seen;
}

function showing(operation: Operation, seen: Seen | null): Operation {
  if (operation.reply.outcome !== 'ok') return operation;
  return { ...operation, reply: { ...operation.reply, effect: { kind: 'get', seen } } };
}

function replace(
  history: readonly Operation[],
  changes: ReadonlyMap<Operation, Operation>,
): Operation[] {
  return history.map((operation) => changes.get(operation) ?? operation);
}

/** Pairs of answered operations of one key, the first ended before the second began. */
function* pairs(history: readonly Operation[]): Generator<[Operation, Operation]> {
  for (const first of history) {
    if (first.reply.outcome !== 'ok') continue;
    for (const second of history) {
      if (second.reply.outcome !== 'ok' || second.key !== first.key) continue;
      if (first.returnedAt < second.invokedAt) yield [first, second];
    }
  }
}

function pick(
  history: readonly Operation[],
  prng: Prng,
  fits: (first: Operation, second: Operation) => boolean,
): [Operation, Operation] | null {
  const all = [...pairs(history)].filter(([first, second]) => fits(first, second));
  return all[prng.below(all.length)] ?? null;
}

function isPut(operation: Operation): boolean {
  return operation.action.kind === 'put' && operation.reply.outcome === 'ok';
}

function revisionOf(operation: Operation): number {
  return operation.reply.outcome === 'ok' ? operation.reply.revision : 0;
}

export const falsifications: Record<string, Falsify> = {
  'two replies swapped'(history, prng) {
    const pair = pick(history, prng, (first, second) => {
      const [a, b] = [seenBy(first), seenBy(second)];
      return a !== null && b !== null && a.modRevision < b.modRevision;
    });
    if (pair === null) return null;
    const [first, second] = pair;
    const changes = new Map([
      [first, showing(first, seenBy(second))],
      [second, showing(second, seenBy(first))],
    ]);
    return replace(history, changes);
  },

  'a read aged to before an acknowledged write'(history, prng) {
    const pair = pick(history, prng, (first, second) => isPut(first) && seenBy(second) !== null);
    if (pair === null) return null;
    const [put, read] = pair;
    const older = history.find((other) => {
      return isPut(other) && other.key === put.key && revisionOf(other) < revisionOf(put);
    });
    if (older?.action.kind !== 'put') return null;
    const seen = { value: older.action.value, modRevision: revisionOf(older) };
    return replace(history, new Map([[read, showing(read, seen)]]));
  },

  'an acknowledged write lost'(history, prng) {
    const pair = pick(history, prng, (first, second) => {
      if (!isPut(first) || seenBy(second)?.modRevision !== revisionOf(first)) return false;
      // A deletion that may have come between would explain the loss.
      return history.every((other) => {
        if (other.action.kind !== 'delete' || other.key !== first.key) return true;
        return other.returnedAt < first.invokedAt || other.invokedAt > second.returnedAt;
      });
    });
    if (pair === null) return null;
    return replace(history, new Map([[pair[1], showing(pair[1], null)]]));
  },

  'a value from the future'(history, prng) {
    const pair = pick(history, prng, (first, second) => seenBy(first) !== null && isPut(second));
    if (pair === null) return null;
    const [read, put] = pair;
    if (put.action.kind !== 'put') return null;
    const seen = { value: put.action.value, modRevision: revisionOf(put) };
    return replace(history, new Map([[read, showing(read, seen)]]));
  },

  'a swap that won twice'(history, prng) {
    const pair = pick(history, prng, (first, second) => {
      const won = first.reply.outcome === 'ok' && first.reply.effect.kind === 'cas';
      if (!won || first.reply.outcome !== 'ok' || first.action.kind !== 'cas') return false;
      return first.reply.effect.kind === 'cas' && first.reply.effect.succeeded && isPut(second);
    });
    if (pair === null) return null;
    const [swap, put] = pair;
    if (swap.action.kind !== 'cas' || put.action.kind !== 'put') return null;
    const action: Action = { kind: 'cas', expected: swap.action.expected, value: put.action.value };
    // Where the swapped revision is 0 the key may have been deleted in between, which is no fault.
    if (action.expected === 0) return null;
    const reply: Reply = {
      outcome: 'ok',
      revision: revisionOf(put),
      effect: { kind: 'cas', succeeded: true, seen: null },
    };
    return replace(history, new Map([[put, { ...put, action, reply }]]));
  },

  'an applied write reported as refused'(history, prng) {
    const pair = pick(history, prng, (first, second) => {
      return isPut(first) && seenBy(second)?.modRevision === revisionOf(first);
    });
    if (pair === null) return null;
    const refused: Operation = { ...pair[0], reply: { outcome: 'failed' } };
    return replace(history, new Map([[pair[0], refused]]));
  },

  'a write that lost its revision to another'(history, prng) {
    const pair = pick(history, prng, (first, second) => isPut(first) && isPut(second));
    if (pair === null) return null;
    const [first, second] = pair;
    const reply: Reply = { outcome: 'ok', revision: revisionOf(first), effect: { kind: 'put' } };
    return replace(history, new Map([[second, { ...second, reply }]]));
  },

  'a header that went back'(history, prng) {
    const pair = pick(history, prng, (first, second) => {
      return seenBy(second) === null && revisionOf(first) > 2 && second.action.kind === 'get';
    });
    if (pair === null) return null;
    const [first, second] = pair;
    if (second.reply.outcome !== 'ok') return null;
    const reply: Reply = { ...second.reply, revision: revisionOf(first) - 1 };
    return replace(history, new Map([[second, { ...second, reply }]]));
  },
};

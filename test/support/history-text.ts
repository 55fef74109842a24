/**
 * Histories as text, one operation per line, for the tests of the checkers:
 *
 *     0-10 put a @2            acknowledged, revision 2
 *     0-10 put a ?             no reply         (also `cas 2 a ?`, `del ?`)
 *     0-10 put a !             refused for sure
 *     0-10 get a@2 #5          saw the value a of revision 2; header revision 5 (default: 2)
 *     0-10 get - #5            saw nothing
 *     0-10 del a@2 @6          deleted a, revision 6
 *     0-10 del - #6            found nothing to delete
 *     0-10 cas 2 b @4          expected revision 2, put b, revision 4
 *     0-10 cas 2 b lost a@3 #4 found a@3 instead (`lost -` for nothing)
 *
 * A line may start with `key:`; without, the key is k.
 */
import type { Action, Operation, Reply, Seen } from './history.js';

export function parseHistory(text: string): Operation[] {
  const lines = text.split('\n').map((line) => line.trim());
  return lines.filter((line) => line !== '').map(parseLine);
}

function parseLine(line: string, place: number): Operation {
  const parts = line.split(/\s+/);
  let key = 'k';
  if (parts[0]?.endsWith(':')) key = parts.shift()?.slice(0, -1) ?? key;
  const [from, to] = (parts.shift() ?? '').split('-').map(Number);
  const [action, reply] = parseAction(parts, line);
  return {
    client: place,
    key,
    action,
    invokedAt: from ?? 0,
    returnedAt: reply.outcome === 'unknown' ? Number.POSITIVE_INFINITY : (to ?? 0),
    reply,
    member: 'm1',
  };
}

function parseAction(parts: string[], line: string): [Action, Reply] {
  const kind = parts.shift();
  switch (kind) {
    case 'put': {
      const value = parts.shift() ?? '';
      const action: Action = { kind, value };
      const effect = { kind } as const;
      return [action, open(parts) ?? { outcome: 'ok', revision: mark(parts, '@'), effect }];
    }
    case 'get': {
      const seen = parseSeen(parts.shift());
      const revision = mark(parts, '#') || (seen?.modRevision ?? 0);
      return [{ kind }, { outcome: 'ok', revision, effect: { kind, seen } }];
    }
    case 'del': {
      const action: Action = { kind: 'delete' };
      const without = open(parts);
      if (without !== null) return [action, without];
      const removed = parseSeen(parts.shift());
      const revision = removed === null ? mark(parts, '#') : mark(parts, '@');
      return [action, { outcome: 'ok', revision, effect: { kind: 'delete', removed } }];
    }
    case 'cas': {
      const action: Action = { kind, expected: Number(parts.shift()), value: parts.shift() ?? '' };
      const without = open(parts);
      if (without !== null) return [action, without];
      const succeeded = parts[0] !== 'lost';
      if (succeeded) {
        const effect = { kind, succeeded, seen: null } as const;
        return [action, { outcome: 'ok', revision: mark(parts, '@'), effect }];
      }
      const seen = parseSeen(parts[1]);
      const revision = mark(parts, '#') || (seen?.modRevision ?? 0);
      return [action, { outcome: 'ok', revision, effect: { kind, succeeded, seen } }];
    }
    default:
      throw new Error(`no such action: ${line}`);
  }
}

function open(parts: readonly string[]): Reply | null {
  if (parts[0] === '?') return { outcome: 'unknown' };
  if (parts[0] === '!') return { outcome: 'failed' };
  return null;
}

function mark(parts: readonly string[], sign: string): number {
  const part = parts.find((each) => each.startsWith(sign));
  return part === undefined ? 0 : Number(part.slice(1));
}

function parseSeen(text: string | undefined): Seen | null {
  if (text === undefined || text === '-') return null;
  const [value, revision] = text.split('@');
  return { value: value ?? '', modRevision: Number(revision) };
}

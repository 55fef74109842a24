/** Lists that several answers share, encoded once. */
import { expect, it } from 'vitest';
import { ListPieces } from '../../src/rpc/list-pieces.js';

const PIECES = 4;

function rig() {
  const counts = { begun: 0, made: 0 };
  const shared = new ListPieces<readonly string[]>(function* (list) {
    counts.begun += 1;
    const pieces: Buffer[] = [];
    for (const text of list) {
      counts.made += 1;
      pieces.push(Buffer.from(text));
      yield text.length;
    }
    return pieces;
  });
  return { counts, shared };
}

it('two who want the same list do each piece once between them, and get the same pieces', () => {
  const { counts, shared } = rig();
  const list = Array.from({ length: PIECES }, (_, at) => `piece ${at}`);
  const users = [shared.of(list), shared.of(list)];
  const results: (readonly Buffer[])[] = [];
  let turns = 0;
  while (results.length < users.length) {
    const step = users[turns % users.length]?.next();
    if (step?.done === true) results.push(step.value);
    turns += 1;
  }

  expect(counts).toEqual({ begun: 1, made: PIECES });
  expect(results[0]?.map(String)).toEqual(list);
  expect(results[1]).toBe(results[0]);
  // Who comes later has them at once.
  expect(shared.of(list).next()).toEqual({ done: true, value: results[0] });
});

it('lists that look the same are not the same', () => {
  const { counts, shared } = rig();
  for (const list of [['a'], ['a']]) for (const _ of shared.of(list));
  expect(counts).toEqual({ begun: 2, made: 2 });
});

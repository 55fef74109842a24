/** The answers of a stream in their order, of which some are made in pieces. */
import { expect, it } from 'vitest';
import { LongAnswers } from '../../src/rpc/long-answers.js';
import { StreamAnswers } from '../../src/rpc/stream-answers.js';
import { waitFor } from '../support/wait.js';

interface Rig {
  readonly answers: StreamAnswers<string>;
  readonly out: string[];
  /** Answers that are taken before the reader has to read. */
  room: number;
  isOver: boolean;
  taken: number;
  /** With this answer its reader goes away. */
  endsWith: string;
  failure: unknown;
  onMore: (() => void) | null;
}

const PIECES = 5;
const short = (name: string) => ({ name, events: [] });
const long = (name: string) => ({ name, events: new Array(10_000).fill({}) });

function rig(room = Number.POSITIVE_INFINITY): Rig {
  const out: string[] = [];
  const take = (text: string): boolean => {
    out.push(text);
    state.isOver ||= text === state.endsWith;
    state.room -= 1;
    return state.room > 0;
  };
  const nameOf = (response: object): string => (response as { name: string }).name;
  const answers = new StreamAnswers<string>('WatchResponse', new LongAnswers(), {
    write: (response) => take(nameOf(response)),
    *inPieces(response) {
      const name = nameOf(response);
      const pieces: string[] = [];
      for (let at = 0; at < PIECES; at += 1) {
        if (name === 'broken') throw new Error('it cannot be encoded');
        pieces.push(name);
        yield 1;
      }
      return pieces;
    },
    writePieces: (pieces) => take(pieces.join('+')),
    get isOver() {
      return state.isOver;
    },
    takeMore: () => {
      state.taken += 1;
      state.onMore?.();
    },
    fail: (error) => {
      state.failure = error;
    },
  });
  const state: Rig = {
    answers,
    out,
    room,
    isOver: false,
    taken: 0,
    endsWith: '',
    failure: null,
    onMore: null,
  };
  return state;
}

const inPieces = (name: string): string => new Array(PIECES).fill(name).join('+');

it('short ones go out at once, and say whether the reader keeps up', () => {
  const { answers, out } = rig(2);
  expect([answers.send(short('a')), answers.send(short('b'))]).toEqual([true, false]);
  expect(out).toEqual(['a', 'b']);
});

it('what follows a long one waits for it, and more is wanted when all is out', async () => {
  const state = rig();
  const { answers, out } = state;
  const said = [short('a'), long('b'), short('c'), long('d')].map((one) => answers.send(one));
  expect(said).toEqual([true, false, false, false]);
  expect(out).toEqual(['a']);

  await waitFor('all of them', 2000, () => state.taken === 1);
  expect(out).toEqual(['a', inPieces('b'), 'c', inPieces('d')]);
  expect(answers.send(short('e'))).toBe(true);
});

it('a reader that does not read gets the next when it has read', async () => {
  const state = rig(1);
  const { answers, out } = state;
  for (const name of ['a', 'b', 'c']) answers.send(long(name));
  await waitFor('the first', 2000, () => out.length === 1);
  for (let turn = 0; turn < 5 * PIECES; turn += 1) await new Promise(setImmediate);
  expect([out.length, state.taken]).toEqual([1, 0]);
  expect(answers.send(short('d'))).toBe(false);

  state.room = 10;
  answers.drained();
  // Twice: a socket and a stream drain each for itself.
  answers.drained();
  await waitFor('the rest', 2000, () => state.taken === 1);
  expect(out).toEqual([...['a', 'b', 'c'].map(inPieces), 'd']);
});

it('a long one that is brought when more is wanted is waited for, too', async () => {
  const state = rig();
  const { answers, out } = state;
  state.onMore = () => {
    state.onMore = null;
    answers.send(long('b'));
    queueMicrotask(() => answers.send(short('c')));
  };
  answers.send(long('a'));
  await waitFor('all of them', 2000, () => out.length === 3);
  expect(out).toEqual([inPieces('a'), inPieces('b'), 'c']);
});

it('nothing goes out when the stream ends meanwhile', async () => {
  const state = rig();
  state.answers.send(long('a'));
  state.answers.send(short('b'));
  state.isOver = true;
  for (let turn = 0; turn < 5 * PIECES; turn += 1) await new Promise(setImmediate);
  expect([state.out, state.taken]).toEqual([[], 0]);
});

it('nothing follows an answer with which the stream ends', async () => {
  const state = rig(1);
  state.answers.send(long('a'));
  state.answers.send(short('b'));
  await waitFor('the first', 2000, () => state.out.length === 1);
  state.room = 10;
  state.endsWith = 'b';
  state.answers.send(short('c'));
  state.answers.drained();
  for (let turn = 0; turn < PIECES; turn += 1) await new Promise(setImmediate);
  expect([state.out, state.taken]).toEqual([[inPieces('a'), 'b'], 0]);
});

it('what cannot be encoded is told', async () => {
  const state = rig();
  state.answers.send(long('broken'));
  await waitFor('the failure', 2000, () => state.failure !== null);
  expect(state.failure).toEqual(new Error('it cannot be encoded'));
  expect(state.taken).toBe(0);
});

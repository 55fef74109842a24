/**
 * The checker of histories is itself checked: hand-made histories that are right, hand-made ones that
 * are wrong in every way a store can be wrong, an exhaustive search over small random histories that
 * must agree with it, and large right histories of which one reply was falsified.
 */
import { describe, expect, it } from 'vitest';
import { Prng } from '../../src/prng.js';
import { describeOperation, type Operation, type Seen } from '../support/history.js';
import { parseHistory } from '../support/history-text.js';
import { checkHistory, checkLinearizable, checkRevisions } from '../support/linearizability.js';
import { bruteForce } from './brute-force.js';
import { falsifications, randomHistory } from './random-history.js';

const GOOD: Record<string, string> = {
  'an empty history': '',
  'a write, then a read of it': `
    0-10 put a @2
    20-30 get a@2`,
  'a read of a key that was never written': '0-10 get - #1',
  'a read during a write sees the old state': `
    0-10 put a @2
    20-50 put b @3
    30-40 get a@2`,
  'a read during a write sees the new state': `
    0-10 put a @2
    20-50 put b @3
    30-40 get b@3`,
  'two reads during a write see old, then new': `
    0-10 put a @2
    20-90 put b @3
    30-40 get a@2
    50-60 get b@3`,
  'two writes at once take effect in either order': `
    0-50 put a @3
    0-50 put b @2
    60-70 get a@3`,
  'an unanswered write that was never applied': `
    0-10 put a @2
    20-30 put b ?
    40-50 get a@2`,
  'an unanswered write that was applied at once': `
    0-10 put a @2
    20-30 put b ?
    40-50 get b@3`,
  'an unanswered write that is applied much later': `
    0-10 put a @2
    20-30 put b ?
    40-50 get a@2
    60-70 get b@3`,
  'an unanswered write that is overwritten unseen': `
    0-10 put b ?
    20-30 put c @4
    40-50 get c@4`,
  'a refused write that nobody sees': `
    0-10 put a !
    20-30 get - #1`,
  'a delete, then a read of nothing': `
    0-10 put a @2
    20-30 del a@2 @3
    40-50 get - #3`,
  'a delete of nothing': '0-10 del - #1',
  'an unanswered delete explains a missing key': `
    0-10 put a @2
    20-30 del ?
    40-50 get a@2
    60-70 get - #3`,
  'a key that is deleted and written again': `
    0-10 put a @2
    20-30 del a@2 @3
    40-50 put b @4
    60-70 get b@4`,
  'a swap that wins': `
    0-10 put a @2
    20-30 cas 2 b @3
    40-50 get b@3`,
  'a swap that creates the key': `
    0-10 cas 0 a @2
    20-30 get a@2`,
  'a swap that loses to a newer value': `
    0-10 put a @2
    20-30 put b @3
    40-50 cas 2 c lost b@3 #3`,
  'a swap that loses to a missing key': `
    0-10 put a @2
    20-30 del a@2 @3
    40-50 cas 2 c lost - #3`,
  'two swaps at once, of which one wins': `
    0-10 put a @2
    20-60 cas 2 b @3
    20-60 cas 2 c lost b@3`,
  'an unanswered swap that was applied': `
    0-10 put a @2
    20-30 cas 2 b ?
    40-50 get b@3`,
  'an unanswered swap that could not be applied': `
    0-10 put a @2
    20-30 put b @3
    40-50 cas 2 c ?
    60-70 get b@3`,
  'a swap on top of an unanswered write that was seen': `
    0-10 put a ?
    20-30 get a@2
    40-50 cas 2 b @3
    60-70 get b@3`,
  'keys that do not touch each other': `
    x: 0-10 put a @2
    y: 20-30 put b @3
    x: 40-50 get a@2 #3
    y: 60-70 get b@3`,
  'three unanswered writes, the middle one seen last': `
    0-10 put a ?
    0-10 put b ?
    0-10 put c ?
    20-30 get a@2
    40-50 get c@3
    60-70 get b@4`,
};

const BAD: Record<string, string> = {
  'a read after a write that sees nothing': `
    0-10 put a @2
    20-30 get - #2`,
  'a read after a second write that sees the first': `
    0-10 put a @2
    20-30 put b @3
    40-50 get a@2 #3`,
  'a value that nobody wrote': '0-10 get z@2',
  'two reads in a row that go back': `
    0-10 put a @2
    20-90 put b @3
    30-40 get b@3
    50-60 get a@2 #3`,
  'two readers that see two writes in different orders': `
    0-90 put a @2
    0-90 put b @3
    10-20 get b@3
    30-40 get a@2 #3`,
  'an acknowledged write that vanished': `
    0-10 put a @2
    20-30 put b @3
    40-50 get a@2 #4`,
  'a refused write that a reader sees': `
    0-10 put a !
    20-30 get a@2`,
  'a refused write that a reader sees while it runs': `
    0-90 put a !
    20-30 get a@2`,
  'an unanswered write that appears, goes and comes back': `
    0-10 put a @2
    20-30 put b ?
    40-50 get b@3
    60-70 get a@2 #3
    80-90 get b@3`,
  'an unanswered write that is seen before it was sent': `
    0-10 get a@2
    20-30 put a ?`,
  'a deleted value that comes back': `
    0-10 put a @2
    20-30 del a@2 @3
    40-50 get a@2 #3`,
  'a delete that found nothing although a value was there': `
    0-10 put a @2
    20-30 del - #2`,
  'a delete that removed what was overwritten before': `
    0-10 put a @2
    20-30 put b @3
    40-50 del a@2 @4`,
  'two deletes that removed the same value': `
    0-10 put a @2
    20-30 del a@2 @3
    40-50 del a@2 @4`,
  'two swaps on the same revision that both win': `
    0-10 put a @2
    20-60 cas 2 b @3
    20-60 cas 2 c @4`,
  'a swap that wins on a revision long gone': `
    0-10 put a @2
    20-30 put b @3
    40-50 cas 2 c @4`,
  'a swap that loses although nothing changed': `
    0-10 put a @2
    20-30 cas 2 b lost a@2`,
  'a swap that creates a key that exists': `
    0-10 put a @2
    20-30 cas 0 b @3`,
  'a swap that lost but was applied': `
    0-10 put a @2
    20-30 cas 7 b lost a@2 #2
    40-50 get b@3`,
  'a swap that won but was not applied': `
    0-10 put a @2
    20-30 cas 2 b @3
    40-50 get a@2 #3`,
  'a swap that wins on a revision that nobody was ever told': `
    0-10 put a @2
    20-30 put b ?
    40-50 cas 3 c @4
    60-70 get c@4`,
  'a swap that loses to a value already overwritten': `
    0-10 put a @2
    20-30 put b @3
    40-50 put c @4
    60-70 cas 2 d lost b@3 #4`,
  'an unanswered delete that is undone': `
    0-10 put a @2
    20-30 del ?
    40-50 get - #3
    60-70 get a@2 #3`,
  'a value with two revisions': `
    0-10 put a @2
    20-30 get a@3`,
  'a revision that two writes got': `
    0-10 put a @2
    20-30 put b @2`,
  'a later write with a lower revision': `
    0-10 put a @3
    20-30 put b @2`,
  'a later write with the revision of an earlier read': `
    0-5 put a @2
    6-10 get a@2 #4
    20-30 put b @4`,
  'a header that goes back over keys': `
    x: 0-10 put a @5
    y: 20-30 get - #4`,
  'a header below the data it comes with': `
    0-90 put a @5
    20-30 get a@5 #4`,
  'a value of another key': `
    x: 0-10 put a @2
    y: 20-30 get a@2`,
  'writes applied against the order of their revisions': `
    0-90 put a @3
    0-90 put b @2
    10-20 get a@3
    30-40 get b@2 #3`,
  'an unanswered swap that ignored its condition': `
    0-10 put a @2
    20-30 put b @3
    40-50 cas 2 c ?
    60-70 get c@4`,
  'one of two unanswered writes seen again after the other': `
    0-10 put a ?
    0-10 put b ?
    20-30 get a@2
    40-50 get b@3
    60-70 get a@2 #3`,
  'a stale read on one of many keys': `
    x: 0-10 put a @2
    y: 0-10 put b @3
    x: 20-30 put c @4
    y: 40-50 get b@3 #4
    x: 40-50 get a@2 #4`,
};

describe('the checker of histories', () => {
  it('knows from stale reads which unanswered write a swap was built on', () => {
    const history = parseHistory(`
      0-10 put a ?
      20-30 cas 5 b @7
      40-50 get b@7`);
    const [key] = history.map((operation) => operation.key);
    const stale = new Map([[key as string, [{ value: 'a', modRevision: 5 }]]]);

    expect(checkHistory(history).ok).toBe(false);
    expect(checkHistory(history, 1000, stale).ok).toBe(true);
    const other = new Map([[key as string, [{ value: 'a', modRevision: 4 }]]]);
    expect(checkHistory(history, 1000, other).ok).toBe(false);
  });

  for (const [title, text] of Object.entries(GOOD)) {
    it(`accepts ${title}`, () => {
      expect(checkHistory(parseHistory(text))).toEqual({ ok: true, problem: '' });
    });
  }

  for (const [title, text] of Object.entries(BAD)) {
    it(`rejects ${title}`, () => {
      const verdict = checkHistory(parseHistory(text));

      expect(verdict.ok).toBe(false);
      expect(verdict.problem).not.toBe('');
    });
  }

  it('knows at least sixty hand-made histories', () => {
    expect(Object.keys(GOOD).length + Object.keys(BAD).length).toBeGreaterThanOrEqual(60);
  });

  it('agrees with an exhaustive search on small random histories', () => {
    const seed = Number(process.env['SEED'] ?? 1);
    const counts = { good: 0, bad: 0 };

    for (let round = 0; round < 4_000; round += 1) {
      const prng = new Prng(seed * 100_000 + round);
      const history = disturb(randomHistory(prng, { clients: 3, operations: 6, keys: 1 }), prng);
      const expected = bruteForce(history);
      const got = checkLinearizable(history);
      if (expected) counts.good += 1;
      else counts.bad += 1;
      const lines = history.map(describeOperation).join('\n');
      expect(got.ok, `SEED=${seed}, round ${round}:\n${lines}\n${got.problem}`).toBe(expected);
    }

    expect(counts.good).toBeGreaterThan(500);
    expect(counts.bad).toBeGreaterThan(500);
  });

  it('accepts large random histories of a correct store', () => {
    const seed = Number(process.env['SEED'] ?? 1);

    for (let round = 0; round < 40; round += 1) {
      const prng = new Prng(seed * 100_000 + round);
      const history = randomHistory(prng, { clients: 6, operations: 400, keys: 3 });
      const verdict = checkHistory(history, 10_000);
      expect(verdict.problem, `SEED=${seed}, round ${round}`).toBe('');
    }
  });

  it('catches every falsification of a large correct history', () => {
    const seed = Number(process.env['SEED'] ?? 1);
    const tried = new Map<string, number>();

    for (let round = 0; round < 60; round += 1) {
      const prng = new Prng(seed * 100_000 + round);
      const history = randomHistory(prng, { clients: 5, operations: 200, keys: 3 });
      for (const [name, falsify] of Object.entries(falsifications)) {
        const falsified = falsify(history, prng);
        if (falsified === null) continue;
        tried.set(name, (tried.get(name) ?? 0) + 1);
        const verdict = checkHistory(falsified, 10_000);
        expect(verdict.ok, `SEED=${seed}, round ${round}: ${name} went unnoticed`).toBe(false);
      }
    }

    for (const name of Object.keys(falsifications)) {
      expect(tried.get(name) ?? 0, `${name} was never possible`).toBeGreaterThan(10);
    }
  });

  it('calls a search that does not end in time a failure', () => {
    const writes = Array.from({ length: 24 }, (_, place) => `0-90 put v${place} @${place + 2}`);
    const reads = Array.from({ length: 4_000 }, (_, place) => `${100 + place}-5000 get v0@2 #99`);
    const history = parseHistory([...writes, ...reads].join('\n'));

    const verdict = checkLinearizable(history, 1);

    expect(verdict.ok).toBe(false);
  });

  it('names the operations that do not fit', () => {
    const history = parseHistory('0-10 put a @2\n20-30 put b @3\n40-50 get a@2 #3');

    const verdict = checkHistory(history);

    expect(verdict.problem).toContain('get => saw a@2');
  });

  it('needs no search to see that a revision went back', () => {
    const history = parseHistory('x: 0-10 put a @5\ny: 20-30 get - #4');

    expect(checkLinearizable(history).ok).toBe(true);
    expect(checkRevisions(history).problem).toContain('the revision went back');
  });
});

/** Half of the histories get one reply or one time changed at random: some stay right, some do not. */
function disturb(history: Operation[], prng: Prng): Operation[] {
  if (prng.chance(0.4)) return history;
  const place = prng.below(history.length);
  const target = history[place] as Operation;
  const values: Seen[] = history.flatMap(({ action, reply }): Seen[] => {
    const written = reply.outcome === 'ok' && 'value' in action;
    return written ? [{ value: action.value, modRevision: reply.revision }] : [];
  });
  const other = values[prng.below(values.length + 1)] ?? null;
  let changed: Operation = { ...target, returnedAt: target.invokedAt + prng.below(30) };
  if (target.reply.outcome === 'ok' && prng.chance(0.7)) {
    const { reply } = target;
    const { effect } = reply;
    if (effect.kind === 'get') {
      changed = { ...target, reply: { ...reply, effect: { kind: 'get', seen: other } } };
    } else if (effect.kind === 'cas') {
      const succeeded = !effect.succeeded;
      const seen = succeeded ? null : other;
      changed = { ...target, reply: { ...reply, effect: { kind: 'cas', succeeded, seen } } };
    }
  }
  if (changed.reply.outcome === 'unknown') changed = target;
  return history.map((each, at) => (at === place ? changed : each));
}

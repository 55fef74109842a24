/**
 * The judge of watchers is itself checked: a right log in all its variants passes, and a log that
 * breaks one promise fails and says which.
 */
import { describe, expect, it } from 'vitest';
import { Prng } from '../../src/prng.js';
import {
  checkTruth,
  checkWatch,
  type StoreEvent,
  type WatchEntry,
  type WatchLog,
} from '../support/watch-checker.js';

function put(revision: number, key: string, createRevision = revision, version = 1): StoreEvent {
  const value = `v${revision}`;
  return { type: 'PUT', key, value, modRevision: revision, createRevision, version };
}

function remove(revision: number, key: string): StoreEvent {
  return { type: 'DELETE', key, value: '', modRevision: revision, createRevision: 0, version: 0 };
}

const TRUTH: readonly StoreEvent[] = [
  put(2, 'a'),
  put(3, 'b'),
  put(4, 'a', 2, 2),
  put(5, 'c'),
  put(5, 'd'),
  remove(6, 'b'),
  put(7, 'b'),
];

function at(...revisions: number[]): readonly StoreEvent[] {
  return TRUTH.filter((event) => revisions.includes(event.modRevision));
}

function batch(...revisions: number[]): WatchEntry {
  return { kind: 'events', headerRevision: Math.max(...revisions), events: at(...revisions) };
}

function events(headerRevision: number, ...list: StoreEvent[]): WatchEntry {
  return { kind: 'events', headerRevision, events: list };
}

function progress(revision: number): WatchEntry {
  return { kind: 'progress', revision };
}

function resume(startRevision: number): WatchEntry {
  return { kind: 'resume', startRevision };
}

function log(entries: readonly WatchEntry[], changes: Partial<WatchLog> = {}): WatchLog {
  return { name: 'w', startRevision: 2, endRevision: 7, matches: () => true, entries, ...changes };
}

const all = [batch(2), batch(3), batch(4), batch(5), batch(6), batch(7)];

describe('the judge of watchers', () => {
  const good: Record<string, WatchLog> = {
    'each revision in a batch of its own': log(all),
    'several revisions in one batch': log([batch(2, 3, 4), batch(5, 6, 7)]),
    'progress between the batches': log([batch(2, 3), progress(3), batch(4, 5, 6, 7), progress(9)]),
    'a resume right behind the last event': log([batch(2, 3), resume(4), batch(4, 5, 6, 7)]),
    'a resume that asks for known events again': log([
      batch(2, 3, 4),
      resume(3),
      batch(3, 4, 5, 6, 7),
    ]),
    'a resume behind a gap without events of its own': log([resume(4), batch(4)], {
      matches: (key) => key === 'a',
      startRevision: 3,
    }),
    'a resume behind progress': log([batch(2, 3), progress(3), resume(4), batch(4, 5, 6, 7)]),
    'a watcher of one key': log([batch(2), batch(4)], { matches: (key) => key === 'a' }),
    'a start in the middle': log([batch(5), batch(6), batch(7)], { startRevision: 5 }),
    'a watcher that stopped early': log([batch(2)], { endRevision: 0 }),
    'a watcher that nothing concerned': log([], { matches: () => false }),
  };
  for (const [title, watched] of Object.entries(good)) {
    it(`accepts ${title}`, () => {
      expect(checkWatch(watched, TRUTH).problem).toBe('');
    });
  }

  const bad: Record<string, [WatchLog, string]> = {
    'a missing event at the end': [log(all.slice(0, 5)), 'reliable'],
    'a missing event in the middle': [log([batch(2), batch(4)]), 'reliable'],
    'no event at all': [log([]), 'reliable'],
    'a missing delete': [log([batch(2), batch(3), batch(4), batch(5), batch(7)]), 'reliable'],
    'an event that came twice': [log([batch(2), batch(3), batch(2)]), 'ordered'],
    'a batch that came twice': [log([batch(2), batch(2)]), 'atomic'],
    'the same event twice in one batch': [
      log([events(5, put(5, 'c'), put(5, 'c'))], { startRevision: 5 }),
      'unique',
    ],
    'two revisions in the wrong order': [log([batch(3), batch(2)]), 'reliable'],
    'a wrong order within one batch': [log([events(3, put(3, 'b'), put(2, 'a'))]), 'reliable'],
    'a revision split over two batches': [
      log([batch(2, 3, 4), events(5, put(5, 'c')), events(5, put(5, 'd'))]),
      'atomic',
    ],
    'half of a revision': [log([batch(2, 3, 4), events(5, put(5, 'c')), batch(6)]), 'atomic'],
    'progress before an event it covers': [log([batch(2), progress(3), batch(3)]), 'bookmarkable'],
    'progress that goes back': [log([batch(2, 3, 4), progress(4), progress(3)]), 'ordered'],
    'a gap after a resume': [log([batch(2), resume(3), batch(4)]), 'reliable'],
    'an event from before the resume': [log([batch(2, 3), resume(4), batch(3)]), 'resumable'],
    'a resume that skips': [log([batch(2), resume(5), batch(5, 6, 7)]), 'resumed'],
    'an event that never was': [log([events(2, put(2, 'zzz'))]), 'true'],
    'a wrong value': [log([events(2, { ...put(2, 'a'), value: 'x' })]), 'true'],
    'a wrong version': [log([batch(2, 3), events(4, put(4, 'a', 2, 7))]), 'true'],
    'a wrong create revision': [log([batch(2, 3), events(4, put(4, 'a', 4, 2))]), 'true'],
    'a put in place of a delete': [log([batch(2, 3, 4, 5), events(6, put(6, 'b'))]), 'true'],
    'a header below its event': [log([events(1, put(2, 'a'))]), 'true'],
    'an event beyond the history': [log([...all, events(8, put(8, 'a', 2, 3))]), 'true'],
    'an event of a foreign key': [log([batch(2), batch(3)], { matches: (k) => k === 'a' }), 'true'],
    'an event below the start': [log([batch(2)], { startRevision: 3 }), 'resumable'],
    'an empty batch': [log([events(2)]), 'without events'],
  };
  for (const [title, [watched, word]] of Object.entries(bad)) {
    it(`rejects ${title}`, () => {
      expect(checkWatch(watched, TRUTH).problem).toMatch(new RegExp(word));
    });
  }

  it('catches every event dropped, repeated, moved or changed in a long log', () => {
    const truth = Array.from({ length: 200 }, (_, place) => put(place + 2, `k${place}`));
    const entries = truth.map((event): WatchEntry => events(event.modRevision, event));
    const seed = Number(process.env['SEED'] ?? 1);

    for (let round = 0; round < 400; round += 1) {
      const prng = new Prng(seed * 1_000 + round);
      const place = prng.below(entries.length - 1);
      const chosen = entries[place] as WatchEntry;
      const changed = [...entries];
      const way = round % 4;
      if (way === 0) changed.splice(place, 1);
      if (way === 1) changed.splice(place + 1 + prng.below(entries.length - place), 0, chosen);
      if (way === 2) changed.splice(place + 1, 0, ...changed.splice(place, 1));
      if (way === 3) changed[place] = events(300, { ...put(place + 2, `k${place}`), value: 'x' });
      const verdict = checkWatch(log(changed, { endRevision: 201 }), truth);
      expect(verdict.ok, `SEED=${seed}, round ${round}, way ${way}`).toBe(false);
    }
    expect(checkWatch(log(entries, { endRevision: 201 }), truth).problem).toBe('');
  });
});

describe('the judge of the history', () => {
  it('accepts a history in which every acknowledged write is found', () => {
    const acknowledged = [
      { type: 'PUT', key: 'a', value: 'v4', revision: 4 },
      { type: 'DELETE', key: 'b', value: '', revision: 6 },
    ] as const;

    expect(checkTruth(TRUTH, acknowledged).problem).toBe('');
  });

  const bad: Record<string, [readonly StoreEvent[], string]> = {
    'an order that goes back': [[put(3, 'a'), put(2, 'b')], 'revision below'],
    'a revision without an event': [[put(2, 'a'), put(4, 'b')], 'nothing at 3'],
    'a key changed twice in one revision': [[put(2, 'a'), put(2, 'a', 2, 2)], 'twice'],
    'a delete of nothing': [[put(2, 'a'), remove(3, 'b')], 'did not exist'],
    'a version that does not count on': [[put(2, 'a'), put(3, 'a', 2, 3)], 'version 2'],
    'a version that survives a delete': [
      [put(2, 'a'), remove(3, 'a'), put(4, 'a', 2, 2)],
      'version 1',
    ],
    'a create revision that moves': [[put(2, 'a'), put(3, 'a', 3, 2)], 'created 2'],
  };
  for (const [title, [truth, word]] of Object.entries(bad)) {
    it(`rejects ${title}`, () => {
      expect(checkTruth(truth, []).problem).toContain(word);
    });
  }

  it('rejects a history without an acknowledged write', () => {
    const acknowledged = [{ type: 'PUT', key: 'z', value: 'v9', revision: 9 }] as const;

    expect(checkTruth(TRUTH, acknowledged).problem).toContain('lost');
  });

  it('rejects a history with another value at the revision of an acknowledged write', () => {
    const acknowledged = [{ type: 'PUT', key: 'a', value: 'other', revision: 4 }] as const;

    expect(checkTruth(TRUTH, acknowledged).problem).toContain('something else');
  });
});

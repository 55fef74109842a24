/**
 * The hub against its model (test/support/watch-model.ts): random writes, watchers, slow streams,
 * compactions, snapshots and delayed history; every answer is checked as it comes, and in the end
 * every watcher alive must have been given everything.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkProperty } from '../support/property.js';
import type { ModelStream } from '../support/watch-model.js';
import { HubWorld, nothingSeen, TINY_HUB } from '../support/watch-model.js';

const FILE = 'test/watch/hub-model.test.ts';

const keys = fc.constantFrom('a', 'b', 'c', 'd');
const change = fc.record({
  key: keys,
  value: fc.oneof(fc.constant(null), fc.constantFrom('', 'x', 'y'.repeat(90), 'z'.repeat(250))),
});
const changes = fc.array(change, { minLength: 1, maxLength: 6 });
const wish = fc.record({
  key: keys,
  rangeEnd: fc.constantFrom('', '', 'c', 'e', '\0'),
  watchId: fc.constantFrom(0, 0, 0, 1, 2, 7),
  /** Relative to the current revision; null = from now on. */
  start: fc.oneof(fc.constant(null), fc.integer({ min: -30, max: 4 })),
  progressNotify: fc.boolean(),
  noPut: fc.boolean().map((no) => no && true),
  noDelete: fc.boolean(),
  prevKv: fc.boolean(),
  fragment: fc.boolean(),
});
const stream = fc.nat(3);
const inside = fc.constantFrom('close', 'progress', 'create', 'drain', 'publish', 'cancel');

const step = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('apply' as const), changes }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('flush' as const) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('create' as const), stream, wish }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('cancel' as const), stream, id: fc.nat(7) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('drain' as const),
      stream,
      capacity: fc.integer({ min: 1, max: 6 }),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('catchUp' as const) }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('goOn' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('startRead' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('finishRead' as const),
      fails: fc.boolean(),
      late: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('compact' as const), back: fc.nat(20) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('progress' as const), stream }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('progressRound' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('reopen' as const), stream }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('replace' as const),
      unpublished: fc.array(changes, { maxLength: 5 }),
      back: fc.nat(10),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('inside' as const), stream, what: inside }),
  },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

function actInside(world: HubWorld, stream: ModelStream, what: string): void {
  if (what === 'close') world.close(stream);
  else if (what === 'progress') world.askProgress(stream);
  else if (what === 'create') world.create(stream, { key: 'a', rangeEnd: '\0' });
  else if (what === 'drain') world.drain(stream, 2);
  else if (what === 'publish') world.apply([{ key: 'b', value: 'inside' }]);
  else if (what === 'cancel') world.cancel(stream, 0);
}

function run(world: HubWorld, streams: ModelStream[], one: Step): void {
  const at = 'stream' in one ? (streams[one.stream] as ModelStream) : (streams[0] as ModelStream);
  switch (one.kind) {
    case 'apply':
      world.apply(one.changes);
      return;
    case 'flush':
      world.hub.flush();
      return;
    case 'create': {
      const { start, ...rest } = one.wish;
      const startRevision = start === null ? 0 : Math.max(1, world.revision + start);
      world.create(at, { ...rest, startRevision });
      return;
    }
    case 'cancel':
      world.cancel(at, one.id);
      return;
    case 'drain':
      world.drain(at, one.capacity);
      return;
    case 'catchUp':
      world.hub.catchUp();
      return;
    case 'goOn':
      world.hub.goOn();
      return;
    case 'startRead':
      world.startRead();
      return;
    case 'finishRead':
      world.finishRead(one);
      return;
    case 'compact':
      world.compact(world.revision - one.back);
      return;
    case 'progress':
      world.askProgress(at);
      return;
    case 'progressRound':
      world.hub.progressRound();
      return;
    case 'reopen':
      world.close(at);
      streams[one.stream] = world.open(3);
      return;
    case 'replace':
      world.replaceState(one.unpublished, world.revision - one.back);
      return;
    case 'inside':
      at.inside = (w, s) => actInside(w, s, one.what);
  }
}

describe('watch hub', () => {
  it('gives every watcher what the model says', () => {
    const seen = nothingSeen();
    const property = fc.property(fc.array(step, { minLength: 20, maxLength: 150 }), (steps) => {
      const world = new HubWorld(TINY_HUB, seen);
      const streams = [world.open(), world.open(5), world.open(1), world.open(20)];
      for (const one of steps) run(world, streams, one);
      world.settle();
      world.assertComplete();
    });
    checkProperty(property, { file: FILE, runs: 2_000 });

    // A generator that no longer reaches a case would let its bugs through.
    for (const [what, count] of Object.entries(seen)) {
      expect(count, `the runs never saw: ${what}`).toBeGreaterThan(10);
    }
    if (process.env['SHOW'] !== undefined) console.log(seen);
  }, 120_000);
});

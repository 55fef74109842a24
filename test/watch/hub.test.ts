/** The watch hub, rule by rule. The interplay of the rules is in hub-model.test.ts. */
import { describe, expect, it } from 'vitest';
import { KvError } from '../../src/errors.js';
import type { WatchCreate, WatchResponse } from '../../src/watch/watch-message.js';
import type { ModelStream } from '../support/watch-model.js';
import { HubWorld, TINY_HUB } from '../support/watch-model.js';

const ROOMY = {
  ...TINY_HUB,
  recent: { revisionsMax: 1_000, bytesMax: 1_000_000 },
  reserve: { revisionsMax: 10, bytesMax: 10_000 },
  batch: { revisionsMax: 100, bytesTarget: 100_000, fragmentBytes: 300 },
  pieceEvents: 1_000,
  deferredBytesMax: 1_000_000,
};

function worldWith(count: number, options = ROOMY): HubWorld {
  const world = new HubWorld(options);
  for (let at = 0; at < count; at += 1) world.apply([{ key: 'a', value: `${at}` }]);
  return world;
}

function watch(world: HubWorld, wish: Partial<WatchCreate> = {}, capacity?: number): ModelStream {
  const stream = world.open(capacity);
  world.create(stream, { key: 'a', ...wish });
  return stream;
}

/** Answers in short: what they are and which revisions they bring. */
function brief(responses: readonly WatchResponse[]): string[] {
  return responses.map((response) => {
    const words = [`${response.watchId}`];
    if (response.created) words.push('created');
    if (response.canceled) words.push('canceled');
    if (response.compactRevision > 0) words.push(`compacted ${response.compactRevision}`);
    if (response.fragment) words.push('fragment');
    if (response.events.length > 0) {
      words.push(response.events.map(({ kv }) => `${kv.modRevision}${kv.key}`).join(','));
    }
    if (words.length === 1) words.push(`progress ${response.header.revision}`);
    return words.join(' ');
  });
}

describe('creation of a watcher', () => {
  it('is answered before any event, with the current revision', () => {
    const world = worldWith(3);

    const { responses } = watch(world, { startRevision: 2 });
    world.settle();

    expect(brief(responses)).toEqual(['0 created', '0 2a,3a,4a']);
    expect(responses[0]?.header.revision).toBe(4);
  });

  it('from now on brings nothing of before', () => {
    const world = worldWith(3);

    const { responses } = watch(world);
    world.apply([{ key: 'a', value: 'new' }]);
    world.settle();

    expect(brief(responses)).toEqual(['0 created', '0 5a']);
  });

  it('counts ids per stream from 0 and steps over those that clients chose', () => {
    const world = worldWith(0);
    const stream = world.open();

    for (const watchId of [1, 0, 0, 0]) world.create(stream, { key: 'a', watchId });
    const other = watch(world);

    expect(brief(stream.responses)).toEqual(['1 created', '0 created', '2 created', '3 created']);
    expect(brief(other.responses)).toEqual(['0 created']);
  });

  it('fails for an id that is in use, and the first watcher lives on', () => {
    const world = worldWith(0);
    const stream = watch(world, { watchId: 5 });

    world.create(stream, { key: 'b', watchId: 5 });
    world.apply([{ key: 'a', value: 'x' }]);
    world.settle();

    expect(brief(stream.responses)).toEqual(['5 created', '-1 created canceled', '5 2a']);
    expect(stream.responses[1]?.cancelReason).toBe(
      'mvcc: duplicate watch ID provided on the WatchStream',
    );
  });

  it('fails for an empty range', () => {
    const { responses } = watch(worldWith(0), { key: 'b', rangeEnd: 'b' });

    expect(brief(responses)).toEqual(['-1 created canceled']);
    expect(responses[0]?.cancelReason).toBe('mvcc: watcher range is empty');
  });

  it('fails for a negative start', () => {
    const { responses } = watch(worldWith(0), { startRevision: -1 });

    expect(brief(responses)).toEqual(['-1 created canceled']);
    expect(responses[0]?.cancelReason).toBe(
      'etcdserver: mvcc: required revision has been compacted',
    );
    expect(responses[0]?.compactRevision).toBe(0);
  });

  it('below the compaction is created and then cancelled with the compact revision', () => {
    const world = worldWith(5);
    world.compact(4);

    const { responses } = watch(world, { startRevision: 3 });

    expect(brief(responses)).toEqual(['0 created', '0 canceled compacted 4']);
    expect(responses[1]?.cancelReason).toBe('');
  });

  it('at the compact revision is legal', () => {
    const world = worldWith(5);
    world.compact(4);

    const { responses } = watch(world, { startRevision: 4 });
    world.settle();

    expect(brief(responses)).toEqual(['0 created', '0 4a,5a,6a']);
  });
});

describe('delivery', () => {
  it('waits silently for a start in the future', () => {
    const world = worldWith(1);
    const stream = watch(world, { startRevision: 5, progressNotify: true });

    world.apply([{ key: 'a', value: 'early' }]);
    world.askProgress(stream);
    world.hub.progressRound();
    world.hub.progressRound();
    const before = brief(stream.responses);
    for (const value of ['x', 'y', 'z']) world.apply([{ key: 'a', value }]);
    world.settle();

    expect(before).toEqual(['0 created']);
    expect(brief(stream.responses)).toEqual(['0 created', '0 5a,6a', '-1 progress 6']);
  });

  it('keeps the events of one revision together', () => {
    const world = worldWith(0);
    const { responses } = watch(world, { rangeEnd: 'z' });

    world.apply([...'abcdefgh'].map((key) => ({ key, value: 'v'.repeat(100) })));
    world.hub.flush();

    expect(brief(responses)).toEqual(['0 created', '0 2a,2b,2c,2d,2e,2f,2g,2h']);
  });

  it('splits a large revision for a watcher that asked for fragments', () => {
    const world = worldWith(0);
    const { responses } = watch(world, { rangeEnd: 'z', fragment: true });

    world.apply([...'abcd'].map((key) => ({ key, value: 'v'.repeat(100) })));
    world.hub.flush();

    expect(brief(responses)).toEqual(['0 created', '0 fragment 2a,2b', '0 2c,2d']);
  });

  it('filters puts and deletions', () => {
    const world = worldWith(0);
    const noPut = watch(world, { noPut: true });
    const noDelete = watch(world, { noDelete: true });

    world.apply([{ key: 'a', value: 'x' }]);
    world.apply([{ key: 'a', value: null }]);
    world.hub.flush();

    expect(brief(noPut.responses)).toEqual(['0 created', '0 3a']);
    expect(brief(noDelete.responses)).toEqual(['0 created', '0 2a']);
  });

  it('gives a deletion with key and revision only, and the previous pair to who wants it', () => {
    const world = worldWith(0);
    const plain = watch(world);
    const withPrevious = watch(world, { prevKv: true });

    world.apply([{ key: 'a', value: 'old' }]);
    world.apply([{ key: 'a', value: null }]);
    world.hub.flush();

    const [, deletion] = plain.responses[1]?.events ?? [];
    expect(deletion?.kv).toMatchObject({ key: 'a', modRevision: 3, createRevision: 0, version: 0 });
    expect(deletion?.prevKv).toBeNull();
    const [creation, sameDeletion] = withPrevious.responses[1]?.events ?? [];
    expect(creation?.prevKv).toBeNull();
    expect(new TextDecoder().decode(sameDeletion?.prevKv?.value)).toBe('old');
  });

  it('goes without the previous pair when compaction took it', () => {
    const world = worldWith(2);
    world.compact(3);

    const { responses } = watch(world, { startRevision: 3, prevKv: true });
    world.settle();

    expect(brief(responses)).toEqual(['0 created', '0 3a']);
    expect(responses[1]?.events[0]?.prevKv).toBeNull();
  });

  it('shares one list of events among watchers of the same range and shape', () => {
    const world = worldWith(0);
    const streams = [watch(world), watch(world), watch(world, { noDelete: true })];

    world.apply([{ key: 'a', value: 'x' }]);
    world.hub.flush();

    const [first, second, third] = streams.map(({ responses }) => responses[1]?.events);
    expect(second).toBe(first);
    expect(third).not.toBe(first);
  });

  it('shares lists also among watchers that catch up from the same cursor', () => {
    const world = worldWith(5);
    const streams = [watch(world, { startRevision: 3 }), watch(world, { startRevision: 3 })];

    world.settle();

    expect(streams[1]?.responses[1]?.events).toBe(streams[0]?.responses[1]?.events);
  });

  it('batches at most the configured number of revisions in one answer', () => {
    const world = worldWith(0);
    const { responses } = watch(world);

    for (let at = 0; at < 250; at += 1) world.apply([{ key: 'a', value: '' }]);
    world.hub.flush();

    expect(responses.map(({ events }) => events.length)).toEqual([0, 100, 100, 50]);
  });
});

describe('cancellation', () => {
  it('is the last answer of its watcher', () => {
    const world = worldWith(0);
    const stream = watch(world);

    world.apply([{ key: 'a', value: 'x' }]);
    world.cancel(stream, 0);
    world.apply([{ key: 'a', value: 'y' }]);
    world.settle();

    expect(brief(stream.responses)).toEqual(['0 created', '0 2a', '0 canceled']);
  });

  it('of an unknown id is not answered', () => {
    const world = worldWith(0);
    const stream = watch(world);

    world.cancel(stream, 9);

    expect(brief(stream.responses)).toEqual(['0 created']);
  });

  it('frees the id', () => {
    const world = worldWith(0);
    const stream = watch(world, { watchId: 4 });

    world.cancel(stream, 4);
    world.create(stream, { key: 'b', watchId: 4 });

    expect(brief(stream.responses)).toEqual(['4 created', '4 canceled', '4 created']);
  });
});

describe('progress', () => {
  it('of the stream is not told while a watcher lags, and follows the events', () => {
    const world = worldWith(4);
    const stream = watch(world, { startRevision: 2 });

    world.askProgress(stream);
    const before = brief(stream.responses);
    world.settle();

    expect(before).toEqual(['0 created']);
    expect(brief(stream.responses)).toEqual(['0 created', '0 2a,3a,4a,5a', '-1 progress 5']);
  });

  it('of a stream without watchers is not told', () => {
    const world = worldWith(1);
    const stream = world.open();

    world.askProgress(stream);
    world.create(stream, { key: 'a' });
    world.settle();

    expect(brief(stream.responses)).toEqual(['0 created']);
  });

  it('notices go to quiet watchers that asked for them', () => {
    const world = worldWith(0);
    const quiet = watch(world, { progressNotify: true });
    const busy = watch(world, { key: 'b', progressNotify: true });
    const deaf = watch(world);

    world.apply([{ key: 'b', value: 'x' }]);
    world.hub.progressRound();
    world.hub.progressRound();

    expect(brief(quiet.responses)).toEqual(['0 created', '0 progress 2', '0 progress 2']);
    expect(brief(busy.responses)).toEqual(['0 created', '0 2b', '0 progress 2']);
    expect(brief(deaf.responses)).toEqual(['0 created']);
  });
});

describe('a stream that does not drain', () => {
  it('is given no more than it took and catches up later', () => {
    const world = worldWith(0);
    const slow = watch(world, {}, 2);
    const quick = watch(world);

    for (let at = 0; at < 500; at += 1) {
      world.apply([{ key: 'a', value: 'x'.repeat(1_000) }]);
      world.hub.flush();
    }
    const meanwhile = slow.responses.length;
    const heldBytes = world.hub.counts().recentBytes;
    world.settle();

    expect(meanwhile).toBe(2);
    expect(quick.responses.length).toBe(501);
    expect(heldBytes).toBeLessThanOrEqual(1_000_000);
    expect(slow.responses.flatMap(({ events }) => events).length).toBe(500);
  });

  it('alone is what the past is kept for: of a past that nobody waits for little is left', () => {
    const world = worldWith(500);
    world.hub.flush();
    const alone = world.hub.counts().recentRevisions;
    const slow = watch(world, {}, 1);
    const keep = (count: number): number => {
      for (let at = 0; at < count; at += 1) {
        world.apply([{ key: 'a', value: 'x' }]);
        world.hub.flush();
      }
      return world.hub.counts().recentRevisions;
    };
    const behind = keep(500);
    world.settle();
    const caughtUp = keep(1);
    world.drain(slow, 1);
    const again = keep(500);
    world.close(slow);
    const gone = keep(1);

    expect({ alone, behind, caughtUp, again, gone }).toEqual({
      ...{ alone: 10, caughtUp: 10, gone: 10 },
      ...{ behind: 510, again: 509 },
    });
    expect(world.seen.historyRead).toBe(0);
  });

  it('is served from memory what compaction has taken, while memory has it', () => {
    const world = worldWith(0);
    const slow = watch(world, {}, 1);

    for (let at = 0; at < 5; at += 1) world.apply([{ key: 'a', value: `${at}` }]);
    world.hub.flush();
    world.compact(6);
    world.settle();

    expect(brief(slow.responses)).toEqual(['0 created', '0 2a,3a,4a,5a,6a']);
  });

  it('is cancelled with the compact revision when nobody has its events any more', () => {
    const world = worldWith(0, TINY_HUB);
    const slow = watch(world, {}, 1);

    for (let at = 0; at < 20; at += 1) world.apply([{ key: 'a', value: `${at}` }]);
    world.hub.flush();
    world.compact(15);
    world.settle();

    expect(brief(slow.responses)).toEqual(['0 created', '0 canceled compacted 15']);
  });

  it('is ended when the client piles up requests', () => {
    const world = new HubWorld({ ...ROOMY, watchersPerStreamMax: 10 });
    const stream = world.open(1);

    for (let at = 0; at < 20_000; at += 1) world.create(stream, { key: 'a' });

    expect(stream.ended.map((error) => error?.code)).toEqual(['OVERLOADED']);
    expect(stream.responses.length).toBe(1);
    expect(world.hub.counts().watchers).toBe(0);
  });
});

describe('an ancient watcher', () => {
  it('does not hold up one that lags a little, nor is it starved by it', () => {
    const world = worldWith(2_000, TINY_HUB);
    const ancient = watch(world, { startRevision: 2 });
    const recent = watch(world, { startRevision: 1_980 });
    let rounds = 0;

    while (recent.responses.flatMap(({ events }) => events).length < 22) {
      world.hub.catchUp();
      while (world.hub.goOn());
      world.startRead();
      world.finishRead();
      rounds += 1;
    }
    const ancientSoFar = ancient.responses.flatMap(({ events }) => events).length;
    world.settle();

    expect(rounds).toBeLessThan(30);
    expect(ancientSoFar).toBeGreaterThan(0);
    expect(ancient.responses.flatMap(({ events }) => events).length).toBe(2_000);
  });
});

describe('replacement of the state', () => {
  it('keeps cursors: nobody misses or sees anything twice', () => {
    const world = worldWith(0);
    const synced = watch(world);
    const future = watch(world, { startRevision: 6 });

    world.apply([{ key: 'a', value: '1' }]);
    world.replaceState([[{ key: 'a', value: '2' }], [{ key: 'a', value: '3' }]], 0);
    world.settle();
    for (const value of ['4', '5', '6']) world.apply([{ key: 'a', value }]);
    world.settle();

    expect(brief(synced.responses)).toEqual(['0 created', '0 2a', '0 3a,4a', '0 5a,6a,7a']);
    expect(brief(future.responses)).toEqual(['0 created', '0 6a,7a']);
  });

  it('cancels who would need what the new state does not have', () => {
    const world = worldWith(0);
    const { responses } = watch(world);

    world.replaceState([[{ key: 'a', value: '2' }], [{ key: 'a', value: '3' }]], 3);
    world.settle();

    expect(brief(responses)).toEqual(['0 created', '0 canceled compacted 3']);
  });
});

describe('a revision that is larger than a piece', () => {
  const PIECES = { ...ROOMY, pieceEvents: 10 };
  const many = (count: number, value: string | null) =>
    Array.from({ length: count }, (_, at) => ({ key: `k${String(at).padStart(3, '0')}`, value }));
  const wish = { key: 'k', rangeEnd: 'l' };

  it('is handed out in pieces, and what comes meanwhile waits for it', () => {
    const world = new HubWorld(PIECES);
    const first = watch(world, wish);
    world.apply(many(100, 'x'));
    world.apply([{ key: 'k000', value: 'y' }]);
    const second = watch(world, wish);
    world.askProgress(first);
    let pieces = 1;
    while (world.hub.goOn()) {
      expect([first.responses.length, second.responses.length]).toEqual([1, 0]);
      pieces += 1;
    }

    expect(pieces).toBe(11);
    expect(first.responses.map(({ events }) => events.length)).toEqual([0, 100, 1, 0]);
    expect(brief(first.responses).at(-1)).toBe('-1 progress 3');
    expect(brief(second.responses)).toEqual(['0 created']);
    expect(second.responses[0]?.header.revision).toBe(3);
  });

  it('costs each piece a bounded number of previous pairs', () => {
    const world = new HubWorld(PIECES);
    world.apply(many(100, 'x'));
    while (world.hub.goOn());
    const previous = watch(world, { ...wish, prevKv: true });
    world.apply(many(100, null));
    let before = world.pairsRead;
    let most = 0;
    do {
      most = Math.max(most, world.pairsRead - before);
      before = world.pairsRead;
    } while (world.hub.goOn());

    expect(most).toBe(1);
    expect(previous.responses.map(({ events }) => events.length)).toEqual([0, 100]);
    expect(previous.responses[1]?.events.every(({ prevKv }) => prevKv !== null)).toBe(true);
  });

  it('is finished at once when too many bytes wait to be published', () => {
    const world = new HubWorld({ ...PIECES, deferredBytesMax: 16 * 1024 });
    const stream = watch(world, wish);
    world.apply(many(100, 'x'));
    let waiting = 0;
    for (; world.hub.isUnderWay && waiting < 1_000; waiting += 1) {
      world.apply([{ key: 'k000', value: 'y'.repeat(1024) }]);
    }

    expect(waiting).toBe(16);
    expect(stream.responses.flatMap(({ events }) => events)).toHaveLength(100 + waiting);
  });

  it('ends the stream whose client piles up requests meanwhile, and no other', () => {
    const world = new HubWorld(PIECES);
    const hostile = watch(world, wish);
    const other = watch(world, wish);
    world.apply(many(100, 'x'));
    for (let at = 0; at < 20_000; at += 1) world.askProgress(hostile);

    expect(hostile.ended.map((error) => error?.code)).toEqual(['OVERLOADED']);
    while (world.hub.goOn());
    expect(hostile.responses).toHaveLength(1);
    expect(other.responses.map(({ events }) => events.length)).toEqual([0, 100]);
    expect(world.hub.counts()).toMatchObject({ streams: 1, watchers: 1, laggingWatchers: 0 });
  });

  it('leaves what waited for it to several turns, and shares answers among what was published', () => {
    const world = new HubWorld(PIECES);
    const stream = watch(world, wish);
    world.apply(many(100, 'x'));
    for (let at = 0; at < 200; at += 1) world.apply([{ key: 'k000', value: `${at}` }]);
    const told: number[] = [];
    while (world.hub.goOn()) {
      const count = stream.responses.reduce((sum, { events }) => sum + events.length, 0);
      if (count > 0 && told.at(-1) !== count) told.push(count);
    }

    expect(told).toEqual([100, 164, 228]);
    expect(stream.responses.map(({ events }) => events.length)).toEqual([0, 100, 64, 64, 64, 8]);
  });

  it.each([
    ['before they are built', [true, false]],
    ['while they are built', [true, true]],
  ])('loses no revision of a stream that is full %s', (_when, prevKv) => {
    const world = new HubWorld({ ...PIECES, batch: { ...PIECES.batch, revisionsMax: 1 } });
    const stream = watch(world, { ...wish, prevKv: prevKv[0] === true }, 2);
    world.create(stream, { ...wish, prevKv: prevKv[1] === true });
    world.drain(stream, 1);
    for (const value of ['x', 'y', 'z']) world.apply(many(4, value));
    world.hub.flush();
    while (world.hub.goOn());
    const meanwhile = stream.responses.length;
    world.settle();

    expect(meanwhile).toBe(3);
    world.assertComplete();
  });

  it('does not keep a stream from its end', () => {
    const world = new HubWorld(PIECES);
    const streams = [watch(world, wish), watch(world, { ...wish, prevKv: true })];
    world.apply(many(100, 'x'));
    world.hub.goOn();
    world.hub.endStreams(new KvError('STOPPED', ''), () => true);

    for (const stream of streams) {
      expect(stream.ended.map((error) => error?.code)).toEqual(['STOPPED']);
      stream.closed = true;
    }
    while (world.hub.goOn());
    expect(streams.map(({ responses }) => responses.length)).toEqual([1, 1]);
    expect(world.hub.counts()).toMatchObject({ streams: 0, watchers: 0, groupsPending: 0 });
  });

  it('reaches each watcher of a stream that is full in between', () => {
    const world = new HubWorld(PIECES);
    const stream = watch(world, wish, 3);
    world.create(stream, { ...wish, noPut: true });
    world.create(stream, wish);
    world.drain(stream, 1);
    world.apply(many(100, 'x'));
    while (world.hub.goOn());
    const meanwhile = stream.responses.map(({ watchId, events }) => [watchId, events.length]);
    world.settle();

    expect(meanwhile).toEqual([
      [0, 0],
      [1, 0],
      [2, 0],
      [0, 100],
    ]);
    expect(stream.responses.at(-1)).toMatchObject({ watchId: 2 });
    expect(stream.responses.at(-1)?.events).toHaveLength(100);
    world.assertComplete();
  });

  it('of which a watcher was told too late is given to it all the same', () => {
    const world = new HubWorld(PIECES);
    const slow = watch(world, wish, 1);
    world.apply(many(100, 'x'));
    while (world.hub.goOn());
    const meanwhile = slow.responses.length;
    world.settle();

    expect(meanwhile).toBe(1);
    expect(slow.responses.map(({ events }) => events.length)).toEqual([0, 100]);
  });
});

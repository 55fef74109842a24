/**
 * The watch that outlives connections, against a server that cuts them at the nastiest places.
 */
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KvdClient } from '../../src/client/client.js';
import type { WatchItem, WatchRequest } from '../../src/client/watcher.js';
import { checkProperty } from '../support/property.js';
import type { Json } from '../support/scripted-gateway.js';
import {
  createdLine,
  eventsLine,
  failure,
  hangUp,
  header,
  keyValue,
  line,
  ScriptedGateway,
  streaming,
  streamingThenCut,
} from '../support/scripted-gateway.js';
import { within } from '../support/wait.js';

let gateway: ScriptedGateway;
let client: KvdClient;

beforeEach(async () => {
  gateway = await ScriptedGateway.start();
  client = new KvdClient({ protocol: 'http', endpoints: [gateway.endpoint], timeoutMs: 2_000 });
});

afterEach(async () => {
  client.close();
  await gateway.stop();
});

/** What the watcher hands out, until `enough` says so. */
async function collect(
  request: WatchRequest,
  enough: (items: readonly string[]) => boolean,
): Promise<string[]> {
  const stop = new AbortController();
  const items: string[] = [];
  const run = async (): Promise<void> => {
    for await (const item of client.watch(request, { ...request, signal: stop.signal })) {
      items.push(shown(item));
      if (enough(items)) break;
    }
  };
  try {
    await within(`the watch (so far: ${items.join(' | ')})`, 10_000, run());
  } finally {
    stop.abort();
  }
  return items;
}

function shown(item: WatchItem): string {
  switch (item.type) {
    case 'events':
      return item.events
        .map(({ type, kv }) => `${type} ${Buffer.from(kv.key)}@${kv.modRevision}`)
        .join(', ');
    case 'created':
    case 'progress':
      return `${item.type} ${item.revision}`;
    case 'disconnected':
      return 'disconnected';
    case 'reconnected':
      return `reconnected ${item.nextRevision}`;
    case 'compacted':
      return `compacted ${item.lostFrom}-${item.compactRevision}`;
  }
}

function startRevisions(): unknown[] {
  return gateway
    .requests('/v3/watch')
    .map((body) => (body['create_request'] as Json)['start_revision']);
}

const until = (last: string) => (items: readonly string[]) => items.includes(last);

describe('a watch', () => {
  it('hands out what the server sends', async () => {
    gateway.next(
      '/v3/watch',
      streaming(createdLine(4), eventsLine(5, keyValue('a', '1', 5), keyValue('b', '1', 5))),
    );

    const items = await collect({ key: 'a' }, until('PUT a@5, PUT b@5'));

    expect(items).toEqual(['created 4', 'PUT a@5, PUT b@5']);
    expect(startRevisions()).toEqual([undefined]);
  });

  it('reads messages that arrive in pieces and several at once', async () => {
    const text =
      createdLine(4) + eventsLine(5, keyValue('a', 'ü', 5)) + eventsLine(6, keyValue('b', '', 6));
    gateway.next('/v3/watch', streaming(text.slice(0, 30), text.slice(30, 200), text.slice(200)));

    const items = await collect({ key: 'a' }, until('PUT b@6'));

    expect(items).toEqual(['created 4', 'PUT a@5', 'PUT b@6']);
  });

  it('resumes after the last whole message when a line is cut in its middle', async () => {
    const half = eventsLine(6, keyValue('a', '2', 6)).slice(0, 80);
    gateway.next(
      '/v3/watch',
      streamingThenCut(createdLine(4), eventsLine(5, keyValue('a', '1', 5)), half),
      streaming(createdLine(6), eventsLine(6, keyValue('a', '2', 6))),
    );

    const items = await collect({ key: 'a' }, until('PUT a@6'));

    expect(items).toEqual(['created 4', 'PUT a@5', 'disconnected', 'reconnected 6', 'PUT a@6']);
    expect(startRevisions()).toEqual([undefined, '6']);
  });

  it('resumes from the revision of its creation when cut before the first event', async () => {
    gateway.next(
      '/v3/watch',
      streamingThenCut(createdLine(4)),
      streaming(createdLine(9), eventsLine(9, keyValue('a', '1', 5))),
    );

    const items = await collect({ key: 'a' }, until('PUT a@5'));

    expect(items).toEqual(['created 4', 'disconnected', 'reconnected 5', 'PUT a@5']);
    expect(startRevisions()).toEqual([undefined, '5']);
  });

  it('asks again for the revision it was given when cut before it was created', async () => {
    gateway.next(
      '/v3/watch',
      hangUp(),
      streamingThenCut('{"result":{"hea'),
      streaming(createdLine(9), eventsLine(9, keyValue('a', '1', 3))),
    );

    const items = await collect({ key: 'a', startRevision: 3 }, until('PUT a@3'));

    expect(items).toEqual(['created 9', 'PUT a@3']);
    expect(startRevisions()).toEqual(['3', '3', '3']);
  });

  it('drops events that a server repeats after a resume', async () => {
    gateway.next(
      '/v3/watch',
      streamingThenCut(createdLine(4), eventsLine(5, keyValue('a', '1', 5), keyValue('b', '1', 5))),
      streaming(
        createdLine(6),
        eventsLine(6, keyValue('b', '1', 5), keyValue('a', '1', 5)),
        eventsLine(6, keyValue('a', '1', 4), keyValue('c', '1', 4)),
        eventsLine(6, keyValue('a', '2', 6)),
      ),
    );

    const items = await collect({ key: 'a' }, until('PUT a@6'));

    expect(items).toEqual([
      'created 4',
      'PUT a@5, PUT b@5',
      'disconnected',
      'reconnected 6',
      'PUT a@6',
    ]);
  });

  it('drops what comes before the revision that was asked for', async () => {
    gateway.next(
      '/v3/watch',
      streaming(createdLine(9), eventsLine(9, keyValue('a', '1', 2), keyValue('a', '2', 3))),
    );

    const items = await collect({ key: 'a', startRevision: 3 }, until('PUT a@3'));

    expect(items).toEqual(['created 9', 'PUT a@3']);
  });

  it('resumes after a progress message, which vouches for what did not come', async () => {
    gateway.next(
      '/v3/watch',
      streamingThenCut(createdLine(4), line({ header: header(70) })),
      streaming(createdLine(80), eventsLine(80, keyValue('a', '1', 80))),
    );

    const items = await collect({ key: 'a' }, until('PUT a@80'));

    expect(items).toEqual([
      'created 4',
      'progress 70',
      'disconnected',
      'reconnected 71',
      'PUT a@80',
    ]);
    expect(startRevisions()).toEqual([undefined, '71']);
  });

  it('says once that the server is lost, however often it fails to come back', async () => {
    gateway.next(
      '/v3/watch',
      streamingThenCut(createdLine(4)),
      hangUp(),
      failure(14, 'etcdserver: no leader'),
      hangUp(),
      streaming(createdLine(9), eventsLine(9, keyValue('a', '1', 9))),
    );

    const items = await collect({ key: 'a' }, until('PUT a@9'));

    expect(items).toEqual(['created 4', 'disconnected', 'reconnected 5', 'PUT a@9']);
  });

  it('treats an error inside the stream that may pass as a lost connection', async () => {
    const noLeader = { grpc_code: 14, http_code: 503, message: 'etcdserver: no leader' };
    gateway.next(
      '/v3/watch',
      streaming(createdLine(4), `${JSON.stringify({ error: noLeader })}\n`),
      streaming(createdLine(9), eventsLine(9, keyValue('a', '1', 9))),
    );

    const items = await collect({ key: 'a' }, until('PUT a@9'));

    expect(items).toEqual(['created 4', 'disconnected', 'reconnected 5', 'PUT a@9']);
  });

  it('reports a compaction and goes on from the oldest revision there is', async () => {
    gateway.next(
      '/v3/watch',
      streaming(createdLine(90), line({ header: {}, canceled: true, compact_revision: '50' })),
      streaming(createdLine(90), eventsLine(90, keyValue('a', '1', 50))),
    );

    const items = await collect({ key: 'a', startRevision: 3 }, until('PUT a@50'));

    expect(items).toEqual(['created 90', 'compacted 3-50', 'PUT a@50']);
    expect(startRevisions()).toEqual(['3', '50']);
  });

  it('stays with its server when that tells of a compaction: nothing is wrong with it', async () => {
    const other = await ScriptedGateway.start();
    const both = new KvdClient({ protocol: 'http', endpoints: [gateway.endpoint, other.endpoint] });
    gateway.next(
      '/v3/watch',
      streaming(createdLine(90), line({ header: {}, canceled: true, compact_revision: '50' })),
      streaming(createdLine(90), eventsLine(90, keyValue('a', '1', 50))),
    );

    for await (const item of both.watch('a', { startRevision: 3 })) {
      if (item.type === 'events') break;
    }

    expect(gateway.received).toHaveLength(2);
    expect(other.received).toHaveLength(0);
    both.close();
    await other.stop();
  });

  it.each([
    ['without its creation', line({ header: {}, canceled: true, compact_revision: '50' })],
    [
      'together with its creation',
      line({ header: header(90), created: true, canceled: true, compact_revision: '50' }),
    ],
  ])('says each loss of the server also after a compaction told %s', async (_, compacted) => {
    gateway.next(
      '/v3/watch',
      streaming(compacted),
      streamingThenCut(createdLine(90)),
      streaming(compacted),
      streamingThenCut(createdLine(90)),
      streaming(createdLine(90), eventsLine(90, keyValue('a', '1', 90))),
    );

    const items = await collect({ key: 'a', startRevision: 3 }, until('PUT a@90'));

    expect(items).toEqual([
      'compacted 3-50',
      'created 90',
      'disconnected',
      'compacted 50-50',
      'reconnected 50',
      'disconnected',
      'reconnected 50',
      'PUT a@90',
    ]);
  });

  it('throws what the server refuses for good', async () => {
    const reason = 'rpc error: code = PermissionDenied desc = etcdserver: permission denied';
    gateway.next(
      '/v3/watch',
      streaming(
        line({
          header: header(4),
          created: true,
          canceled: true,
          watch_id: '-1',
          cancel_reason: reason,
        }),
      ),
    );

    await expect(collect({ key: 'a' }, () => false)).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
    });
  });

  it('goes to another endpoint when its own is gone', async () => {
    const other = await ScriptedGateway.start();
    client.close();
    client = new KvdClient({ protocol: 'http', endpoints: [gateway.endpoint, other.endpoint] });
    gateway.next(
      '/v3/watch',
      streamingThenCut(createdLine(4), eventsLine(5, keyValue('a', '1', 5))),
    );
    other.next('/v3/watch', streaming(createdLine(6), eventsLine(6, keyValue('a', '2', 6))));

    const items = await collect({ key: 'a' }, until('PUT a@6'));

    expect(items.slice(2)).toEqual(['disconnected', 'reconnected 6', 'PUT a@6']);
    await other.stop();
  });

  it('ends quietly when called off', async () => {
    gateway.next('/v3/watch', streaming(createdLine(4)));
    const stop = new AbortController();
    const items: string[] = [];

    for await (const item of client.watch('a', { signal: stop.signal })) {
      items.push(shown(item));
      stop.abort();
    }

    expect(items).toEqual(['created 4']);
  });

  it('hands out every event once and in order, wherever the stream is cut', async () => {
    const history = Array.from({ length: 6 }, (_, index) => index + 5);
    const from = (revision: number): string =>
      createdLine(10) +
      history
        .filter((one) => one >= revision)
        .map((one) => eventsLine(10, keyValue('a', `value ${one}`, one), keyValue('b', '', one)))
        .join('');
    await checkProperty(
      fc.asyncProperty(fc.array(fc.nat({ max: 1_600 }), { maxLength: 4 }), async (cuts) => {
        const answers = cuts.map(
          (cut) => (received: Parameters<ReturnType<typeof streaming>>[0]) => {
            const start = (received.body['create_request'] as Json)['start_revision'];
            return streamingThenCut(from(Number(start)).slice(0, cut))(received);
          },
        );
        gateway.next('/v3/watch', ...answers);
        gateway.always('/v3/watch', (received) => {
          const start = (received.body['create_request'] as Json)['start_revision'];
          return streaming(from(Number(start)))(received);
        });

        const items = await collect({ key: 'a', startRevision: 5 }, (all) =>
          all.some((item) => item.endsWith('b@10')),
        );

        const events = items
          .filter((item) => item.startsWith('PUT'))
          .flatMap((item) => item.split(', '));
        expect(events).toEqual(history.flatMap((one) => [`PUT a@${one}`, `PUT b@${one}`]));
      }),
      { file: 'test/client/watcher.test.ts', runs: 25 },
    );
  });
});

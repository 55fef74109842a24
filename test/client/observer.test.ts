/**
 * Watching who leads, and both kinds of watching where nobody can be reached at first: what is told when
 * connections come and go.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KvdClient } from '../../src/client/client.js';
import type { ObserveOptions } from '../../src/client/observer.js';
import {
  type GrpcAnswer,
  hangUp,
  messageOf,
  respond,
  ScriptedGrpc,
  status,
} from '../support/scripted-grpc.js';
import { staysFalse, waitFor, within } from '../support/wait.js';

const header = { clusterId: 7, memberId: 8, revision: 5, raftTerm: 2 };
const OBSERVE = 'Election/Observe';
const REFUSING = ['127.0.0.1:1', '127.0.0.1:2'];

let one: ScriptedGrpc;
let two: ScriptedGrpc;
const clients: KvdClient[] = [];

beforeEach(async () => {
  one = await ScriptedGrpc.start();
  two = await ScriptedGrpc.start();
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await one.stop();
  await two.stop();
});

function connect(...endpoints: string[]): KvdClient {
  const client = new KvdClient({ endpoints, timeoutMs: 1500, dialTimeoutMs: 300 });
  clients.push(client);
  return client;
}

const leader = (value: string, revision: number): Buffer =>
  messageOf('LeaderResponse', {
    header,
    kv: { key: 'e/1', value: Buffer.from(value), createRevision: revision, modRevision: revision },
  });

/** Tells these leaders; then the connection breaks, or stays. */
function telling(isCut: boolean, ...leaders: Buffer[]): GrpcAnswer {
  return ({ stream }) => {
    respond(stream);
    const bytes = Buffer.concat(leaders);
    stream.write(bytes, () => {
      if (isCut) setTimeout(() => stream.session?.destroy(), 50);
    });
  };
}

/** What is told, until `last`. */
async function observed(
  client: KvdClient,
  last: string,
  options: ObserveOptions = {},
): Promise<string[]> {
  const told: string[] = [];
  const run = async (): Promise<void> => {
    const leaders = client.observe('e', {
      onLost: ({ code }) => told.push(`lost: ${code}`),
      onRegained: (endpoint) => told.push(`regained: ${endpoint}`),
      ...options,
    });
    for await (const kv of leaders) {
      told.push(kv.text());
      if (kv.text() === last) return;
    }
  };
  await within('the last leader', 5000, run());
  return told;
}

describe('an observer', () => {
  it('tells a leader once, also when the next connection tells it again', async () => {
    one.always(OBSERVE, telling(true, leader('ann', 6)));
    two.always(OBSERVE, telling(false, leader('ann', 6), leader('bob', 9)));

    const told = await observed(connect(one.endpoint, two.endpoint), 'bob');

    expect(told).toEqual(['ann', 'lost: CONNECTION_LOST', `regained: ${two.endpoint}`, 'bob']);
  });

  it('leaves an endpoint that fails, and says once that the server is lost', async () => {
    one.next(OBSERVE, telling(true, leader('ann', 6)));
    one.always(OBSERVE, hangUp());
    two.next(OBSERVE, status(14, 'etcdserver: no leader'), hangUp());
    two.always(OBSERVE, telling(false, leader('bob', 9)));

    const told = await observed(connect(one.endpoint, two.endpoint), 'bob');

    expect(told).toEqual(['ann', 'lost: CONNECTION_LOST', `regained: ${two.endpoint}`, 'bob']);
    const [first, second] = [one, two].map((each) => each.calls(OBSERVE).length);
    expect([first, second]).toEqual([3, 3]);
  });

  it('ends with what a server refuses for good', async () => {
    one.always(OBSERVE, status(7, 'etcdserver: permission denied'));
    const telling = observed(connect(one.endpoint, two.endpoint), 'nobody');
    await expect(telling).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
    expect(two.received).toHaveLength(0);
  });
});

describe('where nobody can be reached at first', () => {
  type Begin = (
    client: KvdClient,
    failFast: boolean,
    stop: AbortController,
  ) => AsyncGenerator<unknown>;
  const kinds: Readonly<Record<'observe' | 'watch', Begin>> = {
    observe: (client, failFast, { signal }) => client.observe('e', { failFast, signal }),
    watch: (client, failFast, { signal }) => client.watch('k', { failFast, signal }),
  };

  it.each(['observe', 'watch'] as const)('%s fails when it is to fail fast', async (kind) => {
    const items = kinds[kind](connect(...REFUSING), true, new AbortController());
    const first = within('the failure', 3000, items.next());
    await expect(first).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });

  it.each(['observe', 'watch'] as const)(
    '%s asks each endpoint before it fails fast',
    async (kind) => {
      two.always(OBSERVE, telling(false, leader('ann', 6)));
      two.always('Watch/Watch', ({ stream }) => {
        respond(stream);
        stream.write(messageOf('WatchResponse', { header, created: true }));
      });
      const stop = new AbortController();
      const items = kinds[kind](connect('127.0.0.1:1', two.endpoint), true, stop);
      expect((await within('the first item', 3000, items.next())).done).toBe(false);
      stop.abort();
      await items.return(undefined);
    },
  );

  it.each(['observe', 'watch'] as const)('%s goes on trying when it is not', async (kind) => {
    const stop = new AbortController();
    let isOver = false;
    const first = kinds[kind](connect(...REFUSING), false, stop).next();
    first.then(
      () => (isOver = true),
      () => (isOver = true),
    );
    await staysFalse('an end', 700, () => isOver);
    stop.abort();
    await waitFor('the end', 2000, () => isOver);
  });
});

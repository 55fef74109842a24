/**
 * What watchers get of a revision that is too large for one turn of the event loop, over both faces, and what others
 * get meanwhile. The pieces of the hub are in test/watch/hub.test.ts, those of an answer in stream-answers.test.ts.
 */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { decodeProtobuf, encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import type { Decoded } from '../../src/rpc/api/schema.js';
import { type ServedGateway, serveGateway } from '../support/gateway-client.js';
import {
  GrpcClient,
  type GrpcExchange,
  type ServedGrpc,
  serveGrpc,
} from '../support/grpc-client.js';
import { LocalNode } from '../support/local-node.js';
import { waitFor } from '../support/wait.js';

const KEYS = 25_000;
const TXN_PUTS = 100;
const PATIENCE_MS = 20_000;
const KV = '/etcdserverpb.KV';

let node: LocalNode;
let grpc: ServedGrpc;
let gateway: ServedGateway;
let clients: GrpcClient[];

beforeEach(async () => {
  node = new LocalNode();
  grpc = await serveGrpc(node);
  gateway = await serveGateway(node);
  clients = [];
  const client = connect();
  for (let at = 0; at < KEYS; at += TXN_PUTS) {
    const success = Array.from({ length: TXN_PUTS }, (_, place) => ({
      requestPut: { key: keyAt(at + place), value: Buffer.from(`v${at + place}`) },
    }));
    await client.call(`${KV}/Txn`, encodeProtobuf('TxnRequest', { success }));
  }
});

afterEach(async () => {
  for (const client of clients) client.close();
  node.stop();
  await grpc.stop();
  await gateway.stop();
});

function keyAt(place: number): string {
  return `k${String(place).padStart(6, '0')}`;
}

/** On a connection of its own. */
function connect(): GrpcClient {
  const client = new GrpcClient(grpc.port);
  clients.push(client);
  return client;
}

async function watch(
  wish: { prevKv?: boolean; fragment?: boolean; startRevision?: number } = {},
): Promise<GrpcExchange> {
  const exchange = connect().open('/etcdserverpb.Watch/Watch');
  const createRequest = { key: 'k', rangeEnd: 'l', ...wish };
  exchange.send(encodeProtobuf('WatchRequest', { createRequest }));
  await waitFor('the watcher', PATIENCE_MS, () => exchange.messages.length > 0);
  return exchange;
}

function answersOf({ messages }: GrpcExchange): Decoded<'WatchResponse'>[] {
  return messages.slice(1).map((bytes) => decodeProtobuf('WatchResponse', bytes));
}

async function deleteAll(): Promise<number> {
  const body = encodeProtobuf('DeleteRangeRequest', { key: 'k', rangeEnd: 'l' });
  const { messages } = await connect().call(`${KV}/DeleteRange`, body);
  const { deleted, header } = decodeProtobuf('DeleteRangeResponse', messages[0] as Buffer);
  expect(deleted).toBe(KEYS);
  return Number(header?.revision);
}

async function putBehind(): Promise<void> {
  await connect().call(`${KV}/Put`, encodeProtobuf('PutRequest', { key: 'k-behind' }));
}

const isComplete = (exchange: GrpcExchange): boolean =>
  answersOf(exchange).at(-1)?.events.at(-1)?.kv?.key === 'k-behind';

it('each watcher gets all of it in one answer, or in fragments, as it wished, then what follows', async () => {
  const plain = [await watch(), await watch()];
  const previous = await watch({ prevKv: true });
  const parts = await watch({ prevKv: true, fragment: true });

  const revision = await deleteAll();
  await putBehind();
  for (const one of [...plain, previous, parts]) {
    await waitFor('what follows', PATIENCE_MS, () => isComplete(one));
  }

  const wanted = Array.from({ length: KEYS }, (_, place) => keyAt(place));
  for (const one of plain) {
    const [whole, behind] = answersOf(one);
    expect(whole).toMatchObject({ fragment: false, header: { revision } });
    expect(whole?.events.map(({ kv }) => kv?.key)).toEqual(wanted);
    expect(whole?.events.every(({ type, kv }) => type === 1 && kv?.modRevision === revision)).toBe(
      true,
    );
    expect(behind?.events).toHaveLength(1);
  }
  const values = wanted.map((_, place) => `v${place}`);
  const valuesOf = (answers: Decoded<'WatchResponse'>[]): (string | undefined)[] =>
    answers.flatMap(({ events }) => events.map(({ prevKv }) => prevKv?.value.toString()));
  expect(valuesOf(answersOf(previous).slice(0, 1))).toEqual(values);
  const fragments = answersOf(parts).slice(0, -1);
  expect(fragments.length).toBeGreaterThan(1);
  expect(fragments.map(({ fragment }) => fragment)).toEqual(
    fragments.map((_, place) => place < fragments.length - 1),
  );
  expect(valuesOf(fragments)).toEqual(values);
});

it('it comes over the gateway as one line, and others have their turn while it is made', async () => {
  const controller = new AbortController();
  const response = await fetch(`http://127.0.0.1:${gateway.port}/v3/watch`, {
    method: 'POST',
    body: JSON.stringify({ create_request: { key: btoa('k'), range_end: btoa('l') } }),
    signal: controller.signal,
  });
  let text = '';
  const reading = (async () => {
    for await (const bytes of response.body as AsyncIterable<Uint8Array>) {
      text += Buffer.from(bytes).toString();
    }
  })().catch(() => undefined);
  await waitFor('the watcher', PATIENCE_MS, () => text.includes('"created":true'));

  const revision = await deleteAll();
  let turns = 0;
  const count = (): void => {
    turns += 1;
    if (!text.includes('"events"')) setImmediate(count);
  };
  setImmediate(count);
  await putBehind();
  await waitFor('what follows', PATIENCE_MS, () => text.split('\n').length === 4);
  controller.abort();
  await reading;

  const [, whole = '', behind = ''] = text.split('\n');
  const { result } = JSON.parse(whole) as { result: { events: { kv: { key: string } }[] } };
  expect(result).toMatchObject({ header: { revision: String(revision) } });
  expect(result.events.map(({ kv }) => atob(kv.key))).toEqual(
    Array.from({ length: KEYS }, (_, place) => keyAt(place)),
  );
  expect(JSON.parse(behind)).toMatchObject({ result: { events: [{ kv: { version: '1' } }] } });
  // A thousand events or so in each.
  expect(turns).toBeGreaterThan(KEYS / 2_000);
});

it('a watcher that goes away while its answer is made leaves nothing behind', async () => {
  const leaving = await watch();
  const staying = await watch();
  await deleteAll();
  leaving.cancel();
  await putBehind();

  await waitFor('what follows', PATIENCE_MS, () => isComplete(staying));
  await waitFor('the end', PATIENCE_MS, () => node.watches.counts().streams === 1);
  expect(node.watches.counts()).toMatchObject({ watchers: 1, laggingWatchers: 0 });
});

it('several watchers of one stream get it one after the other', async () => {
  const exchange = await watch();
  exchange.send(
    encodeProtobuf('WatchRequest', {
      createRequest: { key: 'k', rangeEnd: 'l', watchId: 5, prevKv: true },
    }),
  );
  await waitFor('the second', PATIENCE_MS, () => exchange.messages.length === 2);

  await deleteAll();
  await putBehind();
  const heard = (): (number | bigint)[][] =>
    [0, 5].map((id) =>
      answersOf(exchange)
        .filter(({ watchId, events }) => watchId === id && events.length > 0)
        .flatMap(({ events }) => [events.length]),
    );
  await waitFor('both', PATIENCE_MS, () => heard().every((counts) => counts.at(-1) === 1));

  expect(heard()).toEqual([
    [KEYS, 1],
    [KEYS, 1],
  ]);
});

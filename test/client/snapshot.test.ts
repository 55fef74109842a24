/** `client.snapshot`: a loop that ends by itself has taken a whole backup, from one member. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { verifyBackup } from '../../src/backup/verify.js';
import { KvdClient } from '../../src/client/client.js';
import { ClientError } from '../../src/client/client-error.js';
import { type Handlers, stream } from '../../src/rpc/api/handler.js';
import { freePort } from '../support/cluster-processes.js';
import { serveGateway } from '../support/gateway-client.js';
import { serveGrpc } from '../support/grpc-client.js';
import { put } from '../support/in-process-cluster.js';
import { LocalNode } from '../support/local-node.js';
import { tempFolder } from '../support/temp-folder.js';
import { waitFor } from '../support/wait.js';

let node: LocalNode;
const stops: (() => unknown)[] = [];

beforeEach(() => {
  node = new LocalNode();
  for (let at = 0; at < 3000; at += 1) node.rig.ok(put(`k${at}`, Buffer.alloc(500, at)));
});

afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
  node.stop();
});

async function clientOf(protocol: 'grpc' | 'http', handlers?: Handlers): Promise<KvdClient> {
  const served = protocol === 'grpc' ? await serveGrpc(node, handlers) : await serveGateway(node);
  const client = new KvdClient({ endpoints: [`127.0.0.1:${served.port}`], protocol });
  stops.push(() => served.stop());
  stops.push(() => client.close());
  return client;
}

/** A server whose snapshots are these blobs and nothing else; null: the last word never comes. */
async function clientOfBlobs(blobs: readonly (Uint8Array | null)[]): Promise<KvdClient> {
  const open = stream((_node, _context, sink) => ({
    handle: () => {
      for (const blob of blobs) if (blob !== null) sink.send({ blob });
      if (!blobs.includes(null)) sink.end(null);
    },
    drained: () => undefined,
    close: () => undefined,
  }));
  return await clientOf('grpc', new Map([['etcdserverpb.Maintenance/Snapshot', open]]));
}

async function taken(parts: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const part of parts) all.push(part);
  return Buffer.concat(all);
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  const error: unknown = await work.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ClientError);
  return (error as ClientError).code;
}

describe.each(['grpc', 'http'] as const)('over %s, a snapshot', (protocol) => {
  it('is a whole backup', async () => {
    const client = await clientOf(protocol);

    const bytes = await taken(client.snapshot());

    const path = join(tempFolder('snapshot'), 'file');
    writeFileSync(path, bytes);
    expect((await verifyBackup(path, { skipHashCheck: false })).head.keyCount).toBe(3000);
    expect(node.backups).toBe(0);
  });

  it('is given up by the server when the loop is left or called off', async () => {
    const client = await clientOf(protocol);
    for await (const part of client.snapshot()) {
      expect(part.length).toBeGreaterThan(0);
      break;
    }
    await waitFor('the backup to be given up', 10_000, () => node.backups === 0);

    const calledOff = new AbortController();
    const parts = client.snapshot({ signal: calledOff.signal });
    await parts.next();
    calledOff.abort();

    expect(await codeOf(taken(parts))).toBe('CANCELED');
    await waitFor('the backup to be given up', 10_000, () => node.backups === 0);
  });
});

describe('a snapshot', () => {
  it('that is damaged or cut short on the way is no backup', async () => {
    const whole = await taken((await clientOf('grpc')).snapshot());
    const damaged = Buffer.from(whole);
    damaged.writeUInt8(damaged.readUInt8(5000) ^ 1, 5000);

    expect((await taken((await clientOfBlobs([whole])).snapshot())).equals(whole)).toBe(true);
    for (const blobs of [[damaged], [whole.subarray(0, -32)], [whole.subarray(0, 20)], []]) {
      const client = await clientOfBlobs(blobs);
      expect(await codeOf(taken(client.snapshot()))).toBe('UNEXPECTED_ANSWER');
    }
  });

  it('is the same however the server cuts it', async () => {
    const whole = await taken((await clientOf('grpc')).snapshot());
    const cuts = [1, 5, 31, 32, 33, 100, whole.length - 40, whole.length - 7];
    const blobs = [0, ...cuts].map((from, at) => whole.subarray(from, cuts[at]));

    const client = await clientOfBlobs(blobs);

    expect((await taken(client.snapshot())).equals(whole)).toBe(true);
  });

  it('is asked of the next endpoint until one has begun', async () => {
    const served = await serveGrpc(node);
    stops.push(() => served.stop());
    const dead = `127.0.0.1:${await freePort()}`;
    const client = new KvdClient({ endpoints: [dead, `127.0.0.1:${served.port}`] });
    stops.push(() => client.close());

    expect((await taken(client.snapshot())).length).toBeGreaterThan(3000 * 500);
    expect(await codeOf(taken(client.snapshot({ endpoint: dead })))).toBe('UNREACHABLE');
  });

  it('of a server that sends nothing more ends after a while', async () => {
    const client = await clientOfBlobs([Buffer.alloc(100), null]);

    expect(await codeOf(taken(client.snapshot({ silenceMs: 200 })))).toBe('TIMEOUT');
  });
});

/**
 * Maintenance.Snapshot over real sockets: what clients of etcd rely on, and clients that go away or take
 * nothing.
 */
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { verifyBackup } from '../../src/backup/verify.js';
import { KvError } from '../../src/errors.js';
import type { RequestContext } from '../../src/node.js';
import { decodeProtobuf } from '../../src/rpc/api/protobuf.js';
import type { Decoded } from '../../src/rpc/api/schema.js';
import { openSnapshot } from '../../src/rpc/services/snapshot.js';
import { type ServedGateway, serveGateway } from '../support/gateway-client.js';
import { GrpcClient, type ServedGrpc, serveGrpc } from '../support/grpc-client.js';
import { put } from '../support/in-process-cluster.js';
import { LocalNode } from '../support/local-node.js';
import { tempFolder } from '../support/temp-folder.js';
import { waitFor } from '../support/wait.js';

const METHOD = '/etcdserverpb.Maintenance/Snapshot';

let node: LocalNode;
let served: ServedGrpc;
let client: GrpcClient;

beforeEach(async () => {
  node = new LocalNode();
  served = await serveGrpc(node);
  client = new GrpcClient(served.port);
});

afterEach(async () => {
  client.close();
  node.stop();
  await served.stop();
});

function fill(count: number): void {
  for (let at = 0; at < count; at += 1) node.rig.ok(put(`k${at}`, Buffer.alloc(1000, at)));
}

async function snapshot(): Promise<{ answers: Decoded<'SnapshotResponse'>[]; status: number }> {
  const exchange = client.open(METHOD);
  exchange.send(Buffer.alloc(0));
  exchange.end();
  const { messages, status } = await exchange.outcome;
  return { status, answers: messages.map((each) => decodeProtobuf('SnapshotResponse', each)) };
}

async function assertBackup(bytes: Uint8Array, keyCount: number): Promise<void> {
  const path = join(tempFolder('snapshot'), 'file');
  writeFileSync(path, bytes);
  const { head } = await verifyBackup(path, { skipHashCheck: false });
  expect(head).toMatchObject({ keyCount, clusterId: 77, memberId: 1 });
}

describe('a snapshot over gRPC', () => {
  it('is a whole backup, ends with its SHA-256, and tells version and what is left', async () => {
    fill(2000);

    const { answers, status } = await snapshot();

    expect(status).toBe(0);
    const blobs = answers.map(({ blob }) => Buffer.from(blob));
    const bytes = Buffer.concat(blobs);
    await assertBackup(bytes, 2000);
    // Clients of etcd know by this that the digest is there.
    expect(bytes.length % 512).toBe(32);
    const digest = createHash('sha256').update(bytes.subarray(0, -32)).digest();
    expect(blobs.at(-1)).toEqual(digest);
    const left = answers.map(({ remainingBytes }) => Number(remainingBytes));
    expect(left[0]).toBeGreaterThan(bytes.length / 2);
    expect(left[0]).toBeLessThan(bytes.length * 2);
    for (let at = 1; at < left.length; at += 1) {
      expect(left[at]).toBeLessThanOrEqual(left[at - 1] as number);
    }
    expect(left.slice(-2)).toEqual([0, 0]);
    for (const { version, blob } of answers) {
      expect(version).toBe('3.6.0');
      expect(blob.length).toBeLessThanOrEqual(256 * 1024 + 4);
    }
    expect(node.backups).toBe(0);
  });

  it('is given by a learner and by a member that knows no leader', async () => {
    fill(3);
    node.isLearner = true;
    expect((await snapshot()).status).toBe(0);
    node.isLearner = false;
    node.hasLeader = false;

    const { status, answers } = await snapshot();

    expect(status).toBe(0);
    const path = join(tempFolder('snapshot'), 'file');
    writeFileSync(path, Buffer.concat(answers.map(({ blob }) => blob)));
    const { head } = await verifyBackup(path, { skipHashCheck: false });
    expect(head.isConfirmed).toBe(false);
  });

  it('is given up when the client goes away', async () => {
    fill(10_000);
    const exchange = client.open(METHOD);
    exchange.send(Buffer.alloc(0));
    exchange.end();
    await waitFor('the backup to begin', 10_000, () => node.backups === 1);

    client.close();

    await waitFor('the backup to be given up', 10_000, () => node.backups === 0);
    await exchange.outcome.catch(() => undefined);
  });

  it('ends with the error of a member that stops', async () => {
    node.failure = new KvError('STOPPED', 'this member stops');

    expect((await snapshot()).status).toBe(14);
    expect(node.backups).toBe(0);
  });
});

describe('a snapshot over JSON', () => {
  let gateway: ServedGateway;
  beforeEach(async () => {
    gateway = await serveGateway(node);
  });
  afterEach(() => gateway.stop());

  it('is the same bytes in base64, a line for each message', async () => {
    fill(500);

    const response = await fetch(`http://127.0.0.1:${gateway.port}/v3/maintenance/snapshot`, {
      method: 'POST',
      body: '{}',
    });

    expect(response.status).toBe(200);
    const lines = (await response.text()).trimEnd().split('\n');
    const blobs = lines.map((line) => {
      const { result } = JSON.parse(line) as { result: { blob: string } };
      return Buffer.from(result.blob, 'base64');
    });
    await assertBackup(Buffer.concat(blobs), 500);
    expect(blobs.at(-1)).toHaveLength(32);
  });

  it('is given up when the client goes away without having read it', async () => {
    fill(20_000);
    const socket = net.connect(gateway.port, '127.0.0.1');
    socket.write(
      'POST /v3/maintenance/snapshot HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}',
    );
    await waitFor('the backup to begin', 10_000, () => node.backups === 1);

    socket.destroy();

    await waitFor('the backup to be given up', 10_000, () => node.backups === 0);
  });
});

it('a client that takes nothing loses its backup, and what it pins is given up', async () => {
  fill(2000);
  const sent: unknown[] = [];
  const ended: (Error | null)[] = [];
  const sink = {
    send: (response: object): boolean => {
      sent.push(response);
      return false;
    },
    resume: () => undefined,
    end: (error: Error | null): void => void ended.push(error),
  };
  const context: RequestContext = node.context();

  openSnapshot(node, context, sink, 100).handle({});
  await waitFor('the backup to be given up', 10_000, () => ended.length === 1);

  expect(sent).toHaveLength(1);
  expect(ended[0]).toMatchObject({ code: 'OVERLOADED' });
  expect(node.backups).toBe(0);
});

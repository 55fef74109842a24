/**
 * Where calls go and how long they may take, over gRPC and over the JSON gateway, in front of the real
 * services: the two ways must keep the same promises.
 */
import { execFile } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KvdClient } from '../../src/client/client.js';
import { ClientError } from '../../src/client/client-error.js';
import { serveGateway } from '../support/gateway-client.js';
import { serveGrpc } from '../support/grpc-client.js';
import { LocalNode } from '../support/local-node.js';
import { removeTempFolders } from '../support/temp-folder.js';
import { transpiledProgram } from '../support/transpiled-program.js';
import { waitFor, within } from '../support/wait.js';

const run = promisify(execFile);
const REFUSING = '127.0.0.1:1';
/** For calls of the client that is to have patience; enough for a busy machine. */
const TIMEOUT_MS = 2000;

interface Member {
  readonly node: LocalNode;
  readonly endpoint: string;
  stop(): Promise<void>;
}

async function member(protocol: 'grpc' | 'http'): Promise<Member> {
  const node = new LocalNode();
  const served = protocol === 'grpc' ? await serveGrpc(node) : await serveGateway(node);
  const stop = async (): Promise<void> => {
    node.stop();
    await served.stop();
  };
  return { node, endpoint: `127.0.0.1:${served.port}`, stop };
}

afterAll(removeTempFolders);

describe.each(['grpc', 'http'] as const)('over %s', (protocol) => {
  let one: Member;
  let two: Member;
  let client: KvdClient;
  let impatient: KvdClient;

  beforeEach(async () => {
    one = await member(protocol);
    two = await member(protocol);
    const endpoints = [one.endpoint, two.endpoint];
    client = new KvdClient({ endpoints, protocol, timeoutMs: 15_000, waitForServer: false });
    impatient = new KvdClient({ endpoints, protocol, timeoutMs: TIMEOUT_MS });
  });

  afterEach(async () => {
    client.close();
    impatient.close();
    await one.stop();
    await two.stop();
  });

  it('a lock and an election are waited for longer than a call may take', async () => {
    const [lock, seat] = [await client.lock('l'), await client.campaign('e', 'one')];
    const next = Promise.all([impatient.lock('l'), impatient.campaign('e', 'two')]);
    await pause(TIMEOUT_MS * 1.5);
    await lock.release();
    await seat.resign();

    const [nextLock, nextSeat] = await within('the next ones', 15_000, next);

    expect(nextLock.revision).toBeGreaterThan(lock.revision);
    // Neither has begun anew meanwhile, at the end of the queue.
    expect(one.node.proposed.filter(({ kind }) => kind === 'leaseGrant')).toHaveLength(4);
    expect(two.node.contexts).toHaveLength(0);
    await nextLock.release();
    await nextSeat.resign();
  });

  it('a watch is silent for longer than a call may take, and goes on', async () => {
    const types: string[] = [];
    const watching = (async () => {
      for await (const item of impatient.watch('k')) {
        types.push(item.type);
        if (item.type === 'events') return;
      }
    })();
    await waitFor('the watch', 10_000, () => types.length === 1);
    await pause(TIMEOUT_MS * 1.5);
    await client.put('k', 'v');

    await within('the event', 15_000, watching);

    expect(types).toEqual(['created', 'events']);
  });

  it('a call for one endpoint goes there and nowhere else', async () => {
    await client.put('k', 'v', { endpoint: two.endpoint });
    expect([one.node.contexts.length, two.node.contexts.length]).toEqual([0, 1]);

    const failure: unknown = await client
      .get('k', { endpoint: REFUSING })
      .catch((error: unknown) => error);

    expect(failure).toBeInstanceOf(ClientError);
    expect(failure).toMatchObject({ code: 'UNREACHABLE', endpoint: REFUSING });
    expect([one.node.contexts.length, two.node.contexts.length]).toEqual([0, 1]);
    // The endpoint in use is the one that it was.
    await client.put('k', 'v');
    expect([one.node.contexts.length, two.node.contexts.length]).toEqual([1, 1]);
  });

  it('a call for one endpoint waits for it when it is frozen, and asks no other', async () => {
    two.node.hold = new Promise(() => undefined);

    const failure: unknown = await impatient
      .get('k', { endpoint: two.endpoint })
      .catch((error: unknown) => error);

    expect(failure).toMatchObject({ code: 'TIMEOUT', endpoint: two.endpoint });
    expect(two.node.contexts.length).toBeGreaterThan(0);
    expect(one.node.contexts).toHaveLength(0);
  });

  it('a program that has got what it wanted ends, without closing its client', async () => {
    await client.put('k', 'the value');
    const program = transpiledProgram('test/support/one-get.ts');

    const { stdout } = await run(process.execPath, [program, protocol, one.endpoint], {
      timeout: 40_000,
    });

    expect(stdout).toBe('the value');
  });
});

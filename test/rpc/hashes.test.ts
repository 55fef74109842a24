/**
 * Hashes take as long as the state is large. The deadline of other calls does not end them; what does is the client's
 * own, or its departure. The loss of a leader does not: they speak of one member.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { HashResult, RequestContext } from '../../src/node.js';
import { openStream, type ServedGateway, serveGateway } from '../support/gateway-client.js';
import { GrpcClient, type ServedGrpc, serveGrpc } from '../support/grpc-client.js';
import { LocalNode } from '../support/local-node.js';
import { waitFor } from '../support/wait.js';

/** Hashes that have begun and never end. */
class HashingNode extends LocalNode {
  readonly hashing: RequestContext[] = [];

  override hashKv(_revision: number, context?: RequestContext): Promise<HashResult> {
    this.hashing.push(context as RequestContext);
    return new Promise(() => undefined);
  }
}

let node: HashingNode;
let grpc: ServedGrpc;
let gateway: ServedGateway;

beforeEach(async () => {
  node = new HashingNode();
  grpc = await serveGrpc(node);
  gateway = await serveGateway(node);
});

afterEach(async () => {
  node.stop();
  await gateway.stop();
  await grpc.stop();
});

/** Asks for a hash; the function that is returned makes the client go away. */
type Ask = (headers: Readonly<Record<string, string>>) => () => void;

const overGrpc: Ask = (headers) => {
  const client = new GrpcClient(grpc.port);
  void client.call('/etcdserverpb.Maintenance/HashKV', Buffer.alloc(0), headers);
  return () => client.close();
};
const overJson: Ask = (headers) => {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const client = openStream(gateway.port, '/v3/maintenance/hashkv', lines.join(''));
  client.write('0\r\n\r\n');
  return () => client.socket.destroy();
};

describe.each([
  ['gRPC', overGrpc],
  ['JSON', overJson],
])('a hash over %s', (_face, ask) => {
  const begun = async (headers: Readonly<Record<string, string>> = {}) => {
    const leave = ask(headers);
    const context = await waitFor('the hash', 5000, () => node.hashing[0] ?? null);
    return { context, leave };
  };

  it('has no deadline but that of its client', async () => {
    const { context, leave } = await begun();
    expect(context.deadline).toBe(Number.POSITIVE_INFINITY);
    leave();
  });

  it('has that of its client', async () => {
    const { context, leave } = await begun({ 'grpc-timeout': '50S' });
    const leftMs = context.deadline - node.now();
    expect(leftMs).toBeGreaterThan(40_000);
    expect(leftMs).toBeLessThanOrEqual(50_000);
    leave();
  });

  it('ends when its client goes away, and not when a leader does', async () => {
    const { context, leave } = await begun({
      'grpc-metadata-hasleader': 'true',
      hasleader: 'true',
    });
    node.loseLeader();
    expect(context.signal?.aborted).toBe(false);
    leave();
    await waitFor('the end', 5000, () => context.signal?.aborted === true);
  });
});

it('a hash over gRPC is answered at the deadline of its client', async () => {
  const client = new GrpcClient(grpc.port);
  const path = '/etcdserverpb.Maintenance/HashKV';
  const outcome = await client.call(path, Buffer.alloc(0), { 'grpc-timeout': '100m' });
  expect(outcome).toMatchObject({ status: 4, text: 'context deadline exceeded' });
  expect(node.hashing[0]?.signal?.aborted).toBe(true);
  client.close();
});

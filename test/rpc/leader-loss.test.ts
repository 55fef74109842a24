/**
 * Streams whose client has said `hasleader: true` end when their member loses its leader for an election
 * timeout, over both faces; all others go on. On real members, one of which is cut off.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ClusterNode } from '../../src/cluster-node.js';
import { decodeProtobuf, encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import {
  chunk,
  openStream,
  type RawClient,
  type ServedGateway,
  serveGateway,
} from '../support/gateway-client.js';
import {
  GrpcClient,
  type GrpcExchange,
  type ServedGrpc,
  serveGrpc,
} from '../support/grpc-client.js';
import { InProcessCluster, type InProcessMember } from '../support/in-process-cluster.js';
import { LocalNode } from '../support/local-node.js';
import { waitFor } from '../support/wait.js';

const WATCH = '/etcdserverpb.Watch/Watch';
const KEEP_ALIVE = '/etcdserverpb.Lease/LeaseKeepAlive';
const OBSERVE = '/v3electionpb.Election/Observe';
const HEALTH = '/grpc.health.v1.Health/Watch';
const WISH = { hasleader: 'true' };
const LEASE = 5;

const watch = encodeProtobuf('WatchRequest', { createRequest: { key: 'k' } });
const renewal = encodeProtobuf('LeaseKeepAliveRequest', { ID: LEASE });

describe('a member that is cut off', () => {
  let cluster: InProcessCluster;
  let member: InProcessMember;
  let grpc: ServedGrpc;
  let gateway: ServedGateway;
  let client: GrpcClient;

  beforeAll(async () => {
    cluster = new InProcessCluster({ 'heartbeat-interval': '50', 'election-timeout': '500' });
    await cluster.start();
    const leader = await cluster.leader();
    member = cluster.members.find((each) => each !== leader) as InProcessMember;
    const node = member.node as ClusterNode;
    await node.propose({ kind: 'leaseGrant', id: LEASE, ttl: 60 }, node.context());
    grpc = await serveGrpc(node);
    gateway = await serveGateway(node);
    client = new GrpcClient(grpc.port);
  });

  afterAll(async () => {
    client.close();
    await grpc.stop();
    await gateway.stop();
    await cluster.stop();
  });

  async function opened(path: string, first: Buffer, wish = {}): Promise<GrpcExchange> {
    const exchange = client.open(path, wish);
    exchange.send(first);
    await waitFor(`an answer of ${path}`, 5000, () => exchange.messages.length === 1);
    return exchange;
  }

  function renewing(header: string): RawClient {
    const stream = openStream(gateway.port, '/v3/lease/keepalive', header);
    stream.write(chunk(`{"ID":"${LEASE}"}`));
    return stream;
  }

  it('ends the streams that require a leader, and only those', async () => {
    const named = [
      await opened(WATCH, watch, WISH),
      await opened(KEEP_ALIVE, renewal, WISH),
      await opened(HEALTH, Buffer.alloc(0), WISH),
    ];
    const others = [await opened(WATCH, watch), await opened(KEEP_ALIVE, renewal)];
    // Nobody leads this election yet: there is nothing to be told.
    const observe = client.open(OBSERVE, WISH);
    observe.send(encodeProtobuf('LeaderRequest', { name: 'e' }));
    const [strict, easy] = [renewing('Grpc-Metadata-hasleader: true\r\n'), renewing('')];
    for (const each of [strict, easy]) {
      await waitFor('a renewal', 5000, () => each.chunks().length === 1);
    }

    cluster.cut(member);

    for (const { outcome } of [...named, observe]) {
      expect(await outcome).toMatchObject({ status: 14, text: 'etcdserver: no leader' });
    }
    await waitFor('the end of the stream', 5000, () => strict.chunks().length === 2);
    expect(strict.chunks()[1]).toContain('"grpc_code":14');
    expect(strict.chunks()[1]).toContain('etcdserver: no leader');
    expect(await client.call(KEEP_ALIVE, renewal, WISH)).toMatchObject({ status: 14 });

    cluster.heal();
    const [, alive] = others as [GrpcExchange, GrpcExchange];
    // A renewal that waited for a leader is answered by the next one.
    alive.send(renewal);
    await waitFor('a renewal', 10_000, () => alive.messages.length === 2);
    const { TTL } = decodeProtobuf('LeaseKeepAliveResponse', alive.messages[1] as Buffer);
    expect(TTL).toBe(60);
    easy.write(chunk(`{"ID":"${LEASE}"}`));
    await waitFor('a renewal over JSON', 10_000, () => easy.chunks().length === 2);
    for (const each of others) each.cancel();
    for (const { socket } of [strict, easy]) socket.destroy();
  });
});

describe('streams that require a leader', () => {
  it('are forgotten when they end', async () => {
    const node = new LocalNode();
    const grpc = await serveGrpc(node);
    const gateway = await serveGateway(node);
    const client = new GrpcClient(grpc.port);
    const alive = client.open(KEEP_ALIVE, WISH);
    alive.send(renewal);
    const json = openStream(
      gateway.port,
      '/v3/lease/keepalive',
      'Grpc-Metadata-hasleader: true\r\n',
    );
    json.write(chunk(`{"ID":"${LEASE}"}`));
    await waitFor('both', 2000, () => node.leaderLost.size === 2);

    alive.end();
    json.socket.destroy();
    expect((await alive.outcome).status).toBe(0);
    await waitFor('nobody', 2000, () => node.leaderLost.size === 0);

    client.close();
    node.stop();
    await grpc.stop();
    await gateway.stop();
  });
});

/**
 * gRPC against real processes: many calls that wait at once on one connection.
 */
import { describe, expect, it } from 'vitest';
import { decodeProtobuf, encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { useClusters } from '../support/cluster-fixture.js';
import { CALM } from '../support/cluster-processes.js';
import { GrpcClient } from '../support/grpc-client.js';

const clusters = useClusters();

describe('one connection', () => {
  it('with 2,000 calls for 100 locks by 20 sessions gives every lock to everyone, one after the other', async () => {
    const cluster = await clusters.start({ flags: CALM });
    const client = GrpcClient.of(cluster.member(0));
    let goodbyes = 0;
    client.session.on('goaway', () => (goodbyes += 1));
    const holders = new Map<string, number>();
    const lockAndUnlock = async (lease: number, name: string): Promise<void> => {
      const wish = encodeProtobuf('LockRequest', { name, lease });
      const { status, text, messages } = await client.call('/v3lockpb.Lock/Lock', wish);
      expect(status, text).toBe(0);
      expect(holders.get(name) ?? 0).toBe(0);
      holders.set(name, 1);
      const { key } = decodeProtobuf('LockResponse', messages[0] as Buffer);
      await Promise.resolve();
      holders.set(name, 0);
      const unlock = await client.call(
        '/v3lockpb.Lock/Unlock',
        encodeProtobuf('UnlockRequest', { key }),
      );
      expect(unlock.status).toBe(0);
    };

    const sessions = Array.from({ length: 20 }, async (_, at) => {
      const lease = 1000 + at;
      const grant = encodeProtobuf('LeaseGrantRequest', { ID: lease, TTL: 1000 });
      expect((await client.call('/etcdserverpb.Lease/LeaseGrant', grant)).status).toBe(0);
      const names = Array.from({ length: 100 }, (_each, place) => `lock${place}`);
      await Promise.all(names.map((name) => lockAndUnlock(lease, name)));
    });
    await Promise.all(sessions);

    expect(holders.size).toBe(100);
    expect(goodbyes).toBe(0);
    client.close();
  });
});

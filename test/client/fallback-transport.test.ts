/**
 * The way around for endpoints that do not speak HTTP/2: found out once, and only by what they say.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KvdClient } from '../../src/client/client.js';
import {
  createdLine,
  failure,
  header,
  ok,
  ScriptedGateway,
  streaming,
} from '../support/scripted-gateway.js';
import { reply, ScriptedGrpc } from '../support/scripted-grpc.js';

let gateway: ScriptedGateway;
let client: KvdClient;

beforeEach(async () => {
  gateway = await ScriptedGateway.start();
  gateway.always('/v3/kv/put', ok({ header: header(5) }));
  client = connect(gateway.endpoint);
});

afterEach(async () => {
  client.close();
  await gateway.stop();
});

function connect(endpoint: string): KvdClient {
  return new KvdClient({ endpoints: [endpoint], protocol: 'grpc-or-http', timeoutMs: 1500 });
}

describe('an endpoint that speaks HTTP/1.1 only', () => {
  it('is asked through the gateway, after one look', async () => {
    for (let at = 0; at < 5; at += 1) await client.put('a', 'b');

    expect(gateway.requests('/v3/kv/put')).toHaveLength(5);
    // One for the look, one that is kept for all calls.
    expect(gateway.connections).toBe(2);
  });

  it('is watched through the gateway', async () => {
    gateway.always('/v3/watch', streaming(createdLine(4)));
    for await (const item of client.watch('a')) {
      expect(item).toMatchObject({ type: 'created', revision: 4 });
      break;
    }
  });

  it('may refuse: that is an answer, and not asked twice', async () => {
    gateway.always('/v3/kv/put', failure(3, 'etcdserver: key is not provided'));
    await expect(client.put('')).rejects.toMatchObject({ code: 'EMPTY_KEY' });
    expect(gateway.requests('/v3/kv/put')).toHaveLength(1);
  });
});

describe('an endpoint that speaks HTTP/2', () => {
  it('is asked over gRPC', async () => {
    const grpc = await ScriptedGrpc.start();
    grpc.always('KV/Put', reply('PutResponse', { header: { revision: 7 } }));
    const own = connect(grpc.endpoint);
    expect((await own.put('a', 'b')).header.revision).toBe(7);
    own.close();
    await grpc.stop();
  });
});

/**
 * docs/etcd-compatibility.md says of each call of etcd whether it is served: the table is read and each
 * line is tried. Whether the answers are those of etcd is held by test/interop.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { METHODS, methodKey } from '../../src/rpc/api/methods.js';
import { CALLS } from '../support/compatibility-page.js';
import { post, type ServedGateway, serveGateway } from '../support/gateway-client.js';
import { GrpcClient, type ServedGrpc, serveGrpc } from '../support/grpc-client.js';
import { LocalNode } from '../support/local-node.js';

const UNIMPLEMENTED = 12;
const calls = CALLS.map((row) => ({ ...row, isServed: row.state !== 'absent' }));

let node: LocalNode;
let grpc: ServedGrpc;
let gateway: ServedGateway;
let client: GrpcClient;

beforeAll(async () => {
  node = new LocalNode();
  grpc = await serveGrpc(node);
  gateway = await serveGateway(node);
  client = new GrpcClient(grpc.port);
});

afterAll(async () => {
  client.close();
  node.stop();
  await grpc.stop();
  await gateway.stop();
});

describe('docs/etcd-compatibility.md', () => {
  it('lists every call that is served, and more', () => {
    const listed = new Set(calls.map(({ key }) => key));
    for (const method of METHODS) expect(listed).toContain(methodKey(method));
    expect(calls.length).toBeGreaterThan(50);
  });

  it.each(calls)('is right about $key over gRPC', async ({ key, isServed }) => {
    // Cut off when it has said something: many of these wait for ever.
    const exchange = client.open(`/${key}`, { 'grpc-timeout': '300m' });
    exchange.send(Buffer.alloc(0));
    exchange.end();
    const { status } = await exchange.outcome;
    if (isServed) expect(status).not.toBe(UNIMPLEMENTED);
    else expect(status).toBe(UNIMPLEMENTED);
  });

  it.each(calls.filter(({ paths }) => paths.length > 0))(
    'is right about the paths of $key',
    async ({ key, paths, isServed }) => {
      const method = METHODS.find((each) => methodKey(each) === key);
      expect(method?.paths.map((path) => `/v3${path}`).sort()).toEqual([...paths].sort());
      if (method?.responseStream === true || method?.waits === true) return;
      for (const path of paths) {
        const { status, text: body } = await post(gateway.port, path, {});
        if (isServed) expect(status).not.toBe(501);
        else expect(status).toBe(501);
        expect(body).not.toContain('"Not Found"');
      }
    },
  );
});

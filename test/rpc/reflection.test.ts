/**
 * Server reflection: what it says of the services is enough for a program that knows nothing of them, here
 * protobufjs, to read and write their messages as kvd does.
 */
import protobuf from 'protobufjs';
import untyped from 'protobufjs/ext/descriptor/index.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeFiles } from '../../src/rpc/api/descriptors.js';
import { METHODS } from '../../src/rpc/api/methods.js';
import { decodeProtobuf, encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import type { Encodable } from '../../src/rpc/api/schema.js';
import { GrpcClient, type ServedGrpc, serveGrpc } from '../support/grpc-client.js';
import { LocalNode } from '../support/local-node.js';

/** The library's own types leave these out. */
const descriptor = untyped as unknown as Readonly<
  Record<'FileDescriptorProto' | 'FileDescriptorSet', protobuf.Type>
>;

const PATHS = ['v1', 'v1alpha'].map(
  (version) => `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
);

let node: LocalNode;
let served: ServedGrpc;
let client: GrpcClient;

beforeAll(async () => {
  node = new LocalNode();
  served = await serveGrpc(node);
  client = new GrpcClient(served.port);
});

afterAll(async () => {
  client.close();
  node.stop();
  await served.stop();
});

async function ask(question: Encodable<'ServerReflectionRequest'>, path = PATHS[0] as string) {
  const outcome = await client.call(path, encodeProtobuf('ServerReflectionRequest', question));
  expect(outcome.status).toBe(0);
  return decodeProtobuf('ServerReflectionResponse', outcome.messages[0] as Buffer);
}

describe('reflection', () => {
  it.each(PATHS)('at %s lists every service', async (path) => {
    const { listServicesResponse } = await ask({ listServices: '' }, path);
    const names = listServicesResponse?.service.map(({ name }) => name);
    expect(names).toEqual([...new Set(METHODS.map(({ service }) => service))]);
  });

  it.each(['etcdserverpb.KV', 'etcdserverpb.KV.Range', 'etcdserverpb.TxnRequest', 'v3lockpb.Lock'])(
    'finds the file of %s, and what it needs',
    async (symbol) => {
      const { fileDescriptorResponse } = await ask({ fileContainingSymbol: symbol });
      const files = fileDescriptorResponse?.fileDescriptorProto ?? [];
      const names = files.map((bytes) => decodeProtobuf('FileDescriptorProto', bytes));
      const have = new Set(names.map(({ name }) => name));
      for (const { dependency } of names)
        for (const each of dependency) expect(have).toContain(each);
      expect(names[0]?.package).toBe(symbol.split('.')[0]);
    },
  );

  it('finds a file by its name, and says what it does not know', async () => {
    const { fileDescriptorResponse } = await ask({ fileByFilename: 'mvccpb.proto' });
    expect(fileDescriptorResponse?.fileDescriptorProto).toHaveLength(1);
    const { errorResponse } = await ask({ fileContainingSymbol: 'no.Such' });
    expect(errorResponse).toMatchObject({
      errorCode: 5,
      errorMessage: 'nothing is known of no.Such',
    });
  });

  it('describes messages as another library reads them', () => {
    const set = {
      file: describeFiles().map(({ bytes }) => descriptor.FileDescriptorProto.decode(bytes)),
    };
    const root = (
      protobuf.Root as unknown as { fromDescriptor(set: unknown): protobuf.Root }
    ).fromDescriptor(descriptor.FileDescriptorSet.fromObject(set));
    root.resolveAll();
    const txn = {
      compare: [{ key: 'a', result: 1, target: 2, modRevision: 0 }],
      success: [{ requestPut: { key: 'k', value: Buffer.from('v'), lease: -1 } }],
    };
    const read = root
      .lookupType('etcdserverpb.TxnRequest')
      .decode(encodeProtobuf('TxnRequest', txn))
      .toJSON();
    expect(read).toEqual({
      compare: [{ key: 'YQ==', result: 'GREATER', target: 'MOD', mod_revision: '0' }],
      success: [{ request_put: { key: 'aw==', value: 'dg==', lease: '-1' } }],
    });
    for (const { service, name } of METHODS) {
      if (service.startsWith('grpc.reflection.')) continue;
      expect(root.lookupService(service).methods).toHaveProperty(name);
    }
  });
});

/**
 * What a failed call tells those who ask for details: google.rpc.ErrorInfo in a google.rpc.Status, as
 * gRPC's own client and another protobuf library read it; and nothing to those who do not ask.
 */
import grpc from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KvError } from '../../src/errors.js';
import { encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { wireError } from '../../src/rpc/error-mapping.js';
import { errorTrailers } from '../../src/rpc/grpc/status.js';
import { HpackDecoder } from '../../src/rpc/http2/hpack-decoder.js';
import { type ServedGrpc, serveGrpc } from '../support/grpc-client.js';
import { LocalNode } from '../support/local-node.js';
import { waitFor } from '../support/wait.js';

const root = protobuf.parse(`
  syntax = "proto3";
  package google.rpc;
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
`).root;
const Status = root.lookupType('google.rpc.Status');
const ErrorInfo = root.lookupType('google.rpc.ErrorInfo');

const PUT = '/etcdserverpb.KV/Put';
const WATCH = '/etcdserverpb.Watch/Watch';
const KEEP_ALIVE = '/etcdserverpb.Lease/LeaseKeepAlive';
const COMPACT = '/etcdserverpb.KV/Compact';
const NAME = 'grpc-status-details-bin';

let node: LocalNode;
let served: ServedGrpc;
let client: grpc.Client;

beforeEach(async () => {
  node = new LocalNode();
  served = await serveGrpc(node);
  client = new grpc.Client(`127.0.0.1:${served.port}`, grpc.credentials.createInsecure());
});

afterEach(async () => {
  client.close();
  node.stop();
  await served.stop();
});

const bytes = (value: Buffer): Buffer => value;
const put = (key: string): Buffer => encodeProtobuf('PutRequest', { key });

function asking(wish: Readonly<Record<string, string>> = { 'kvd-error-details': 'true' }) {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(wish)) metadata.set(name, value);
  return metadata;
}

function failure(
  path: string,
  message: Buffer,
  metadata = asking(),
  options: grpc.CallOptions = {},
): Promise<grpc.ServiceError> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(path, bytes, bytes, message, metadata, options, (error) => {
      if (error === null) reject(new Error('the call went well'));
      else resolve(error);
    });
  });
}

function detailsOf({ metadata }: grpc.ServiceError) {
  const [value] = metadata.get(NAME) as Buffer[];
  const status = Status.toObject(Status.decode(value as Buffer)) as {
    code: number;
    message: string;
    details: { type_url?: string; typeUrl?: string; value: Uint8Array }[];
  };
  const [any] = status.details;
  expect(status.details).toHaveLength(1);
  expect(any?.typeUrl).toBe('type.googleapis.com/google.rpc.ErrorInfo');
  const info = ErrorInfo.toObject(ErrorInfo.decode(any?.value as Uint8Array));
  return { code: status.code, message: status.message, info };
}

describe('the header', () => {
  it('is base64 without padding', () => {
    for (const text of ['a', 'ab', 'abc']) {
      const block = errorTrailers(wireError(new KvError('INVALID_ARGUMENT', text)), true);
      const { fields } = new HpackDecoder(0, 65_536).decode(block);
      const { value } = fields.find(({ name }) => name === NAME) as { value: string };
      expect(value).toMatch(/^[A-Za-z0-9+/]+$/);
      const { message } = Status.toObject(Status.decode(Buffer.from(value, 'base64')));
      expect(message).toBe(text);
    }
  });
});

describe('details of a failure', () => {
  it.each<[string, KvError, string, Record<string, string>]>([
    [
      'a write that surely was not applied',
      new KvError('LEADER_CHANGED', ''),
      'LEADER_CHANGED',
      { outcome: 'not-applied', retryable: 'true' },
    ],
    [
      'one that may have been',
      new KvError('TIMEOUT', ''),
      'TIMEOUT',
      { outcome: 'unknown', retryable: 'false' },
    ],
    [
      'one with the same code and text that was not',
      new KvError('TIMEOUT_NO_EFFECT', ''),
      'TIMEOUT_NO_EFFECT',
      { outcome: 'not-applied', retryable: 'true' },
    ],
    [
      'what else is known',
      new KvError('COMPACTED', '', { details: { compactRevision: 17 } }),
      'COMPACTED',
      { outcome: 'not-applied', retryable: 'false', compactRevision: '17' },
    ],
  ])('tell %s', async (_what, error, reason, metadata) => {
    node.failure = error;
    const failed = await failure(PUT, put('a'));
    const { code, message, info } = detailsOf(failed);
    expect({ code, message }).toEqual({ code: failed.code, message: failed.details });
    expect(info).toEqual({ reason, domain: 'kvd', metadata });
  });

  it.each([
    ['who does not ask', {}],
    ['who asks for something else', { 'kvd-error-details': '0' }],
  ])('are not told to one %s', async (_what, wish) => {
    const failed = await failure(PUT, put(''), asking(wish));
    expect(failed).toMatchObject({ code: 3, details: 'etcdserver: key is not provided' });
    expect(failed.metadata.get(NAME)).toEqual([]);
  });

  it('are not made up for a bug', async () => {
    node.failure = new TypeError('secret');
    const failed = await failure(PUT, put('a'));
    expect(failed).toMatchObject({ code: 13, details: 'internal error' });
    expect(failed.metadata.get(NAME)).toEqual([]);
  });

  it.each<[string, string, Buffer, string, string]>([
    ['a message that is none', PUT, Buffer.from([7]), 'INVALID_ARGUMENT', 'not-applied'],
    ['a message too large', PUT, put('x'.repeat(3e6)), 'REQUEST_TOO_LARGE', 'not-applied'],
    ['a call that there is not', '/a.B/C', put('a'), 'UNIMPLEMENTED', 'not-applied'],
    [
      'a wish that is not served',
      '/etcdserverpb.KV/RangeStream',
      encodeProtobuf('RangeRequest', { key: 'a', sortOrder: 2 }),
      'UNIMPLEMENTED',
      'not-applied',
    ],
    [
      'a revision in the future',
      COMPACT,
      encodeProtobuf('CompactionRequest', { revision: 99 }),
      'FUTURE_REVISION',
      'not-applied',
    ],
  ])('are told of %s', async (_what, path, message, reason, outcome) => {
    const { info } = detailsOf(await failure(path, message));
    expect(info).toMatchObject({ reason, metadata: { outcome } });
  });

  it("are told when the client's own deadline has passed here", async () => {
    node.hold = new Promise(() => undefined);
    // By hand: the library would give up by itself at the same moment.
    const wish = asking({ 'kvd-error-details': 'true', 'grpc-timeout': '100m' });
    const failed = await failure(PUT, put('a'), wish);
    expect(failed.code).toBe(4);
    expect(detailsOf(failed).info).toMatchObject({
      reason: 'TIMEOUT',
      metadata: { outcome: 'unknown' },
    });
  });

  it('come with the end of a stream, behind its messages', async () => {
    const call = client.makeBidiStreamRequest(KEEP_ALIVE, bytes, bytes, asking());
    const answers: unknown[] = [];
    const errors: grpc.ServiceError[] = [];
    call.on('data', (answer) => answers.push(answer));
    call.on('error', (error) => errors.push(error as grpc.ServiceError));
    call.write(encodeProtobuf('LeaseKeepAliveRequest', { ID: 5 }));
    await waitFor('an answer', 2000, () => answers.length === 1);
    node.failure = new KvError('NOT_PRIMARY_LESSOR', '');
    call.write(encodeProtobuf('LeaseKeepAliveRequest', { ID: 5 }));
    await waitFor('the end', 2000, () => errors.length === 1);

    const [error] = errors as [grpc.ServiceError];
    expect(error).toMatchObject({ code: 2, details: 'not a primary lessor' });
    expect(detailsOf(error).info).toMatchObject({ reason: 'NOT_PRIMARY_LESSOR' });
  });

  it('come instead of a stream that is refused', async () => {
    node.isLearner = true;
    const call = client.makeBidiStreamRequest(WATCH, bytes, bytes, asking());
    const error = await new Promise<grpc.ServiceError>((resolve) => {
      call.on('error', (each) => resolve(each as grpc.ServiceError));
      call.on('data', () => undefined);
    });
    expect(detailsOf(error).info).toMatchObject({ reason: 'LEARNER' });
  });
});

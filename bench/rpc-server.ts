/**
 * A server of one empty call, for rpc.ts: `node rpc-server.js kvd|grpc-js PATH`. Prints its port, and on a
 * line of its input its CPU time so far in microseconds.
 */
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import grpcJs from '@grpc/grpc-js';
import { pino } from 'pino';
import { Metrics } from '../src/metrics.js';
import type { NodeFace } from '../src/node.js';
import { unary } from '../src/rpc/api/handler.js';
import { GrpcServer } from '../src/rpc/grpc/grpc-server.js';

const [, , codec = '', path = ''] = process.argv;
const NOTHING = Buffer.alloc(0);

function listenKvd(): void {
  // The call asks nothing of its node but the time and a context.
  const node = {
    now: () => performance.now(),
    context: () => ({
      deadline: Number.POSITIVE_INFINITY,
      signal: null,
      requireLeader: false,
      actor: null,
    }),
    hasLeader: true,
  } as unknown as NodeFace;
  const server = new GrpcServer(node, {
    logger: pino({ level: 'silent' }),
    metrics: new Metrics(),
    handlers: new Map([[path.slice(1), unary(() => Promise.resolve({}))]]),
    maxRequestBytes: 2 ** 20,
    slowRequestMs: 60_000,
    onUnexpected: (error) => process.stderr.write(`${String(error)}\n`),
  });
  const listener = createServer({ noDelay: true }, (socket) => {
    socket.once('data', (first: Buffer) => server.attach(socket, first));
  });
  listener.listen(0, '127.0.0.1', () => {
    process.stdout.write(`${(listener.address() as { port: number }).port}\n`);
  });
}

function listenGrpcJs(): void {
  const server = new grpcJs.Server({ 'grpc.enable_channelz': 0 });
  const name = path.split('/').at(-1) as string;
  const identity = (bytes: Buffer): Buffer => bytes;
  server.addService(
    {
      [name]: {
        path,
        requestStream: false,
        responseStream: false,
        requestSerialize: identity,
        requestDeserialize: identity,
        responseSerialize: identity,
        responseDeserialize: identity,
      },
    },
    {
      [name]: (_call: unknown, done: (error: null, answer: Buffer) => void) => done(null, NOTHING),
    },
  );
  server.bindAsync('127.0.0.1:0', grpcJs.ServerCredentials.createInsecure(), (error, port) => {
    if (error !== null) throw error;
    process.stdout.write(`${port}\n`);
  });
}

if (codec === 'kvd') listenKvd();
else listenGrpcJs();
createInterface({ input: process.stdin })
  .on('line', () => {
    const { user, system } = process.cpuUsage();
    process.stdout.write(`${user + system}\n`);
  })
  .on('close', () => process.exit(0));

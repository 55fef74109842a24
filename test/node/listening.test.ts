/**
 * Sockets in the file system: both faces over one, who may use it, and whose name it is after a process
 * has died with it.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ClientAddress } from '../../src/config.js';
import { FatalError } from '../../src/errors.js';
import { listen, portOf } from '../../src/listening.js';
import { encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { chooseFace } from '../../src/rpc/port.js';
import { serveGateway } from '../support/gateway-client.js';
import { GrpcClient, serveGrpc } from '../support/grpc-client.js';
import { LocalNode } from '../support/local-node.js';
import { tempFolder } from '../support/temp-folder.js';
import { waitFor } from '../support/wait.js';

const logger = pino({ level: 'silent' });
const servers = new Set<net.Server>();
let path: string;

beforeEach(() => {
  path = join(tempFolder('sock'), 's');
});

afterEach(() => {
  for (const server of servers) server.close();
  servers.clear();
});

function at(name: string): ClientAddress {
  return { path: name, url: `unix://${name}` };
}

async function open(address = at(path), accept = (socket: net.Socket) => void socket.end()) {
  const server = await listen(address, logger, accept);
  servers.add(server);
  return server;
}

async function refusal(name = path): Promise<string> {
  const error = await open(at(name)).then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(FatalError);
  return (error as FatalError).message;
}

/** What a process leaves that dies with an open socket. */
function leaveStale(): void {
  const code = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  try {
    execFileSync(process.execPath, ['-e', code]);
  } catch {
    // Killed, as it should be.
  }
  expect(lstatSync(path).isSocket()).toBe(true);
}

describe('a socket in the file system', () => {
  it('serves gRPC and JSON', async () => {
    const node = new LocalNode();
    const [grpc, gateway] = [await serveGrpc(node), await serveGateway(node)];
    const server = await open(at(path), (socket) => {
      chooseFace(socket, {
        http1: (given, first) => gateway.gateway.attach(given, first),
        http2: (given, first) => grpc.server.attach(given, first),
      });
    });
    expect(portOf(server)).toBeNull();

    const connect = (): net.Socket => net.connect(path);
    const session = http2.connect('http://localhost', { createConnection: connect });
    const client = new GrpcClient(session);
    const put = encodeProtobuf('PutRequest', { key: 'k', value: Buffer.from('v') });
    expect((await client.call('/etcdserverpb.KV/Put', put)).status).toBe(0);

    const text = await new Promise<string>((resolve) => {
      const request = http.request({ socketPath: path, path: '/v3/kv/range', method: 'POST' });
      request.on('response', (response) => response.on('data', (data) => resolve(String(data))));
      request.end('{"key":"aw=="}');
    });
    expect(JSON.parse(text)).toMatchObject({ kvs: [{ key: 'aw==', value: 'dg==' }] });
    client.close();
    node.stop();
    await Promise.all([grpc.stop(), gateway.stop()]);
  });

  it('is for its owner alone, and gone when it is closed', async () => {
    const server = await open();
    expect(lstatSync(path).mode & 0o777).toBe(0o600);
    server.close();
    await waitFor('the end of the file', 2000, () => !existsSync(path));
  });

  it('takes the place of one that a dead process has left', async () => {
    leaveStale();
    await open();
    await new Promise<void>((resolve, reject) => {
      net.connect(path).on('connect', resolve).on('error', reject);
    });
    expect(lstatSync(path).mode & 0o777).toBe(0o600);
  });

  it('is refused where another one answers, which goes on', async () => {
    let served = 0;
    await open(at(path), (socket) => {
      served += 1;
      socket.end();
    });
    expect(await refusal()).toBe(
      `cannot listen on ${path}: another process serves it; stop that one or choose another name`,
    );
    const before = served;
    net.connect(path).on('error', () => undefined);
    await waitFor('service', 2000, () => served > before);
  });

  it('is refused where something else is', async () => {
    writeFileSync(path, 'precious');
    expect(await refusal()).toContain('it is there already, and is no socket');
    mkdirSync(`${path}d`);
    expect(await refusal(`${path}d`)).toContain('it is there already, and is no socket');
    expect(lstatSync(path).size).toBe(8);
  });

  it('is refused where there is no folder for it', async () => {
    expect(await refusal(join(path, 'deep', 's'))).toMatch(
      /^cannot listen on .*: .*(EACCES|ENOENT)/,
    );
  });
});

describe('a port', () => {
  it('is found when any was asked for, and refused when it is taken', async () => {
    const server = await open({ host: '127.0.0.1', port: 0, secure: false, url: '' });
    const port = portOf(server) as number;
    expect(port).toBeGreaterThan(0);
    await expect(open({ host: '127.0.0.1', port, secure: false, url: '' })).rejects.toThrow(
      `cannot listen on 127.0.0.1:${port}: `,
    );
  });
});

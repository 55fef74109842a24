/**
 * A member that serves its clients on a socket of the file system and on nothing else, as a process: over
 * its death, beside another one, and at its end.
 */
import { existsSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import grpc from '@grpc/grpc-js';
import { expect, it } from 'vitest';
import { decodeProtobuf, encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { useClusters } from '../support/cluster-fixture.js';
import { freePort, ServerProcess, serverCommand } from '../support/cluster-processes.js';
import { tempFolder } from '../support/temp-folder.js';
import { waitFor } from '../support/wait.js';

const clusters = useClusters();
const READY = 'ready to serve client requests';

function post(socketPath: string, path: string, body: object): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = http.request({ socketPath, path, method: 'POST' }, (response) => {
      let text = '';
      response.on('data', (data) => (text += data));
      response.on('end', () => resolve(text));
    });
    request.on('error', reject);
    request.end(JSON.stringify(body));
  });
}

function call(client: grpc.Client, path: string, message: Buffer): Promise<Buffer> {
  const bytes = (value: Buffer): Buffer => value;
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(path, bytes, bytes, message, (error, answer) => {
      if (error === null && answer !== undefined) resolve(answer);
      else reject(error);
    });
  });
}

it('gRPC and JSON over one socket, which the next process takes over and the last one removes', async () => {
  const folder = tempFolder('unix');
  const path = join(folder, 'kvd.sock');
  const command = async (name: string): Promise<string[]> => [
    ...serverCommand(),
    `--name=${name}`,
    `--data-dir=${join(folder, name)}`,
    `--listen-client-urls=unix://${path}`,
    `--listen-peer-urls=http://127.0.0.1:${await freePort()}`,
  ];
  const member = clusters.adoptProcess(new ServerProcess('m1'));
  const flags = await command('m1');
  member.run(flags);
  await member.waitLog(READY, 20_000);

  expect(await post(path, '/v3/kv/put', { key: 'aw==', value: 'dg==' })).toContain(
    '"revision":"2"',
  );
  const client = new grpc.Client(`unix:${path}`, grpc.credentials.createInsecure());
  const range = encodeProtobuf('RangeRequest', { key: 'k' });
  const { kvs } = decodeProtobuf(
    'RangeResponse',
    await call(client, '/etcdserverpb.KV/Range', range),
  );
  expect(Buffer.from(kvs[0]?.value ?? []).toString()).toBe('v');
  // What it tells clients of itself is this address.
  const list = await post(path, '/v3/cluster/member/list', {});
  expect(JSON.parse(list)).toMatchObject({ members: [{ clientURLs: [`unix://${path}`] }] });
  client.close();

  const other = clusters.adoptProcess(new ServerProcess('m2'));
  other.run(await command('m2'));
  const refused = await other.waitExit(20_000);
  expect(refused.code).toBe(74);
  expect(other.logs).toContain(`cannot listen on ${path}: another process serves it`);

  await member.kill();
  expect(existsSync(path)).toBe(true);
  member.run(flags);
  await waitFor('service again', 20_000, async () => {
    return (await post(path, '/v3/kv/range', { key: 'aw==' })).includes('"value":"dg=="');
  });

  member.signal('SIGTERM');
  expect((await member.waitExit(20_000)).code).toBe(0);
  expect(existsSync(path)).toBe(false);
});

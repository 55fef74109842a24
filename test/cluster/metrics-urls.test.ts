/**
 * --listen-metrics-urls of a real process: what is served there, to whom, and from when on.
 */
import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import { connect, createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { expect, it, onTestFinished } from 'vitest';
import type { TlsOptions } from '../../src/client/transport/transport.js';
import { useClusters } from '../support/cluster-fixture.js';
import { Cluster, freePort, type Member } from '../support/cluster-processes.js';
import { testCertificates } from '../support/test-certificates.js';
import { waitFor } from '../support/wait.js';

const clusters = useClusters();
const SERVING = 'serving metrics and health';

interface Told {
  readonly status: number;
  readonly text: string;
}

function ask(url: string, options: TlsOptions & { readonly method?: string } = {}): Promise<Told> {
  return new Promise((resolve, reject) => {
    const { request } = url.startsWith('https') ? https : http;
    const sent = request(url, { agent: false, ...options }, (response) => {
      text(response).then(
        (body) => resolve({ status: response.statusCode ?? 0, text: body }),
        reject,
      );
    });
    sent.on('error', reject);
    sent.end();
  });
}

async function oneMember(
  tls: boolean,
  size = 1,
): Promise<{ readonly member: Member; readonly port: number }> {
  const cluster = clusters.adopt(await Cluster.prepare({ size, tls }));
  return { member: cluster.member(0), port: await freePort() };
}

it('metrics and health are served on a port of their own, and nothing else', async () => {
  const { member, port } = await oneMember(false);
  const url = `http://127.0.0.1:${port}`;
  member.environment['ETCD_LISTEN_METRICS_URLS'] = url;
  await member.start();

  expect(await ask(`${url}/health`)).toEqual({
    status: 200,
    text: '{"health":"true","reason":""}',
  });
  expect(await ask(`${url}/livez`)).toEqual({ status: 200, text: 'ok\n' });
  expect((await ask(`${url}/readyz?verbose`)).text).toContain('[+]linearizable_read ok\n');
  expect((await ask(`${url}/readyz/non_learner`)).status).toBe(200);
  expect((await ask(`${url}/metrics`)).text).toContain('\netcd_server_has_leader 1\n');

  await member.api.put('k', 'v');
  for (const path of ['/', '/version', '/v3/kv/range', '/v3/maintenance/status', '/metrics/x']) {
    for (const method of ['GET', 'POST']) {
      const answer = await ask(url + path, { method });
      expect(answer, path).toEqual({ status: 404, text: '404 page not found\n' });
    }
  }
  expect((await ask(`${url}/health`, { method: 'POST' })).status).toBe(405);
  // gRPC, too, has nothing to look for here.
  const socket = connect(port, '127.0.0.1');
  socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  expect(await text(socket)).toContain('HTTP/1.1 400 Bad Request');
  // The client port has it all as before.
  expect((await ask(`${member.clientUrl}/metrics`)).status).toBe(200);

  member.signal('SIGTERM');
  expect((await member.waitExit(20_000)).code).toBe(0);
});

it('alarms are told as on the client port, or not, as the query wants', async () => {
  const { member, port } = await oneMember(false);
  const url = `http://127.0.0.1:${port}`;
  member.flags.push('--listen-metrics-urls', url);
  await member.start();
  const alarm = { action: 'ACTIVATE', memberID: '0', alarm: 'NOSPACE' };
  const raised = await fetch(`${member.clientUrl}/v3/maintenance/alarm`, {
    method: 'POST',
    body: JSON.stringify(alarm),
  });
  expect(raised.status).toBe(200);

  await waitFor('the alarm', 10_000, async () => (await ask(`${url}/health`)).status === 503);
  expect((await ask(`${url}/health`)).text).toContain('ALARM NOSPACE');
  expect((await ask(`${url}/health?exclude=NOSPACE&serializable=true`)).status).toBe(200);
});

it('a member without a quorum says so', async () => {
  const { member, port } = await oneMember(false, 3);
  const url = `http://127.0.0.1:${port}`;
  member.flags.push('--listen-metrics-urls', url);
  member.launch();
  await member.waitLog(SERVING, 20_000);

  expect((await ask(`${url}/livez`)).status).toBe(200);
  expect(await ask(`${url}/health`)).toEqual({
    status: 503,
    text: '{"health":"false","reason":"RAFT NO LEADER"}',
  });
  expect((await ask(`${url}/health?serializable=true`)).status).toBe(200);
  expect((await ask(`${url}/readyz`)).status).toBe(503);
});

it('the port is open before that for clients, which a member that catches up opens late', async () => {
  const { member, port } = await oneMember(false);
  // Whoever has the client port ends the start at the moment when it would be opened.
  const other = createServer().listen(member.clientPort, '127.0.0.1');
  onTestFinished(() => void other.close());
  await once(other, 'listening');
  member.flags.push('--listen-metrics-urls', `http://127.0.0.1:${port}`);
  member.launch();

  expect((await member.waitExit(20_000)).code).toBe(74);
  expect(member.logs).toContain(
    `kvd: port ${member.clientPort} of 127.0.0.1 is in use: stop the program that has it`,
  );
  expect(member.logs).toContain(SERVING);
});

it('certificates are asked for where the URL says https, and only there', async () => {
  const { member, port } = await oneMember(true);
  const secure = `https://127.0.0.1:${port}`;
  const plain = `http://127.0.0.1:${await freePort()}`;
  expect(member.flags).toContain('--client-cert-auth');
  member.flags.push('--listen-metrics-urls', `${plain},${secure}`);
  await member.start();
  const { ca, ...own } = testCertificates().client;

  expect((await ask(`${plain}/health`)).status).toBe(200);
  expect((await ask(`${secure}/health`, { ca, ...own })).status).toBe(200);
  await expect(ask(`${secure}/health`, { ca })).rejects.toThrow();
  expect((await ask(`${secure.replace('https', 'http')}/health`)).text).toContain('speaks TLS');
});

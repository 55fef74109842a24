/**
 * `kvd dev --nodes 3`, which is what `npm start` runs, as a user has it: a leader soon, a clean stop
 * on Ctrl-C, nothing left behind, and the data there at the next start.
 */
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { useClusters } from '../support/cluster-fixture.js';
import { freePort, ServerProcess, serverCommand } from '../support/cluster-processes.js';
import { HttpApi } from '../support/http-api.js';
import { tempFolder } from '../support/temp-folder.js';
import { waitFor } from '../support/wait.js';

const processes = useClusters();
const run = promisify(execFile);
const SOON_MS = 40_000;

/** Ids of all processes whose command line names this folder. */
function processesIn(folder: string): number[] {
  const ids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return ids.map(Number).filter((id) => {
    try {
      return readFileSync(`/proc/${id}/cmdline`, 'utf8').includes(folder);
    } catch (error) {
      // It ended while we looked.
      if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
      throw error;
    }
  });
}

/** Three client ports, each with the next higher one, the one for peers, free too. */
async function portPairs(): Promise<number[]> {
  return [await freePort(2), await freePort(2), await freePort(2)];
}

async function dev(
  folder: string,
  ports: readonly number[],
  ...more: readonly string[]
): Promise<ServerProcess> {
  const process = processes.adoptProcess(new ServerProcess('kvd dev'));
  const flags = ['dev', '--nodes', '3', '--data-dir', folder, '--client-ports', ports.join(',')];
  process.run([...serverCommand(), ...flags, ...more]);
  return process;
}

/** Waits until each of the members serves and knows a leader. */
async function allServe(ports: readonly number[]): Promise<void> {
  await Promise.all(
    ports.map(async (port) => {
      const api = new HttpApi(`http://127.0.0.1:${port}`);
      await waitFor(`a leader at ${port}`, SOON_MS, async () => {
        return (await api.status()).leader !== '0';
      });
      api.close();
    }),
  );
}

it('a cluster for a first look starts, elects, stops and comes back', async () => {
  const folder = tempFolder('dev');
  const ports = await portPairs();
  const api = new HttpApi(`http://127.0.0.1:${ports[0]}`);

  const first = await dev(folder, ports);
  await allServe(ports);
  await first.waitLog(/leader/, SOON_MS);
  await api.put('k', 'kept');
  first.signal('SIGINT');
  const end = await first.waitExit(SOON_MS);

  expect(end).toEqual({ code: 0, signal: null });
  await waitFor('all processes to be gone', 5_000, () => processesIn(folder).length === 0);
  const second = await dev(folder, ports);
  await allServe(ports);
  expect((await api.range('k')).kvs[0]?.value).toBe('kept');
  await second.terminate(SOON_MS);
  api.close();
});

it('with --tls all ports speak it, and the printed command works as typed, also in the next run', async () => {
  // A name that a shell would take apart.
  const folder = join(tempFolder('dev'), "it's mine");
  const ports = await portPairs();
  const type = async (cluster: ServerProcess, command?: string): Promise<string> => {
    await cluster.waitLog(/ready: leader m\d, 3 of 3 up, --endpoints https:/, SOON_MS);
    await cluster.waitLog('TLS on all ports: ', SOON_MS);
    const [, line = ''] = /TLS on all ports: (.*)/.exec(cluster.logs) ?? [];
    const typed = command === undefined ? line : line.replace(/endpoint status.*/, command);
    return (await run('sh', ['-c', typed])).stdout;
  };

  const first = await dev(folder, ports, '--tls');
  const table = await type(first);
  await type(first, 'put k kept');
  const plain = await fetch(`http://127.0.0.1:${ports[0]}/health`);
  first.signal('SIGINT');
  const end = await first.waitExit(SOON_MS);

  for (const port of ports) expect(table).toContain(`https://127.0.0.1:${port}`);
  expect(plain.status).toBe(400);
  expect(end).toEqual({ code: 0, signal: null });
  const authority = readFileSync(join(folder, 'dev-certs', 'ca.pem'), 'utf8');
  const second = await dev(folder, ports, '--tls');
  expect(await type(second, 'get k --print-value-only')).toBe('kept\n');
  expect(readFileSync(join(folder, 'dev-certs', 'ca.pem'), 'utf8')).toBe(authority);
  second.signal('SIGINT');
  await second.waitExit(SOON_MS);

  const without = await dev(folder, ports);
  expect((await without.waitExit(SOON_MS)).code).toBe(2);
  expect(without.logs).toMatch(/with TLS .*go on with --tls,.* wipe it with --fresh$/m);
});

it('the members end when their parent is killed', async () => {
  const folder = tempFolder('dev');
  const ports = await portPairs();
  const parent = await dev(folder, ports);
  await allServe(ports);
  expect(processesIn(folder).length).toBeGreaterThanOrEqual(4);

  process.kill(parent.pid, 'SIGKILL');

  await waitFor('all processes to be gone', SOON_MS, () => processesIn(folder).length === 0);
});

it('a second cluster with --fresh leaves the data of the running one', async () => {
  const folder = tempFolder('dev');
  const ports = await portPairs();
  // Without what a running member makes and replaces by itself.
  const logs = (): string[] => {
    const files = readdirSync(folder, { recursive: true }) as string[];
    return files.filter((name) => name.endsWith('.wal')).sort();
  };
  await dev(folder, ports);
  await allServe(ports);
  const api = new HttpApi(`http://127.0.0.1:${ports[0]}`);
  await api.put('k', 'kept');
  const before = logs();

  const samePorts = await dev(folder, ports, '--fresh');
  expect((await samePorts.waitExit(SOON_MS)).code).toBe(2);
  const otherPorts = await dev(folder, await portPairs(), '--fresh');
  expect((await otherPorts.waitExit(SOON_MS)).code).toBe(2);

  expect(otherPorts.logs).toContain('in use by process');
  expect(before).toHaveLength(3);
  expect(logs()).toEqual(before);
  expect((await api.range('k')).kvs[0]?.value).toBe('kept');
  api.close();
});

it('a port in use is named, with what to do', async () => {
  const folder = tempFolder('dev');
  const ports = await portPairs();
  await dev(folder, ports);
  await allServe(ports);

  const second = await dev(tempFolder('dev'), ports);
  const end = await second.waitExit(SOON_MS);

  expect(end.code).toBe(2);
  expect(second.logs).toContain(`port ${ports[0]} is in use`);
});

it('wrong options end with code 2 and all problems at once', async () => {
  const single = processes.adoptProcess(new ServerProcess('kvd'));

  single.run([...serverCommand(), '--no-such-option', '1', '--heartbeat-interval', 'soon']);
  const end = await single.waitExit(SOON_MS);

  expect(end.code).toBe(2);
  expect(single.logs).toContain('no-such-option');
  expect(single.logs).toContain('heartbeat-interval');
});

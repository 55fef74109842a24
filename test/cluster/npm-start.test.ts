/**
 * `kvd dev --nodes 3`, which is what `npm start` runs, as a user has it: a leader soon, a clean stop
 * on Ctrl-C, nothing left behind, and the data there at the next start.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { useClusters } from '../support/cluster-fixture.js';
import { freePort, ServerProcess, serverCommand } from '../support/cluster-processes.js';
import { HttpApi } from '../support/http-api.js';
import { tempFolder } from '../support/temp-folder.js';
import { waitFor } from '../support/wait.js';

const processes = useClusters();

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

async function leaderOf(ports: readonly number[], deadlineMs: number): Promise<HttpApi> {
  return waitFor('a leader', deadlineMs, async () => {
    for (const port of ports) {
      const api = new HttpApi(`http://127.0.0.1:${port}`);
      const status = await api.status().catch(() => null);
      if (status !== null && status.leader !== '0') return api;
      api.close();
    }
    return null;
  });
}

it('a cluster for a first look starts, elects, stops and comes back', {
  timeout: 90_000,
}, async () => {
  const folder = tempFolder('dev');
  const ports = await portPairs();

  const first = await dev(folder, ports);
  await waitFor('a member', 20_000, async () => {
    const apis = ports.map((port) => new HttpApi(`http://127.0.0.1:${port}`));
    const up = await Promise.any(apis.map((api) => api.status())).catch(() => null);
    for (const api of apis) api.close();
    return up !== null;
  });
  const api = await leaderOf(ports, 2_000);
  await first.waitLog(/leader/, 5_000);
  await api.put('k', 'kept');
  first.signal('SIGINT');
  const end = await first.waitExit(10_000);

  expect(end).toEqual({ code: 0, signal: null });
  await waitFor('all processes to be gone', 2_000, () => processesIn(folder).length === 0);
  const second = await dev(folder, ports);
  const again = await leaderOf(ports, 20_000);
  const kept = await waitFor('the data', 5_000, () => again.range('k'));
  expect(kept.kvs[0]?.value).toBe('kept');
  await second.terminate();
  api.close();
  again.close();
});

it('the members end when their parent is killed', { timeout: 60_000 }, async () => {
  const folder = tempFolder('dev');
  const ports = await portPairs();
  const parent = await dev(folder, ports);
  await leaderOf(ports, 20_000);
  expect(processesIn(folder).length).toBeGreaterThanOrEqual(4);

  process.kill(parent.pid, 'SIGKILL');

  await waitFor('all processes to be gone', 10_000, () => processesIn(folder).length === 0);
});

it('a second cluster with --fresh leaves the data of the running one', {
  timeout: 60_000,
}, async () => {
  const folder = tempFolder('dev');
  const ports = await portPairs();
  await dev(folder, ports);
  const api = await leaderOf(ports, 20_000);
  const before = readdirSync(folder, { recursive: true }).sort();

  const samePorts = await dev(folder, ports, '--fresh');
  expect((await samePorts.waitExit(10_000)).code).toBe(2);
  const otherPorts = await dev(folder, await portPairs(), '--fresh');
  expect((await otherPorts.waitExit(10_000)).code).toBe(2);

  expect(otherPorts.logs).toContain('in use by process');
  expect(readdirSync(folder, { recursive: true }).sort()).toEqual(before);
  api.close();
});

it('a port in use is named, with what to do', { timeout: 60_000 }, async () => {
  const folder = tempFolder('dev');
  const ports = await portPairs();
  await dev(folder, ports);
  await leaderOf(ports, 20_000);

  const second = await dev(tempFolder('dev'), ports);
  const end = await second.waitExit(10_000);

  expect(end.code).toBe(2);
  expect(second.logs).toContain(`port ${ports[0]} is in use`);
});

it('wrong options end with code 2 and all problems at once', { timeout: 60_000 }, async () => {
  const single = processes.adoptProcess(new ServerProcess('kvd'));

  single.run([...serverCommand(), '--no-such-option', '1', '--heartbeat-interval', 'soon']);
  const end = await single.waitExit(10_000);

  expect(end.code).toBe(2);
  expect(single.logs).toContain('no-such-option');
  expect(single.logs).toContain('heartbeat-interval');
});

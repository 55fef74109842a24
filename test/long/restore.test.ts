/**
 * A million keys: saved from a running member while others use it, verified, and restored in less than a
 * minute. Prints the figures that docs/backup.md has.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { KvdClient } from '../../src/client/client.js';
import { put } from '../../src/client/conditions.js';
import { runCli } from '../support/cli-run.js';
import { useClusters } from '../support/cluster-fixture.js';
import type { Member } from '../support/cluster-processes.js';
import { tempFolder } from '../support/temp-folder.js';

const clusters = useClusters();
const KEYS = 1_000_000;
const VALUE_BYTES = 200;
const KEYS_OF_A_TXN = 100;
const WRITERS = 16;
const RESTORE_MS = 60_000;

async function fill(client: KvdClient): Promise<void> {
  let next = 0;
  const value = Buffer.alloc(VALUE_BYTES, 'v');
  const write = async (): Promise<void> => {
    for (;;) {
      const from = next;
      next += KEYS_OF_A_TXN;
      if (from >= KEYS) return;
      const keys = Array.from({ length: KEYS_OF_A_TXN }, (_, at) => from + at);
      const success = keys.map((key) => put(`key/${String(key).padStart(9, '0')}`, value));
      await client.txn({ success }, { timeoutMs: 60_000 });
    }
  };
  await Promise.all(Array.from({ length: WRITERS }, write));
}

/** How long reads of another client take, one after the other, until it is told to stop. */
function probe(member: Member): { readonly stop: () => Promise<number[]> } {
  const took: number[] = [];
  let stopped = false;
  const running = (async () => {
    while (!stopped) {
      const startedAt = performance.now();
      await member.api.range('key/000000001');
      took.push(performance.now() - startedAt);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();
  return {
    stop: async () => {
      stopped = true;
      await running;
      return took.sort((a, b) => a - b);
    },
  };
}

async function timed<T>(what: string, work: () => Promise<T>): Promise<T> {
  const startedAt = performance.now();
  const result = await work();
  process.stderr.write(`${what}: ${((performance.now() - startedAt) / 1000).toFixed(1)} s\n`);
  return result;
}

it('a million keys are saved beside others and restored within a minute', {
  timeout: 900_000,
}, async () => {
  const cluster = await clusters.start({ size: 1 });
  const [member] = cluster.members as [Member];
  const client = new KvdClient({ endpoints: [member.clientUrl] });
  await timed('written', () => fill(client));
  client.close();
  const folder = tempFolder('million');
  const file = join(folder, 'backup');
  const before = member.residentBytes;
  const reads = probe(member);

  const save = ['--endpoints', member.clientUrl, 'snapshot', 'save', file];
  expect((await timed('saved', () => runCli(save))).code).toBe(0);

  const took = await reads.stop();
  const at = (share: number): string => (took[Math.floor(took.length * share)] ?? 0).toFixed(1);
  process.stderr.write(
    `reads meanwhile: ${took.length}, p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, longest ${at(0.9999)} ms\n`,
  );
  const grown = Math.round((member.residentBytes - before) / 2 ** 20);
  process.stderr.write(`memory of the member: ${grown} MiB more\n`);
  process.stderr.write(`file: ${(statSync(file).size / 1e6).toFixed(0)} MB\n`);
  const status = await timed('verified', () => runCli(['snapshot', 'status', file, '-w', 'json']));
  expect(JSON.parse(status.stdout)).toMatchObject({ total_keys: KEYS });

  const startedAt = performance.now();
  const dataDir = join(folder, 'restored');
  const restore = ['snapshot', 'restore', file, '--data-dir', dataDir, '--name', 'm1'];
  expect((await timed('restored', () => runCli(restore))).code).toBe(0);
  expect(performance.now() - startedAt).toBeLessThan(RESTORE_MS);
});

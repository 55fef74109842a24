/**
 * What a large compaction costs the writes beside it: one member, a real process, a million revisions of
 * ten thousand keys. Puts are timed in three windows of one run, so that only their ratios matter: before,
 * while the garbage is removed from memory and disk, and after. How long the member's own thread ran in one
 * turn is counted apart from how long it waited for a CPU. Figures go to the log of the test.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import { useClusters } from '../support/cluster-fixture.js';
import type { HttpApi } from '../support/http-api.js';
import { tempFolder } from '../support/temp-folder.js';

const clusters = useClusters();
const REVISIONS = Number(process.env['KVD_REVISIONS'] ?? 1_000_000);
const KEYS = 10_000;
const OPS = 100;
const ROUNDS_AT_ONCE = 8;
const TURN_MS_MAX = 50;

/** Overwrites keys until the store is at the revision. One revision each: a transaction has only one. */
async function overwrite(api: HttpApi, revisions: number): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < revisions / OPS) {
      next += 1;
      const success = Array.from({ length: OPS }, (_, at) => {
        const key = `k${((next * OPS + at) * 7919) % KEYS}`;
        const put = { key: btoa(key), value: btoa(`${next}`.padEnd(100, '.')) };
        return { request_put: put };
      });
      await api.call('/v3/kv/txn', { success }, 60_000);
    }
  };
  await Promise.all(Array.from({ length: ROUNDS_AT_ONCE }, worker));
}

async function timePuts(api: HttpApi, goesOn: () => Promise<boolean>): Promise<number[]> {
  const times: number[] = [];
  for (let count = 0; count % 50 > 0 || (await goesOn()); count += 1) {
    const startedAt = performance.now();
    await api.put(`timed${count % 100}`, 'v'.repeat(100));
    times.push(performance.now() - startedAt);
  }
  return times.sort((a, b) => a - b);
}

function figures(times: readonly number[]): string {
  const at = (part: number): string => (times[Math.floor(times.length * part)] ?? 0).toFixed(1);
  return `${times.length} puts, p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, most ${at(0.9999)} ms`;
}

interface Turn {
  readonly endedAt: number;
  readonly took: number;
  readonly ran: number;
  readonly waited: number;
}

function turnsOf(file: string, since: number): Turn[] {
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
  return lines
    .map((line) => line.split(' ').map(Number))
    .map(([endedAt = 0, took = 0, ran = 0, waited = 0]) => ({ endedAt, took, ran, waited }))
    .filter(({ endedAt }) => endedAt >= since);
}

function longest(turns: readonly Turn[], by: 'took' | 'ran'): string {
  const [turn] = [...turns].sort((a, b) => b[by] - a[by]);
  return turn === undefined
    ? 'none'
    : `${turn.took} ms, of which ${turn.ran} ran and ${turn.waited} waited`;
}

it('a compaction of a million changes is no pause for who writes', {
  timeout: 900_000,
}, async () => {
  const turnsFile = join(tempFolder('turns'), 'turns');
  writeFileSync(turnsFile, '');
  const environment = {
    m1: { NODE_OPTIONS: `--import ${resolve('test/support/turn-meter.js')}`, KVD_TURNS: turnsFile },
  };
  const flags = ['--quota-backend-bytes', '-1'];
  const cluster = await clusters.start({ size: 1, flags, environment });
  const { api } = cluster.member(0);
  await overwrite(api, REVISIONS);
  const until = (ms: number): (() => Promise<boolean>) => {
    const end = performance.now() + ms;
    return async () => performance.now() < end;
  };
  const before = await timePuts(api, until(10_000));
  const { header } = await api.range('k0');
  const bytes = async (): Promise<number> => api.metric('etcd_mvcc_db_total_size_in_bytes');
  const bytesBefore = await bytes();

  const began = Date.now();
  const startedAt = performance.now();
  await api.compact(header.revision);
  const answered = performance.now() - startedAt;
  // Behind the slices in memory come a checkpoint, the pages on disk, and LevelDB: some seconds more.
  let cleanSince = 0;
  const during = await timePuts(api, async () => {
    const garbage = await api.metric('kvd_garbage_revisions');
    if (garbage > 0) cleanSince = 0;
    else if (cleanSince === 0) cleanSince = performance.now();
    return cleanSince === 0 || performance.now() - cleanSince < 15_000;
  });
  const took = performance.now() - startedAt;
  const turns = turnsOf(turnsFile, began);
  const after = await timePuts(api, until(10_000));

  const ratio =
    (during[Math.floor(during.length * 0.99)] ?? 0) /
    (before[Math.floor(before.length * 0.99)] ?? 1);
  process.stdout.write(
    [
      `compaction answered after ${answered.toFixed(1)} ms, timed for ${(took / 1000).toFixed(1)} s`,
      `before: ${figures(before)}`,
      `during: ${figures(during)}`,
      `after:  ${figures(after)}`,
      `longest turn: ${longest(turns, 'took')}; that ran longest: ${longest(turns, 'ran')}`,
      `p99 during / before: ${ratio.toFixed(2)}; store ${(bytesBefore / 2 ** 20).toFixed(0)} MiB before, ${((await bytes()) / 2 ** 20).toFixed(0)} MiB after`,
      '',
    ].join('\n'),
  );
  expect(answered).toBeLessThan(1000);
  // Aimed at: below 2. A busy machine moves both windows.
  expect(ratio).toBeLessThan(4);
  expect(Math.max(0, ...turns.map(({ ran }) => ran))).toBeLessThan(TURN_MS_MAX);
});

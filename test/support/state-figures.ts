/**
 * Figures of the state on disk, by hand: no test. Prints one line for each.
 *
 * Compile it like any program here (`npx tsc -p tsconfig.check.json --noEmit false --outDir <folder>`)
 * and run <folder>/test/support/state-figures.js from the project. RECORDS and COMPRESSION=off vary it.
 *
 * A million records of 300 bytes (key of 32, value of 256 that does not compress well).
 */
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NodeStateFolders } from '../../src/kv/io/state-folders.js';
import { StateStore } from '../../src/kv/io/state-store.js';
import { Prng } from '../../src/prng.js';
import { markAt } from './record-model.js';

const MIB = 1024 * 1024;
const RECORDS = Number(process.env['RECORDS'] ?? 1_000_000);
const RECORD_BYTES = 300;
/** Records between two turns of the loop: what an apply batch does. */
const BURST = 200;

const dataDir = join(tmpdir(), `kvd-figures-${process.pid}`);
const compression = process.env['COMPRESSION'] !== 'off';
const folders = new NodeStateFolders(dataDir, { compression });
const options = { dataDir, generation: 1, clusterId: 7, folders };
const prng = new Prng(5);
const letters = Uint8Array.from({ length: MIB }, () => 97 + prng.below(26));

function recordAt(): Uint8Array {
  const at = prng.below(letters.length - RECORD_BYTES);
  return letters.subarray(at, at + RECORD_BYTES);
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function line(name: string, text: string): void {
  console.log(`${name.padEnd(34)} ${text}`);
}

async function writeAll(): Promise<void> {
  const store = await StateStore.open(options);
  const cpuBefore = process.cpuUsage();
  const start = performance.now();
  let inWrite = 0;
  let burstStart = 0;
  let most = 0;
  let longestTurn = 0;
  let checkpoints = 0;
  const barriers: number[] = [];
  let running: Promise<void> | null = null;
  let last = start;
  for (let main = 1; main <= RECORDS; main += 1) {
    if (main % BURST === 1) burstStart = performance.now();
    store.write(main, 0, recordAt());
    if (main % BURST !== 0) continue;
    inWrite += performance.now() - burstStart;
    most = Math.max(most, store.overlayBytes);
    await turn();
    const now = performance.now();
    longestTurn = Math.max(longestTurn, now - last);
    while (store.isOverloaded) await turn();
    last = performance.now();
    if (main % (RECORDS / 5) === 0 && running === null) {
      checkpoints += 1;
      const asked = performance.now();
      running = store.checkpoint(markAt(main), main, new Uint8Array(MIB)).then(() => {
        barriers.push(performance.now() - asked);
        running = null;
      });
    }
  }
  await store.checkpoint(markAt(RECORDS), RECORDS, new Uint8Array(MIB));
  const seconds = (performance.now() - start) / 1000;
  const cpu = process.cpuUsage(cpuBefore);
  line(
    'write',
    `${Math.round(RECORDS / seconds)} records/s, ${((cpu.user + cpu.system) / RECORDS).toFixed(2)} us CPU a record, all threads`,
  );
  line(
    'write, main thread',
    `${((inWrite * 1000) / RECORDS).toFixed(2)} us a record in the call of write`,
  );
  line('longest turn while writing', `${longestTurn.toFixed(1)} ms`);
  line('overlay at most', `${(most / MIB).toFixed(1)} MiB`);
  line(
    'checkpoints while writing',
    `${checkpoints}: ${barriers.map((ms) => `${ms.toFixed(0)} ms`).join(', ')}`,
  );
  const quiet = performance.now();
  await store.checkpoint(markAt(RECORDS + 1), RECORDS, new Uint8Array(MIB));
  line('checkpoint, nothing written', `${(performance.now() - quiet).toFixed(0)} ms`);
  await store.close();
}

async function read(): Promise<void> {
  const opened = performance.now();
  const store = await StateStore.open(options);
  await store.loadCheckpoint();
  line('open', `${(performance.now() - opened).toFixed(0)} ms`);
  const cpuBefore = process.cpuUsage();
  const start = performance.now();
  let count = 0;
  let sum = 0;
  await store.scanRecords(RECORDS, (_main, _sub, page, start) => {
    count += 1;
    sum += page[start] as number;
  });
  const ms = performance.now() - start;
  const cpu = process.cpuUsage(cpuBefore);
  line(
    'scan',
    `${count} records in ${ms.toFixed(0)} ms, ${Math.round((count / ms) * 1000)}/s, CPU ${Math.round((cpu.user + cpu.system) / 1000)} ms (${sum})`,
  );
  line('memory behind the scan', `${(process.memoryUsage().rss / 1e6).toFixed(0)} MB resident`);
  for (const [name, range] of [
    ['read, cold, random', RECORDS],
    ['read, hot, 20,000 records', 20_000],
    ['read, hot again', 20_000],
  ] as const) {
    const reads = 100_000;
    const before = performance.now();
    for (let at = 0; at < reads; at += 1) store.read(1 + prng.below(range), 0);
    line(name, `${(((performance.now() - before) * 1000) / reads).toFixed(2)} us`);
  }
  const from = performance.now();
  const run = await store.readRevisions(RECORDS / 2, RECORDS, 4 * MIB);
  line(
    'readRevisions of 4 MiB',
    `${(performance.now() - from).toFixed(1)} ms, ${run.records.length} records`,
  );
  line('memory at the end', `${(process.memoryUsage().rss / 1e6).toFixed(0)} MB resident`);
  await store.close();
}

async function remove(): Promise<void> {
  const store = await StateStore.open(options);
  await store.scanRecords(RECORDS, () => {});
  const start = performance.now();
  for (let main = 1; main <= RECORDS; main += 1) if (main % 2 === 0) store.remove(main, 0, false);
  const asked = performance.now();
  const done = store.checkpoint(markAt(RECORDS + 2), RECORDS, new Uint8Array(MIB));
  line(
    'remove half, the calls',
    `${(asked - start).toFixed(0)} ms and ${(performance.now() - asked).toFixed(0)} ms to sort`,
  );
  await done;
  const cpuBefore = process.cpuUsage();
  const cleaning = performance.now();
  await store.cleaned();
  const cpu = process.cpuUsage(cpuBefore);
  line(
    'remove half, background',
    `${((performance.now() - cleaning) / 1000).toFixed(1)} s, CPU ${Math.round((cpu.user + cpu.system) / 1000)} ms`,
  );
  const slice = performance.now();
  await store.defragment();
  line('defragment', `${(performance.now() - slice).toFixed(0)} ms`);
  await store.close();
}

await writeAll();
await read();
await remove();
rmSync(dataDir, { recursive: true, force: true });

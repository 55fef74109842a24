/** A real process that is killed in the middle of writes and checkpoints, again and again. */
import { spawn } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { StateStore } from '../../src/kv/io/state-store.js';
import { Prng } from '../../src/prng.js';
import { assertRecord } from '../support/record-model.js';
import { tempFolder } from '../support/temp-folder.js';
import { transpiledProgram } from '../support/transpiled-program.js';

const ROUNDS = 10;

describe('StateStore in a process that is killed', () => {
  it('keeps every acknowledged checkpoint and all records that it needs', async () => {
    const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
    console.log(`SEED=${seed} npx vitest run --project unit test/kv-io/state-kill.test.ts`);
    const prng = new Prng(seed);
    const program = transpiledProgram('test/support/state-writer.ts');
    const dataDir = tempFolder('state-kill');
    let lastRevision = 0;

    for (let round = 0; round < ROUNDS; round += 1) {
      const acknowledged = await runUntilKilled(
        program,
        dataDir,
        1 + prng.below(6),
        prng.below(30),
      );

      const found = await readState(dataDir);
      expect(found.index).toBeGreaterThanOrEqual(acknowledged.index);
      expect(found.revision).toBeGreaterThanOrEqual(acknowledged.revision);
      expect(found.revision).toBeGreaterThan(lastRevision);
      lastRevision = found.revision;
    }
  }, 60_000);
});

/** Kills the writer some milliseconds behind its n-th checkpoint; the last one it acknowledged. */
async function runUntilKilled(
  program: string,
  dataDir: string,
  checkpoints: number,
  delayMs: number,
): Promise<{ index: number; revision: number }> {
  const child = spawn(process.execPath, [program, dataDir], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let complaints = '';
  let seen = 0;
  child.stdout.on('data', (data: Buffer) => {
    output += data.toString();
    const lines = output.split('\n').length - 1;
    if (seen < checkpoints && lines >= checkpoints)
      setTimeout(() => child.kill('SIGKILL'), delayMs);
    seen = lines;
  });
  child.stderr.on('data', (data: Buffer) => {
    complaints += data.toString();
  });
  const ended = await new Promise((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal, complaints }));
  });
  expect(ended).toEqual({ code: null, signal: 'SIGKILL', complaints: '' });
  const last = output.split('\n').at(-2) ?? '';
  const [index, revision] = last.split(' ').map(Number) as [number, number];
  return { index, revision };
}

async function readState(dataDir: string): Promise<{ index: number; revision: number }> {
  const store = await StateStore.open({ dataDir, generation: 1, clusterId: 7, cacheBytes: 65_536 });
  const found = await store.loadCheckpoint();
  if (found === null) throw new Error('the checkpoint is lost');
  expect(Buffer.from(found.tables)).toEqual(Buffer.alloc(50_000, String(found.mark.index)));
  const seen = new Set<number>();
  await store.scanRecords(found.revision, (main, sub, page, start, end) => {
    assertRecord(main, sub, page.subarray(start, end));
    seen.add(main);
  });
  for (let main = 1; main <= found.revision; main += 1) {
    // The writer removes the first of three.
    if (main % 3 !== 1 && !seen.has(main)) throw new Error(`revision ${main} is lost`);
  }
  await store.close();
  return { index: found.mark.index, revision: found.revision };
}

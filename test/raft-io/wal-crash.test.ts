/**
 * Stops the machine in front of every single operation on the disk, starts again, and compares with
 * what was acknowledged. Method: run a fixed script once to count the operations, then once per
 * operation with a crash there, with three disks each: one that lost all that was not synced, one
 * that lost nothing, and some that kept random sectors and random names.
 *
 * After a crash the log must be in one of the states between the last acknowledged batch and the
 * last one that was begun: never earlier, never a mixture.
 */
import { describe, expect, it } from 'vitest';
import type { LogBatch, RecoveredLog } from '../../src/raft/io/log-store.js';
import type { WriteAheadLog } from '../../src/raft/io/wal.js';
import { openWal } from '../../src/raft/io/wal.js';
import { batchOf, entriesFrom, IDENTITY, INITIAL, metaAt } from '../support/log-batches.js';
import { LogModel } from '../support/log-model.js';
import type { CrashMode } from '../support/memory-disk.js';
import { MemoryDisk } from '../support/memory-disk.js';

const SEGMENT_BYTES = 4096;

function open(disk: MemoryDisk): { wal: WriteAheadLog; recovered: RecoveredLog } {
  return openWal({
    disk,
    directory: '/data',
    identity: IDENTITY,
    initial: INITIAL,
    segmentBytes: SEGMENT_BYTES,
  });
}

type Step = Partial<LogBatch> | { readonly compactTo: number } | 'reopen';

/** Appends, rotation, conflict, checkpoint, compaction, restart, snapshot, compaction again. */
const SCRIPT: readonly Step[] = [
  { hardState: { term: 1, vote: 7, commit: 0 } },
  { entries: entriesFrom(1, 1, 4, 200) },
  { hardState: { term: 1, vote: 7, commit: 4 }, sync: false },
  { entries: entriesFrom(5, 1, 6, 400) },
  { entries: entriesFrom(11, 1, 4, 400) },
  { hardState: { term: 2, vote: 0, commit: 12 }, truncateFrom: 13, entries: entriesFrom(13, 2, 1) },
  { entries: entriesFrom(14, 2, 6, 300), hardState: { term: 2, vote: 0, commit: 14 } },
  { checkpoint: metaAt(13, 2, 3) },
  { compactTo: 12 },
  { entries: entriesFrom(20, 2, 6, 300) },
  'reopen',
  { entries: entriesFrom(24, 3, 6, 300), truncateFrom: 24 },
  { hardState: { term: 3, vote: 0, commit: 40 }, snapshot: metaAt(40, 3, 4) },
  { compactTo: 40 },
  { entries: entriesFrom(41, 3, 8, 400) },
  { entries: entriesFrom(45, 4, 2, 100), hardState: { term: 4, vote: 2, commit: 44 } },
  { entries: entriesFrom(47, 4, 8, 400) },
  { checkpoint: metaAt(50, 4, 5) },
  { compactTo: 60 },
];

/** Runs the script until it ends or the machine stops; says what must have survived. */
function runScript(disk: MemoryDisk): LogModel {
  const model = new LogModel(INITIAL);
  let wal: WriteAheadLog | null = null;
  try {
    ({ wal } = open(disk));
    disk.run();
    for (const step of SCRIPT) {
      if (disk.crashed) break;
      if (step === 'reopen') {
        disk.kill();
        model.onKill();
        ({ wal } = open(disk));
        model.onRecovered();
      } else if ('compactTo' in step) {
        wal.compactTo(step.compactTo);
      } else {
        const batch = batchOf(step);
        model.begin(batch);
        wal.append(batch, (error) => {
          if (error === null) model.acknowledge(batch);
        });
      }
      disk.run();
    }
  } catch (error) {
    if (!disk.crashed) throw error;
  }
  return model;
}

function crashAndCheck(at: number, mode: CrashMode, seed: number): boolean {
  const disk = new MemoryDisk({ seed });
  disk.crashAt = at;
  const model = runScript(disk);
  const reached = disk.crashed;
  disk.crash(mode);

  const { recovered } = open(disk);
  const where = `operation ${at}, ${mode}, seed ${seed}`;
  model.assertMatches(recovered, where);

  // A second start that is interrupted nowhere finds the same, once more.
  disk.crash('none');
  const again = open(disk);
  model.assertMatches(again.recovered, `${where}, second start`);
  expect(again.recovered.boot, where).toBe(recovered.boot + 1);
  return reached;
}

describe('a crash in front of any operation', () => {
  it('is without consequences when nothing was running', () => {
    const disk = new MemoryDisk();
    const model = runScript(disk);
    disk.crash('none');

    const { recovered } = open(disk);

    model.assertMatches(recovered, 'end of the script');
    expect(recovered.entries.at(-1)?.index).toBe(54);
  });

  for (const mode of ['none', 'all', 'torn'] as const) {
    it(`loses nothing acknowledged when of unsynced data ${mode} survives`, () => {
      let at = 0;
      const seeds = mode === 'torn' ? [1, 2, 3, 4, 5, 6] : [1];
      for (let running = true; running; at += 1) {
        running = false;
        for (const seed of seeds) running = crashAndCheck(at, mode, seed) || running;
      }
      // The script has this many operations: appends, rotations, compactions and a start.
      expect(at).toBeGreaterThan(80);
    });
  }

  it('may come during recovery as often as it likes', () => {
    for (let first = 10; first < 90; first += 7) {
      for (let second = 0; second < 14; second += 1) {
        const seed = first * 100 + second;
        const disk = new MemoryDisk({ seed });
        disk.crashAt = first;
        const model = runScript(disk);
        disk.crash('torn');
        for (let round = 0; round < 3; round += 1) {
          disk.crashAt = disk.operations + second;
          try {
            open(disk);
          } catch (error) {
            if (!disk.crashed) throw error;
          }
          disk.crash('torn');
        }

        const { recovered } = open(disk);

        model.assertMatches(recovered, `crash at ${first}, then ${second} into recovery`);
      }
    }
  });
});

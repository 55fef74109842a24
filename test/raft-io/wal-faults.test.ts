/** A disk that fails or is full: nothing is acknowledged that may be lost, and it is said in time. */
import { describe, expect, it } from 'vitest';
import { DiskError } from '../../src/raft/io/disk.js';
import type { LogBatch, RecoveredLog } from '../../src/raft/io/log-store.js';
import type { WriteAheadLog } from '../../src/raft/io/wal.js';
import { openWal } from '../../src/raft/io/wal.js';
import { batchOf, entriesFrom, IDENTITY, INITIAL, idsOf, metaAt } from '../support/log-batches.js';
import type { DiskOperation } from '../support/memory-disk.js';
import { MemoryDisk } from '../support/memory-disk.js';

const SEGMENT_BYTES = 4096;

interface Opened {
  readonly wal: WriteAheadLog;
  readonly recovered: RecoveredLog;
  readonly space: (string | null)[];
}

function open(disk: MemoryDisk): Opened {
  const space: (string | null)[] = [];
  const { wal, recovered } = openWal({
    disk,
    directory: '/data',
    identity: IDENTITY,
    initial: INITIAL,
    segmentBytes: SEGMENT_BYTES,
    onSpaceLow: (error) => space.push(error?.message ?? null),
  });
  disk.run();
  return { wal, recovered, space };
}

/** Text of the failure, null for success. */
function append(disk: MemoryDisk, wal: WriteAheadLog, fields: Partial<LogBatch>): string | null {
  const results: (string | null)[] = [];
  wal.append(batchOf(fields), (error) => results.push(error?.message ?? null));
  disk.run();
  expect(results.length, 'calls of done').toBe(1);
  return results[0] as string | null;
}

function failOnce(disk: MemoryDisk, wanted: DiskOperation, skip = 0): void {
  let left = skip;
  disk.fault = (operation, path) => {
    if (operation !== wanted) return;
    left -= 1;
    if (left >= 0) return;
    disk.fault = () => {};
    throw new DiskError(operation, path, 'EIO', 'input/output error');
  };
}

describe('a disk that fails once', () => {
  for (const operation of ['sync', 'write'] as const) {
    it(`gets no acknowledgement after a failed ${operation}, though the next one would succeed`, () => {
      const disk = new MemoryDisk();
      const { wal } = open(disk);
      expect(append(disk, wal, { entries: entriesFrom(1, 1, 2) })).toBeNull();
      failOnce(disk, operation);

      const failed = append(disk, wal, { entries: entriesFrom(3, 1, 1) });

      expect(failed).toContain(`${operation} /data/wal/0000000000000001-0000000000000001.wal: EIO`);
      expect(append(disk, wal, { entries: entriesFrom(3, 1, 1) })).toBe(failed);
      expect(append(disk, wal, { hardState: { term: 1, vote: 0, commit: 1 }, sync: false })).toBe(
        failed,
      );
    });
  }

  it('makes durable at the next start what the failed sync left readable', () => {
    const disk = new MemoryDisk();
    const first = open(disk);
    append(disk, first.wal, { entries: entriesFrom(1, 1, 2) });
    failOnce(disk, 'sync');
    append(disk, first.wal, { entries: entriesFrom(3, 1, 2, 1200) });
    disk.kill();

    const second = open(disk);
    disk.crash('none');
    const third = open(disk);

    expect(idsOf(third.recovered)).toBe(idsOf(second.recovered));
    expect(idsOf(third.recovered)).toBe('1:1 2:1 3:1 4:1');
  });

  it('stops the log at any failure during rotation', () => {
    for (const operation of ['sync', 'write', 'rename', 'sync-directory'] as const) {
      for (let skip = 0; skip < 3; skip += 1) {
        const disk = new MemoryDisk();
        const { wal } = open(disk);
        failOnce(disk, operation, skip);
        const results: (string | null)[] = [];
        let index = 1;
        for (; index <= 40 && (results.at(-1) ?? null) === null; index += 4) {
          results.push(append(disk, wal, { entries: entriesFrom(index, 1, 4, 300) }));
        }
        expect(results.at(-1), `${operation} ${skip}`).toContain('EIO');
        expect(append(disk, wal, { entries: entriesFrom(index - 4, 1, 1) })).toContain('EIO');
        disk.crash('none');

        const { recovered } = open(disk);

        expect(recovered.entries.length).toBeGreaterThanOrEqual((results.length - 1) * 4);
      }
    }
  });

  it('lets the log close, without a word about it', async () => {
    const disk = new MemoryDisk();
    const { wal } = open(disk);
    failOnce(disk, 'sync');
    append(disk, wal, { entries: entriesFrom(1, 1, 1) });

    const closed = wal.close();
    disk.run();
    await closed;

    expect(open(disk).recovered.notes.join()).toContain('orderly');
  });

  it('makes close fail when the last sync fails', async () => {
    const disk = new MemoryDisk();
    const { wal } = open(disk);
    failOnce(disk, 'sync');

    const closed = wal.close();
    const outcome = expect(closed).rejects.toThrow(/EIO/);
    disk.run();

    await outcome;
    expect(open(disk).recovered.boot).toBe(2);
  });

  it('makes the start fail with the name of the file', () => {
    const disk = new MemoryDisk();
    failOnce(disk, 'sync');

    expect(() => open(disk)).toThrow(/sync \/data\/wal\/start.tmp: EIO/);
    expect(open(disk).recovered.boot).toBe(1);
  });
});

describe('a full disk', () => {
  it('is announced while there is room in the log still', () => {
    const disk = new MemoryDisk({ capacity: 10_000 });
    const { wal, space } = open(disk);
    expect(space).toEqual([]);
    let index = 1;
    for (; space.length === 0; index += 1) {
      expect(append(disk, wal, { entries: entriesFrom(index, 1, 1, 300) })).toBeNull();
    }

    expect(space[0]).toContain('/data/wal/spare.tmp: ENOSPC');
    expect(append(disk, wal, { entries: entriesFrom(index, 1, 1, 300) })).toBeNull();
  });

  it('ends the log with the name of the file when it is not heard', () => {
    const disk = new MemoryDisk({ capacity: 10_000 });
    const { wal } = open(disk);
    let failed: string | null = null;
    let index = 1;
    for (; failed === null; index += 1) {
      failed = append(disk, wal, { entries: entriesFrom(index, 1, 1, 300) });
    }

    expect(failed).toContain('/data/wal/spare.tmp: ENOSPC');
    disk.capacity = 100_000;
    disk.crash('none');
    expect(open(disk).recovered.entries.length).toBe(index - 2);
  });

  it('is announced as over when a compaction made room', () => {
    const disk = new MemoryDisk({ capacity: 14_000 });
    const { wal, space } = open(disk);
    let index = 1;
    for (; space.length === 0; index += 1) {
      expect(append(disk, wal, { entries: entriesFrom(index, 1, 1, 300) })).toBeNull();
    }

    expect(append(disk, wal, { checkpoint: metaAt(index - 1, 1, 1) })).toBeNull();
    wal.compactTo(index);
    disk.run();

    expect(space.at(-1)).toBeNull();
    for (let more = 0; more < 15; more += 1, index += 1) {
      expect(append(disk, wal, { entries: entriesFrom(index, 1, 1, 300) })).toBeNull();
    }
  });

  it('that shows only while zeros are written is the same', () => {
    const disk = new MemoryDisk();
    disk.fault = (operation, path) => {
      if (operation === 'fill') throw new DiskError('write', path, 'ENOSPC', 'quota');
    };

    const { wal, space } = open(disk);

    expect(space).toEqual([expect.stringContaining('spare.tmp: ENOSPC')]);
    expect(disk.list('/data/wal')).not.toContain('spare.tmp');
    expect(append(disk, wal, { entries: entriesFrom(1, 1, 1) })).toBeNull();
  });

  it('leaves no half-made spare behind', () => {
    const disk = new MemoryDisk({ capacity: 10_000 });
    const { wal, space } = open(disk);
    for (let index = 1; space.length === 0; index += 1) {
      append(disk, wal, { entries: entriesFrom(index, 1, 1, 300) });
    }

    expect(disk.list('/data/wal')).not.toContain('spare.tmp');
    expect(wal.diskBytes).toBe(2 * SEGMENT_BYTES);
  });
});

describe('the order of things', () => {
  it('is write, sync, then the answer', () => {
    const disk = new MemoryDisk();
    const { wal } = open(disk);
    let answers = 0;
    wal.append(batchOf({ entries: entriesFrom(1, 1, 1) }), () => {
      answers += 1;
    });

    expect(answers).toBe(0);
    disk.clone(1);
    const before = disk.clone(1);
    before.crash('none');
    expect(open(before).recovered.entries.length).toBe(0);
    disk.run();
    expect(answers).toBe(1);
    disk.crash('none');
    expect(open(disk).recovered.entries.length).toBe(1);
  });

  it('does not allow a second append while one is in flight', () => {
    const disk = new MemoryDisk();
    const { wal } = open(disk);
    wal.append(batchOf({ entries: entriesFrom(1, 1, 1) }), () => {});

    expect(() => wal.append(batchOf({ entries: entriesFrom(2, 1, 1) }), () => {})).toThrow(
      /in flight already/,
    );
  });

  it('refuses batches that no member may promise', () => {
    const disk = new MemoryDisk();
    const { wal } = open(disk);
    append(disk, wal, {
      entries: entriesFrom(1, 2, 5),
      hardState: { term: 2, vote: 1, commit: 3 },
    });
    append(disk, wal, { checkpoint: metaAt(3, 2, 1) });
    const refuse = (fields: Partial<LogBatch>, text: RegExp): void => {
      expect(() => wal.append(batchOf(fields), () => {})).toThrow(text);
    };

    refuse({ entries: entriesFrom(7, 2, 1) }, /entry 7 after entry 5/);
    refuse({ entries: entriesFrom(3, 2, 1) }, /entry 3 is covered by the mark at 3/);
    refuse({ truncateFrom: 2 }, /cut at 2, mark at 3/);
    refuse({ hardState: { term: 1, vote: 0, commit: 3 } }, /term 1 after term 2/);
    refuse({ hardState: { term: 2, vote: 7, commit: 3 } }, /vote for 7 after a vote for 1/);
    refuse({ hardState: { term: 2, vote: 1, commit: 2 } }, /commit 2 after commit 3/);
    refuse({ checkpoint: metaAt(6, 2, 1) }, /checkpoint 6 beyond the last entry 5/);
    refuse({ snapshot: metaAt(2, 2, 1) }, /snapshot 2 behind the mark at 3/);
  });
});

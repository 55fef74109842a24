/**
 * Damages a log in every way a disk does and looks what the next start makes of it: what a crash can
 * leave is cut off with a note, what was acknowledged is never dropped without an error.
 */
import { beforeEach, describe, expect, it } from 'vitest';
import { FatalError } from '../../src/errors.js';
import { EntryType, frameEntries } from '../../src/raft/entry.js';
import type { LogBatch, RecoveredLog } from '../../src/raft/io/log-store.js';
import type { WriteAheadLog } from '../../src/raft/io/wal.js';
import { openWal } from '../../src/raft/io/wal.js';
import { batchOf, entriesFrom, IDENTITY, INITIAL, idsOf, metaAt } from '../support/log-batches.js';
import { MemoryDisk } from '../support/memory-disk.js';

const WAL = '/data/wal';
const FIRST = `${WAL}/0000000000000001-0000000000000001.wal`;

function open(
  disk: MemoryDisk,
  segmentBytes = 8192,
): { wal: WriteAheadLog; recovered: RecoveredLog } {
  const opened = openWal({
    disk,
    directory: '/data',
    identity: IDENTITY,
    initial: INITIAL,
    segmentBytes,
  });
  disk.run();
  return opened;
}

function append(disk: MemoryDisk, wal: WriteAheadLog, fields: Partial<LogBatch>): Error | null {
  let result: Error | null | undefined;
  wal.append(batchOf(fields), (error) => {
    result = error;
  });
  disk.run();
  expect(result).not.toBeUndefined();
  return result as Error | null;
}

function segments(disk: MemoryDisk): string[] {
  return disk.list(WAL).filter((name) => name.endsWith('.wal'));
}

/** End of what is not zero. */
function usedBytes(disk: MemoryDisk, path: string): number {
  const bytes = disk.readFile(path);
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end -= 1;
  return end;
}

/** What a restart makes of the disk: the entries, or the text of its refusal. */
function outcome(disk: MemoryDisk): { ids: string; notes: string } | { refused: string } {
  try {
    const { recovered } = open(disk);
    return { ids: idsOf(recovered), notes: recovered.notes.join('; ') };
  } catch (error) {
    if (!(error instanceof FatalError)) throw error;
    return { refused: error.message };
  }
}

describe('the tail of the log', () => {
  let disk: MemoryDisk;
  let wal: WriteAheadLog;
  /** Where each batch of the test begins, and where the last one ends. */
  let starts: number[];

  const write = (fields: Partial<LogBatch>): void => {
    starts.push(usedBytes(disk, FIRST));
    expect(append(disk, wal, fields)).toBeNull();
  };

  beforeEach(() => {
    disk = new MemoryDisk();
    ({ wal } = open(disk));
    starts = [];
    write({ entries: entriesFrom(1, 1, 3, 61), hardState: { term: 1, vote: 2, commit: 0 } });
    write({ entries: entriesFrom(4, 1, 3, 333), hardState: { term: 1, vote: 2, commit: 3 } });
    starts.push(usedBytes(disk, FIRST));
    disk.kill();
  });

  it('is cut when a killed process tore the last batch at any byte', () => {
    const [, start, end] = starts as [number, number, number];
    for (let cut = start; cut < end; cut += 1) {
      const torn = disk.clone(1);
      torn.damage(FIRST, (bytes) => void bytes.fill(0, cut));

      const result = outcome(torn);

      const expected = cut === start ? 'the last run' : 'cut a torn tail';
      expect(result, `cut at ${cut}`).toMatchObject({
        ids: '1:1 2:1 3:1',
        notes: expect.stringContaining(expected),
      });
    }
  });

  it('is cut when the file ends inside the last batch', () => {
    const [, start, end] = starts as [number, number, number];
    for (let cut = start + 1; cut < end; cut += 1) {
      const torn = disk.clone(1);
      torn.damage(FIRST, (bytes) => bytes.slice(0, cut));

      expect(outcome(torn), `cut at ${cut}`).toMatchObject({ ids: '1:1 2:1 3:1' });
    }
  });

  it('is cut when a power failure lost any subset of the sectors of the last batch', () => {
    const [, start, end] = starts as [number, number, number];
    const first = Math.floor(start / 512);
    const count = Math.floor((end - 1) / 512) - first + 1;
    expect(count).toBeGreaterThan(2);
    for (let lost = 1; lost < 2 ** count; lost += 1) {
      const torn = disk.clone(1);
      torn.damage(FIRST, (bytes) => {
        for (let sector = 0; sector < count; sector += 1) {
          if ((lost & (1 << sector)) === 0) continue;
          const at = (first + sector) * 512;
          bytes.fill(0, Math.max(start, at), at + 512);
        }
      });

      expect(outcome(torn), `lost ${lost.toString(2)}`).toMatchObject({ ids: '1:1 2:1 3:1' });
    }
  });

  it('is refused when any bit of the last batch is flipped, since it may be acknowledged', () => {
    const [, start, end] = starts as [number, number, number];
    for (let at = start; at < end; at += 1) {
      const flipped = disk.clone(1);
      flipped.damage(FIRST, (bytes) => {
        bytes[at] = (bytes[at] as number) ^ (1 << (at % 8));
      });

      expect(outcome(flipped), `flip at ${at}`).toMatchObject({
        refused: expect.stringContaining(`${FIRST} is corrupt at offset`),
      });
    }
  });

  it('is refused when any bit of an earlier batch is flipped', () => {
    const [, end] = starts as [number, number];
    for (let at = 0; at < end; at += 1) {
      const flipped = disk.clone(1);
      flipped.damage(FIRST, (bytes) => {
        bytes[at] = (bytes[at] as number) ^ (1 << (at % 8));
      });

      expect(outcome(flipped), `flip at ${at}`).toMatchObject({
        refused: expect.stringContaining(FIRST),
      });
    }
  });

  it('is refused when a sector of a batch that a later one proves durable is zero', () => {
    const [first, second] = starts as [number, number];
    const zeroed = disk.clone(1);
    zeroed.damage(FIRST, (bytes) => void bytes.fill(0, first, second));

    expect(outcome(zeroed)).toMatchObject({
      refused: expect.stringContaining('proves that it was durable'),
    });
  });

  it('is refused when the acknowledged last batch is damaged behind which another one is torn', () => {
    const ahead = open(disk);
    const path = `${WAL}/${segments(disk).at(-1)}`;
    const at = usedBytes(disk, path);
    append(disk, ahead.wal, { entries: entriesFrom(7, 1, 2, 100) });
    const next = usedBytes(disk, path);
    append(disk, ahead.wal, { entries: entriesFrom(9, 1, 2, 900) });
    disk.kill();
    disk.damage(path, (bytes) => {
      bytes.fill(0, at + 60, at + 70);
      bytes.fill(0, next + 600);
    });

    expect(outcome(disk)).toMatchObject({ refused: expect.stringContaining('durable') });
  });

  it('is cut when a batch that nobody was promised is damaged at the end', () => {
    const { wal: second } = open(disk);
    const path = `${WAL}/${segments(disk).at(-1)}`;
    const at = usedBytes(disk, path);
    append(disk, second, { hardState: { term: 1, vote: 2, commit: 6 }, sync: false });
    const end = usedBytes(disk, path);
    disk.kill();
    for (let byte = at + 48; byte < end; byte += 1) {
      const flipped = disk.clone(1);
      flipped.damage(path, (bytes) => {
        bytes[byte] = (bytes[byte] as number) ^ 64;
      });

      const { recovered } = open(flipped);

      expect(recovered.hardState.commit, `flip at ${byte}`).toBe(3);
      expect(recovered.entries.length).toBe(6);
    }
  });

  it('does not bring back what was cut off once', () => {
    const [, start, end] = starts as [number, number, number];
    disk.damage(FIRST, (bytes) => void bytes.fill(0, end - 40));
    expect(end - 40).toBeGreaterThan(start);
    const second = open(disk);
    append(disk, second.wal, { entries: entriesFrom(4, 2, 1, 16) });
    disk.kill();

    const third = open(disk);

    expect(idsOf(third.recovered)).toBe('1:1 2:1 3:1 4:2');
    expect(third.recovered.boot).toBe(3);
  });

  it('is not taken for a batch when a payload holds a copy of one', () => {
    const [first, second] = starts as [number, number];
    const copy = disk.readFile(FIRST).slice(first, second);
    const { wal: next } = open(disk);
    const path = `${WAL}/${segments(disk).at(-1)}`;
    const entries = frameEntries({ index: 7, term: 1 }, EntryType.Normal, [copy]);
    append(disk, next, { entries });
    disk.kill();

    expect(outcome(disk)).toMatchObject({ ids: '1:1 2:1 3:1 4:1 5:1 6:1 7:1' });
    disk.kill();
    disk.damage(path, (bytes) => void bytes.fill(0, usedBytes(disk, path) - 6));
    disk.remove(`${WAL}/${segments(disk).at(-1)}`);
    expect(outcome(disk)).toMatchObject({ ids: '1:1 2:1 3:1 4:1 5:1 6:1' });
  });
});

describe('a tail that is both torn and damaged', () => {
  let disk: MemoryDisk;
  let start: number;
  let end: number;

  beforeEach(() => {
    disk = new MemoryDisk();
    const { wal } = open(disk);
    append(disk, wal, { entries: entriesFrom(1, 1, 2, 100) });
    start = usedBytes(disk, FIRST);
    append(disk, wal, { entries: entriesFrom(3, 1, 3, 1400) });
    end = usedBytes(disk, FIRST);
    disk.kill();
    const hole = Math.ceil((start + 2000) / 512) * 512;
    disk.damage(FIRST, (bytes) => void bytes.fill(0, hole, hole + 512));
  });

  it('is cut where only the hole is', () => {
    expect(outcome(disk)).toMatchObject({ ids: '1:1 2:1' });
  });

  it('is refused when a record that no hole touches is damaged', () => {
    for (const at of [start + 48 + 30, start + 48 + 900]) {
      const flipped = disk.clone(1);
      flipped.damage(FIRST, (bytes) => {
        bytes[at] = (bytes[at] as number) ^ 1;
      });

      expect(outcome(flipped)).toHaveProperty('refused');
    }
  });

  it('is refused when the end mark is damaged', () => {
    disk.damage(FIRST, (bytes) => {
      bytes[end - 1] = (bytes[end - 1] as number) ^ 1;
    });

    expect(outcome(disk)).toHaveProperty('refused');
  });
});

describe('batches without a sync', () => {
  let disk: MemoryDisk;

  beforeEach(() => {
    disk = new MemoryDisk();
  });

  it('may be lost under one that survives', () => {
    for (let seed = 1; seed <= 60; seed += 1) {
      disk = new MemoryDisk({ seed });
      const { wal } = open(disk, 65_536);
      append(disk, wal, { entries: entriesFrom(1, 1, 1) });
      for (let index = 2; index <= 5; index += 1) {
        append(disk, wal, { entries: entriesFrom(index, 1, 1, 1500), sync: false });
      }
      disk.crash('torn');

      const result = outcome(disk) as { ids: string };

      expect('1:1 2:1 3:1 4:1 5:1'.startsWith(result.ids), `seed ${seed}`).toBe(true);
    }
  });

  it('are refused when damaged in front of one that may be acknowledged', () => {
    const { wal } = open(disk);
    append(disk, wal, { entries: entriesFrom(1, 1, 1) });
    const at = usedBytes(disk, FIRST);
    append(disk, wal, { hardState: { term: 1, vote: 0, commit: 1 }, sync: false });
    append(disk, wal, { entries: entriesFrom(2, 1, 1) });
    disk.kill();
    disk.damage(FIRST, (bytes) => {
      bytes[at + 50] = 3;
    });

    expect(outcome(disk)).toHaveProperty('refused');
  });
});

describe('a batch in the wrong place', () => {
  it('is refused when it is an older one of the same segment', () => {
    const disk = new MemoryDisk();
    const { wal } = open(disk);
    const starts: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      starts.push(usedBytes(disk, FIRST));
      append(disk, wal, { hardState: { term: 5, vote: 1, commit: 0 } });
    }
    disk.kill();
    const [, second, third] = starts as [number, number, number];
    disk.damage(FIRST, (bytes) => void bytes.copyWithin(third, second, third));

    expect(outcome(disk)).toMatchObject({
      refused: expect.stringContaining('batch 3 does not follow batch 3'),
    });
  });
});

describe('a torn batch at any distance from a sector border', () => {
  it('is cut whichever sectors are lost', () => {
    for (let size = 1; size <= 520; size += 8) {
      const disk = new MemoryDisk();
      const { wal } = open(disk);
      append(disk, wal, { entries: entriesFrom(1, 1, 1, size) });
      const start = usedBytes(disk, FIRST);
      append(disk, wal, { entries: entriesFrom(2, 1, 1, 900) });
      const end = usedBytes(disk, FIRST);
      disk.kill();
      const first = Math.floor(start / 512);
      const count = Math.floor((end - 1) / 512) - first + 1;
      for (let lost = 1; lost < 2 ** count; lost += 1) {
        const torn = disk.clone(1);
        torn.damage(FIRST, (bytes) => {
          for (let sector = 0; sector < count; sector += 1) {
            const at = (first + sector) * 512;
            if ((lost & (1 << sector)) !== 0) bytes.fill(0, Math.max(start, at), at + 512);
          }
        });

        expect(outcome(torn), `size ${size}, lost ${lost}`).toMatchObject({ ids: '1:1' });
      }
    }
  });
});

describe('the files of the log', () => {
  let disk: MemoryDisk;

  beforeEach(() => {
    disk = new MemoryDisk();
    const { wal } = open(disk, 4096);
    for (let index = 1; index <= 100; index += 5) {
      append(disk, wal, { entries: entriesFrom(index, 1, 5, 150) });
    }
    append(disk, wal, { checkpoint: metaAt(20, 1, 1) });
    expect(segments(disk).length).toBeGreaterThan(4);
    disk.kill();
  });

  it('are refused when one in the middle is missing', () => {
    for (const name of segments(disk).slice(1, -1)) {
      const copy = disk.clone(1);
      copy.remove(`${WAL}/${name}`);

      expect(outcome(copy)).toMatchObject({
        refused: expect.stringMatching(/log segment \d+ is missing between/),
      });
    }
  });

  it('are refused when the first one is missing and no checkpoint covers it', () => {
    for (const name of segments(disk).slice(0, 3)) disk.remove(`${WAL}/${name}`);

    expect(outcome(disk)).toMatchObject({
      refused: expect.stringContaining('an older segment is missing'),
    });
  });

  it('are refused when one is there twice', () => {
    const [, second] = segments(disk) as [string, string];
    const twin = `${second.slice(0, 17)}${'f'.padStart(16, '0')}.wal`;
    disk.put(`${WAL}/${twin}`, disk.readFile(`${WAL}/${second}`));

    expect(outcome(disk)).toMatchObject({ refused: expect.stringContaining('are both segment 2') });
  });

  it('are refused when one stands in the place of another', () => {
    const [, second, third] = segments(disk) as [string, string, string];
    disk.put(`${WAL}/${third}`, disk.readFile(`${WAL}/${second}`));

    expect(outcome(disk)).toMatchObject({ refused: expect.stringContaining('another name') });
  });

  it('are refused when a sealed one ends early', () => {
    const [, second] = segments(disk) as [string, string];
    const path = `${WAL}/${second}`;
    disk.damage(path, (bytes) => void bytes.fill(0, usedBytes(disk, path) - 30));

    expect(outcome(disk)).toMatchObject({ refused: expect.stringContaining(path) });
  });

  it('are refused when a file is cut inside its header', () => {
    const path = `${WAL}/${segments(disk).at(-1)}`;
    disk.damage(path, (bytes) => bytes.slice(0, 50));

    expect(outcome(disk)).toMatchObject({ refused: expect.stringContaining('cut short') });
  });

  it('are refused when they belong to a log of the same member with another past', () => {
    const other = new MemoryDisk();
    const { wal } = open(other, 4096);
    for (let index = 1; index <= 100; index += 5) {
      append(other, wal, { entries: entriesFrom(index, 2, 5, 150) });
    }
    const [, second, third] = segments(disk) as [string, string, string];
    expect(segments(other)[2]).toBe(third);
    disk.put(`${WAL}/${third}`, other.readFile(`${WAL}/${third}`));

    expect(outcome(disk)).toMatchObject({ refused: expect.stringContaining(second) });
  });

  it('may have strangers beside them, which are named and left alone', () => {
    disk.put(`${WAL}/README`, new Uint8Array(3));
    disk.put(`${WAL}/old.wal.bak`, new Uint8Array(3));
    disk.put(`${WAL}/half.tmp`, new Uint8Array(3));

    const { notes } = outcome(disk) as { notes: string };

    expect(notes).toContain(`ignored ${WAL}/README`);
    expect(notes).toContain(`ignored ${WAL}/old.wal.bak`);
    expect(notes).toContain(`removed ${WAL}/half.tmp`);
    expect(disk.kind(`${WAL}/README`)).toBe('file');
    expect(disk.kind(`${WAL}/half.tmp`)).toBeNull();
  });

  it('go when a snapshot came, however far the log behind it had reached', () => {
    const { wal } = open(disk, 4096);
    const count = segments(disk).length;
    append(disk, wal, { snapshot: metaAt(50, 2, 5), hardState: { term: 2, vote: 0, commit: 50 } });

    wal.compactTo(50);
    disk.run();

    expect(count).toBeGreaterThan(4);
    expect(segments(disk).length).toBe(1);
    append(disk, wal, { entries: entriesFrom(51, 2, 1) });
    disk.kill();
    expect(outcome(disk)).toMatchObject({ ids: '51:2' });
  });

  it('may go although the log was cut into them', () => {
    for (let cut = 22; cut < 100; cut += 3) {
      const copy = disk.clone(1);
      const { wal } = open(copy, 4096);
      for (let index = cut; index < cut + 60; index += 5) {
        const truncateFrom = index === cut ? cut : 0;
        append(copy, wal, { truncateFrom, entries: entriesFrom(index, 2, 5, 150) });
      }
      const base = cut + 55;
      append(copy, wal, { checkpoint: metaAt(base, 2, 2) });
      wal.compactTo(Math.max(base, 100));
      copy.run();
      copy.kill();

      const { recovered } = open(copy);

      const first = recovered.entries[0];
      expect(recovered.before.index, `cut at ${cut}`).toBeLessThanOrEqual(base);
      expect(first?.index).toBe(recovered.before.index + 1);
      expect(recovered.entries.at(-1)).toMatchObject({ index: cut + 59, term: 2 });
      expect(recovered.entries.length).toBe(cut + 59 - recovered.before.index);
    }
  });

  it('are refused to another member', () => {
    const attempt = (): unknown =>
      openWal({
        disk,
        directory: '/data',
        identity: { ...IDENTITY, memberId: 8 },
        initial: INITIAL,
      });

    expect(attempt).toThrow(/belongs to member 7, not to member 8; use the data folder/);
    expect(disk.kind('/data')).toBe('directory');
    expect(outcome(disk)).not.toHaveProperty('refused');
  });

  it('are refused to another cluster', () => {
    const identity = { ...IDENTITY, clusterId: 1 };

    expect(() => openWal({ disk, directory: '/data', identity, initial: INITIAL })).toThrow(
      /belongs to cluster c1, not to cluster 1/,
    );
  });

  it('tell whose they are to who does not say', () => {
    const { recovered } = openWal({ disk, directory: '/data', identity: null, initial: null });

    expect(recovered.identity).toEqual(IDENTITY);
  });

  it('must be there when the member has run before', () => {
    for (const name of segments(disk)) disk.remove(`${WAL}/${name}`);

    expect(() => openWal({ disk, directory: '/data', identity: IDENTITY, initial: null })).toThrow(
      /holds no log although this member has run before/,
    );
  });

  it('are not made new in a folder that has other data', () => {
    for (const name of segments(disk)) disk.remove(`${WAL}/${name}`);
    disk.put('/data/state', new Uint8Array(1));

    expect(outcome(disk)).toMatchObject({
      refused: expect.stringContaining('holds data (state) but no log'),
    });
  });

  it('are refused to a second log on the same folder', () => {
    open(disk);

    expect(outcome(disk)).toMatchObject({ refused: '/data is in use by process 1' });
  });
});

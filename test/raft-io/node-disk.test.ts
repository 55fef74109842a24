/**
 * The real disk behind the Disk interface: positions, short writes, names in errors, modes of
 * files.
 */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DiskError } from '../../src/raft/io/disk.js';
import { NodeDisk } from '../../src/raft/io/node-disk.js';

describe('the real disk', () => {
  const disk = new NodeDisk();
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'kvd-disk-'));
  });

  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  it('keeps folders and files to the owner', () => {
    disk.makeDirectory(`${directory}/a/b`);
    disk.create(`${directory}/a/file`).close();

    expect(statSync(`${directory}/a/b`).mode & 0o777).toBe(0o700);
    expect(statSync(`${directory}/a/file`).mode & 0o777).toBe(0o600);
  });

  it('writes several views behind each other at a position', () => {
    const file = disk.create(`${directory}/file`);
    const views = Array.from({ length: 3000 }, (_, at) => new Uint8Array(7).fill(at % 251));

    file.write(views, 10);

    file.close();
    const bytes = disk.readFile(`${directory}/file`);
    expect(bytes.length).toBe(10 + 3000 * 7);
    expect(bytes.subarray(0, 10).every((byte) => byte === 0)).toBe(true);
    expect(bytes.subarray(10).every((byte, at) => byte === Math.floor(at / 7) % 251)).toBe(true);
  });

  it.each([
    ['to the end of a block', 100, 50_000, 4096],
    ['as far as there are any', 100, 20, 120],
    ['not at all behind a whole block', 4096, 50_000, 4096],
    ['not at all if there are none', 100, 0, 100],
  ])('writes the zeros behind what it was given %s', (_where, bytes, zerosBehind, end) => {
    const file = disk.create(`${directory}/file`);
    file.write([new Uint8Array(10_000).fill(7)], 0);

    file.write([new Uint8Array(60).fill(1), new Uint8Array(bytes - 60).fill(1)], 0, zerosBehind);

    file.close();
    const written = disk.readFile(`${directory}/file`);
    expect(written.length).toBe(10_000);
    expect(written.subarray(0, bytes).every((byte) => byte === 1)).toBe(true);
    expect(written.subarray(bytes, end).every((byte) => byte === 0)).toBe(true);
    expect(written.subarray(end).every((byte) => byte === 7)).toBe(true);
  });

  it('fills with zeros without touching what is around', async () => {
    const file = disk.create(`${directory}/file`);
    file.write([new Uint8Array(3_000_000).fill(1)], 0);

    await new Promise<void>((resolve, reject) => {
      file.fillZeros(5, 2_999_995, (error) => (error === null ? resolve() : reject(error)));
    });

    file.close();
    const bytes = disk.readFile(`${directory}/file`);
    expect(bytes.reduce((sum, byte) => sum + byte, 0)).toBe(10);
    expect(bytes.length).toBe(3_000_000);
  });

  it('lets the event loop turn while it fills with zeros', async () => {
    const file = disk.create(`${directory}/file`);
    let turns = 0;
    let isFilled = false;
    const count = (): void => {
      turns += 1;
      if (!isFilled) setImmediate(count);
    };
    setImmediate(count);

    await new Promise<void>((resolve, reject) => {
      file.fillZeros(0, 4 * 2 ** 20, (error) => (error === null ? resolve() : reject(error)));
    });

    isFilled = true;
    file.close();
    expect(turns).toBeGreaterThanOrEqual(15);
  });

  it('reports what stops it from filling with zeros', async () => {
    const file = disk.create(`${directory}/file`);
    file.close();

    const error = await new Promise((resolve) => file.fillZeros(0, 100, resolve));

    expect(String(error)).toContain(`write ${directory}/file: `);
  });

  it('names file and cause when something fails', () => {
    const attempt = (): unknown => disk.open(`${directory}/missing`);

    expect(attempt).toThrow(DiskError);
    expect(attempt).toThrow(`open ${directory}/missing: ENOENT`);
  });

  it('removes a file without blocking, and says what stops it', async () => {
    disk.create(`${directory}/file`).close();
    const removed = (path: string): Promise<Error | null> => {
      let isInside = true;
      const outcome = new Promise<Error | null>((resolve, reject) => {
        disk.removeDurably(path, (error) => {
          if (isInside) reject(new Error('it blocked'));
          else resolve(error);
        });
      });
      isInside = false;
      return outcome;
    };

    expect(await removed(`${directory}/file`)).toBeNull();
    expect(disk.list(directory)).toEqual([]);
    expect(await removed(`${directory}/file`)).toBeInstanceOf(DiskError);
    expect(String(await removed(`${directory}/file`))).toContain(
      `remove ${directory}/file: ENOENT`,
    );
  });

  it('does not create over an existing file', () => {
    disk.create(`${directory}/file`).close();

    expect(() => disk.create(`${directory}/file`)).toThrow(/EEXIST/);
  });

  it('knows a file by its present name after renaming it', () => {
    const file = disk.create(`${directory}/old`);
    file.rename(`${directory}/new`);

    expect(file.path).toBe(`${directory}/new`);
    expect(disk.list(directory)).toEqual(['new']);
    file.close();
  });

  it('tells how much room there is', () => {
    expect(disk.freeBytes(directory)).toBeGreaterThan(2 ** 20);
  });
});

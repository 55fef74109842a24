/** The lock of a data folder, between real processes. */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NodeDisk } from '../../src/raft/io/node-disk.js';

/** A process that makes a claim the way lockFolder does: by a name made of what /proc says. */
const CLAIMANT = `
const fs = require('node:fs');
const stat = fs.readFileSync('/proc/self/stat', 'utf8');
const start = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
const boot = fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
fs.writeFileSync(process.argv[1] + '/lock.' + process.pid + '.' + start + '.' + boot + '.00aa', '');
process.stdout.write('locked');
setInterval(() => {}, 1000);
`;

describe('the lock of a data folder', () => {
  const disk = new NodeDisk();
  let directory: string;
  let child: ChildProcess | null = null;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'kvd-lock-'));
  });

  afterEach(() => {
    child?.kill('SIGKILL');
    child = null;
    rmSync(directory, { recursive: true, force: true });
  });

  const startClaimant = async (): Promise<ChildProcess> => {
    const started = spawn(process.execPath, ['-e', CLAIMANT, directory], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    child = started;
    await once(started.stdout as NodeJS.ReadableStream, 'data');
    return started;
  };

  it('is refused while another process holds it', async () => {
    const { pid } = await startClaimant();

    expect(() => disk.lockFolder(directory)).toThrow(`${directory} is in use by process ${pid}`);
    expect(readdirSync(directory).length).toBe(1);
  });

  it('is free at once when its holder was killed', async () => {
    const holder = await startClaimant();
    holder.kill('SIGKILL');
    await once(holder, 'exit');

    const lock = disk.lockFolder(directory);

    expect(readdirSync(directory).length).toBe(1);
    lock.release();
    expect(readdirSync(directory)).toEqual([]);
  });

  it('is free when its process id now belongs to another process', () => {
    const own = disk.lockFolder(directory);
    const [name] = readdirSync(directory) as [string];
    own.release();
    const parts = name.split('.');
    parts[2] = '1';
    writeFileSync(join(directory, parts.join('.')), '');

    disk.lockFolder(directory).release();

    expect(readdirSync(directory)).toEqual([]);
  });

  it('is free when the machine was started again since', () => {
    const own = disk.lockFolder(directory);
    const [name] = readdirSync(directory) as [string];
    own.release();
    const parts = name.split('.');
    parts[3] = '00000000-0000-0000';
    writeFileSync(join(directory, parts.join('.')), '');

    disk.lockFolder(directory).release();

    expect(readdirSync(directory)).toEqual([]);
  });

  it('is refused to the same process a second time', () => {
    const lock = disk.lockFolder(directory);

    expect(() => disk.lockFolder(directory)).toThrow(`in use by process ${process.pid}`);
    lock.release();
    disk.lockFolder(directory).release();
  });

  it('is refused on a folder that every user may write', () => {
    chmodSync(directory, 0o777);

    expect(() => disk.lockFolder(directory)).toThrow(/run: chmod 700/);
  });

  it('is refused on a symbolic link', () => {
    mkdirSync(join(directory, 'real'));
    symlinkSync(join(directory, 'real'), join(directory, 'link'));

    expect(() => disk.lockFolder(join(directory, 'link'))).toThrow(/symbolic link/);
  });
});

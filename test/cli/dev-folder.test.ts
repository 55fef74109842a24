/**
 * The folder of `kvd dev`: what --fresh wipes and what it never touches, and data of other ports.
 */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openDevFolder } from '../../cli/dev-folder.js';
import { KvError } from '../../src/errors.js';
import { lockFolder } from '../../src/raft/io/folder-lock.js';
import { tempFolder } from '../support/temp-folder.js';

const PORTS = [2379, 22379, 32379];

function usedFolder(): string {
  const folder = tempFolder('dev-folder');
  openDevFolder(folder, PORTS, false);
  for (const name of ['m1', 'm2', 'm3']) {
    mkdirSync(join(folder, name));
    writeFileSync(join(folder, name, 'data'), 'kept');
    writeFileSync(join(folder, `${name}.log`), 'a line');
  }
  return folder;
}

describe('the folder of kvd dev', () => {
  it('is made when it is missing, and kept when it is there', () => {
    const folder = join(tempFolder('dev-folder'), 'deep', 'er');
    openDevFolder(folder, PORTS, false);
    writeFileSync(join(folder, 'm1.log'), 'a line');

    openDevFolder(folder, PORTS, false);

    expect(readdirSync(folder).sort()).toEqual(['m1.log', 'ports']);
  });

  it('is wiped by fresh of all that members made, and of nothing else', () => {
    const folder = usedFolder();
    writeFileSync(join(folder, 'thesis.txt'), 'mine');
    mkdirSync(join(folder, 'm10'));

    openDevFolder(folder, PORTS, true);

    expect(readdirSync(folder).sort()).toEqual(['m10', 'ports', 'thesis.txt']);
  });

  it('is not wiped at all while any member is in use', () => {
    const folder = usedFolder();
    const lock = lockFolder(join(folder, 'm2'));

    expect(() => openDevFolder(folder, PORTS, true)).toThrow(/m2 is in use by process/);

    expect(existsSync(join(folder, 'm1', 'data'))).toBe(true);
    expect(existsSync(join(folder, 'm3', 'data'))).toBe(true);
    lock.release();
    openDevFolder(folder, PORTS, true);
    expect(readdirSync(folder)).toEqual(['ports']);
  });

  it('that was made for other ports is refused with a way out, until it is fresh', () => {
    const folder = usedFolder();

    expect(() => openDevFolder(folder, [42379], false)).toThrow(KvError);
    expect(() => openDevFolder(folder, [42379], false)).toThrow(
      /--client-ports 2379,22379,32379.*--fresh/,
    );

    openDevFolder(folder, [42379], true);
    openDevFolder(folder, [42379], false);
  });
});

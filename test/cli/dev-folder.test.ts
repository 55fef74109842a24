/**
 * The folder of `kvd dev`: what --fresh wipes and what it never touches, and data that was made for
 * other ports, with TLS or without.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type DevFolderWish, takeDevFolder } from '../../cli/dev-folder.js';
import { CERTIFICATES_FOLDER } from '../../cli/dev-tls.js';
import { KvError } from '../../src/errors.js';
import { removeTempFolders, tempFolder } from '../support/temp-folder.js';

afterAll(removeTempFolders);

const PORTS = [2379, 22379, 32379];

function take(folder: string, wish: Partial<DevFolderWish> = {}): () => void {
  return takeDevFolder({ folder, ports: PORTS, tls: false, fresh: false, ...wish });
}

function usedFolder(): string {
  const folder = tempFolder('dev-folder');
  take(folder)();
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
    take(folder)();
    writeFileSync(join(folder, 'm1.log'), 'a line');

    take(folder)();

    expect(readdirSync(folder).sort()).toEqual(['m1.log', 'ports']);
  });

  it('is wiped by fresh of all that members made, and of nothing else', () => {
    const folder = usedFolder();
    writeFileSync(join(folder, 'thesis.txt'), 'mine');
    mkdirSync(join(folder, 'm10'));
    mkdirSync(join(folder, 'certs'));
    mkdirSync(join(folder, CERTIFICATES_FOLDER));

    take(folder, { fresh: true })();

    expect(readdirSync(folder).sort()).toEqual(['certs', 'm10', 'ports', 'thesis.txt']);
  });

  it('is not touched while another cluster has it, with or without fresh', async () => {
    const folder = usedFolder();
    const other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)', '--', 'dev']);
    await once(other, 'spawn');
    writeFileSync(join(folder, 'owner'), `${other.pid}\n`);
    const before = readdirSync(folder, { recursive: true });

    for (const fresh of [true, false]) {
      expect(() => take(folder, { fresh })).toThrow(`in use by process ${other.pid}`);
    }

    expect(readdirSync(folder, { recursive: true })).toEqual(before);
    other.kill('SIGKILL');
    await once(other, 'exit');
    take(folder, { fresh: true })();
    expect(readdirSync(folder)).toEqual(['ports']);
  });

  it('is free again when the process id of a dead cluster went to another program', async () => {
    const folder = usedFolder();
    const other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
    await once(other, 'spawn');
    writeFileSync(join(folder, 'owner'), `${other.pid}\n`);

    const giveBack = take(folder);

    expect(readFileSync(join(folder, 'owner'), 'utf8')).toBe(`${process.pid}\n`);
    other.kill('SIGKILL');
    giveBack();
    expect(existsSync(join(folder, 'owner'))).toBe(false);
  });

  it('that was made for other ports is refused with a way out, until it is fresh', () => {
    const folder = usedFolder();

    expect(() => take(folder, { ports: [42379] })).toThrow(KvError);
    expect(() => take(folder, { ports: [42379] })).toThrow(
      /--client-ports 2379,22379,32379.*--fresh/,
    );

    take(folder, { ports: [42379], fresh: true })();
    take(folder, { ports: [42379] })();
  });

  it('that was made with TLS is refused without it, and the other way, until it is fresh', () => {
    const folder = usedFolder();
    expect(() => take(folder, { tls: true })).toThrow(
      /^the data in .* without TLS on .*: go on without --tls, .* wipe it with --fresh$/,
    );

    take(folder, { tls: true, fresh: true })();
    take(folder, { tls: true })();

    expect(() => take(folder)).toThrow(
      /^the data in .* with TLS on .*: go on with --tls, .* wipe it with --fresh$/,
    );
    expect(() => take(folder, { ports: [42379] })).toThrow(
      'go on with --tls and with --client-ports 2379,22379,32379, choose',
    );
  });
});

/**
 * The file of the audit log on a real disk: whose it is, how large it and its predecessors get, and what
 * becomes of lines that the disk does not take in time.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { AuditLog, type AuditLogOptions } from '../../src/audit-log.js';
import { FatalError } from '../../src/errors.js';
import { Metrics } from '../../src/metrics.js';
import { keptLog } from '../support/kept-log.js';
import { tempFolder } from '../support/temp-folder.js';
import { transpiledProgram } from '../support/transpiled-program.js';
import { waitFor } from '../support/wait.js';

const opened: AuditLog[] = [];

afterEach(async () => {
  for (const log of opened.splice(0)) await log.close();
});

async function openLog(path: string, change: Partial<AuditLogOptions> = {}) {
  const { logger, lines } = keptLog();
  const metrics = new Metrics();
  const log = await AuditLog.open({
    ...{ path, maxBytes: 1e6, keep: 3, member: 'm1', logger, metrics },
    wallClock: () => 0,
    ...change,
  });
  opened.push(log);
  const figure = async (name: string): Promise<number> =>
    Number(new RegExp(`^${name} (\\d+)`, 'm').exec(await metrics.text())?.[1]);
  return { log, lines, figure };
}

function newPath(): string {
  return join(tempFolder('audit'), 'audit.log');
}

function linesIn(path: string): Record<string, unknown>[] {
  if (!existsSync(path)) return [];
  const texts = readFileSync(path, 'utf8').split('\n');
  expect(texts.pop()).toBe('');
  return texts.map((text) => JSON.parse(text) as Record<string, unknown>);
}

const line = (at: number): string => JSON.stringify({ at, text: 'x'.repeat(80) });

describe('the file of the audit log', () => {
  it('has every line, and is for its owner alone', async () => {
    const path = newPath();
    const { log, figure } = await openLog(path);
    for (let at = 0; at < 100; at += 1) log.write(line(at));
    await log.close();

    expect(linesIn(path).map(({ at }) => at)).toEqual(Array.from({ length: 100 }, (_, at) => at));
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(await figure('kvd_audit_lines_total')).toBe(100);
    expect(await figure('kvd_audit_dropped_total')).toBe(0);
  });

  it('goes on in a file that is there, and takes it from others who could read it', async () => {
    const path = newPath();
    const first = await openLog(path);
    first.log.write(line(1));
    await first.log.close();
    chmodSync(path, 0o644);

    const second = await openLog(path);
    second.log.write(line(2));
    await second.log.close();

    expect(linesIn(path).map(({ at }) => at)).toEqual([1, 2]);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('refuses a start without the file that was asked for', async () => {
    const path = newPath();

    await expect(openLog(join(path, 'below'))).rejects.toThrow(FatalError);
    await expect(openLog(dirname(path))).rejects.toThrow(/cannot write the audit log .*EISDIR/);
    await expect(openLog('/dev/null')).rejects.toThrow('the audit log /dev/null is no file');
  });

  it('makes room by its size, and keeps so many older ones', async () => {
    const path = newPath();
    const { log, figure } = await openLog(path, { maxBytes: 10_000, keep: 2 });
    for (let at = 0; at < 1000; at += 1) {
      log.write(line(at));
      // About as fast as the disk: each batch is written before the next.
      if (at % 10 === 9) {
        await waitFor('the batch to be written', 5000, () => {
          return (linesIn(path).at(-1) ?? linesIn(`${path}.1`).at(-1))?.['at'] === at;
        });
      }
    }
    await log.close();

    const names = readdirSync(dirname(path)).sort();
    expect(names).toEqual(['audit.log', 'audit.log.1', 'audit.log.2']);
    for (const name of names) {
      const { size, mode } = statSync(join(dirname(path), name));
      expect(size).toBeLessThan(12_000);
      expect(mode & 0o777).toBe(0o600);
    }
    // The newest lines, without a gap between the files.
    const kept = [`${path}.2`, `${path}.1`, path].flatMap(linesIn).map(({ at }) => at as number);
    expect(kept).toEqual(Array.from({ length: kept.length }, (_, at) => 1000 - kept.length + at));
    expect(kept.length).toBeGreaterThan(150);
    expect(await figure('kvd_audit_dropped_total')).toBe(0);
  });

  it('drops lines that wait for a slow disk, and says how many', async () => {
    const path = newPath();
    const { log, figure } = await openLog(path, { queueBytes: 1000 });

    // All in one turn: no disk is as fast.
    for (let at = 0; at < 100; at += 1) log.write(line(at));
    await waitFor('the line about it', 5000, () => linesIn(path).some(({ dropped }) => dropped));
    log.write(line(100));
    await log.close();

    const lines = linesIn(path);
    const dropped = await figure('kvd_audit_dropped_total');
    expect(dropped).toBeGreaterThan(80);
    expect(lines.filter((each) => 'dropped' in each)).toEqual([
      { time: '1970-01-01T00:00:00.000Z', member: 'm1', dropped },
    ]);
    expect(lines.at(-1)).toMatchObject({ at: 100 });
    expect(lines.length - 1 + dropped).toBe(101);
  });

  it('takes no more than twice its size when the next file cannot be begun', async () => {
    const path = newPath();
    // What it would be renamed to is a folder.
    mkdirSync(`${path}.1`);
    mkdirSync(join(`${path}.1`, 'full'));
    const { log, lines, figure } = await openLog(path, { maxBytes: 1000, keep: 1 });

    let expected = 0;
    for (let at = 0; at < 100; at += 1) {
      log.write(line(at));
      if ((await figure('kvd_audit_dropped_total')) > 0) continue;
      expected += line(at).length + 1;
      await waitFor('it to be written', 5000, () => statSync(path).size === expected);
    }

    expect(statSync(path).size).toBeLessThan(2200);
    expect(await figure('kvd_audit_dropped_total')).toBeGreaterThan(70);
    expect(lines).toEqual([expect.stringContaining('cannot begin its next file: EISDIR')]);
  });

  it.each(['close', 'exit'])(
    'keeps no process from its end when its disk is full: %s',
    (way) => {
      const program = transpiledProgram('test/support/audit-writer.ts');
      const script = 'ulimit -f 16 && exec "$0" "$@"';
      const args = ['-c', script, process.execPath, program, newPath(), way];
      const { status, signal, stdout, stderr } = spawnSync('sh', args, {
        encoding: 'utf8',
        timeout: 15_000,
        killSignal: 'SIGKILL',
      });

      expect(stdout).toContain('cannot be written: EFBIG');
      expect({ status, signal, stderr }).toEqual({ status: 74, signal: null, stderr: '' });
    },
    20_000,
  );
});

/**
 * `npm run chaos` as a user meets it: a short run with a fixed seed ends without a violation, can be
 * judged again from its folder, and leaves no process and no folder behind; wrong flags and damaged
 * runs are one clear line.
 */
import { execFile } from 'node:child_process';
import { appendFileSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { removeTempFolders, tempFolder } from '../support/temp-folder.js';
import { TLS_BY_DEFAULT } from '../support/test-certificates.js';

afterAll(removeTempFolders);

interface Result {
  readonly code: number | null;
  readonly out: string;
  readonly error: string;
}

/**
 * Runs the command with its temporary files below a folder of this test. Not synchronously: a worker that
 * does not answer for a minute is given up by the test runner.
 */
function chaos(args: readonly string[], temporary = tempFolder('chaos-command')): Promise<Result> {
  const start = join('test', 'chaos', 'start.js');
  const env = { ...process.env, TMPDIR: temporary };
  return new Promise((done) => {
    execFile(process.execPath, [start, ...args], { env, timeout: 200_000 }, (error, out, text) => {
      done({ code: error === null ? 0 : Number(error.code), out, error: text });
    });
  });
}

/** Command lines of all processes. */
function commands(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((id) => {
      try {
        return readFileSync(`/proc/${id}/cmdline`, 'utf8');
      } catch {
        // It has ended meanwhile.
        return '';
      }
    });
}

it('a short run holds every promise, and its folder is judged the same', {
  timeout: 300_000,
}, async () => {
  const temporary = join(tempFolder('chaos-temporary'), 'tmp');
  mkdirSync(temporary);
  const folder = join(tempFolder('chaos-out'), 'run');
  const faults = `kill-leader,pause-follower,reset-links,compaction${TLS_BY_DEFAULT ? ',certificates' : ''}`;
  const tls = TLS_BY_DEFAULT ? ['--tls'] : [];
  const args = ['--minutes', '0.08', '--seed', '3', ...tls, '--faults', faults, '--out', folder];

  const run = await chaos(args, temporary);

  expect(run.code, `${run.out}\n${run.error}`).toBe(0);
  expect(run.out).toContain('no violation');
  expect(readdirSync(temporary)).toEqual([]);
  expect(commands().filter((line) => line.includes(temporary))).toEqual([]);
  expect(readFileSync(join(folder, 'report.md'), 'utf8')).toContain('kill-leader');
  const verdict = readFileSync(join(folder, 'verdict.json'), 'utf8');
  const again = await chaos(['check', folder]);
  expect(again.code, again.error).toBe(0);
  expect(readFileSync(join(folder, 'verdict.json'), 'utf8')).toBe(verdict);

  appendFileSync(join(folder, 'history.jsonl'), '{"torn":');
  const damaged = await chaos(['check', folder]);
  expect(damaged.code).toBe(3);
  expect(damaged.error).toMatch(/^chaos: .*history\.jsonl ends in the middle of a line\n$/);
});

it('wrong flags are one line and exit code 2', async () => {
  const result = await chaos(['--members', '4']);

  expect([result.code, result.error]).toEqual([2, 'chaos: --members must be 3 or 5\n']);
});

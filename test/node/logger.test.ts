/** The log of a process whose standard error is a file on a disk that is full. */
import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { tempFolder } from '../support/temp-folder.js';
import { transpiledProgram } from '../support/transpiled-program.js';

it('keeps no process from its end when it cannot be written', () => {
  const program = transpiledProgram('test/support/log-writer.ts');
  const path = join(tempFolder('log'), 'log');
  const script = 'path=$1; shift; ulimit -f 16 && exec "$@" 2> "$path"';
  const { status, signal } = spawnSync(
    'sh',
    ['-c', script, 'sh', path, process.execPath, program],
    {
      timeout: 15_000,
      killSignal: 'SIGKILL',
    },
  );

  expect(statSync(path).size).toBeGreaterThan(4000);
  expect({ status, signal }).toEqual({ status: 74, signal: null });
}, 20_000);

/**
 * Runs programs of Debian's Python, for the clients that Debian ships for it.
 */
import { spawn } from 'node:child_process';

const PYTHON = '/usr/bin/python3';

export interface PythonRun {
  /** Null when it was killed at its deadline. */
  readonly code: number | null;
  /** Both streams, as they came. */
  readonly output: string;
}

export function python(args: readonly string[], deadlineMs: number): Promise<PythonRun> {
  return new Promise((done, fail) => {
    const child = spawn(PYTHON, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const timer = setTimeout(() => child.kill('SIGKILL'), deadlineMs);
    child.stdout.on('data', (bytes) => (output += String(bytes)));
    child.stderr.on('data', (bytes) => (output += String(bytes)));
    child.on('error', fail);
    child.on('close', (code) => {
      clearTimeout(timer);
      done({ code, output });
    });
  });
}

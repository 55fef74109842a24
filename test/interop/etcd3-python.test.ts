/**
 * Debian's python3-etcd3, whose gRPC is the core in C, against a real cluster.
 *
 * Needs the package python3-etcd3; without it the file fails, because a suite that silently proves nothing
 * is worse than none.
 */
import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { useClusters } from '../support/cluster-fixture.js';

const PYTHON = '/usr/bin/python3';
const clusters = useClusters();

function python(args: readonly string[]): Promise<{ code: number | null; output: string }> {
  return new Promise((done, fail) => {
    const child = spawn(PYTHON, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const timer = setTimeout(() => child.kill('SIGKILL'), 90_000);
    child.stdout.on('data', (bytes) => (output += String(bytes)));
    child.stderr.on('data', (bytes) => (output += String(bytes)));
    child.on('error', fail);
    child.on('close', (code) => {
      clearTimeout(timer);
      done({ code, output });
    });
  });
}

describe('python3-etcd3', () => {
  it.each([0, 1, 2])(
    'does everything it can do, through member %i',
    { timeout: 120_000 },
    async (at) => {
      const cluster = await clusters.start();
      const script = resolve('test', 'interop', 'etcd3_client.py');

      const { code, output } = await python([script, String(cluster.member(at).clientPort)]);

      expect(output).toContain('ok: cluster');
      expect(code, output).toBe(0);
    },
  );
});

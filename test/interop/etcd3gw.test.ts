/**
 * Debian's etcd3gw, a client that was made for etcd and knows nothing of kvd, against a real cluster:
 * a program that uses all of it, and its own shipped tests, unmodified. Those want a server on
 * localhost:2379, so this file needs that port.
 *
 * Needs the packages python3-etcd3gw, python3-oslotest and python3-testtools; without them the file
 * fails, because a suite that silently proves nothing is worse than none.
 */
import { resolve } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { useClusters } from '../support/cluster-fixture.js';
import { CALM } from '../support/cluster-processes.js';
import { python } from '../support/python.js';

const PACKAGES = 'apt-get install python3-etcd3gw python3-oslotest python3-testtools';
const clusters = useClusters();

beforeAll(async () => {
  const probe = await python(['-c', 'import etcd3gw.tests.test_etcd3gw'], 50_000);
  if (probe.code !== 0) throw new Error(`etcd3gw is not installed: ${PACKAGES}\n${probe.output}`);
});

describe('etcd3gw', () => {
  for (const prefix of ['/v3/', '/v3alpha/', '/v3beta/']) {
    it(`does everything it can do, under ${prefix}`, async () => {
      const cluster = await clusters.start({ flags: CALM });
      const port = String(cluster.member(1).clientPort);

      const script = resolve('test', 'interop', 'etcd3gw_client.py');
      const { code, output } = await python([script, port, prefix], 120_000);

      expect(output).toContain('ok: cluster');
      expect(code, output).toBe(0);
    });
  }

  it('passes its own tests', async () => {
    await clusters.start({ firstClientPort: 2379, flags: CALM });

    const args = ['-m', 'testtools.run', 'etcd3gw.tests.test_etcd3gw'];
    const { code, output } = await python(args, 200_000);

    const ran = Number(/Ran (\d+) tests/.exec(output)?.[1] ?? 0);
    expect(output).not.toMatch(/skipped/i);
    expect(ran, output).toBeGreaterThanOrEqual(20);
    expect(code, output).toBe(0);
  });

  it('passes its own tests of the client', async () => {
    const args = ['-m', 'testtools.run', 'etcd3gw.tests.test_client'];

    const { code, output } = await python(args, 100_000);

    expect(code, output).toBe(0);
  });
});

/**
 * Debian's python3-etcd3, whose gRPC is the core in C, against a real cluster.
 *
 * Needs the package python3-etcd3; without it the file fails, because a suite that silently proves nothing
 * is worse than none.
 */
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { useClusters } from '../support/cluster-fixture.js';
import { CALM } from '../support/cluster-processes.js';
import { python } from '../support/python.js';

const clusters = useClusters();

describe('python3-etcd3', () => {
  it.each([0, 1, 2])('does everything it can do, through member %i', async (at) => {
    const cluster = await clusters.start({ flags: CALM });
    const script = resolve('test', 'interop', 'etcd3_client.py');

    const { code, output } = await python([script, String(cluster.member(at).clientPort)], 120_000);

    expect(output).toContain('ok: cluster');
    expect(code, output).toBe(0);
  });
});

/**
 * A backup that Debian's etcdctl saves: kvctl reads it, and a member starts with it.
 *
 * Needs the package etcd-client; without it the file fails, because a suite that silently proves nothing is
 * worse than none.
 */
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { restoreFlags } from '../support/backups.js';
import { runCli } from '../support/cli-run.js';
import { useClusters } from '../support/cluster-fixture.js';
import { Cluster } from '../support/cluster-processes.js';
import { tempFolder } from '../support/temp-folder.js';
import { etcdctl } from './side-by-side.js';

const KEYS = 20;
const clusters = useClusters();

it('etcdctl saves a snapshot that kvctl verifies and restores', async () => {
  const old = await clusters.start({ size: 1, tls: false });
  const endpoint = `127.0.0.1:${old.member(0).clientPort}`;
  for (let at = 0; at < KEYS; at += 1) await old.member(0).api.put(`k${at}`, String(at));
  const file = join(tempFolder('etcdctl-snapshot'), 'backup');

  const saved = await etcdctl(endpoint, { args: ['snapshot', 'save', file] });

  expect(saved.out, saved.err).toContain(`Snapshot saved at ${file}`);
  expect(saved.code).toBe(0);
  const status = await runCli(['snapshot', 'status', file, '-w', 'json']);
  expect(status.code, status.stderr).toBe(0);
  expect(JSON.parse(status.stdout)).toMatchObject({ total_keys: KEYS, confirmed: true });

  const fresh = clusters.adopt(await Cluster.prepare({ size: 1, tls: false }));
  const member = fresh.member(0);
  const restored = await runCli(['snapshot', 'restore', file, ...restoreFlags(member)]);
  expect(restored.code, restored.stderr).toBe(0);
  await member.start();

  const keys = await etcdctl(`127.0.0.1:${member.clientPort}`, { args: ['get', 'k', '--prefix'] });
  expect(keys.out.trim().split('\n')).toHaveLength(2 * KEYS);
  expect(keys.out).toContain('k7\n7\n');
});

/**
 * A member whose state on disk was changed behind its back, and the cluster around it: real processes.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { StateStore } from '../../src/kv/io/state-store.js';
import { decodeTables, encodeTables } from '../../src/kv/tables.js';
import { useClusters } from '../support/cluster-fixture.js';
import type { Cluster, Member } from '../support/cluster-processes.js';
import { waitFor } from '../support/wait.js';

const clusters = useClusters();
const TIMEOUT = { timeout: 180_000 };

/** Gives the newest checkpoint of a stopped member another history than the one it had. */
async function falsify(member: Member, clusterId: string): Promise<void> {
  const generations = readdirSync(join(member.dataFolder, 'state')).filter((n) => /^\d+$/.test(n));
  const store = await StateStore.open({
    dataDir: member.dataFolder,
    generation: Math.max(...generations.map(Number)),
    clusterId: Number(clusterId),
  });
  const checkpoint = await store.loadCheckpoint();
  if (checkpoint === null) throw new Error('the member has no checkpoint');
  await store.scanRecords(checkpoint.revision, () => {});
  const tables = decodeTables(checkpoint.tables);
  const [high, low] = tables.hashLanes;
  const other = encodeTables({ ...tables, hashLanes: [high, (low + 1) % 2 ** 32] });
  await store.checkpoint(checkpoint.mark, checkpoint.revision, other);
  await store.close();
}

async function withFalseMember(): Promise<{ cluster: Cluster; wrong: Member; sound: Member }> {
  const cluster = await clusters.start({ flags: ['--corrupt-check-time', '1s'] });
  const sound = await cluster.waitLeader();
  const wrong = cluster.others(sound)[0] as Member;
  for (let count = 0; count < 20; count += 1) await sound.api.put(`k${count}`, 'v');
  await wrong.api.call('/v3/maintenance/defragment', {});
  const { header } = await wrong.api.range('k0');
  // What it replays behind the checkpoint gives it hashes to compare.
  for (let count = 0; count < 40; count += 1) await sound.api.put(`l${count}`, 'v');
  await wrong.api.range('k0');
  await wrong.terminate();
  await falsify(wrong, header.clusterId);
  return { cluster, wrong, sound };
}

describe('a member with another state', () => {
  it('is found when it starts, serves nobody, and the others serve on', TIMEOUT, async () => {
    const { cluster, wrong, sound } = await withFalseMember();

    wrong.launch();
    await wrong.waitLog('ready to serve client requests', 60_000);
    await waitFor('the member to be out', 30_000, () => /serves no clients/.test(wrong.logs));

    const corrupt = { message: 'etcdserver: corrupt cluster', code: 15 };
    await expect(wrong.api.range('k0', { serializable: true })).rejects.toMatchObject(corrupt);
    await expect(wrong.api.range('k0')).rejects.toMatchObject(corrupt);
    await expect(wrong.api.put('k0', 'w')).rejects.toMatchObject(corrupt);
    expect((await wrong.api.exchange('GET', '/health', '', 5_000)).body).toContain('ALARM CORRUPT');
    expect((await wrong.api.exchange('GET', '/readyz', '', 5_000)).body).toContain('CORRUPT');
    for (const member of cluster.others(wrong)) {
      await member.api.put('after', 'v');
      expect((await member.api.exchange('GET', '/health', '', 5_000)).body).toContain('"true"');
    }
    const { alarms } = await sound.api.call('/v3/maintenance/alarm', { action: 'GET' });
    expect(alarms).toEqual([{ memberID: expect.any(String), alarm: 'CORRUPT' }]);
    const [{ memberID }] = alarms as [{ memberID: string }];

    // Taken out of the cluster, it takes its alarm along.
    await sound.api.call('/v3/cluster/member/remove', { ID: memberID });
    await waitFor('no alarm', 30_000, async () => {
      const reply = await sound.api.call('/v3/maintenance/alarm', { action: 'GET' });
      return reply['alarms'] === undefined;
    });
    await sound.api.put('after', 'v');
  });
});

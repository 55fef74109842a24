/**
 * Watchers that lose their member again and again see every change once, in order, whole and without
 * a gap.
 *
 * Clients write while members are killed and started; watchers follow at every member and go to the
 * next one when theirs dies. At the end each watcher's log is held against the history of the store.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { Prng } from '../../src/prng.js';
import { useClusters } from '../support/cluster-fixture.js';
import type { Member } from '../support/cluster-processes.js';
import { HttpApi } from '../support/http-api.js';
import { readTruth } from '../support/store-history.js';
import { waitFor } from '../support/wait.js';
import { checkTruth, checkWatch } from '../support/watch-checker.js';
import { Watcher } from '../support/watcher.js';
import { Workload } from '../support/workload.js';

const clusters = useClusters();
const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
const seconds = Number(process.env['WATCH_SECONDS'] ?? 12);

it(`watchers miss and repeat nothing through ${seconds} s of member deaths`, {
  timeout: seconds * 1_000 + 200_000,
}, async () => {
  process.stderr.write(`repeat with SEED=${seed}\n`);
  const prng = new Prng(seed);
  const flags = ['--snapshot-count', '300', '--watch-progress-notify-interval', '500ms'];
  const foreign = process.env['KVD_TEST_PROGRAM'] !== undefined;
  const cluster = await clusters.start({ flags: foreign ? flags.slice(0, 2) : flags });
  const urls = cluster.members.map((member) => member.clientUrl);
  const prefixes = ['w/', 'w/set/', 'w/0/', 'zzz/'];
  const watchers = prefixes.flatMap((prefix) => {
    return urls.map((_, place) => new Watcher({ urls, prefix, startRevision: 2, place }));
  });
  const workload = new Workload({ urls, seed, clients: 6, keys: 4, pauseMs: 8, timeoutMs: 2_000 });
  for (const watcher of watchers) watcher.start();
  workload.start();

  const end = performance.now() + seconds * 1_000;
  // Each one once, however long that takes, so that every watcher loses its member; then anyone.
  for (let kills = 0; kills < 3 || performance.now() < end; kills += 1) {
    await pause(300 + prng.below(900));
    const victim = cluster.member(kills < 3 ? kills : prng.below(3)) as Member;
    await victim.kill();
    await victim.start();
  }
  await workload.stop();
  await cluster.waitLeader();
  const last = await cluster.member(0).api.put('w/last', 'x');
  await waitFor('all watchers to arrive', 60_000, () => {
    const due = watchers.filter((_, place) => place < urls.length);
    return due.every((watcher) => watcher.reached >= last.revision);
  });
  await Promise.all(watchers.map((watcher) => watcher.stop()));

  const truth = await readTruth(cluster.member(0).api);
  expect(checkTruth(truth, workload.acknowledged()).problem).toBe('');
  watchers.forEach((watcher, place) => {
    // Only those of the widest prefix are sure to have been sent something at the very end.
    const endRevision = place < urls.length ? last.revision : watcher.reached;
    expect(checkWatch(watcher.log(endRevision), truth).problem).toBe('');
  });
  expect(Math.min(...watchers.map((watcher) => watcher.reconnects))).toBeGreaterThan(0);
  expect(watchers[0]?.eventCount).toBeGreaterThan(seconds * 10);
});

it('a watch at a member that lags is whole once the member is back', async () => {
  const cluster = await clusters.start({ proxied: true });
  const leader = await cluster.waitLeader();
  const lagging = cluster.others(leader)[0] as Member;
  const urls = [lagging.clientUrl];
  const watcher = new Watcher({ urls, prefix: 'k', startRevision: 2, place: 0 });
  watcher.start();

  cluster.isolate(lagging);
  let revision = 0;
  for (let count = 0; count < 200; count += 1) {
    revision = (await leader.api.put(`k${count % 7}`, String(count))).revision;
  }
  cluster.heal();
  await waitFor('the watcher to arrive', 60_000, () => watcher.reached >= revision);
  await watcher.stop();

  const truth = await readTruth(leader.api);
  expect(checkWatch(watcher.log(revision), truth).problem).toBe('');
});

it('a watch of a compacted revision is cancelled with the revision to go on from', async () => {
  const cluster = await clusters.start({ size: 1 });
  const { api } = cluster.member(0);
  for (let count = 0; count < 20; count += 1) await api.put('k', String(count));
  await api.compact(15);

  const stream = await api.watch('k', { startRevision: 5 });
  const message = await stream.next(30_000);
  stream.close();
  const legal = await api.watch('k', { startRevision: 15 });
  const first = await legal.next(30_000);
  legal.close();

  expect(message?.canceled).toBe(true);
  expect(message?.compactRevision).toBe(15);
  expect(first?.events[0]?.kv.modRevision).toBe(15);
});

it('a watch from a future revision gets nothing below it', async () => {
  const cluster = await clusters.start({ size: 1 });
  const api = new HttpApi(cluster.member(0).clientUrl);
  const { revision } = await api.put('k', '0');
  const stream = await api.watch('k', { startRevision: revision + 5 });

  for (let count = 1; count <= 8; count += 1) await api.put('k', String(count));
  const message = await stream.next(30_000);
  stream.close();
  api.close();

  expect(message?.events[0]?.kv.modRevision).toBe(revision + 5);
});

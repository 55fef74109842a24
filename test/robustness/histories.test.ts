/**
 * What clients are told while members die, stand still and lose each other, judged by etcd's own model.
 * Clients, watchers, model and checks are those of etcd's robustness tests (main.go): all that they know
 * of kvd is its log, as requests.ts translates it.
 *
 * By hand, `npm run test:robustness`: it needs Go. KVD_KEEP=FOLDER keeps the history of a run that is
 * judged wrong, as a page to look at.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { useClusters } from '../support/cluster-fixture.js';
import type { Cluster, Member } from '../support/cluster-processes.js';
import { tempFolder } from '../support/temp-folder.js';
import { buildJudge, Judge } from './judge.js';
import { requestsOfLogs } from './requests.js';

/** Before and behind a fault. */
const CALM_MS = 2_000;
/** Longer than an election takes, and than the clients of the traffic wait. */
const AWAY_MS = 2_000;

/** Checkpoints as often as they get, and the whole log kept for the judge. */
const FLAGS = ['--snapshot-count', '300', '--snapshot-catchup-entries', '1000000000'];

const TRAFFICS = ['etcd', 'puts', 'deletions', 'kubernetes', 'kubernetes-churns'];

type Fault = (cluster: Cluster) => Promise<void>;

const FAULTS: Readonly<Record<string, Fault>> = {
  'the leader is killed': async (cluster) => {
    await killFor(await cluster.waitLeader(), AWAY_MS);
  },
  'each member is killed in turn': async (cluster) => {
    for (const member of cluster.members) {
      await killFor(member, AWAY_MS / 2);
      await cluster.waitLeader();
    }
  },
  'all members are killed at once': async (cluster) => {
    await Promise.all(cluster.members.map((member) => member.kill()));
    await Promise.all(cluster.members.map((member) => member.start()));
  },
  'the leader is told to stop': async (cluster) => {
    const leader = await cluster.waitLeader();
    await leader.terminate();
    await pause(AWAY_MS);
    await leader.start();
  },
  'the leader stands still': async (cluster) => {
    await freezeFor(await cluster.waitLeader(), AWAY_MS);
  },
  'members stand still for a moment, one after the other': async (cluster) => {
    for (const member of [...cluster.members, ...cluster.members]) {
      await freezeFor(member, AWAY_MS / 8);
      await pause(AWAY_MS / 4);
    }
  },
  'the leader loses the others': async (cluster) => {
    cluster.isolate(await cluster.waitLeader());
    await pause(AWAY_MS);
    cluster.heal();
  },
};

async function killFor(member: Member, ms: number): Promise<void> {
  await member.kill();
  await pause(ms);
  await member.start();
}

async function freezeFor(member: Member, ms: number): Promise<void> {
  member.freeze();
  await pause(ms);
  member.thaw();
}

const clusters = useClusters();
let program = '';
let judge: Judge | null = null;

beforeAll(() => {
  program = join(tempFolder('robustness'), 'judge');
  buildJudge(program);
}, 600_000);

afterEach(() => judge?.kill());

describe.each(TRAFFICS)('clients of the kind "%s" are told nothing wrong', (traffic) => {
  it.each(Object.entries(FAULTS))('when %s', async (what, fault) => {
    const cluster = await clusters.start({ flags: FLAGS, proxied: true, tls: false });
    const endpoints = cluster.members.map(({ clientUrl }) => clientUrl).join();
    const kept = process.env['KVD_KEEP'];
    const keep = kept ? join(kept, `${traffic} ${what}`) : '';
    judge = new Judge(program, ['-endpoints', endpoints, '-traffic', traffic, '-keep', keep]);
    await judge.running();
    await pause(CALM_MS);
    await fault(cluster);
    await cluster.waitLeader(cluster.members);
    await pause(CALM_MS);
    const figures = await judge.stop();
    await Promise.all(cluster.members.map((member) => member.terminate()));
    const file = join(tempFolder('robustness'), 'requests.jsonl');
    writeFileSync(
      file,
      requestsOfLogs(cluster.members.map(({ walFolder }) => walFolder)).join('\n'),
    );
    const verdict = await judge.judge(file);

    const right = { Status: 'Success', Message: '' };
    expect(verdict).toMatchObject({
      ...{ assumptions: right, linearization: right, watches: right, oldRevisions: right },
    });
    // Else nothing was shown.
    expect(verdict.requests).toBeGreaterThan(500);
    expect(figures.taken).toBeGreaterThan(1_000);
    expect(figures.events).toBeGreaterThan(1_000);
  });
});

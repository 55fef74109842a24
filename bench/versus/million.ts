/**
 * A million keys of 32 B with values of 256 B: how fast they get in, what they cost in memory, how
 * long a restart takes until the first linearizable read, and how long a follower that was away needs to
 * catch up.
 */
import { decodeProtobuf } from '../../src/rpc/api/protobuf.js';
import type { Member } from '../../test/support/cluster-processes.js';
import { waitFor } from '../../test/support/wait.js';
import { thousands } from '../report.js';
import { type Contestant, Site } from './site.js';
import { message, Wire } from './wire.js';
import { HEADS, KeySpace, load } from './workload.js';

const MISSED_KEYS = 100_000;
const PATIENCE_MS = 180_000;

export async function million(
  contestant: Contestant,
  keyCount: number,
  say: (text: string) => void,
): Promise<void> {
  const site = await Site.start(contestant);
  const tell = (text: string): void => say(`${contestant.name.padEnd(4)} ${text}`);
  try {
    const keys = new KeySpace('million');
    const cpuBefore = cpuOf(site);
    const ms = await load(site, keys, keyCount);
    const cpuUs = ((cpuOf(site) - cpuBefore) * 1000) / keyCount;
    tell(
      `load of ${thousands(keyCount)} keys: ${(ms / 1000).toFixed(1)} s, ` +
        `${thousands((keyCount * 1000) / ms)}/s, ${cpuUs.toFixed(1)} us of CPU per key`,
    );
    await keys.verify(site);
    await site.assertEqual();
    tell(`memory behind the load: ${memoryOf(site)}`);

    const follower = site.cluster.others(await site.cluster.waitLeader())[0] as Member;
    await follower.kill();
    let began = performance.now();
    follower.launch();
    await untilRead(follower, keys);
    tell(`restart of a follower to its first linearizable read: ${seconds(began)} s`);
    await follower.waitReady();
    tell(`memory behind the restart: ${mb(follower)} MB`);

    await follower.kill();
    await load(site, keys, MISSED_KEYS);
    began = performance.now();
    follower.launch();
    await untilRead(follower, keys);
    tell(`a follower that missed ${thousands(MISSED_KEYS)} keys catches up: ${seconds(began)} s`);
    await site.assertEqual();
  } finally {
    await site.stop();
  }
}

function seconds(since: number): string {
  return ((performance.now() - since) / 1000).toFixed(2);
}

function cpuOf(site: Site): number {
  return site.cluster.members.reduce((total, { cpuMs }) => total + cpuMs, 0);
}

function mb(member: Member): string {
  return thousands(member.residentBytes / 2 ** 20);
}

function memoryOf(site: Site): string {
  return `${site.cluster.members.map(mb).join(', ')} MB`;
}

/** Until the member answers with the newest key, which it can only do when it has caught up. */
async function untilRead(member: Member, keys: KeySpace): Promise<void> {
  const body = message('RangeRequest', { key: keys.at(keys.used - 1) });
  await waitFor(`a read from ${member.name}`, PATIENCE_MS, async () => {
    const wire = await Wire.connect(member.clientPort);
    try {
      const answer = await wire.ask(HEADS.range, body);
      return decodeProtobuf('RangeResponse', answer).kvs.length === 1;
    } finally {
      wire.close();
    }
  });
}

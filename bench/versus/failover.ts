/**
 * How long nobody can write when the leader goes: killed, frozen, or asked to stop. Puts are sent to
 * both other members, each 20 ms a new one with a deadline of its own, and the time counts from the
 * signal to the first answer to a put that was sent behind it. No put that was answered may be missing in the end.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { spread } from '../report.js';
import { type Contestant, Site } from './site.js';
import { Wire } from './wire.js';
import { get, KeySpace, put, VALUE } from './workload.js';

export const SIGNALS = ['SIGKILL', 'SIGSTOP', 'SIGTERM'] as const;

const EVERY_MS = 20;
const HOPELESS_MS = 30_000;
/** For the cluster to be calm again between two rounds. */
const CALM_MS = 2000;

export async function failover(
  contestant: Contestant,
  rounds: number,
  say: (text: string) => void,
): Promise<void> {
  for (const signal of SIGNALS) {
    const site = await Site.start(contestant);
    try {
      const gaps: number[] = [];
      const answered: string[] = [];
      for (let round = 0; round < rounds; round += 1) {
        gaps.push(await gapAfter(site, signal, answered));
      }
      await assertThere(site, answered);
      await site.assertEqual();
      const { median, lowest, highest } = spread(gaps);
      say(
        `${contestant.name.padEnd(4)} leader gets ${signal}: next write after ` +
          `${Math.round(median)} ms (${Math.round(lowest)} to ${Math.round(highest)}, ${rounds} rounds)`,
      );
    } finally {
      await site.stop();
    }
  }
}

async function gapAfter(site: Site, signal: NodeJS.Signals, answered: string[]): Promise<number> {
  await pause(CALM_MS);
  const leader = await site.cluster.waitLeader();
  const others = site.cluster.others(leader);
  const wires = await Promise.all(others.map(({ clientPort }) => Wire.connect(clientPort)));
  const keys = new KeySpace('failover');
  const [first] = wires as [Wire];
  const key = keys.fresh();
  const { head, body } = put(key, VALUE);
  await first.ask(head, body);
  answered.push(key);
  leader.signal(signal);
  const gap = await untilWritten(wires, keys, answered);
  for (const wire of wires) wire.close();
  if (signal === 'SIGSTOP') leader.thaw();
  else {
    await leader.waitExit(HOPELESS_MS);
    await leader.start();
  }
  return gap;
}

async function untilWritten(
  wires: readonly Wire[],
  keys: KeySpace,
  answered: string[],
): Promise<number> {
  const began = performance.now();
  let gap = 0;
  while (gap === 0) {
    if (performance.now() - began > HOPELESS_MS) throw new Error('no write was taken any more');
    for (const wire of wires) {
      const key = keys.fresh();
      const { head, body } = put(key, VALUE);
      const onAnswer = (): void => {
        answered.push(key);
        if (gap === 0) gap = performance.now() - began;
      };
      // That some fail is what is expected for a while.
      wire.ask(head, body).then(onAnswer, () => undefined);
    }
    await pause(EVERY_MS);
  }
  return gap;
}

async function assertThere(site: Site, keys: readonly string[]): Promise<void> {
  const [wire] = (await site.connect(1, 'leader')) as [Wire];
  for (const key of keys) {
    const { head, body, check } = get(key);
    const wrong = check?.(await wire.ask(head, body)) ?? null;
    if (wrong !== null) throw new Error(`${key} was put and answered, but ${wrong}`);
  }
}

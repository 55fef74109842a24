/**
 * Ten thousand services that renew their leases every five seconds for a minute, through all members:
 * none loses its key, and all of them are gone soon after they fall silent.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { useClusters } from '../support/cluster-fixture.js';
import { HttpApi } from '../support/http-api.js';
import { waitFor } from '../support/wait.js';

const clusters = useClusters();
const COUNT = 10_000;
const TTL = 20;
const EVERY_MS = 5_000;

it('ten thousand renewed leases lose no key in a minute', { timeout: 240_000 }, async () => {
  const cluster = await clusters.start();
  const apis = cluster.members.map((member) => new HttpApi(member.clientUrl, { sockets: 16 }));
  const ids: string[] = [];
  const inFlight = 96;

  async function each(run: (place: number, api: HttpApi) => Promise<void>): Promise<void> {
    let next = 0;
    const worker = async (number: number): Promise<void> => {
      while (next < COUNT) {
        next += 1;
        await run(next - 1, apis[number % apis.length] as HttpApi);
      }
    };
    await Promise.all(Array.from({ length: inFlight }, (_, number) => worker(number)));
  }

  await each(async (place, api) => {
    const { id } = await api.grantLease(TTL);
    ids[place] = id;
    await api.put(`s/${place}`, 'here', { lease: id });
  });
  const end = performance.now() + 60_000;
  let rounds = 0;
  while (performance.now() < end) {
    const start = performance.now();
    await each(async (place, api) => {
      expect(await api.renewLease(ids[place] as string), `lease ${place}, round ${rounds}`).toBe(
        TTL,
      );
    });
    rounds += 1;
    const { count } = await (apis[0] as HttpApi).range('s/', { rangeEnd: 's0', countOnly: true });
    expect(count).toBe(COUNT);
    await pause(Math.max(0, EVERY_MS - (performance.now() - start)));
  }

  expect(rounds).toBeGreaterThanOrEqual(6);
  await waitFor('the end of all keys', (TTL + 15) * 1_000, async () => {
    const { count } = await (apis[1] as HttpApi).range('s/', { rangeEnd: 's0', countOnly: true });
    return count === 0;
  });
  for (const api of apis) api.close();
});

/**
 * One legal stream that asks the leader for as much as it can (renewals, or messages that unzip to a thousand
 * times as much): the leader goes on leading, while clients of another member write. Whoever asks the same
 * member for little is not alone with it, whichever API that is.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { useClusters } from '../support/cluster-fixture.js';
import type { Member } from '../support/cluster-processes.js';
import { clientEnvironment } from '../support/test-certificates.js';
import { transpiledProgram } from '../support/transpiled-program.js';

const clusters = useClusters();
const MS = 8000;
/** That of the flood of renewals. */
const RENEWED = '5';

/** Floods the member from another process, until what this returns is called. */
function flood(member: Member, kind: string): () => Promise<void> {
  const files = member.isSecure ? Object.values(clientEnvironment('KVCTL')) : [];
  const program = transpiledProgram('test/support/flooder.ts');
  const flooder = spawn(process.execPath, [program, 'flood', kind, '2', ...files], {
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  flooder.stdin.write(`${member.clientPort}\n`);
  return async () => {
    flooder.stdin.end();
    await once(flooder, 'exit');
  };
}

it.each([
  ['renewals of no lease', 'renewals'],
  ['renewals', 'renewals'],
  ['gzip bombs', 'gzip bombs'],
])('a stream of %s does not unseat the leader', async (title, kind) => {
  const cluster = await clusters.start();
  const leader = await cluster.waitLeader();
  if (title === 'renewals') await leader.api.grantLease(600, RENEWED);
  const other = cluster.running.find((member) => member !== leader);
  if (other === undefined) throw new Error('no other member');
  const before = await other.api.status();
  const endFlood = flood(leader, kind);
  const cpuBefore = leader.cpuMs;
  for (const began = performance.now(); performance.now() - began < MS; ) {
    await other.api.put('k', 'v');
  }
  const cpuMs = leader.cpuMs - cpuBefore;
  await endFlood();

  const after = await other.api.status();
  expect(after).toMatchObject({ raftTerm: before.raftTerm, leader: before.leader });
  // It was asked for much.
  expect(cpuMs).toBeGreaterThan(1000);
});

it.each([
  // 16,000 at once and 10,000 a second; alone it would be several times as many.
  ['renewals of no lease', 16_000, 10_000],
  // To these the leader has the answer at hand.
  ['renewals', 115_000, 73_000],
])('a stream of %s has its pace beside those who speak JSON', async (title, atOnce, perSecond) => {
  const cluster = await clusters.start();
  const leader = await cluster.waitLeader();
  if (title === 'renewals') await leader.api.grantLease(600, RENEWED);
  const ms = 5000;
  const sent = (): Promise<number> =>
    leader.api.metric('grpc_server_msg_sent_total\\{[^}]*"LeaseKeepAlive"[^}]*}');
  const endFlood = flood(leader, 'renewals');
  for (const began = performance.now(); performance.now() - began < ms; ) {
    await leader.api.put('k', 'v');
    await pause(20);
  }
  const renewals = await sent();
  await endFlood();

  expect(renewals).toBeGreaterThan(atOnce + 0.1 * perSecond * (ms / 1000));
  expect(renewals).toBeLessThan(atOnce + 1.1 * perSecond * (ms / 1000 + 1));
});

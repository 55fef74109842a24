/**
 * One legal stream that asks the leader for as much as it can (renewals, or messages that unzip to a thousand
 * times as much): the leader goes on leading, and others write as if nothing were.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, it } from 'vitest';
import { useClusters } from '../support/cluster-fixture.js';
import { clientEnvironment } from '../support/test-certificates.js';
import { transpiledProgram } from '../support/transpiled-program.js';

const clusters = useClusters();
const MS = 8000;

it.each(['renewals', 'gzip bombs'])('a stream of %s does not unseat the leader', async (kind) => {
  const cluster = await clusters.start();
  const leader = await cluster.waitLeader();
  const other = cluster.running.find((member) => member !== leader);
  if (other === undefined) throw new Error('no other member');
  const before = await other.api.status();
  const files = leader.isSecure ? Object.values(clientEnvironment('KVCTL')) : [];
  const program = transpiledProgram('test/support/flooder.ts');
  const flooder = spawn(process.execPath, [program, 'flood', kind, '2', ...files], {
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  flooder.stdin.write(`${leader.clientPort}\n`);
  const cpuBefore = leader.cpuMs;
  for (const began = performance.now(); performance.now() - began < MS; ) {
    await other.api.put('k', 'v');
  }
  const cpuMs = leader.cpuMs - cpuBefore;
  flooder.stdin.end();
  await once(flooder, 'exit');

  const after = await other.api.status();
  expect(after).toMatchObject({ raftTerm: before.raftTerm, leader: before.leader });
  // It was asked for much.
  expect(cpuMs).toBeGreaterThan(1000);
});

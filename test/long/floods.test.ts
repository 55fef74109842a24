/**
 * What floods on the client port cost everybody else: clients that behave ask a real member all the time,
 * while another process floods it, or, in turns, a sink beside it. Both phases have the same processes at
 * work, so what differs is what the flood does to the member.
 *
 * For each kind of flood: no call of theirs fails and no connection of theirs ends; their 99th percentile
 * stays below twice what it is without, or below FLOOR_MS, whichever is more (the median over the rounds:
 * other processes of the machine disturb some of them); the member spends less than CPU_SHARE of a
 * processor on the flood; and its memory stays bounded. Messages within streams are work that clients may ask
 * for: they may have what nobody else wants of the processor, so only the others' times count.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { Cluster, type Member } from '../support/cluster-processes.js';
import { FLOOD_KINDS, STREAM_FLOOD_KINDS } from '../support/flooder.js';
import { GrpcClient } from '../support/grpc-client.js';
import { transpiledProgram } from '../support/transpiled-program.js';

const ROUNDS = Number(process.env['FLOOD_ROUNDS'] ?? 5);
const SETTLE_MS = 400;
const PHASE_MS = 1500;
const FLOODING = 4;
const FLOOR_MS = 30;
const CPU_SHARE = 0.5;
const MEMORY_BYTES = 400 * 1024 * 1024;

const RANGE = '/etcdserverpb.KV/Range';
const PUT = '/etcdserverpb.KV/Put';
const range = encodeProtobuf('RangeRequest', { key: 'k' });
const put = encodeProtobuf('PutRequest', { key: 'other', value: Buffer.alloc(100) });

type Program = ChildProcessByStdio<Writable, Readable, null>;

let cluster: Cluster;
let member: Member;
let program: string;
let sink: Program;
let sinkPort: number;
let clients: GrpcClient[];

beforeAll(async () => {
  cluster = await Cluster.start({ size: 1, tls: false });
  member = cluster.member(0);
  program = transpiledProgram('test/support/flooder.ts');
  sink = start('sink');
  sinkPort = Number(String((await once(sink.stdout, 'data'))[0]));
  clients = Array.from({ length: 4 }, () => new GrpcClient(member.clientPort));
  const [client] = clients as [GrpcClient];
  for (const [key, bytes] of [
    ['k', 100],
    ['large', 1_000_000],
  ] as const) {
    const { status } = await client.call(
      PUT,
      encodeProtobuf('PutRequest', { key, value: Buffer.alloc(bytes) }),
    );
    expect(status).toBe(0);
  }
});

afterAll(async () => {
  for (const client of clients) client.close();
  sink.kill();
  await cluster.stop();
});

function start(...args: string[]): Program {
  return spawn(process.execPath, [program, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
}

interface Phase {
  readonly p99: number;
  readonly cpuShare: number;
  readonly failures: number;
}

/** What clients that behave see: eight callers, one call at a time each, one in ten a write. */
async function measure(ms: number): Promise<Phase> {
  const took: number[] = [];
  let failures = 0;
  let calls = 0;
  const [cpuBefore, began] = [member.cpuMs, performance.now()];
  const caller = async (client: GrpcClient): Promise<void> => {
    while (performance.now() - began < ms) {
      calls += 1;
      const isPut = calls % 10 === 0;
      const asked = performance.now();
      const { status } = await client.call(isPut ? PUT : RANGE, isPut ? put : range);
      if (status !== 0) failures += 1;
      // Writes wait for the disk, which is not what floods are about.
      if (!isPut) took.push(performance.now() - asked);
      await pause(5);
    }
  };
  await Promise.all([...clients, ...clients].map(caller));
  took.sort((a, b) => a - b);
  const wall = performance.now() - began;
  return {
    p99: took[Math.floor(took.length * 0.99)] as number,
    cpuShare: (member.cpuMs - cpuBefore) / wall,
    failures,
  };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] as number;
}

describe('a flood', () => {
  it.each([...FLOOD_KINDS, ...STREAM_FLOOD_KINDS])(
    'of %s costs the others little',
    async (kind) => {
      const flooder = start('flood', kind, String(FLOODING));
      const without: Phase[] = [];
      const during: Phase[] = [];
      let memory = 0;
      for (let round = 0; round < ROUNDS; round += 1) {
        for (const [port, phases] of [
          [sinkPort, without],
          [member.clientPort, during],
        ] as const) {
          flooder.stdin.write(`${port}\n`);
          await pause(SETTLE_MS);
          phases.push(await measure(PHASE_MS));
          memory = Math.max(memory, member.residentBytes);
        }
      }
      flooder.stdin.end();
      await once(flooder, 'exit');

      const p99 = [without, during].map((phases) => median(phases.map((each) => each.p99)));
      const cpu = [without, during].map((phases) => median(phases.map((each) => each.cpuShare)));
      const [quiet, loud] = p99 as [number, number];
      const [idle, busy] = cpu as [number, number];
      const text =
        `${kind}: p99 ${quiet.toFixed(1)} ms without, ${loud.toFixed(1)} ms with; ` +
        `CPU ${(100 * idle).toFixed(0)} % and ${(100 * busy).toFixed(0)} %; ` +
        `memory ${(memory / 1e6).toFixed(0)} MB`;
      process.stdout.write(`${text}\n`);
      expect(
        [...without, ...during].reduce((sum, { failures }) => sum + failures, 0),
        text,
      ).toBe(0);
      for (const { session } of clients) expect(session.destroyed, text).toBe(false);
      expect(loud, text).toBeLessThan(Math.max(2 * quiet, FLOOR_MS));
      if (FLOOD_KINDS.includes(kind)) expect(busy - idle, text).toBeLessThan(CPU_SHARE);
      expect(memory, text).toBeLessThan(MEMORY_BYTES);
      expect(member.isRunning, text).toBe(true);
    },
  );

  it('leaves nothing behind', async () => {
    await pause(1000);
    const { failures } = await measure(500);
    expect(failures).toBe(0);
    expect(member.residentBytes).toBeLessThan(MEMORY_BYTES);
  });
});

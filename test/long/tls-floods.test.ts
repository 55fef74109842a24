/**
 * What handshakes that stall, and floods of them, cost everybody else: clients that are connected put and get
 * at a real member all the time, over TLS with certificates, and a newcomer from another address comes and
 * asks, again and again; while another process opens as many connections as it can at that member, or, in
 * turns, at a sink that does nothing but answer handshakes. Both phases have the same processes at work, so
 * what differs is what the flood does to the member.
 *
 * For each kind of flood: no call fails and no connection ends; the 99th percentile of puts and of gets stays
 * below twice what it is without, or below FLOOR_MS, whichever is more (the median over the rounds: other
 * processes of the machine disturb some of them); and a newcomer is answered within NEWCOMER_MS. A round has a few
 * hundred puts, so its percentile is the fourth slowest or so: while the median of few rounds is above the bound
 * there are more of them, and all count.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import http2 from 'node:http2';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { Cluster, type Member } from '../support/cluster-processes.js';
import { GrpcClient } from '../support/grpc-client.js';
import { testCertificates } from '../support/test-certificates.js';
import { transpiledProgram } from '../support/transpiled-program.js';

const ROUNDS = Number(process.env['FLOOD_ROUNDS'] ?? 5);
/** Times as many, if need be. */
const MORE = 3;
const SETTLE_MS = 500;
const PHASE_MS = 1500;
const FLOOR_MS = 20;
const NEWCOMER_MS = 2000;
const NEWCOMER = '127.0.0.9';
/** Of floods whose connections end by themselves, in a second, on a busy machine; hundreds on a quiet one. */
const RATE_MIN = 50;

/** With the connections that each has at a time. */
const STALLS = [
  ['silence', 800],
  ['half hellos', 800],
  ['unfinished handshakes', 800],
] as const;
const FLOODS = [
  ['abandoned handshakes', 64],
  ['whole handshakes', 32],
] as const;

const RANGE = '/etcdserverpb.KV/Range';
const PUT = '/etcdserverpb.KV/Put';
const range = encodeProtobuf('RangeRequest', { key: 'k' });
const put = encodeProtobuf('PutRequest', { key: 'k', value: Buffer.alloc(100) });

type Program = ChildProcessByStdio<Writable, Readable, null>;

let cluster: Cluster;
let member: Member;
let program: string;
let files: string[];
let sink: Program;
let sinkPort: number;
let clients: GrpcClient[];

beforeAll(async () => {
  cluster = await Cluster.start({ size: 1, tls: true });
  member = cluster.member(0);
  program = transpiledProgram('test/support/tls-flooder.ts');
  files = [1, 3, 5].map((at) => testCertificates().clientFlags[at] as string);
  const own = await testCertificates().memberFlags('m1');
  sink = start('sink', files[0] as string, own[1] as string, own[3] as string);
  sinkPort = Number(String((await once(sink.stdout, 'data'))[0]));
  clients = Array.from({ length: 4 }, () => GrpcClient.of(member));
  const [client] = clients as [GrpcClient];
  expect(await client.call(PUT, put)).toMatchObject({ status: 0 });
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
  readonly puts: number;
  readonly gets: number;
  readonly newcomers: number;
  readonly cpuShare: number;
  readonly failures: number;
}

function p99(times: number[]): number {
  times.sort((a, b) => a - b);
  return times[Math.floor(times.length * 0.99)] as number;
}

/** Eight callers, one call at a time each, every second one a writer; and newcomers, one after the other. */
async function measure(ms: number): Promise<Phase> {
  const [puts, gets, newcomers]: [number[], number[], number[]] = [[], [], []];
  let failures = 0;
  const [cpuBefore, began] = [member.cpuMs, performance.now()];
  const isTime = (): boolean => performance.now() - began < ms;
  const ask = async (client: GrpcClient, path: string, message: Uint8Array): Promise<number> => {
    const asked = performance.now();
    const { status } = await client.call(path, message);
    if (status !== 0) failures += 1;
    return performance.now() - asked;
  };
  const writer = async (client: GrpcClient): Promise<void> => {
    for (; isTime(); await pause(5)) puts.push(await ask(client, PUT, put));
  };
  const reader = async (client: GrpcClient): Promise<void> => {
    for (; isTime(); await pause(5)) gets.push(await ask(client, RANGE, range));
  };
  const comers = async (): Promise<void> => {
    for (; isTime(); await pause(100)) {
      const asked = performance.now();
      const tls = { ...testCertificates().client, localAddress: NEWCOMER };
      const client = new GrpcClient(http2.connect(member.clientUrl, tls));
      await ask(client, RANGE, range);
      newcomers.push(performance.now() - asked);
      client.close();
    }
  };
  await Promise.all([...clients.flatMap((client) => [writer(client), reader(client)]), comers()]);
  const wall = performance.now() - began;
  const cpuShare = (member.cpuMs - cpuBefore) / wall;
  return {
    puts: p99(puts),
    gets: p99(gets),
    newcomers: Math.max(...newcomers),
    cpuShare,
    failures,
  };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] as number;
}

it.each([...STALLS, ...FLOODS])(
  'a flood of %s on %i connections costs the others little',
  async (kind, connections) => {
    const flooder = start('flood', kind, String(connections), ...files);
    const counts: number[] = [];
    flooder.stdout.on('data', (text: Buffer) => {
      counts.push(...String(text).trim().split('\n').map(Number));
    });
    const without: Phase[] = [];
    const during: Phase[] = [];
    const of = (phases: readonly Phase[], what: keyof Phase): number =>
      median(phases.map((each) => each[what]));
    const most = (what: keyof Phase): number => Math.max(2 * of(without, what), FLOOR_MS);
    const isFine = (): boolean =>
      (['puts', 'gets'] as const).every((what) => of(during, what) < most(what));
    for (let round = 0; round < ROUNDS || (round < MORE * ROUNDS && !isFine()); round += 1) {
      for (const [port, phases] of [
        [sinkPort, without],
        [member.clientPort, during],
      ] as const) {
        flooder.stdin.write(`${port}\n`);
        await pause(SETTLE_MS);
        phases.push(await measure(PHASE_MS));
      }
    }
    flooder.stdin.end('0\n');
    await once(flooder, 'exit');

    const begun = counts.filter((_, at) => at > 0 && at % 2 === 0);
    const rate = (median(begun) * 1000) / (SETTLE_MS + PHASE_MS);
    const figures = (phases: readonly Phase[]): string =>
      `puts ${of(phases, 'puts').toFixed(1)} ms, gets ${of(phases, 'gets').toFixed(1)} ms, ` +
      `newcomer ${of(phases, 'newcomers').toFixed(0)} ms, CPU ${(100 * of(phases, 'cpuShare')).toFixed(0)} %`;
    const text = `${kind}, ${rate.toFixed(0)} a second: without ${figures(without)}; with ${figures(during)}`;
    process.stdout.write(`${text}; memory ${(member.residentBytes / 1e6).toFixed(0)} MB\n`);

    const failures = [...without, ...during].reduce((sum, each) => sum + each.failures, 0);
    expect(failures, text).toBe(0);
    for (const { session } of clients) expect(session.destroyed, text).toBe(false);
    for (const what of ['puts', 'gets'] as const) {
      expect(of(during, what), `${what}: ${text}`).toBeLessThan(most(what));
    }
    expect(of(during, 'newcomers'), text).toBeLessThan(NEWCOMER_MS);
    if (FLOODS.some(([each]) => each === kind)) expect(rate, text).toBeGreaterThan(RATE_MIN);
  },
);

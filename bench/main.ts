/**
 * The benchmarks: `npm run bench`, `npm run bench -- load` and `npm run bench -- rpc`.
 *
 * `put` (default): three members, 100 requests in flight over 20 connections to the leader, values of
 * 256 B. Prints puts per second and the 99th percentile, after a check that every key is there and
 * all members are equal. `get` reads the same keys linearizably. `load` writes a million keys (32 B
 * key, 256 B value) in transactions and prints load rate, memory and restart times. `rpc` compares the
 * gRPC codec with another one (rpc.ts), `micro` measures hot pieces alone (micro.ts), `profile` shows where the
 * processor time of a put, or of another workload of versus/, goes (profile.ts).
 *
 * Servers are real processes with data in a temporary folder; nothing is written to the repository.
 * Options: --seconds N, --repetitions N, --in-flight N, --connections N, --keys N, --all-members,
 * --workload ID.
 */
import { parseArgs } from 'node:util';
import { Cluster, type Member, serverCommand } from '../test/support/cluster-processes.js';
import { toBase64 } from '../test/support/http-api.js';
import { removeTempFolders } from '../test/support/temp-folder.js';
import { waitFor } from '../test/support/wait.js';
import { httpRequest, type LoadResult, percentile, runLoad } from './http-load.js';
import { benchMicro } from './micro.js';
import { benchProfile } from './profile.js';
import { describeRun, spread, thousands } from './report.js';
import { benchRpc } from './rpc.js';
import { UsageError, wholeNumber } from './usage.js';
import { workloadNamed } from './versus/workloads.js';

const VALUE_BYTES = 256;
const TXN_PUTS = 100;

interface Settings {
  readonly seconds: number;
  readonly repetitions: number;
  readonly inFlight: number;
  readonly connections: number;
  readonly keys: number;
  readonly allMembers: boolean;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** A value of the right size that differs from key to key. */
function valueFor(place: number): string {
  return toBase64(`${place}:`.padEnd(VALUE_BYTES, 'kvd-benchmark-'));
}

function keyFor(place: number, bytes: number): string {
  return toBase64(`bench/${String(place).padStart(bytes - 6, '0')}`);
}

async function portsOf(cluster: Cluster, settings: Settings): Promise<number[]> {
  if (settings.allMembers) return cluster.members.map((member) => member.clientPort);
  return [(await cluster.waitLeader()).clientPort];
}

function cpuOf(members: readonly Member[]): number {
  return members.reduce((sum, member) => sum + member.cpuMs, 0);
}

/** Runs the requests round and round: once to warm up, then the measured repetitions. */
async function measure(
  cluster: Cluster,
  what: string,
  requests: readonly Buffer[],
  settings: Settings,
): Promise<void> {
  let at = 0;
  const load = async (seconds: number): Promise<LoadResult> => {
    return runLoad({
      ports: await portsOf(cluster, settings),
      connections: settings.connections,
      depth: Math.max(1, Math.round(settings.inFlight / settings.connections)),
      next: () => requests[at++ % requests.length] ?? null,
      durationMs: seconds * 1_000,
    });
  };
  await load(Math.min(3, settings.seconds));
  const rates: number[] = [];
  const p50s: number[] = [];
  const p99s: number[] = [];
  const costs: number[] = [];
  for (let round = 0; round < settings.repetitions; round += 1) {
    const before = cpuOf(cluster.members);
    const result = await load(settings.seconds);
    const cpu = cpuOf(cluster.members) - before;
    if (result.errors > 0) throw new Error(`${result.errors} errors: ${result.firstError}`);
    rates.push((result.requests * 1_000) / result.elapsedMs);
    p50s.push(percentile(result.latencies, 0.5));
    p99s.push(percentile(result.latencies, 0.99));
    costs.push((cpu * 1_000) / result.requests);
  }
  const rate = spread(rates);
  const p99 = spread(p99s);
  say(
    `${what}: ${thousands(rate.median)}/s (${thousands(rate.lowest)} to ${thousands(rate.highest)})` +
      `, p99 ${p99.median.toFixed(1)} ms (${p99.lowest.toFixed(1)} to ${p99.highest.toFixed(1)})` +
      `, p50 ${spread(p50s).median.toFixed(1)} ms` +
      `, ${spread(costs).median.toFixed(0)} us server CPU each over all members`,
  );
}

async function benchPutGet(what: 'put' | 'get', settings: Settings): Promise<void> {
  const cluster = await Cluster.start({ size: 3 });
  try {
    const { inFlight, connections, seconds, repetitions } = settings;
    say(describeRun(serverCommand()));
    say(
      `3 members, ${inFlight} in flight, ${connections} connections, ${repetitions} x ${seconds} s`,
    );
    const places = Array.from({ length: settings.keys }, (_, place) => place);
    const puts = places.map((place) => {
      const body = `{"key":"${keyFor(place, 32)}","value":"${valueFor(place)}"}`;
      return httpRequest('/v3/kv/put', body);
    });
    if (what === 'put') await measure(cluster, 'put', puts, settings);
    await writeOnce(cluster, puts);
    if (what === 'get') {
      const gets = places.map((place) =>
        httpRequest('/v3/kv/range', `{"key":"${keyFor(place, 32)}"}`),
      );
      await measure(cluster, 'linearizable get', gets, settings);
    }
    await verify(cluster, settings.keys);
  } finally {
    await cluster.stop();
  }
}

/** Sends every request once, so that the check afterwards knows what must be there. */
async function writeOnce(cluster: Cluster, requests: readonly Buffer[]): Promise<void> {
  let at = 0;
  const result = await runLoad({
    ports: [(await cluster.waitLeader()).clientPort],
    connections: 8,
    depth: 8,
    next: () => requests[at++] ?? null,
    durationMs: null,
  });
  if (result.errors > 0) throw new Error(`${result.errors} errors: ${result.firstError}`);
}

async function verify(cluster: Cluster, keys: number): Promise<void> {
  const { api } = cluster.member(0);
  const all = { rangeEnd: 'bench0', countOnly: true };
  const { count } = await api.range('bench/', all, 60_000);
  if (count !== keys) throw new Error(`${count} keys instead of ${keys}`);
  const revision = await cluster.assertSameState(60_000);
  say(`verified: ${thousands(count)} keys, all members equal at revision ${thousands(revision)}`);
}

/** Time from the start of the process until it answers a linearizable read. */
async function untilRead(start: number, member: Member): Promise<number> {
  await waitFor(`a read from ${member.name}`, 120_000, async () => {
    const place = Buffer.from(keyFor(0, 32), 'base64').toString();
    return (await member.api.range(place, {}, 2_000)).count === 1;
  });
  return performance.now() - start;
}

async function benchLoad(settings: Settings): Promise<void> {
  const cluster = await Cluster.start({ size: 3 });
  try {
    say(describeRun(serverCommand()));
    const { keys } = settings;
    let at = 0;
    const next = (): Buffer | null => {
      if (at >= keys) return null;
      const puts: string[] = [];
      for (; puts.length < TXN_PUTS && at < keys; at += 1) {
        puts.push(`{"request_put":{"key":"${keyFor(at, 32)}","value":"${valueFor(at)}"}}`);
      }
      return httpRequest('/v3/kv/txn', `{"success":[${puts.join(',')}]}`);
    };
    const ports = [(await cluster.waitLeader()).clientPort];
    const result = await runLoad({ ports, connections: 4, depth: 2, next, durationMs: null });
    if (result.errors > 0) throw new Error(`${result.errors} errors: ${result.firstError}`);
    const rate = (keys * 1_000) / result.elapsedMs;
    say(
      `load: ${thousands(keys)} keys in ${(result.elapsedMs / 1_000).toFixed(1)} s, ${thousands(rate)}/s`,
    );
    await verify(cluster, keys);
    say(`memory: ${memoryOf(cluster.members)}`);

    const follower = cluster.others(await cluster.waitLeader())[0] as Member;
    await follower.kill();
    let start = performance.now();
    follower.launch();
    const one = await untilRead(start, follower);
    say(`restart of one member to its first linearizable read: ${(one / 1_000).toFixed(2)} s`);

    await Promise.all(cluster.members.map((member) => member.kill()));
    start = performance.now();
    for (const member of cluster.members) member.launch();
    const all = await Promise.all(cluster.members.map((member) => untilRead(start, member)));
    const times = all.map((time) => (time / 1_000).toFixed(2)).join(', ');
    say(`restart of all members to their first linearizable reads: ${times} s`);
    say(`memory after the restart: ${memoryOf(cluster.members)}`);
    await verify(cluster, keys);
  } finally {
    await cluster.stop();
  }
}

function memoryOf(members: readonly Member[]): string {
  const sizes = members.map(
    (member) => `${member.name} ${thousands(member.residentBytes / 2 ** 20)} MB`,
  );
  return sizes.join(', ');
}

function optionsOf(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        seconds: { type: 'string', default: '5' },
        repetitions: { type: 'string', default: '3' },
        'in-flight': { type: 'string', default: '100' },
        connections: { type: 'string', default: '20' },
        keys: { type: 'string' },
        workload: { type: 'string' },
        'all-members': { type: 'boolean', default: false },
      },
    });
  } catch (error) {
    const [sentence] = (error as Error).message.split('. ');
    throw new UsageError(
      `${sentence}; there are --seconds --repetitions --in-flight --connections --keys --workload --all-members`,
    );
  }
}

async function main(args: readonly string[]): Promise<void> {
  const { values, positionals } = optionsOf(args);
  const [what = 'put', more] = positionals;
  if (!['put', 'get', 'load', 'rpc', 'micro', 'profile'].includes(what) || more !== undefined) {
    throw new UsageError(
      `no benchmark is called ${more ?? what}: put, get, load, rpc, micro or profile`,
    );
  }
  const inFlight = wholeNumber('in-flight', values['in-flight']);
  const settings: Settings = {
    seconds: wholeNumber('seconds', values.seconds),
    repetitions: wholeNumber('repetitions', values.repetitions),
    inFlight,
    connections: Math.min(wholeNumber('connections', values.connections), inFlight),
    keys: wholeNumber('keys', values.keys ?? (what === 'load' ? '1000000' : '20000')),
    allMembers: values['all-members'],
  };
  if (what === 'load') await benchLoad(settings);
  else if (what === 'micro') await benchMicro(say);
  else if (what === 'rpc') await benchRpc(settings, say);
  else if (what === 'profile') {
    await benchProfile(
      { seconds: settings.seconds, workload: workloadNamed(values.workload ?? `put-${inFlight}`) },
      say,
    );
  } else await benchPutGet(what === 'get' ? 'get' : 'put', settings);
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130));
try {
  await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
} finally {
  removeTempFolders();
}

/**
 * `npm run bench -- profile`: where the processor time of a put goes, on the leader and on a follower, or
 * that of what another workload does (`--workload`, by its id in versus/).
 *
 * Three members run under Node's sampling profiler while it is done over gRPC. A sample belongs to
 * the innermost function of kvd on its stack, whatever Node and the kernel did on its behalf: `own` is time in
 * kvd's code itself, `below` is time in what it called. Only samples from the measured time count. What the
 * process used beyond its main thread (the pool that syncs the log, the collector's helpers) is a row of its
 * own. The profiler costs something, too: shares are to be trusted more than sums.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Member, serverCommand } from '../test/support/cluster-processes.js';
import { describeRun, thousands } from './report.js';
import { Site } from './versus/site.js';
import type { Workload } from './versus/workload.js';

export interface ProfileSettings {
  readonly seconds: number;
  readonly workload: Workload;
}

const WARM_UP_MS = 3000;
const INTERVAL_US = 500;
/** Of one operation: rows below this share are summed up. */
const SMALLEST = 0.006;
const FUNCTIONS_SHOWN = 25;

/** The first that fits a path behind `dist/`. */
const AREAS: readonly (readonly [area: string, path: RegExp])[] = [
  ['HTTP/2', /^src\/rpc\/http2\//],
  ['gRPC', /^src\/rpc\/grpc\//],
  ['protobuf', /^src\/rpc\/api\//],
  ['members: frames and sockets', /^src\/(rpc\/peer\/|peer-links|tls\/)/],
  ['services and rights', /^src\/(rpc|auth)\//],
  ['log', /^src\/raft\/io\//],
  ['raft', /^src\/raft\//],
  ['state on disk', /^src\/kv\/io\//],
  ['state machine', /^src\/(kv|lease)\//],
  ['watches', /^src\/watch\//],
  ['the road between them', /^src\//],
  ['packages', /node_modules\//],
];

interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string };
    readonly children?: readonly number[];
  }[];
  /** Microseconds of a clock that stands still for nobody: that of `process.hrtime`. */
  readonly startTime: number;
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

interface Place {
  readonly area: string;
  readonly isOwn: boolean;
}

/** Microseconds in all. */
interface Account {
  readonly areas: Map<string, { own: number; below: number }>;
  /** By the innermost function, Node's own ones, too. */
  readonly functions: Map<string, number>;
  busy: number;
}

export async function benchProfile(
  { seconds, workload }: ProfileSettings,
  say: (text: string) => void,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'kvd-profile-'));
  const [node = '', ...program] = serverCommand();
  const profiler = ['--cpu-prof', '--cpu-prof-interval', String(INTERVAL_US)];
  const command = [node, ...profiler, '--cpu-prof-dir', folder, ...program];
  const site = await Site.start({ name: 'kvd', version: '', command });
  const { cluster } = site;
  try {
    const leader = await cluster.waitLeader();
    const prepared = await workload.prepare(site);
    await prepared.run(WARM_UP_MS);
    const cpuBefore = cluster.members.map(({ cpuMs }) => cpuMs);
    const from = microseconds();
    const { done, elapsedMs } = await prepared.run(seconds * 1000);
    const to = microseconds();
    const cpu = cluster.members.map(({ cpuMs }, at) => cpuMs - (cpuBefore[at] as number));
    site.closeAll();
    if ((await cluster.waitLeader()) !== leader) throw new Error('the leader has changed');
    say(describeRun(serverCommand()));
    const rate = thousands((done * 1000) / elapsedMs);
    say(`${workload.title}: ${rate} ${workload.unit}/s under the profiler; us of each\n`);
    for (const member of [leader, cluster.others(leader)[0] as Member]) {
      await member.terminate();
      const account = accountOf(profileIn(folder), from, to);
      const cpuUs = (cpu[cluster.members.indexOf(member)] as number) * 1000;
      const title = member === leader ? 'leader' : 'follower';
      say(areaTable(title, account, cpuUs, done));
      say(functionTable(title, account, done));
    }
  } finally {
    await site.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

function microseconds(): number {
  return Number(process.hrtime.bigint() / 1000n);
}

/** The profile that is there; it is gone then. */
function profileIn(folder: string): CpuProfile {
  const [name] = readdirSync(folder);
  if (name === undefined) throw new Error('the member has left no profile');
  const path = join(folder, name);
  const profile = JSON.parse(readFileSync(path, 'utf8')) as CpuProfile;
  rmSync(path);
  return profile;
}

function accountOf(profile: CpuProfile, from: number, to: number): Account {
  const places = placesOf(profile);
  const names = new Map(profile.nodes.map(({ id, callFrame }) => [id, nameOf(callFrame)]));
  const account: Account = { areas: new Map(), functions: new Map(), busy: 0 };
  let at = profile.startTime;
  for (const [index, sample] of profile.samples.entries()) {
    const us = profile.timeDeltas[index] as number;
    at += us;
    const place = places.get(sample);
    if (at < from || at > to || place === undefined || place === null) continue;
    const { area, isOwn } = place;
    const sums = account.areas.get(area) ?? { own: 0, below: 0 };
    if (isOwn) sums.own += us;
    else sums.below += us;
    account.areas.set(area, sums);
    const name = names.get(sample) as string;
    account.functions.set(name, (account.functions.get(name) ?? 0) + us);
    account.busy += us;
  }
  return account;
}

function nameOf({ functionName, url }: CpuProfile['nodes'][number]['callFrame']): string {
  const path = /\/(?:dist|node_modules)\/(.*)$/.exec(url)?.[1] ?? url;
  return `${functionName === '' ? '(anonymous)' : functionName}${path === '' ? '' : ` ${path}`}`;
}

/** Of each node of the tree; null: idle. */
function placesOf({ nodes }: CpuProfile): Map<number, Place | null> {
  const places = new Map<number, Place | null>();
  const parents = new Map<number, number>();
  for (const { id, children = [] } of nodes) for (const child of children) parents.set(child, id);
  // Parents come before their children.
  for (const { id, callFrame } of nodes) {
    const { functionName, url } = callFrame;
    const area = areaOf(url);
    const above = places.get(parents.get(id) ?? -1);
    if (functionName === '(idle)') places.set(id, null);
    else if (functionName === '(garbage collector)') {
      places.set(id, { area: 'garbage collection', isOwn: false });
    } else if (area !== null) places.set(id, { area, isOwn: true });
    else places.set(id, { area: above?.area ?? "Node's event loop and sockets", isOwn: false });
  }
  return places;
}

function areaOf(url: string): string | null {
  const path = url.includes('/node_modules/') ? url : (/\/dist\/(.*)$/.exec(url)?.[1] ?? '');
  return AREAS.find(([, pattern]) => pattern.test(path))?.[0] ?? null;
}

function areaTable(title: string, { areas, busy }: Account, cpuUs: number, done: number): string {
  const whole = Math.max(cpuUs, busy) / done;
  const rows = [...areas]
    .map(([area, { own, below }]) => ({ area, own: own / done, below: below / done }))
    .sort((a, b) => b.own + b.below - (a.own + a.below));
  const isLarge = (row: { own: number; below: number }): boolean =>
    row.own + row.below >= SMALLEST * whole;
  const small = rows.filter((row) => !isLarge(row));
  const sum = { area: 'all others', own: 0, below: 0 };
  for (const { own, below } of small) {
    sum.own += own;
    sum.below += below;
  }
  const shown = [
    ...rows.filter(isLarge),
    ...(small.length === 0 ? [] : [sum]),
    { area: 'other threads', own: 0, below: Math.max(0, cpuUs - busy) / done },
  ];
  const lines = shown.map(
    ({ area, own, below }) =>
      `| ${area} | ${own.toFixed(1)} | ${below.toFixed(1)} | ${(own + below).toFixed(1)} |`,
  );
  return [
    `| ${title} | own | below | both |`,
    '| --- | --- | --- | --- |',
    ...lines,
    `| all | | | ${whole.toFixed(1)} |`,
    '',
  ].join('\n');
}

function functionTable(title: string, { functions }: Account, done: number): string {
  const rows = [...functions].sort(([, a], [, b]) => b - a).slice(0, FUNCTIONS_SHOWN);
  const lines = rows.map(([name, us]) => `| ${name} | ${(us / done).toFixed(2)} |`);
  return [`| ${title}, by function | own |`, '| --- | --- |', ...lines, ''].join('\n');
}

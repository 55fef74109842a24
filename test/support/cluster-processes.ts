/**
 * Clusters of real kvd processes for tests and benchmarks: start, stop, kill -9, freeze, restart,
 * and, with `proxied`, a bad network between the members.
 *
 * Every member is its own process group with its own data folder below one temporary folder. Between
 * finding a free port and the server's bind another process may take it, so a first start that fails
 * with EADDRINUSE is repeated with new ports.
 *
 * With `proxied` a member listens for peers on a hidden port and advertises the port of a fault proxy
 * in front of it. All members see the same initial cluster, as they must (ids derive from it). The
 * proxy names the dialer of each connection by looking up who owns its source port under /proc, so
 * rules can be set per directed pair whatever side dialed (Linux only).
 *
 * Clean-up is guaranteed three times: by `stop`, by an exit hook, and by a watchdog process whose
 * input ends when this process dies in whatever way; it then kills the groups that are left.
 *
 * KVD_DIST names another folder with the compiled kvd than dist, KVD_TEST_PROGRAM another program with
 * the same flags to run in its place. The latter is how these suites are themselves checked.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomInt } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { NODE_FLAGS } from '../../cli/node-flags.js';
import { FaultProxy } from './fault-proxy.js';
import { HttpApi } from './http-api.js';
import { tempFolder } from './temp-folder.js';
import { makeTestCertificates, TLS_BY_DEFAULT } from './test-certificates.js';
import { GiveUp, waitFor } from './wait.js';

export const READY_TEXT = 'ready to serve client requests';
/** Limits of waits that end much earlier on an idle machine. */
const START_MS = 40_000;
const AGREE_MS = 30_000;
const LOG_LINES_MAX = 2_000;
const PORT_ATTEMPTS = 5;

/**
 * Flags for tests in which nobody may be elected unless the test makes it so. With the default of
 * 500 ms a busy processor or a slow disk does that too.
 */
export const CALM: readonly string[] = ['--election-timeout', '1500'];

export interface ExitResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface ClusterOptions {
  /** Number of members, default 3. */
  readonly size?: number;
  /** Another program with etcd's flags in the place of `serverCommand()`. */
  readonly command?: readonly string[];
  /** More flags for every member. */
  readonly flags?: readonly string[];
  /** Routes the peer connections through fault proxies. */
  readonly proxied?: boolean;
  /** More environment for one member, by its name (m1, m2, ...). */
  readonly environment?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Client port of the first member, when a test needs a certain one. */
  readonly firstClientPort?: number;
  /** TLS on all ports. Default: as KVD_TEST_TLS says. */
  readonly tls?: boolean;
  /** Folder that holds the data folders; default a fresh temporary one. */
  readonly folder?: string;
}

/** The program under test: the compiled kvd, or what KVD_TEST_PROGRAM says. */
export function serverCommand(): readonly string[] {
  const other = process.env['KVD_TEST_PROGRAM'];
  if (other !== undefined && other !== '') return other.split(' ');
  const compiled = resolve(process.env['KVD_DIST'] || 'dist', 'cli', 'kvd.js');
  if (!existsSync(compiled)) throw new Error(`${compiled} is missing: run "npm run build" first`);
  return [process.execPath, ...NODE_FLAGS, compiled];
}

const PORTS_FROM = 10_000;
const PORTS_OF_WORKER = 5_000;
const PORT_RANGES = 4;

/**
 * A port on 127.0.0.1 that was free a moment ago and that no call in this process gave out before; the
 * first one of `count` in a row. Below the range from which the system takes ports for outgoing
 * connections, so that none of those gets in between, and each worker of a test run has a range of its
 * own: the port of a member that is being restarted looks free to all others.
 */
export async function freePort(count = 1): Promise<number> {
  const worker = Number(process.env['VITEST_POOL_ID'] ?? 0) % PORT_RANGES;
  const from = PORTS_FROM + worker * PORTS_OF_WORKER;
  for (;;) {
    const first = randomInt(from, from + PORTS_OF_WORKER - count);
    const ports = Array.from({ length: count }, (_, place) => first + place);
    if (ports.some((port) => givenPorts.has(port))) continue;
    const free = await Promise.all(ports.map(isFree));
    if (free.includes(false)) continue;
    for (const port of ports) givenPorts.add(port);
    return first;
  }
}
const givenPorts = new Set<number>();

function isFree(port: number): Promise<boolean> {
  return new Promise((done) => {
    const server = createServer();
    server.once('error', () => done(false));
    server.listen(port, '127.0.0.1', () => server.close(() => done(true)));
  });
}

const running = new Set<number>();
let watchdog: ChildProcess | null = null;

/** Tells the watchdog and the exit hook about a process group. */
function guard(pid: number): void {
  if (watchdog === null) {
    const script =
      '/^\\+/ { group[substr($0, 2)] = 1 } /^-/ { delete group[substr($0, 2)] } ' +
      'END { for (id in group) system("kill -9 -- -" id " 2>/dev/null") }';
    const stdio = ['pipe', 'ignore', 'ignore'] as const;
    watchdog = spawn('awk', [script], { detached: true, stdio: [...stdio] });
    watchdog.on('error', () => undefined);
    watchdog.unref();
    (watchdog.stdin as unknown as { unref?: () => void } | null)?.unref?.();
    process.once('exit', () => {
      for (const id of running) signalGroup(id, 'SIGKILL');
    });
  }
  running.add(pid);
  watchdog.stdin?.write(`+${pid}\n`);
}

function unguard(pid: number): void {
  running.delete(pid);
  watchdog?.stdin?.write(`-${pid}\n`);
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** A program in its own process group, with its output kept in a bounded buffer. */
export class ServerProcess {
  readonly name: string;
  private child: ChildProcess | null = null;
  private result: ExitResult | null = null;
  private lines: string[] = [];
  private rest = '';
  private linesBefore = 0;
  /** Sees every line as it comes; the buffer above is bounded. */
  onLine: ((line: string) => void) | null = null;
  /** Told of every end of the process, by whatever hand. */
  onExit: ((result: ExitResult) => void) | null = null;

  constructor(name: string) {
    this.name = name;
  }

  /** Starts the command. The log goes on from earlier runs; `logs` marks the start. */
  run(command: readonly string[], environment: Readonly<Record<string, string>> = {}): void {
    if (this.isRunning) throw new Error(`${this.name} is already running`);
    const [program, ...args] = command;
    this.result = null;
    this.push(`--- start: ${command.join(' ')}`);
    this.linesBefore = this.lines.length;
    const env = { ...process.env, ...environment };
    delete env['VITEST'];
    const stdio = ['ignore', 'pipe', 'pipe'] as const;
    const child = spawn(program ?? '', args, { detached: true, stdio: [...stdio], env });
    this.child = child;
    if (child.pid !== undefined) guard(child.pid);
    child.stdout?.on('data', (bytes: Buffer) => this.take(bytes));
    child.stderr?.on('data', (bytes: Buffer) => this.take(bytes));
    child.on('error', (error) => {
      this.push(`--- cannot start: ${error.message}`);
      this.result ??= { code: -1, signal: null };
    });
    child.on('close', (code, signal) => {
      if (child.pid !== undefined) unguard(child.pid);
      this.push(`--- end: code ${code}, signal ${signal}`);
      if (this.child === child) this.result = { code, signal };
      this.onExit?.({ code, signal });
    });
  }

  get isRunning(): boolean {
    return this.child !== null && this.result === null;
  }

  get pid(): number {
    const pid = this.child?.pid;
    if (pid === undefined) throw new Error(`${this.name} was never started`);
    return pid;
  }

  /** Everything this process has written, across restarts, at most LOG_LINES_MAX lines. */
  get logs(): string {
    return this.lines.join('\n');
  }

  /** What it has written since its last start. */
  get logsOfThisRun(): string {
    return this.lines.slice(this.linesBefore).join('\n');
  }

  signal(signal: NodeJS.Signals): void {
    signalGroup(this.pid, signal);
  }

  /** kill -9, and waits until the process is gone. */
  async kill(): Promise<void> {
    if (!this.isRunning) return;
    this.signal('SIGKILL');
    await this.waitExit(10_000);
  }

  /** SIGTERM, as an operator stops it. */
  async terminate(deadlineMs = 15_000): Promise<ExitResult> {
    this.signal('SIGTERM');
    return this.waitExit(deadlineMs);
  }

  /** Freezes the process: it keeps its sockets and its memory and does nothing. */
  freeze(): void {
    this.signal('SIGSTOP');
  }

  thaw(): void {
    this.signal('SIGCONT');
  }

  async waitExit(deadlineMs: number): Promise<ExitResult> {
    return waitFor(`the end of ${this.name}`, deadlineMs, () => this.result);
  }

  async waitLog(text: string | RegExp, deadlineMs: number): Promise<void> {
    await waitFor(`${this.name} to log ${text}`, deadlineMs, () => {
      const logs = this.logsOfThisRun;
      if (typeof text === 'string' ? logs.includes(text) : text.test(logs)) return true;
      if (!this.isRunning) throw new EarlyExit(this.name, this.logsOfThisRun);
      return false;
    });
  }

  /** Resident memory of the process in bytes. */
  get residentBytes(): number {
    const status = readFileSync(`/proc/${this.pid}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1_024;
  }

  /** User and system CPU time so far, in ms. */
  get cpuMs(): number {
    const stat = readFileSync(`/proc/${this.pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }

  private take(bytes: Buffer): void {
    const lines = (this.rest + bytes.toString()).split('\n');
    this.rest = lines.pop() ?? '';
    for (const line of lines) this.push(line);
  }

  private push(line: string): void {
    this.lines.push(line);
    this.onLine?.(line);
    if (this.lines.length <= LOG_LINES_MAX) return;
    const cut = LOG_LINES_MAX / 4;
    this.lines = this.lines.slice(cut);
    this.linesBefore = Math.max(0, this.linesBefore - cut);
  }
}

class EarlyExit extends GiveUp {
  readonly logs: string;

  constructor(name: string, logs: string) {
    super(`${name} ended before it was ready:\n${logs.slice(-2_000)}`);
    this.logs = logs;
  }
}

/** One member of a cluster, across its restarts. */
export class Member extends ServerProcess {
  readonly clientPort: number;
  readonly dataFolder: string;
  readonly api: HttpApi;
  /** The network in front of its peer port; null without `proxied`. */
  readonly proxy: FaultProxy | null;
  readonly isSecure: boolean;
  /** Flags and environment of the next start; a test may change them. */
  flags: string[];
  environment: Record<string, string>;
  /** Null: `serverCommand()`. */
  command: readonly string[] | null = null;
  /** Id of the member, known once it answered. */
  id = '';

  constructor(
    name: string,
    clientPort: number,
    dataFolder: string,
    proxy: FaultProxy | null,
    isSecure = TLS_BY_DEFAULT,
  ) {
    super(name);
    this.clientPort = clientPort;
    this.dataFolder = dataFolder;
    this.proxy = proxy;
    this.isSecure = isSecure;
    this.api = new HttpApi(this.clientUrl);
    this.flags = [];
    this.environment = {};
  }

  get clientUrl(): string {
    return `${this.scheme}://127.0.0.1:${this.clientPort}`;
  }

  get scheme(): 'http' | 'https' {
    return this.isSecure ? 'https' : 'http';
  }

  get walFolder(): string {
    return join(this.dataFolder, 'wal');
  }

  /** Starts the process without waiting for it. */
  launch(): void {
    this.run([...(this.command ?? serverCommand()), ...this.flags], this.environment);
  }

  async start(deadlineMs = START_MS): Promise<void> {
    this.launch();
    await this.waitReady(deadlineMs);
  }

  async waitReady(deadlineMs = START_MS): Promise<void> {
    await this.waitLog(READY_TEXT, deadlineMs);
    if (this.id === '') this.id = (await this.api.status(5_000)).header.memberId;
  }

  async restart(): Promise<void> {
    await this.kill();
    await this.start();
  }
}

export class Cluster {
  readonly members: readonly Member[];

  private constructor(members: readonly Member[]) {
    this.members = members;
  }

  /** Starts all members and waits until each says it is ready and all agree on a leader. */
  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    for (let attempt = 1; ; attempt += 1) {
      const cluster = await Cluster.prepare(options);
      try {
        for (const member of cluster.members) member.launch();
        await Promise.all(cluster.members.map((member) => member.waitReady()));
        await cluster.waitLeader();
        return cluster;
      } catch (error) {
        const taken = error instanceof EarlyExit && /EADDRINUSE|in use/.test(error.logs);
        const logs = cluster.describeLogs();
        await cluster.stop();
        if (taken && attempt < PORT_ATTEMPTS) continue;
        throw new Error(`the cluster did not start: ${(error as Error).message}\n${logs}`, {
          cause: error,
        });
      }
    }
  }

  /** Makes folders, ports and proxies, but starts no process. */
  static async prepare(options: ClusterOptions = {}): Promise<Cluster> {
    const size = options.size ?? 3;
    const isSecure = options.tls ?? TLS_BY_DEFAULT;
    const certificates = isSecure ? await makeTestCertificates() : null;
    const folder = options.folder ?? tempFolder('cluster');
    const members: Member[] = [];
    const peers: { listen: number; advertise: number }[] = [];
    for (let place = 0; place < size; place += 1) {
      const listen = await freePort();
      const identify = (port: number): string | null => ownerOf(port, members);
      const proxy = options.proxied ? await FaultProxy.listen(listen, { identify }) : null;
      peers.push({ listen, advertise: proxy?.port ?? listen });
      const wanted = place === 0 ? options.firstClientPort : undefined;
      const clientPort = wanted ?? (await freePort());
      const name = `m${place + 1}`;
      members.push(new Member(name, clientPort, join(folder, name), proxy, isSecure));
    }
    const initial = members.map((member, place) => {
      return `${member.name}=${member.scheme}://127.0.0.1:${peers[place]?.advertise}`;
    });
    for (const [place, member] of members.entries()) {
      const url = `${member.scheme}://127.0.0.1:${peers[place]?.listen}`;
      const advertised = `${member.scheme}://127.0.0.1:${peers[place]?.advertise}`;
      member.command = options.command ?? null;
      member.environment = { ...options.environment?.[member.name] };
      member.flags = [
        ...['--name', member.name, '--data-dir', member.dataFolder],
        ...['--listen-client-urls', member.clientUrl, '--advertise-client-urls', member.clientUrl],
        ...['--listen-peer-urls', url],
        ...['--initial-advertise-peer-urls', advertised],
        ...['--initial-cluster', initial.join(','), '--initial-cluster-state', 'new'],
        ...['--initial-cluster-token', 'test'],
        ...((await certificates?.memberFlags(member.name)) ?? []),
        ...(options.flags ?? []),
      ];
    }
    return new Cluster(members);
  }

  get running(): readonly Member[] {
    return this.members.filter((member) => member.isRunning);
  }

  member(place: number): Member {
    const member = this.members[place];
    if (member === undefined) throw new Error(`there is no member ${place}`);
    return member;
  }

  others(member: Member): readonly Member[] {
    return this.members.filter((other) => other !== member);
  }

  /** Waits until a majority of the members agrees that one of them, which agrees too, leads. */
  async waitLeader(
    among: readonly Member[] = this.running,
    deadlineMs = AGREE_MS,
  ): Promise<Member> {
    const quorum = Math.floor(this.members.length / 2) + 1;
    return waitFor('a leader', deadlineMs, async () => {
      const replies = await Promise.allSettled(among.map((member) => member.api.status(1_000)));
      const votes = new Map<string, number>();
      let leader: Member | null = null;
      let highest = 0;
      const seen = replies.map((reply) => (reply.status === 'fulfilled' ? reply.value : null));
      seen.forEach((status, place) => {
        if (status === null || status.leader === '0') return;
        const vote = `${status.raftTerm} ${status.leader}`;
        votes.set(vote, (votes.get(vote) ?? 0) + 1);
        const own = status.leader === status.header.memberId;
        if (own && status.raftTerm > highest) {
          highest = status.raftTerm;
          leader = among[place] ?? null;
        }
      });
      if (leader === null) return null;
      return Math.max(...votes.values()) >= quorum ? (leader as Member) : null;
    });
  }

  /** Waits until a write through any running member is accepted; how long that took, in ms. */
  async waitWritable(): Promise<number> {
    const start = performance.now();
    await waitFor('an accepted write', AGREE_MS, async () => {
      for (const member of this.running) {
        const accepted = await member.api.put('probe/writable', String(start)).catch(() => null);
        if (accepted !== null) return true;
      }
      return false;
    });
    return performance.now() - start;
  }

  /**
   * Waits until all running members have the same revision, then compares their hashes at it; the
   * revision. Only for a cluster that nobody writes to.
   */
  async assertSameState(deadlineMs = AGREE_MS): Promise<number> {
    const revision = await waitFor('equal revisions on all members', deadlineMs, async () => {
      const asked = this.running.map((member) => member.api.status());
      const revisions = (await Promise.all(asked)).map((status) => status.header.revision);
      if (new Set(revisions).size === 1) return revisions[0] ?? null;
      throw new Error(`revisions ${revisions.join(', ')}`);
    });
    const distinct = new Set<string>();
    // One after the other: hashing a large store is work, and all members share this machine.
    for (const member of this.running) distinct.add(await fingerprint(member.api, revision));
    if (distinct.size > 1) {
      const names = this.running.map((member) => member.name).join(', ');
      throw new Error(`${names} differ at revision ${revision}: ${[...distinct].join(', ')}`);
    }
    return revision;
  }

  /** Nothing that `from` sends reaches `to`, whoever of the two dialed. */
  cutLink(from: Member, to: Member): void {
    to.proxy?.set('forward', { blackHole: true }, from.name);
    from.proxy?.set('backward', { blackHole: true }, to.name);
  }

  /** Cuts the member off from all others, both ways. Clients still reach it. */
  isolate(member: Member): void {
    member.proxy?.cut();
    for (const other of this.others(member)) other.proxy?.cut(member.name);
  }

  /** Lifts every network rule. */
  heal(): void {
    for (const member of this.members) member.proxy?.heal();
  }

  /** The last log lines of every member, for the report of a failed test. */
  describeLogs(linesEach = 60): string {
    const parts = this.members.map((member) => {
      const lines = member.logs.split('\n').slice(-linesEach);
      return `===== ${member.name} (${member.dataFolder})\n${lines.join('\n')}`;
    });
    return parts.join('\n');
  }

  /** Kills everything and closes the proxies. */
  async stop(): Promise<void> {
    await Promise.all(this.members.map((member) => member.kill()));
    for (const member of this.members) member.api.close();
    await Promise.all(this.members.map((member) => member.proxy?.close()));
  }
}

/** Stands for everything in a member's store: its own hash, or, of foreign programs, the pairs. */
async function fingerprint(api: HttpApi, revision: number): Promise<string> {
  if (process.env['KVD_TEST_PROGRAM']) {
    const all = { rangeEnd: '\0', serializable: true };
    return createHash('sha256')
      .update(JSON.stringify((await api.range('\0', all)).kvs))
      .digest('hex');
  }
  const { hash, compactRevision } = await api.hashKv(revision);
  return `${hash} (compacted ${compactRevision})`;
}

/** Name of the member whose process owns the local end of this port; null if none does. */
function ownerOf(port: number, members: readonly Member[]): string | null {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const inodes = new Set<string>();
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    if (!existsSync(table)) continue;
    for (const line of readFileSync(table, 'utf8').split('\n')) {
      const fields = line.trim().split(/\s+/);
      if (fields[1]?.endsWith(wanted)) inodes.add(`socket:[${fields[9]}]`);
    }
  }
  for (const member of members) {
    if (!member.isRunning) continue;
    try {
      const folder = `/proc/${member.pid}/fd`;
      for (const fd of readdirSync(folder)) {
        if (inodes.has(linkOf(join(folder, fd)))) return member.name;
      }
    } catch (error) {
      // A process that ends while we look owns nothing any more.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return null;
}

/** Where a link points; '' when its file descriptor was closed meanwhile. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}

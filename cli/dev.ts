/**
 * `kvd dev`: a real cluster of child processes on this machine, in the foreground.
 *
 * For a first look and for work on programs that use kvd. Data lies under .kvd/ and is kept between
 * runs. The terminal that runs it takes short commands (`kill m1`, `start m1`, `status`, `quit`), so that
 * a failover can be tried without looking for process ids.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { request } from 'node:http';
import { request as requestWithTls } from 'node:https';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { KvError } from '../src/errors.js';
import { takeDevFolder } from './dev-folder.js';
import type { ObservedMember } from './dev-status.js';
import { StatusLine } from './dev-status.js';
import { type DevTls, openDevTls } from './dev-tls.js';
import { NODE_FLAGS } from './node-flags.js';

interface DevOptions {
  readonly nodes: number;
  readonly fresh: boolean;
  readonly tls: boolean;
  readonly folder: string;
  readonly ports: readonly number[];
}

interface DevMember {
  readonly name: string;
  readonly clientPort: number;
  readonly folder: string;
  readonly logFile: string;
  child: ChildProcess | null;
  /** The child ended because this program asked it to. */
  stopping: boolean;
}

const DEFAULT_PORTS = [2379, 22379, 32379, 42379, 52379];
const STOP_MS = 8000;
const COMMANDS = 'status, kill NAME, start NAME, quit';
const DEV_HELP = [
  'kvd dev: a cluster of real processes on this machine, in the foreground',
  '',
  'usage: kvd dev [options]',
  '',
  '  --nodes N              1, 3 or 5 members (default: 3)',
  '  --fresh                wipe the data of earlier runs',
  '  --tls                  TLS on all ports, with certificates that it makes',
  '  --data-dir DIR         where data and logs are kept (default: .kvd)',
  '  --client-ports P,P,P   one per member; its peer port is the next one',
  '                         (default: 2379,22379,32379,42379,52379)',
  '',
  `At a terminal it takes commands: ${COMMANDS}. Ctrl-C stops all members.`,
  '',
].join('\n');
const PROGRAM = fileURLToPath(new URL('./kvd.js', import.meta.url));

/** Resolves with the exit code when all members have stopped. */
export async function runDev(args: readonly string[]): Promise<number> {
  if (args.includes('--help') || args.includes('-h')) {
    process.stdout.write(DEV_HELP);
    return 0;
  }
  const options = parseDevArgs(args);
  const members: DevMember[] = options.ports.map((clientPort, at) => ({
    name: `m${at + 1}`,
    clientPort,
    folder: join(options.folder, `m${at + 1}`),
    logFile: join(options.folder, `m${at + 1}.log`),
    child: null,
    stopping: false,
  }));
  for (const { clientPort } of members) {
    await assertFree(clientPort);
    await assertFree(clientPort + 1);
  }
  // After the ports: a cluster that runs is not to lose its data to a second --fresh.
  const giveBack = takeDevFolder(options);
  try {
    const names = members.map(({ name }) => name);
    const tls = options.tls ? await openDevTls(options.folder, names) : null;
    return await new Cluster(members, options.folder, tls).run();
  } finally {
    giveBack();
  }
}

function parseDevArgs(args: readonly string[]): DevOptions {
  let nodes = 3;
  let fresh = false;
  let tls = false;
  let folder = '.kvd';
  let ports: number[] | null = null;
  const wrong = (text: string): KvError =>
    new KvError('CONFIG_INVALID', `${text}; see kvd dev --help`);
  for (let at = 0; at < args.length; at += 1) {
    const [flag, inline] = (args[at] as string).split(/=(.*)/s) as [string, string | undefined];
    const value = (): string => {
      const found = inline ?? args[++at];
      if (found === undefined) throw wrong(`${flag} needs a value`);
      return found;
    };
    if (flag === '--fresh') fresh = true;
    else if (flag === '--tls') tls = true;
    else if (flag === '--nodes') nodes = Number(value());
    else if (flag === '--data-dir') folder = value();
    else if (flag === '--client-ports') ports = value().split(',').map(Number);
    else throw wrong(`unknown option ${flag}`);
  }
  if (ports !== null) nodes = ports.length;
  if (![1, 3, 5].includes(nodes)) throw wrong(`--nodes ${nodes}: 1, 3 or 5 are possible`);
  const chosen = ports ?? DEFAULT_PORTS.slice(0, nodes);
  if (!chosen.every((port) => Number.isInteger(port) && port > 0 && port < 65_535)) {
    throw wrong('--client-ports: numbers between 1 and 65534, separated by commas');
  }
  const taken = new Set(chosen.flatMap((port) => [port, port + 1]));
  if (taken.size < 2 * chosen.length) {
    throw wrong('--client-ports: each member needs a port and the next one for itself');
  }
  return { nodes, fresh, tls, folder, ports: chosen };
}

function assertFree(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', () => {
      reject(
        new KvError(
          'CONFIG_INVALID',
          `port ${port} is in use: stop the program that has it, or choose others with --client-ports (the peer port is one above each) and --data-dir`,
        ),
      );
    });
    probe.listen({ host: '127.0.0.1', port }, () => probe.close(() => resolve()));
  });
}

class Cluster {
  private readonly members: readonly DevMember[];
  private readonly folder: string;
  private readonly tls: DevTls | null;
  private readonly line: StatusLine;
  private ended = false;
  private isCommandTold = false;
  private finish: (code: number) => void = () => undefined;

  constructor(members: readonly DevMember[], folder: string, tls: DevTls | null) {
    this.members = members;
    this.folder = folder;
    this.tls = tls;
    this.line = new StatusLine(tls === null ? '' : 'https://');
  }

  run(): Promise<number> {
    return new Promise((resolve) => {
      this.finish = resolve;
      process.on('SIGINT', () => this.stop());
      process.on('SIGTERM', () => this.stop());
      process.on('exit', () => {
        for (const { child } of this.members) child?.kill('SIGKILL');
      });
      for (const member of this.members) this.start(member);
      const count = this.members.length === 1 ? '1 member' : `${this.members.length} members`;
      this.say(`starting ${count}, data and logs in ${this.folder}/`);
      this.readCommands();
      this.watchLeader();
    });
  }

  private start(member: DevMember): void {
    const scheme = this.tls === null ? 'http' : 'https';
    const url = (port: number): string => `${scheme}://127.0.0.1:${port}`;
    const log = openSync(member.logFile, 'a', 0o600);
    const cluster = this.members.map((other) => `${other.name}=${url(other.clientPort + 1)}`);
    member.stopping = false;
    const child = spawn(
      process.execPath,
      [
        ...NODE_FLAGS,
        PROGRAM,
        ...['--name', member.name],
        ...['--data-dir', member.folder],
        ...['--listen-client-urls', url(member.clientPort)],
        ...['--advertise-client-urls', url(member.clientPort)],
        ...['--listen-peer-urls', url(member.clientPort + 1)],
        ...['--initial-advertise-peer-urls', url(member.clientPort + 1)],
        ...['--initial-cluster', cluster.join(',')],
        ...['--initial-cluster-token', 'kvd-dev'],
        ...(this.tls?.memberFlags(member.name) ?? []),
      ],
      // A group of its own: Ctrl-C in the terminal reaches this program alone, which stops the members.
      // Its standard input is a pipe from here: when this program dies, however it dies, so does it.
      {
        stdio: ['pipe', 'ignore', log],
        detached: true,
        env: { ...process.env, KVD_STOP_ON_STDIN_END: '1' },
      },
    );
    closeSync(log);
    member.child = child;
    child.on('exit', (code, signal) => this.onExit(member, code, signal));
  }

  private onExit(member: DevMember, code: number | null, signal: string | null): void {
    member.child = null;
    if (!member.stopping) {
      this.say(
        `${member.name} ended (${signal ?? `exit code ${code}`}); "start ${member.name}" starts it again`,
      );
      if (code !== 0 && code !== null) this.say(`  ${lastLine(member.logFile)}`);
    }
    if (this.members.some((other) => other.child !== null)) return;
    if (!this.ended && !member.stopping && signal !== null) return;
    this.finish(this.ended ? 0 : (code ?? 1));
    // Standard input keeps the process alive.
    process.stdin.destroy();
  }

  private stop(): void {
    if (this.ended) {
      for (const { child } of this.members) child?.kill('SIGKILL');
      return;
    }
    this.ended = true;
    const running = this.members.filter(({ child }) => child !== null);
    this.say(running.length === 0 ? 'nothing is running' : 'stopping');
    if (running.length === 0) {
      this.finish(0);
      process.stdin.destroy();
    }
    for (const member of running) {
      member.stopping = true;
      member.child?.kill('SIGTERM');
    }
    setTimeout(() => {
      for (const { child } of this.members) child?.kill('SIGKILL');
    }, STOP_MS).unref();
  }

  private readCommands(): void {
    if (!process.stdin.isTTY) return;
    this.say(`commands: ${COMMANDS}`);
    createInterface({ input: process.stdin }).on('line', (line) => {
      const [verb = '', name] = line.trim().split(/\s+/);
      if (verb === 'quit' || verb === 'exit') this.stop();
      else if (verb === 'status') this.line.ask();
      else if (verb === 'kill' || verb === 'start') this.killOrStart(verb, name);
      else if (verb !== '') this.say(`commands: ${COMMANDS}`);
    });
  }

  private killOrStart(verb: 'kill' | 'start', name: string | undefined): void {
    const member = this.members.find((candidate) => candidate.name === name);
    if (member === undefined) {
      const names = this.members.map((one) => one.name).join(', ');
      this.say(name === undefined ? `${verb} which: ${names}?` : `no member ${name}: ${names}`);
    } else if (verb === 'kill') {
      if (member.child === null) this.say(`${member.name} is not running`);
      else member.child.kill('SIGKILL');
    } else if (member.child === null && !this.ended) this.start(member);
    else this.say(`${member.name} is running`);
  }

  /** Prints a line whenever the leader or the number of members changes, as the members tell it. */
  private watchLeader(): void {
    if (this.ended) return;
    void this.observe().then((members) => {
      const text = this.line.next(members, performance.now());
      if (text !== null && !this.ended) {
        this.say(text);
        if (members.some(({ leads }) => leads)) this.tellCommand();
      }
      setTimeout(() => this.watchLeader(), 200).unref();
    });
  }

  /** Once, when it works: with TLS the endpoints alone do not let anybody in. */
  private tellCommand(): void {
    if (this.tls === null || this.isCommandTold) return;
    this.isCommandTold = true;
    this.say(
      `TLS on all ports: ${this.tls.commandLine(this.members.map((one) => one.clientPort))}`,
    );
  }

  private observe(): Promise<ObservedMember[]> {
    return Promise.all(
      this.members.map(async (member) => {
        const answer = member.child === null ? null : await status(member.clientPort, this.tls);
        return {
          name: member.name,
          clientPort: member.clientPort,
          running: member.child !== null,
          answers: answer !== null && member.child !== null,
          leads: answer !== null && answer.leader !== '' && answer.leader === answer.self,
        };
      }),
    );
  }

  private say(text: string): void {
    process.stdout.write(`kvd dev | ${text}\n`);
  }
}

interface Status {
  readonly self: string;
  readonly leader: string;
}

/** What a member says of itself; null when it does not answer within a second. */
function status(port: number, tls: DevTls | null): Promise<Status | null> {
  const target = { host: '127.0.0.1', port, path: '/v3/maintenance/status', agent: tls?.agent };
  return new Promise((resolve) => {
    const call = (tls === null ? request : requestWithTls)(
      { ...target, method: 'POST', timeout: 1000 },
      (answer) => {
        let body = '';
        answer.setEncoding('utf8');
        answer.on('data', (chunk: string) => {
          body += chunk;
        });
        answer.on('end', () => {
          try {
            const parsed = JSON.parse(body) as { header?: { member_id?: string }; leader?: string };
            resolve({ self: parsed.header?.member_id ?? '', leader: parsed.leader ?? '' });
          } catch {
            // Half an answer of a member that is going down.
            resolve(null);
          }
        });
      },
    );
    call.on('timeout', () => call.destroy());
    call.on('error', () => resolve(null));
    call.end('{}');
  });
}

function lastLine(file: string): string {
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
  return (lines[lines.length - 1] ?? '').slice(0, 400);
}

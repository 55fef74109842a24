/**
 * `kvd dev`: a real cluster of child processes on this machine, in the foreground.
 *
 * For a first look and for work on programs that use kvd. Data lies under .kvd/ and is kept between
 * runs. The terminal that runs it takes short commands (`kill m1`, `start m1`, `status`, `quit`), so that
 * a failover can be tried without looking for process ids.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { KvError } from '../src/errors.js';

interface DevOptions {
  readonly nodes: number;
  readonly fresh: boolean;
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
const PROGRAM = fileURLToPath(new URL('./kvd.js', import.meta.url));

/** Resolves with the exit code when all members have stopped. */
export async function runDev(args: readonly string[]): Promise<number> {
  const options = parseDevArgs(args);
  if (options.fresh) rmSync(options.folder, { recursive: true, force: true });
  mkdirSync(options.folder, { recursive: true, mode: 0o700 });
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
  return await new Cluster(members).run();
}

function parseDevArgs(args: readonly string[]): DevOptions {
  let nodes = 3;
  let fresh = false;
  let folder = '.kvd';
  let ports: number[] | null = null;
  const wrong = (text: string): KvError =>
    new KvError(
      'CONFIG_INVALID',
      `${text}\nusage: kvd dev [--nodes 1|3|5] [--fresh] [--data-dir DIR] [--client-ports P,P,P]`,
    );
  for (let at = 0; at < args.length; at += 1) {
    const [flag, inline] = (args[at] as string).split(/=(.*)/s) as [string, string | undefined];
    const value = (): string => {
      const found = inline ?? args[++at];
      if (found === undefined) throw wrong(`${flag} needs a value`);
      return found;
    };
    if (flag === '--fresh') fresh = true;
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
  return { nodes, fresh, folder, ports: chosen };
}

function assertFree(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', () => {
      reject(
        new KvError(
          'CONFIG_INVALID',
          `port ${port} is in use: stop the program that has it, or choose others with --client-ports (the peer port is one above each)`,
        ),
      );
    });
    probe.listen({ host: '127.0.0.1', port }, () => probe.close(() => resolve()));
  });
}

class Cluster {
  private readonly members: readonly DevMember[];
  private lastLeader = '';
  private ended = false;
  private finish: (code: number) => void = () => undefined;

  constructor(members: readonly DevMember[]) {
    this.members = members;
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
      this.say(
        `starting ${this.members.length} member(s), data and logs in ${this.members[0]?.folder.replace(/\/m1$/, '')}/`,
      );
      this.readCommands();
      this.watchLeader();
    });
  }

  private start(member: DevMember): void {
    const url = (port: number): string => `http://127.0.0.1:${port}`;
    const log = openSync(member.logFile, 'a', 0o600);
    const cluster = this.members.map((other) => `${other.name}=${url(other.clientPort + 1)}`);
    member.stopping = false;
    const child = spawn(
      process.execPath,
      [
        PROGRAM,
        ...['--name', member.name],
        ...['--data-dir', member.folder],
        ...['--listen-client-urls', url(member.clientPort)],
        ...['--advertise-client-urls', url(member.clientPort)],
        ...['--listen-peer-urls', url(member.clientPort + 1)],
        ...['--initial-advertise-peer-urls', url(member.clientPort + 1)],
        ...['--initial-cluster', cluster.join(',')],
        ...['--initial-cluster-token', 'kvd-dev'],
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
      this.lastLeader = '';
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
    createInterface({ input: process.stdin }).on('line', (line) => {
      const [verb, name] = line.trim().split(/\s+/);
      const member = this.members.find((candidate) => candidate.name === name);
      if (verb === 'quit' || verb === 'exit') this.stop();
      else if (verb === 'status') this.lastLeader = '';
      else if (verb === 'kill' && member !== undefined) member.child?.kill('SIGKILL');
      else if (verb === 'start' && member !== undefined) {
        if (member.child === null) this.start(member);
        else this.say(`${member.name} is running`);
      } else if (line.trim() !== '') this.say('commands: status, kill NAME, start NAME, quit');
    });
  }

  /** Prints a line whenever the leader changes, as the members tell it. */
  private watchLeader(): void {
    if (this.ended) return;
    void this.describe().then((text) => {
      if (text !== '' && text !== this.lastLeader && !this.ended) {
        this.lastLeader = text;
        this.say(text);
      }
      setTimeout(() => this.watchLeader(), 200).unref();
    });
  }

  private async describe(): Promise<string> {
    const answers = await Promise.all(
      this.members.map(async (member) => ({
        member,
        status: member.child === null ? null : await status(member.clientPort),
      })),
    );
    const up = answers.filter(({ status: answer }) => answer !== null);
    const leader = answers.find(
      ({ status: answer }) =>
        answer !== null && answer.leader !== '' && answer.leader === answer.self,
    );
    if (leader === undefined) return '';
    const list = up.map(({ member }) => `127.0.0.1:${member.clientPort}`).join(',');
    return `ready: leader ${leader.member.name}, ${up.length} of ${this.members.length} up, --endpoints ${list}`;
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
function status(port: number): Promise<Status | null> {
  return new Promise((resolve) => {
    const call = request(
      { host: '127.0.0.1', port, path: '/v3/maintenance/status', method: 'POST', timeout: 1000 },
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

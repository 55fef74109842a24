/**
 * `npm run bench -- rpc`: an empty unary call, served by kvd's own HTTP/2 and by @grpc/grpc-js, in turns,
 * under the same load of h2load (Debian: nghttp2-client). Prints calls per second, CPU per call, and how
 * they compare: the machine is noisy, the ratio within one run is not.
 */
import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { spread, thousands } from './report.js';

/** A call of the API whose request and answer may be empty. */
const PATH = '/etcdserverpb.Maintenance/Defragment';
const CONNECTIONS = 10;
const STREAMS = 10;

export interface RpcSettings {
  readonly seconds: number;
  readonly repetitions: number;
}

interface Measured {
  readonly perSecond: number;
  readonly cpuUs: number;
}

class Server {
  readonly name: string;
  private readonly child: ChildProcessByStdio<Writable, Readable, null>;
  private readonly lines: AsyncIterableIterator<string>;
  private port = '';

  constructor(name: string) {
    this.name = name;
    const program = fileURLToPath(new URL('./rpc-server.js', import.meta.url));
    this.child = spawn(process.execPath, [program, name, PATH], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  async ready(): Promise<void> {
    this.port = await this.line();
  }

  async measure(seconds: number, body: string): Promise<Measured> {
    const before = await this.cpuUs();
    const output = await h2load([
      ...['-D', String(seconds), '-c', String(CONNECTIONS), '-m', String(STREAMS), '-t', '1'],
      ...['-d', body, '-H', 'content-type: application/grpc', '-H', 'te: trailers'],
      `http://127.0.0.1:${this.port}${PATH}`,
    ]);
    const cpu = (await this.cpuUs()) - before;
    const done = Number(/(\d+) succeeded/.exec(output)?.[1] ?? 0);
    const failed = Number(/(\d+) failed/.exec(output)?.[1] ?? 0);
    if (done === 0 || failed > 0) throw new Error(`h2load against ${this.name}:\n${output}`);
    return { perSecond: done / seconds, cpuUs: cpu / done };
  }

  async stop(): Promise<void> {
    this.child.stdin.end();
    await once(this.child, 'close');
  }

  private async cpuUs(): Promise<number> {
    this.child.stdin.write('\n');
    return Number(await this.line());
  }

  private async line(): Promise<string> {
    const { value, done } = await this.lines.next();
    if (done === true) throw new Error(`the server of ${this.name} ended`);
    return value;
  }
}

async function h2load(args: readonly string[]): Promise<string> {
  const child = spawn('h2load', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (bytes) => {
    output += String(bytes);
  });
  await once(child, 'close');
  return output;
}

export async function benchRpc(
  { seconds, repetitions }: RpcSettings,
  say: (text: string) => void,
): Promise<void> {
  if (spawnSync('h2load', ['--version']).status !== 0) {
    throw new Error('h2load is missing: apt-get install nghttp2-client');
  }
  const folder = mkdtempSync(join(tmpdir(), 'kvd-bench-rpc-'));
  const body = join(folder, 'empty');
  // The prefix of a message of no bytes.
  writeFileSync(body, Buffer.alloc(5));
  const servers = [new Server('kvd'), new Server('grpc-js')];
  const results = new Map<string, Measured[]>(servers.map(({ name }) => [name, []]));
  try {
    for (const server of servers) await server.ready();
    for (const server of servers) await server.measure(Math.min(2, seconds), body);
    for (let round = 0; round < repetitions; round += 1) {
      for (const server of servers) {
        (results.get(server.name) as Measured[]).push(await server.measure(seconds, body));
      }
    }
  } finally {
    for (const server of servers) await server.stop();
    rmSync(folder, { recursive: true, force: true });
  }
  say(`an empty unary call, ${CONNECTIONS} connections with ${STREAMS} streams each`);
  const medians = servers.map(({ name }) => {
    const measured = results.get(name) as Measured[];
    const rate = spread(measured.map(({ perSecond }) => perSecond));
    const cpu = spread(measured.map(({ cpuUs }) => cpuUs));
    say(
      `  ${name.padEnd(8)} ${thousands(rate.median)} calls/s (${thousands(rate.lowest)} to ` +
        `${thousands(rate.highest)}), ${cpu.median.toFixed(1)} us of CPU per call ` +
        `(${cpu.lowest.toFixed(1)} to ${cpu.highest.toFixed(1)})`,
    );
    return { rate: rate.median, cpu: cpu.median };
  });
  const [own, other] = medians as [{ rate: number; cpu: number }, { rate: number; cpu: number }];
  say(
    `  kvd has ${(own.rate / other.rate).toFixed(1)} x the calls and ` +
      `1/${(other.cpu / own.cpu).toFixed(1)} of the CPU per call`,
  );
}

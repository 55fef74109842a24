/**
 * `npm run bench -- rpc`: an empty unary call, served by kvd's own HTTP/2 and by @grpc/grpc-js, in turns,
 * under the same load of h2load (Debian: nghttp2-client). Prints calls per second, CPU per call, and how
 * they compare: the machine is noisy, the ratio within one run is not.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { h2load, hasH2load } from './h2load.js';
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
    const done = await h2load({
      seconds,
      connections: CONNECTIONS,
      streams: STREAMS,
      body,
      uri: `http://127.0.0.1:${this.port}${PATH}`,
    });
    const cpu = (await this.cpuUs()) - before;
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

export async function benchRpc(
  { seconds, repetitions }: RpcSettings,
  say: (text: string) => void,
): Promise<void> {
  if (!hasH2load()) {
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

/**
 * Runs kvctl inside the test process, with streams that are kept and an interrupt by hand.
 */
import type { Io } from '../../cli/io.js';
import { main } from '../../cli/program.js';
import { clientEnvironment } from './test-certificates.js';

export interface CliResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly stdoutBytes: Uint8Array;
}

export interface CliOptions {
  readonly stdin?: string | Uint8Array;
  readonly askHidden?: (prompt: string) => Promise<string>;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** A command under way. */
export class CliRun {
  readonly done: Promise<CliResult>;
  private readonly out: Uint8Array[] = [];
  private readonly err: Uint8Array[] = [];
  private readonly controller = new AbortController();

  constructor(argv: readonly string[], options: CliOptions = {}) {
    const io: Io = {
      stdout: collector(this.out),
      stderr: collector(this.err),
      stdin: (async function* () {
        if (options.stdin !== undefined) yield options.stdin;
      })(),
      stdinIsTerminal: false,
      askHidden: options.askHidden ?? null,
      env: options.env ?? { PATH: process.env['PATH'], ...clientEnvironment('KVCTL') },
      interrupt: this.controller.signal,
    };
    this.done = main(argv, io).then((code) => ({
      code,
      stdout: this.stdout,
      stderr: this.stderr,
      stdoutBytes: Buffer.concat(this.out),
    }));
  }

  get stdout(): string {
    return Buffer.concat(this.out).toString('utf8');
  }

  get stderr(): string {
    return Buffer.concat(this.err).toString('utf8');
  }

  interrupt(name: 'SIGINT' | 'SIGTERM' = 'SIGINT'): void {
    this.controller.abort(name);
  }
}

function collector(parts: Uint8Array[]) {
  return {
    write: (chunk: string | Uint8Array) => void parts.push(Buffer.from(chunk as string)),
    drained: () => Promise.resolve(),
  };
}

/** Runs a command to its end. */
export function runCli(argv: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  return new CliRun(argv, options).done;
}

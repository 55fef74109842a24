/**
 * What kvctl touches of the process it runs in: streams, environment, interrupts.
 *
 * The program gets it as a value, so that tests run whole commands without a process.
 */

export interface OutputStream {
  write(chunk: string | Uint8Array): void;
  /** Resolves when the reader has room again. */
  drained(): Promise<void>;
}

export type InterruptName = 'SIGINT' | 'SIGTERM';

export interface Io {
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  /** Read at most once. */
  readonly stdin: AsyncIterable<Uint8Array | string>;
  readonly stdinIsTerminal: boolean;
  /** Asks on the terminal, without showing what is typed; null without a terminal. */
  readonly askHidden: ((prompt: string) => Promise<string>) | null;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Aborted by Ctrl-C or a request to terminate; the reason is the signal's name. */
  readonly interrupt: AbortSignal;
}

/** All of standard input. */
export async function readStdin(io: Io): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of io.stdin) {
    parts.push(typeof part === 'string' ? Buffer.from(part, 'utf8') : part);
  }
  return Buffer.concat(parts);
}

export function interruptName(signal: AbortSignal): InterruptName {
  return signal.reason === 'SIGTERM' ? 'SIGTERM' : 'SIGINT';
}

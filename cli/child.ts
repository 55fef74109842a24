/**
 * Runs another program under kvctl: for `lock`, `register` and `watch`.
 *
 * The child shares our terminal and streams. Its exit code is what kvctl exits with; a child that
 * died of a signal counts as 128 + the signal's number, as in a shell.
 *
 * Invariants:
 * 1. A child that must end gets SIGTERM, and SIGKILL if it is still there KILL_AFTER_MS later.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { CommandError } from './exit.js';
import type { Io } from './io.js';
import { interruptName } from './io.js';

export const KILL_AFTER_MS = 5_000;
/** What a shell says for a program that is not there. */
const NO_SUCH_PROGRAM = 127;

export interface ChildOptions {
  readonly io: Io;
  readonly env: Readonly<Record<string, string>>;
  /** Aborted when the child must end although it has not finished. */
  readonly end?: AbortSignal | undefined;
  /** Hand a request to terminate kvctl on to the child. Default true. */
  readonly passInterrupt?: boolean;
  /** Give the child our standard input. Default true. */
  readonly stdin?: boolean;
  readonly killAfterMs?: number;
}

/** Resolves with the exit code when the child has ended. */
export function runChild(command: readonly string[], options: ChildOptions): Promise<number> {
  const [program, ...args] = command;
  if (program === undefined) throw new CommandError(2, 'no program is given after --');
  const { io, end } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: [options.stdin === false ? 'ignore' : 'inherit', 'inherit', 'inherit'],
      env: { ...io.env, ...options.env },
    });
    let killTimer: NodeJS.Timeout | null = null;
    const onEnd = (): void => {
      child.kill('SIGTERM');
      killTimer ??= setTimeout(() => child.kill('SIGKILL'), options.killAfterMs ?? KILL_AFTER_MS);
    };
    const onInterrupt = (): void => {
      const name = interruptName(io.interrupt);
      // Ctrl-C at a terminal has reached the child already: it is in the same process group.
      if (name === 'SIGINT' && io.stdinIsTerminal) return;
      child.kill(name);
    };
    const finish = (): void => {
      if (killTimer !== null) clearTimeout(killTimer);
      end?.removeEventListener('abort', onEnd);
      io.interrupt.removeEventListener('abort', onInterrupt);
    };
    child.on('error', (error: NodeJS.ErrnoException) => {
      finish();
      const missing = error.code === 'ENOENT';
      const text = missing ? 'there is no such program' : error.message;
      reject(new CommandError(missing ? NO_SUCH_PROGRAM : 126, `cannot run "${program}": ${text}`));
    });
    child.on('exit', (code, signal) => {
      finish();
      resolve(signal === null ? (code ?? 1) : 128 + constants.signals[signal]);
    });
    if (end?.aborted === true) onEnd();
    else end?.addEventListener('abort', onEnd, { once: true });
    if (options.passInterrupt !== false) {
      if (io.interrupt.aborted) onInterrupt();
      else io.interrupt.addEventListener('abort', onInterrupt, { once: true });
    }
  });
}

/** Resolves when any of the signals is aborted. */
export function anyAborted(...signals: readonly AbortSignal[]): Promise<void> {
  return new Promise((resolve) => {
    if (signals.some((signal) => signal.aborted)) resolve();
    for (const signal of signals) {
      signal.addEventListener('abort', () => resolve(), { once: true });
    }
  });
}

/**
 * Resolves when any of the signals is aborted, and keeps the process alive until then: a listener
 * on a signal alone does not.
 */
export async function waitFor(...signals: readonly AbortSignal[]): Promise<void> {
  const anchor = setInterval(() => {}, 2 ** 31 - 1);
  try {
    await anyAborted(...signals);
  } finally {
    clearInterval(anchor);
  }
}

#!/usr/bin/env node
/**
 * The command line program: gives cli/program.ts the real process.
 *
 * The first Ctrl-C or SIGTERM asks the command to end and clean up, the second ends it at once.
 */
import type { InterruptName, Io, OutputStream } from './io.js';
import { main } from './program.js';

function outputOf(stream: NodeJS.WriteStream): OutputStream {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    // `kvctl watch | head`: the reader has what it wanted.
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  return {
    write: (chunk) => void stream.write(chunk),
    drained: () => {
      if (!stream.writableNeedDrain) return Promise.resolve();
      return new Promise((resolve) => stream.once('drain', resolve));
    },
  };
}

/** One line of the terminal, without an echo. */
function askHidden(prompt: string): Promise<string> {
  const { stdin, stderr } = process;
  stderr.write(prompt);
  stdin.setRawMode(true);
  stdin.resume();
  return new Promise((resolve) => {
    let text = '';
    const onData = (chunk: Buffer): void => {
      for (const char of chunk.toString('utf8')) {
        if (char === '\u0003') {
          // Ctrl-C sends no signal in raw mode.
          stdin.setRawMode(false);
          process.kill(process.pid, 'SIGINT');
        } else if (char === '\r' || char === '\n' || char === '\u0004') {
          stdin.off('data', onData);
          stdin.setRawMode(false);
          stdin.pause();
          stderr.write('\n');
          resolve(text);
          return;
        } else if (char === '\u007f' || char === '\b') text = [...text].slice(0, -1).join('');
        else text += char;
      }
    };
    stdin.on('data', onData);
  });
}

const interrupt = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] satisfies InterruptName[]) {
  process.on(name, () => {
    if (interrupt.signal.aborted) process.exit(name === 'SIGINT' ? 130 : 143);
    interrupt.abort(name);
  });
}

const io: Io = {
  stdout: outputOf(process.stdout),
  stderr: outputOf(process.stderr),
  stdin: process.stdin,
  stdinIsTerminal: process.stdin.isTTY === true,
  askHidden: process.stdin.isTTY === true ? askHidden : null,
  env: process.env,
  interrupt: interrupt.signal,
};

/** Resolves when everything written so far has left the process, or cannot any more. */
function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => stream.write('', () => resolve()));
}

const exitCode = await main(process.argv.slice(2), io);
// What is still in the pipe of stdout must reach its reader; an open stdin or a connection to a
// frozen server must not keep the process.
await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
process.exit(exitCode);

#!/usr/bin/env node
/**
 * The server program: `kvd [options]` runs one member, `kvd dev` runs a whole cluster on this machine.
 *
 * Exit codes: 0 stopped on request, 2 wrong options, 70 a bug in kvd, 74 the surroundings failed (disk,
 * data folder, port). Logs go to standard error, one JSON line each.
 */
import { InvariantError } from '../src/assert.js';
import { loadConfig } from '../src/config.js';
import { KvError } from '../src/errors.js';
import { openLog } from '../src/logger.js';
import { OPTIONS } from '../src/options.js';
import { KVD_VERSION } from '../src/version.js';
import { runDev } from './dev.js';

const EXIT = { done: 0, usage: 2, bug: 70, surroundings: 74 } as const;

function help(): string {
  const width = Math.max(...OPTIONS.map(({ name, value }) => name.length + value.length)) + 6;
  const rows = OPTIONS.map(({ name, value, fallback, meaning }) => {
    const flag = `  --${name} ${value}`.padEnd(width);
    return `${flag}  ${meaning}${fallback === '' ? '' : ` (default: ${fallback})`}`;
  });
  return [
    'kvd: a Raft key-value store and service registry that speaks the etcd v3 API',
    '',
    'usage: kvd [options]                 run one member',
    '       kvd dev [--nodes N] [--fresh] run a cluster on this machine; see kvd dev --help',
    '       kvd --version',
    '',
    'Each option is also an environment variable (KVD_NAME or ETCD_NAME for --name) and a key',
    'of the YAML file of --config-file. Options win over environment, environment over file.',
    '',
    ...rows,
    '',
    'Exit codes: 0 stopped, 2 wrong options, 70 a bug in kvd, 74 the disk, the data folder or a port.',
    '',
  ].join('\n');
}

async function runMember(args: readonly string[]): Promise<void> {
  const config = loadConfig({ args, env: process.env });
  // What a member writes is for its owner alone, also where a library makes the file.
  process.umask(0o077);
  const log = openLog(config.logLevel, { member: config.name });
  const leave = (code: number): void => {
    log.flush();
    process.exit(code);
  };
  const crash = (error: unknown): void => {
    const bug =
      error instanceof InvariantError || !(error instanceof Error && error.name === 'FatalError');
    const text = error instanceof Error ? error.message : String(error);
    log.logger.fatal({ err: error }, bug ? `bug in kvd, stopping: ${text}` : `stopping: ${text}`);
    process.stderr.write(`kvd: ${text}\n`);
    leave(bug ? EXIT.bug : EXIT.surroundings);
  };
  process.on('uncaughtException', crash);
  process.on('unhandledRejection', crash);
  const { startServer } = await import('../src/server.js');
  const server = await startServer(config, log.logger, { onFatal: crash });
  let stopping = false;
  const stop = (signal: string): void => {
    if (stopping) leave(EXIT.done);
    stopping = true;
    log.logger.info({ signal }, 'stopping');
    server.stop().then(
      () => leave(EXIT.done),
      (error: unknown) => crash(error),
    );
  };
  process.on('SIGTERM', () => stop('SIGTERM'));
  process.on('SIGINT', () => stop('SIGINT'));
  if (process.env['KVD_STOP_ON_STDIN_END'] === '1') {
    process.stdin.resume().on('end', () => stop('end of standard input'));
  }
}

/** What to say when a listen address cannot be had; null for other failures. */
function addressFailure(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  // What clients are to connect to is opened by listening.ts, which says what it was.
  const failure = error.cause instanceof Error ? error.cause : error;
  const { code, syscall, address, port } = failure as NodeJS.ErrnoException & {
    readonly address?: string;
    readonly port?: number;
  };
  // A socket in the file system has no port, and listening.ts has said what is to be done.
  if (syscall !== 'listen' || port === undefined || port < 0) return null;
  const other = 'with --listen-client-urls, --listen-peer-urls or --listen-metrics-urls';
  const at = `port ${port} of ${address}`;
  switch (code) {
    case 'EADDRINUSE':
      return `${at} is in use: stop the program that has it, or choose another ${other}`;
    case 'EADDRNOTAVAIL':
      return `${address} is no address of this machine: choose one of its own ${other}`;
    case 'EACCES':
      return `${at} is not allowed for this user: choose another ${other}`;
    default:
      return null;
  }
}

async function main(args: readonly string[]): Promise<void> {
  try {
    if (args[0] === 'dev') {
      process.exitCode = await runDev(args.slice(1));
    } else if (args.includes('--help') || args.includes('-h') || args[0] === 'help') {
      process.stdout.write(help());
    } else if (args.includes('--version') || args[0] === 'version') {
      process.stdout.write(`kvd ${KVD_VERSION}\n`);
    } else {
      await runMember(args);
    }
  } catch (error) {
    const text = addressFailure(error) ?? (error instanceof Error ? error.message : String(error));
    for (const line of text.split('\n')) process.stderr.write(`kvd: ${line}\n`);
    const usage = error instanceof KvError && error.code === 'CONFIG_INVALID';
    const code =
      error instanceof InvariantError ? EXIT.bug : usage ? EXIT.usage : EXIT.surroundings;
    process.exit(code);
  }
}

await main(process.argv.slice(2));

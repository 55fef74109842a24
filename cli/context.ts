/**
 * What every command of kvctl is given: the settings, a client made when first asked for, and ways
 * to print. One context lives for one run of the program.
 */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { KvdClient } from '../src/client/client.js';
import { parseEndpoints } from '../src/client/endpoints.js';
import type { ResponseHeader } from '../src/client/messages.js';
import type { TlsOptions } from '../src/client/transport/transport.js';
import { anyAborted } from './child.js';
import { CommandError, EXIT, InterruptedError, usageError } from './exit.js';
import type { Io } from './io.js';
import type { Format, JsonFields, Report } from './output.js';
import { FORMATS, jsonHeader, renderReport } from './output.js';
import { readPassword } from './password.js';
import { parseDuration } from './values.js';

export interface Settings {
  readonly endpoints: readonly string[];
  readonly commandTimeoutMs: number;
  readonly dialTimeoutMs: number;
  readonly format: Format;
  readonly hex: boolean;
  readonly debug: boolean;
  readonly tls: TlsOptions;
  /** Null: nobody in particular. The password is null until it was asked for. */
  readonly user: { readonly name: string; readonly password: string | null } | null;
}

export class CommandContext {
  readonly io: Io;
  /** The command after `--`; null if there is none. */
  readonly childCommand: readonly string[] | null;
  /** Set by the command that ran. */
  exitCode: number = EXIT.done;
  private readonly root: Command;
  private opened: KvdClient | null = null;
  private parsed: Settings | null = null;
  private askedPassword: string | null = null;

  constructor(io: Io, root: Command, childCommand: readonly string[] | null) {
    this.io = io;
    this.root = root;
    this.childCommand = childCommand;
  }

  get settings(): Settings {
    this.parsed ??= readSettings(this.root, this.io.env);
    return this.parsed;
  }

  /** For messages: empty when the settings were never read, or are wrong. */
  get knownEndpoints(): readonly string[] {
    return this.parsed?.endpoints ?? [];
  }

  /** Asks for the password that is missing, before a command begins. */
  async prepare(): Promise<void> {
    const { user } = this.settings;
    if (user === null || user.password !== null) return;
    this.askedPassword = await readPassword(this.io, `Password of ${user.name}: `);
  }

  get client(): KvdClient {
    const { endpoints, commandTimeoutMs, dialTimeoutMs, tls, user } = this.settings;
    const login =
      user === null
        ? {}
        : { username: user.name, password: user.password ?? this.askedPassword ?? '' };
    this.opened ??= new KvdClient({
      endpoints,
      protocol: 'grpc-or-http',
      timeoutMs: commandTimeoutMs,
      dialTimeoutMs,
      waitForServer: false,
      tls,
      ...login,
      onTry: (line) => this.debug(line),
    });
    return this.opened;
  }

  close(): void {
    this.opened?.close();
  }

  print(report: Report): void {
    this.io.stdout.write(renderReport(report, this.settings.format));
  }

  /** What a command has done, in a sentence, and in JSON what it was done to. */
  tell(text: string, header: ResponseHeader, about: JsonFields): number {
    this.print({ simple: () => [text], json: () => ({ header: jsonHeader(header), ...about }) });
    return EXIT.done;
  }

  /** One line on stderr. */
  note(text: string): void {
    this.io.stderr.write(`kvctl: ${text}\n`);
  }

  /** One line on stderr, with --debug only. */
  debug(text: string): void {
    if (this.settings.debug) this.note(`debug: ${text}`);
  }

  /**
   * Wraps a command for commander; what it returns is the exit code. An interrupt ends it at once.
   */
  run<A extends unknown[]>(
    command: (...args: A) => Promise<number>,
  ): (...args: A) => Promise<void> {
    return async (...args) => {
      const interrupted = anyAborted(this.io.interrupt).then(() => {
        throw new InterruptedError('interrupted');
      });
      this.exitCode = await Promise.race([command(...args), interrupted]);
    };
  }

  /** The same for a command that ends by itself when interrupted, because it has to clean up. */
  runUntilInterrupted<A extends unknown[]>(
    command: (...args: A) => Promise<number>,
  ): (...args: A) => Promise<void> {
    return async (...args) => {
      this.exitCode = await command(...args);
    };
  }
}

function readSettings(root: Command, env: Io['env']): Settings {
  const options = root.opts<{
    endpoints?: string;
    commandTimeout?: string;
    dialTimeout?: string;
    writeOut?: string;
    hex?: boolean;
    debug?: boolean;
    cacert?: string;
    cert?: string;
    key?: string;
    insecureSkipTlsVerify?: boolean;
    user?: string;
    password?: string;
    insecureTransport?: string;
    tlsServerName?: string;
  }>();
  const fromEnv = (name: string): string | undefined => {
    const value = env[`KVCTL_${name}`] ?? env[`ETCDCTL_${name}`];
    return value === '' ? undefined : value;
  };
  const list = options.endpoints ?? fromEnv('ENDPOINTS') ?? '127.0.0.1:2379';
  const format = options.writeOut ?? fromEnv('WRITE_OUT') ?? 'simple';
  if (!(FORMATS as readonly string[]).includes(format)) {
    throw usageError(`-w must be one of ${FORMATS.join(', ')}, not "${format}"`);
  }
  const duration = (flag: string, name: string, given: string | undefined, fallback: string) =>
    parseDuration(flag)(given ?? fromEnv(name) ?? fallback);
  const flag = (name: string, given: string | undefined, fallback: boolean): boolean => {
    const value = given ?? fromEnv(name.slice(2).toUpperCase().replaceAll('-', '_'));
    if (value === undefined) return fallback;
    if (/^(true|t|1)$/i.test(value)) return true;
    if (/^(false|f|0)$/i.test(value)) return false;
    throw usageError(`${name} must be true or false, not "${value}"`);
  };
  const isAnyGood = flag(
    '--insecure-skip-tls-verify',
    options.insecureSkipTlsVerify === true ? 'true' : undefined,
    false,
  );
  const files = {
    ca: fileOf('--cacert', options.cacert ?? fromEnv('CACERT')),
    cert: fileOf('--cert', options.cert ?? fromEnv('CERT')),
    key: fileOf('--key', options.key ?? fromEnv('KEY')),
  };
  if ((files.cert === undefined) !== (files.key === undefined)) {
    throw usageError('--cert and --key belong together: give both');
  }
  const tls = {
    ...files,
    rejectUnauthorized: isAnyGood ? false : undefined,
    servername: options.tlsServerName ?? fromEnv('TLS_SERVER_NAME'),
  };
  // As etcdctl does with endpoints that do not say how they are to be spoken to.
  const wantsTls =
    files.ca !== undefined ||
    files.cert !== undefined ||
    !flag('--insecure-transport', options.insecureTransport, true);
  return {
    endpoints: endpointNames(list, wantsTls),
    commandTimeoutMs: duration(
      '--command-timeout',
      'COMMAND_TIMEOUT',
      options.commandTimeout,
      '5s',
    ),
    dialTimeoutMs: duration('--dial-timeout', 'DIAL_TIMEOUT', options.dialTimeout, '2s'),
    format: format as Format,
    hex: options.hex === true,
    debug: options.debug === true,
    tls,
    user: userOf(options.user ?? fromEnv('USER'), options.password ?? fromEnv('PASSWORD')),
  };
}

/** NAME, or NAME:PASSWORD. With a password of its own, the whole is the name, as in etcdctl. */
function userOf(given: string | undefined, password: string | undefined): Settings['user'] {
  if (given === undefined) {
    if (password === undefined) return null;
    throw usageError('--password is the one of a user: give --user as well');
  }
  if (password !== undefined) return { name: given, password };
  const cut = given.indexOf(':');
  const [name, own] = cut < 0 ? [given, null] : [given.slice(0, cut), given.slice(cut + 1)];
  if (name === '') throw usageError('--user wants NAME or NAME:PASSWORD');
  return { name, password: own };
}

function endpointNames(list: string, wantsTls: boolean): string[] {
  try {
    return parseEndpoints(list).map(({ name }) =>
      wantsTls && !/^[a-z]+:\/\//i.test(name) ? `https://${name}` : name,
    );
  } catch (error) {
    throw usageError(`--endpoints: ${(error as Error).message}`);
  }
}

function fileOf(option: string, path: string | undefined): Buffer | undefined {
  if (path === undefined) return undefined;
  try {
    return readFileSync(path);
  } catch (error) {
    throw new CommandError(EXIT.usage, `${option}: ${(error as Error).message}`);
  }
}

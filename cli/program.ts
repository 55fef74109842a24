/**
 * kvctl as a function: arguments in, exit code out.
 *
 * cli/kvctl.ts calls it with the real process, tests with streams of their own. Here stands what
 * holds for all commands: the global options, how a failure becomes one line and a code, and the
 * cut at `--` for commands that run another program.
 */
import { Command, CommanderError } from 'commander';
import { KVD_VERSION } from '../src/version.js';
import { addAlarmCommands } from './commands/alarm.js';
import { addAuthCommands } from './commands/auth.js';
import { addCertCommands } from './commands/cert.js';
import { addCompactCommand } from './commands/compact.js';
import { addCompletionCommand } from './commands/completion.js';
import { addDefragCommand } from './commands/defrag.js';
import { addDelCommand } from './commands/del.js';
import { addElectCommand } from './commands/elect.js';
import { addEndpointCommands } from './commands/endpoint.js';
import { addGetCommand } from './commands/get.js';
import { addLeaseCommands } from './commands/lease.js';
import { addLockCommand } from './commands/lock.js';
import { addMemberCommands } from './commands/member.js';
import { addMoveLeaderCommand } from './commands/move-leader.js';
import { addPutCommand } from './commands/put.js';
import { addRegisterCommand } from './commands/register.js';
import { addRoleCommands } from './commands/role.js';
import { addServicesCommand } from './commands/services.js';
import { addSnapshotCommands } from './commands/snapshot.js';
import { addTxnCommand } from './commands/txn.js';
import { addUserCommands } from './commands/user.js';
import { addVersionCommand } from './commands/version.js';
import { addWatchCommand } from './commands/watch.js';
import { CommandContext } from './context.js';
import { describeFailure, EXIT, isInterruption } from './exit.js';
import type { Io } from './io.js';
import { interruptName } from './io.js';

/** Commands whose arguments after `--` are another program and its arguments. */
const RUNS_A_CHILD: ReadonlySet<string> = new Set(['watch', 'lock', 'register']);

/** Commands that speak with no server, and so need no user: all below the first, or one alone. */
const ASKS_NOBODY: ReadonlySet<string> = new Set([
  ...['kvctl version', 'kvctl completion', 'cert'],
  ...['snapshot status', 'snapshot restore'],
]);

/** Runs one command. Never rejects: what goes wrong is one line on stderr and an exit code. */
export async function main(argv: readonly string[], io: Io): Promise<number> {
  const root = rootCommand(io);
  const cut = cutChildCommand(argv, root);
  const context = new CommandContext(io, root, cut.child);
  addCommands(root, context);
  root.hook('preAction', async (_root, command) => {
    const group = command.parent?.name() ?? '';
    const isOffline = ASKS_NOBODY.has(group) || ASKS_NOBODY.has(`${group} ${command.name()}`);
    if (!isOffline) await context.prepare();
  });
  try {
    await root.parseAsync(cut.own, { from: 'user' });
    return context.exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return onCommanderExit(error, cut.own, root, io);
    if (io.interrupt.aborted && isInterruption(error)) {
      return interruptName(io.interrupt) === 'SIGTERM' ? 143 : 130;
    }
    const { exitCode, text } = describeFailure(error, context.knownEndpoints);
    io.stderr.write(`kvctl: ${text}\n`);
    if (root.opts<{ debug?: boolean }>().debug === true && error instanceof Error) {
      io.stderr.write(`${error.stack ?? ''}\n`);
    }
    return exitCode;
  } finally {
    context.close();
  }
}

/** The whole tree of commands, for `completion` and for tests. */
export function addCommands(root: Command, context: CommandContext): void {
  root.commandsGroup('Keys:');
  addGetCommand(root, context);
  addPutCommand(root, context);
  addDelCommand(root, context);
  addTxnCommand(root, context);
  addWatchCommand(root, context);
  addCompactCommand(root, context);
  root.commandsGroup('Services:');
  addRegisterCommand(root, context);
  addServicesCommand(root, context);
  root.commandsGroup('Coordination:');
  addLeaseCommands(root, context);
  addLockCommand(root, context);
  addElectCommand(root, context);
  root.commandsGroup('Cluster:');
  addMemberCommands(root, context);
  addEndpointCommands(root, context);
  addMoveLeaderCommand(root, context);
  addAlarmCommands(root, context);
  addDefragCommand(root, context);
  addSnapshotCommands(root, context);
  root.commandsGroup('Users:');
  addUserCommands(root, context);
  addRoleCommands(root, context);
  addAuthCommands(root, context);
  root.commandsGroup('Other:');
  addCertCommands(root, context);
  addVersionCommand(root, context);
  addCompletionCommand(root, context);
}

function rootCommand(io: Io): Command {
  const root = new Command('kvctl');
  root
    .description('the command line of a kvd cluster')
    .version(KVD_VERSION, '--version', 'print the version of kvctl')
    .helpOption('-h, --help', 'show help')
    .commandsGroup('Other:')
    .helpCommand('help [command]', 'show help for a command')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stdout.write(text),
      // Errors come back as CommanderError and are printed in one place.
      outputError: () => {},
    })
    .configureHelp({ showGlobalOptions: false, helpWidth: 100 })
    .showSuggestionAfterError(true)
    .option('--endpoints <list>', 'servers, host:port,... (KVCTL_ENDPOINTS; 127.0.0.1:2379)')
    .option('-w, --write-out <format>', 'simple, json, table or fields (KVCTL_WRITE_OUT; simple)')
    .option('--user <name>', 'NAME or NAME:PASSWORD; asks for the password (KVCTL_USER)')
    .option('--password <password>', 'of --user, seen by others on this machine (KVCTL_PASSWORD)')
    .option('--hex', 'print keys and values as hexadecimal')
    .option('--command-timeout <duration>', 'for one request, with its retries (5s)')
    .option('--dial-timeout <duration>', 'for one connection (2s)')
    .option('--cacert <file>', 'trust servers whose certificate this authority signed')
    .option('--cert <file>', 'certificate to show to the server')
    .option('--key <file>', 'private key of --cert')
    .option('--insecure-skip-tls-verify', 'trust any certificate')
    .option('--insecure-transport <bool>', 'false: endpoints without a scheme speak TLS (true)')
    .option('--tls-server-name <name>', 'the name that the certificate must be for')
    .option('--debug', 'trace requests and failures on stderr')
    .addHelpText('after', `\n${EXIT_HELP}`)
    .addHelpText('afterAll', ({ command }) => (command === root ? '' : GLOBAL_HELP));
  return root;
}

const EXIT_HELP = [
  'Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 comparison failed or lock not won,',
  '5 timed out or no leader.',
].join('\n');

const GLOBAL_HELP = '\nOptions for every command (--endpoints, -w, ...): see "kvctl --help"';

/** Splits at the first `--` of a command that runs a child; other commands keep theirs. */
function cutChildCommand(
  argv: readonly string[],
  root: Command,
): {
  readonly own: readonly string[];
  readonly child: readonly string[] | null;
} {
  const at = argv.indexOf('--');
  const command = at === -1 ? undefined : commandWord(argv.slice(0, at), root);
  if (command === undefined || !RUNS_A_CHILD.has(command)) return { own: argv, child: null };
  return { own: argv.slice(0, at), child: argv.slice(at + 1) };
}

/**
 * The first word that is neither a global option nor the value of one. Any other word may be called
 * like a command: `kvctl put lock -- -1` writes the key "lock".
 */
function commandWord(argv: readonly string[], root: Command): string | undefined {
  for (let at = 0; at < argv.length; at += 1) {
    const word = argv[at] as string;
    if (!word.startsWith('-')) return word;
    const option = root.options.find(({ long, short }) => word === long || word === short);
    if (option?.required === true) at += 1;
  }
  return undefined;
}

function onCommanderExit(
  error: CommanderError,
  argv: readonly string[],
  root: Command,
  io: Io,
): number {
  if (error.exitCode === 0) return EXIT.done;
  // `kvctl` or `kvctl lease` alone: commander has shown the help.
  if (error.code === 'commander.help') return EXIT.usage;
  const text = plainText(error.message);
  const command = commandPath(argv, root);
  const dashed = /^unknown option '(-[^']*)'/.exec(text)?.[1];
  const hint =
    dashed !== undefined && !text.includes('Did you mean')
      ? `; write -- before an argument that begins with a dash`
      : '';
  io.stderr.write(`kvctl: ${text}${hint}: see "kvctl ${command}--help"\n`);
  return EXIT.usage;
}

/** What commander says, as one line in the manner of kvctl. */
function plainText(message: string): string {
  return message
    .replace(/^error: /, '')
    .replace(/\s*\n\s*/g, ' ')
    .replace(/^command-argument value ('.*') is invalid for argument '(.*?)'\./, '<$2> $1:')
    .replace(/^option '(.*)' argument ('.*') is invalid\./, '$1 $2:')
    .replace(/ Allowed choices are (.*)\.$/, ' it is one of $1')
    .trim();
}

/** The words of argv that name commands, each followed by a space. */
function commandPath(argv: readonly string[], root: Command): string {
  let at = root;
  let path = '';
  for (const word of argv) {
    const next = at.commands.find(
      (command) => command.name() === word || command.aliases().includes(word),
    );
    if (next === undefined) continue;
    at = next;
    path += `${next.name()} `;
  }
  return path;
}

/**
 * `kvctl lock NAME [-- CMD]`: holds a lock, for a command or until interrupted.
 *
 * Prints the key and the fencing number. A child gets both in its environment, is ended when the
 * lock is lost (somebody else may hold it then), and its exit code becomes ours.
 */
import type { Command } from 'commander';
import { toUtf8 } from '../../src/bytes.js';
import { ClientError } from '../../src/client/client-error.js';
import type { HeldLock } from '../../src/client/lock.js';
import { runChild, waitFor } from '../child.js';
import type { CommandContext } from '../context.js';
import { CommandError, describeFailure, EXIT } from '../exit.js';
import { jsonBytes } from '../output.js';
import { parseCount, parseDuration } from '../values.js';

interface LockCommandOptions {
  readonly ttl: number;
  readonly wait?: number;
}

export function addLockCommand(root: Command, context: CommandContext): void {
  root
    .command('lock')
    .description('hold a lock, for a command or until interrupted')
    .usage('[options] <name> [-- command args...]')
    .argument('<name>')
    .option('--ttl <seconds>', 'how long the lock outlives a holder who vanished', ttlOption, 10)
    .option('--wait <seconds>', 'give up after so long, with exit code 4', parseDuration('--wait'))
    .addHelpText(
      'after',
      [
        '',
        'A command finds the key in KVD_LOCK_KEY and the fencing number in KVD_LOCK_REV (and in',
        'ETCD_LOCK_KEY and ETCD_LOCK_REV). It is ended with SIGTERM when the lock is lost.',
      ].join('\n'),
    )
    .action(
      context.runUntilInterrupted((name: string, options: LockCommandOptions) =>
        lock(context, name, options),
      ),
    );
}

const ttlOption = parseCount('--ttl', 1);

async function lock(
  context: CommandContext,
  name: string,
  options: LockCommandOptions,
): Promise<number> {
  const { io } = context;
  const held = await acquire(context, name, options);
  let exitCode: number;
  try {
    exitCode =
      context.childCommand === null
        ? await holdUntilInterrupted(context, held)
        : await holdForChild(context, held, context.childCommand);
  } catch (error) {
    await release(context, held);
    throw error;
  }
  const released = await release(context, held);
  if (exitCode === EXIT.done && !released && !io.interrupt.aborted) return EXIT.failed;
  return exitCode;
}

async function acquire(
  context: CommandContext,
  name: string,
  options: LockCommandOptions,
): Promise<HeldLock> {
  if (name === '') throw new CommandError(EXIT.usage, 'the name of the lock is empty');
  try {
    return await context.client.lock(name, {
      ttl: options.ttl,
      waitMs: options.wait,
      signal: context.io.interrupt,
    });
  } catch (error) {
    const tooLate = error instanceof ClientError && error.code === 'NOT_WON';
    if (!tooLate || options.wait === undefined) throw error;
    const seconds = options.wait / 1000;
    throw new CommandError(
      EXIT.notWon,
      `lock "${name}" was not won within ${seconds} s: see who waits with ` +
        `"kvctl get --prefix ${name}/"`,
    );
  }
}

async function holdUntilInterrupted(context: CommandContext, held: HeldLock): Promise<number> {
  context.print({
    simple: () => [held.key, String(held.revision)],
    json: () => ({ ...jsonBytes('key', held.key), revision: held.revision }),
  });
  await waitFor(held.signal, context.io.interrupt);
  if (held.signal.aborted) throw held.signal.reason;
  return EXIT.done;
}

async function holdForChild(
  context: CommandContext,
  held: HeldLock,
  command: readonly string[],
): Promise<number> {
  const key = toUtf8(held.key);
  const revision = String(held.revision);
  const onLost = (): void => {
    const { text } = describeFailure(held.signal.reason);
    context.note(`the lock is lost, ending the command: ${text}`);
  };
  held.signal.addEventListener('abort', onLost, { once: true });
  const exitCode = await runChild(command, {
    io: context.io,
    end: held.signal,
    env: {
      KVD_LOCK_KEY: key,
      KVD_LOCK_REV: revision,
      ETCD_LOCK_KEY: key,
      ETCD_LOCK_REV: revision,
    },
  });
  held.signal.removeEventListener('abort', onLost);
  // A command that ended well without its lock has not done what was asked for.
  return held.signal.aborted && exitCode === 0 ? EXIT.failed : exitCode;
}

/** False if the release could not be confirmed; then the lock falls away with its TTL. */
async function release(context: CommandContext, held: HeldLock): Promise<boolean> {
  try {
    await held.release();
    return true;
  } catch (error) {
    const { text } = describeFailure(error);
    context.note(`the lock could not be released, it ends with its TTL: ${text}`);
    return false;
  }
}

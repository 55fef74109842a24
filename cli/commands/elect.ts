/**
 * `kvctl elect NAME VALUE`: stands for leader, leads until interrupted, then resigns.
 * `kvctl elect --listen NAME` prints each leader as it comes.
 */
import type { Command } from 'commander';
import type { KeyValue } from '../../src/client/key-value.js';
import { waitFor } from '../child.js';
import type { CommandContext } from '../context.js';
import { describeFailure, EXIT, usageError } from '../exit.js';
import { jsonBytes, jsonKeyValue, shownBytes } from '../output.js';
import { parseCount } from '../values.js';

interface ElectOptions {
  readonly listen?: boolean;
  readonly ttl: number;
}

export function addElectCommand(root: Command, context: CommandContext): void {
  root
    .command('elect')
    .description('stand for leader and lead until interrupted, or listen to who leads')
    .argument('<name>')
    .argument('[value]', 'what the others see of the leader')
    .option('-l, --listen', 'print each leader as it comes')
    .option(
      '--ttl <seconds>',
      'how long a leader who vanished stays one',
      parseCount('--ttl', 1),
      10,
    )
    .action(
      context.runUntilInterrupted(
        (name: string, value: string | undefined, options: ElectOptions) => {
          if (name === '') throw usageError('the name of the election is empty');
          if (options.listen === true) {
            if (value !== undefined) throw usageError('--listen takes no value');
            return listen(context, name);
          }
          if (value === undefined)
            throw usageError('a candidate needs a value: kvctl elect NAME VALUE');
          return lead(context, name, value, options.ttl);
        },
      ),
    );
}

async function lead(
  context: CommandContext,
  name: string,
  value: string,
  ttl: number,
): Promise<number> {
  const { io } = context;
  const led = await context.client.campaign(name, value, { ttl, signal: io.interrupt });
  const { leader } = led;
  context.print({
    simple: () => [leader.key, value],
    json: () => ({ ...jsonBytes('key', leader.key), revision: leader.revision, value }),
  });
  await waitFor(led.signal, io.interrupt);
  if (led.signal.aborted) throw led.signal.reason;
  await led.resign();
  return EXIT.done;
}

async function listen(context: CommandContext, name: string): Promise<number> {
  const { client, io } = context;
  const leaders = client.observe(name, {
    signal: io.interrupt,
    failFast: true,
    onLost: (error) =>
      context.note(`lost the server, trying others: ${describeFailure(error).text}`),
    onRegained: (endpoint) => context.note(`listening again, at ${endpoint}`),
  });
  for await (const kv of leaders) show(context, kv);
  return EXIT.done;
}

function show(context: CommandContext, kv: KeyValue): void {
  const { hex } = context.settings;
  context.print({
    simple: () => [shownBytes(kv.key, hex), shownBytes(kv.value, hex)],
    json: () => jsonKeyValue(kv),
  });
}

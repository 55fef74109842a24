/**
 * `kvctl register SERVICE ADDRESS [-- CMD]`: puts an instance into the registry and keeps it there,
 * as long as a command runs or until interrupted.
 *
 * The instance leaves the registry before the command is told to end, so that clients stop coming
 * while it can still finish what it has begun.
 */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import type { Command } from 'commander';
import { Option } from 'commander';
import type {
  Registration,
  RegistrationEvent,
  ServiceInstance,
} from '../../src/client/registration.js';
import { anyAborted, runChild, waitFor } from '../child.js';
import type { CommandContext } from '../context.js';
import { describeFailure, EXIT, usageError } from '../exit.js';
import type { Io } from '../io.js';
import { leaseText } from '../output.js';
import { parseCount } from '../values.js';

interface RegisterOptions {
  readonly id?: string;
  readonly ttl: number;
  readonly meta: Readonly<Record<string, string>>;
}

export function addRegisterCommand(root: Command, context: CommandContext): void {
  root
    .command('register')
    .description('register a service instance while a command runs or until interrupted')
    .usage('[options] <service> <address> [-- command args...]')
    .argument('<service>')
    .argument('<address>', 'what clients connect to, host:port')
    .option('--id <id>', 'the id of the instance (default: host name and a random part)')
    .option('--ttl <seconds>', 'how long it outlives its process', parseCount('--ttl', 1), 10)
    .addOption(
      new Option('--meta <key=value>', 'a fact about the instance; may be repeated')
        .argParser(addMeta)
        .default({}, 'none'),
    )
    .action(
      context.runUntilInterrupted((service: string, address: string, options: RegisterOptions) => {
        const instance = instanceOf(service, address, options);
        return register(context, instance, options.ttl);
      }),
    );
}

function addMeta(
  text: string,
  before: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const at = text.indexOf('=');
  if (at <= 0) throw usageError(`--meta must be key=value, not "${text}"`);
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}

function instanceOf(service: string, address: string, options: RegisterOptions): ServiceInstance {
  const id = options.id ?? `${hostname()}-${randomBytes(4).toString('hex')}`;
  for (const [what, text] of [
    ['the service name', service],
    ['the instance id', id],
  ] as const) {
    if (text === '' || text.includes('/')) {
      throw usageError(`${what} "${text}" must not be empty or contain "/"`);
    }
  }
  if (address === '') throw usageError('the address is empty');
  return { name: service, id, address, meta: options.meta };
}

async function register(
  context: CommandContext,
  instance: ServiceInstance,
  ttl: number,
): Promise<number> {
  const first = new FirstRegistration();
  const registration = context.client.register(instance, {
    ttl,
    onEvent: (event) => {
      first.onEvent(event);
      tell(context, instance, event);
    },
  });
  const { interrupt } = context.io;
  // No server at the first try is a failure to tell; later on, it is a reason to wait.
  const firstFailure = await Promise.race([first.result, anyAborted(interrupt).then(() => null)]);
  if (firstFailure !== null) {
    await registration.stop().catch(() => {});
    throw firstFailure;
  }
  const refused = new AbortController();
  registration.done.catch((error: unknown) => refused.abort(error));
  const exitCode =
    context.childCommand === null || interrupt.aborted
      ? await waitFor(interrupt, refused.signal).then(() => EXIT.done)
      : await runWhileRegistered(context, instance, registration, refused.signal);
  if (refused.signal.aborted) throw refused.signal.reason;
  const removed = await unregister(context, instance, registration);
  return exitCode === EXIT.done && !removed ? EXIT.failed : exitCode;
}

async function runWhileRegistered(
  context: CommandContext,
  instance: ServiceInstance,
  registration: Registration,
  refused: AbortSignal,
): Promise<number> {
  const { interrupt } = context.io;
  const left = new AbortController();
  const onInterrupt = (): void => {
    void unregister(context, instance, registration).then(() => left.abort(interrupt.reason));
  };
  interrupt.addEventListener('abort', onInterrupt, { once: true });
  // The child hears of the interrupt when the instance has left the registry, not at once.
  const io: Io = { ...context.io, interrupt: left.signal };
  try {
    return await runChild(context.childCommand ?? [], {
      io,
      end: refused,
      env: {
        KVD_SERVICE_NAME: instance.name,
        KVD_SERVICE_ID: instance.id,
        KVD_SERVICE_ADDRESS: instance.address,
      },
    });
  } catch (error) {
    await unregister(context, instance, registration);
    throw error;
  } finally {
    interrupt.removeEventListener('abort', onInterrupt);
  }
}

/** False if the removal could not be confirmed; the instance then leaves with its TTL. */
async function unregister(
  context: CommandContext,
  instance: ServiceInstance,
  registration: Registration,
): Promise<boolean> {
  try {
    await registration.stop();
    return true;
  } catch (error) {
    const { text } = describeFailure(error);
    context.note(`${instance.name}/${instance.id} leaves the registry with its TTL: ${text}`);
    return false;
  }
}

function tell(context: CommandContext, instance: ServiceInstance, event: RegistrationEvent): void {
  const name = `${instance.name}/${instance.id}`;
  switch (event.type) {
    case 'registered':
      context.note(
        `${name} at ${instance.address} is registered${event.again ? ' again' : ''}, ` +
          `lease ${leaseText(event.lease)}`,
      );
      break;
    case 'lost':
      context.note(`${name} has left the registry, registering again: ${event.reason}`);
      break;
    case 'failed':
      context.debug(`registering ${name} failed: ${event.error.message}`);
      break;
  }
}

/** The outcome of the first try: null when registered, else the failure. */
class FirstRegistration {
  readonly result: Promise<Error | null>;
  private settle: (failure: Error | null) => void = () => {};

  constructor() {
    this.result = new Promise((resolve) => {
      this.settle = resolve;
    });
  }

  onEvent(event: RegistrationEvent): void {
    if (event.type === 'registered') this.settle(null);
    if (event.type === 'failed') this.settle(event.error);
  }
}

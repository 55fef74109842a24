/**
 * `kvctl services [NAME] [--watch]`: what is registered, now and as it changes.
 *
 * Reads the layout of docs/registry.md, and shows what it can of values that others have written.
 */
import { isUtf8 } from 'node:buffer';
import type { Command } from 'commander';
import { fromUtf8 } from '../../src/bytes.js';
import type { KeyValue } from '../../src/client/key-value.js';
import { REGISTRY_PREFIX, readInstance } from '../../src/client/registration.js';
import type { CommandContext } from '../context.js';
import { CommandError, EXIT, usageError } from '../exit.js';
import type { JsonFields } from '../output.js';
import { columns, inlineBytes, leaseText, printable } from '../output.js';
import { prefixRange } from '../values.js';

interface ServicesOptions {
  readonly watch?: boolean;
  readonly prefix: string;
}

interface Instance {
  readonly name: string;
  readonly id: string;
  readonly address: string;
  readonly meta: Readonly<Record<string, string>>;
  readonly lease: string;
}

export function addServicesCommand(root: Command, context: CommandContext): void {
  root
    .command('services')
    .description('list the services, or the instances of one')
    .argument('[name]', 'a service')
    .option('--watch', 'go on with each change')
    .option('--prefix <prefix>', 'where the registry is kept', REGISTRY_PREFIX)
    .action(
      context.runUntilInterrupted((name: string | undefined, options: ServicesOptions) =>
        services(context, name, options),
      ),
    );
}

async function services(
  context: CommandContext,
  name: string | undefined,
  options: ServicesOptions,
): Promise<number> {
  if (name === '' || name?.includes('/')) throw usageError(`"${name}" is no service name`);
  const prefix = options.prefix.endsWith('/') ? options.prefix : `${options.prefix}/`;
  const range = prefixRange(fromUtf8(name === undefined ? prefix : `${prefix}${name}/`));
  const response = await context.client.range(
    { key: range.key, rangeEnd: range.rangeEnd },
    { signal: context.io.interrupt },
  );
  const instances = response.kvs.map((kv) => instanceFrom(kv, prefix));
  if (instances.length > 0 || context.settings.format !== 'simple') {
    if (name === undefined) showNames(context, instances);
    else showInstances(context, instances);
  }
  if (options.watch === true) {
    return follow(context, range, prefix, response.header.revision + 1, instances);
  }
  if (instances.length > 0) return EXIT.done;
  context.note(
    name === undefined
      ? 'no service is registered: register one with "kvctl register NAME HOST:PORT"'
      : `service "${name}" has no instance: see "kvctl services" for those there are`,
  );
  return EXIT.notFound;
}

function showNames(context: CommandContext, instances: readonly Instance[]): void {
  const counts = new Map<string, number>();
  for (const { name } of instances) counts.set(name, (counts.get(name) ?? 0) + 1);
  const rows = [...counts].map(([name, count]) => [name, String(count)]);
  const head = ['SERVICE', 'INSTANCES'];
  context.print({
    simple: () => columns([head, ...rows]),
    json: () => [...counts].map(([name, count]) => ({ name, instances: count })),
    table: () => ({ head, rows }),
  });
}

function showInstances(context: CommandContext, instances: readonly Instance[]): void {
  const rows = instances.map(({ id, address, lease, meta }) => [
    id,
    address,
    lease === '' ? '-' : lease,
    metaText(meta),
  ]);
  const head = ['ID', 'ADDRESS', 'LEASE', 'META'];
  context.print({
    simple: () => columns([head, ...rows]),
    json: () => instances.map(instanceJson),
    table: () => ({ head, rows }),
  });
}

function instanceJson({ name, id, address, meta, lease }: Instance): JsonFields {
  return { name, id, address, meta, lease: lease === '' ? undefined : lease };
}

function metaText(meta: Readonly<Record<string, string>>): string {
  return Object.entries(meta)
    .map(([key, value]) => `${key}=${value}`)
    .join(' ');
}

/** Prints each change: `+` came, `~` changed, `-` left. */
async function follow(
  context: CommandContext,
  range: { readonly key: Uint8Array; readonly rangeEnd: Uint8Array | undefined },
  prefix: string,
  startRevision: number,
  instances: readonly Instance[],
): Promise<number> {
  const known = new Map(instances.map((instance) => [pathOf(instance), instance]));
  const signal = context.io.interrupt;
  for await (const item of context.client.watch(range, { startRevision, signal })) {
    switch (item.type) {
      case 'events':
        for (const event of item.events) {
          if (event.type === 'DELETE') {
            const path = pathOf(instanceFrom(event.kv, prefix));
            const left = known.get(path) ?? instanceFrom(event.kv, prefix);
            known.delete(path);
            showChange(context, '-', left);
          } else {
            const instance = instanceFrom(event.kv, prefix);
            showChange(context, known.has(pathOf(instance)) ? '~' : '+', instance);
            known.set(pathOf(instance), instance);
          }
        }
        await context.io.stdout.drained();
        break;
      case 'disconnected':
        context.note(`lost the server, trying others: ${item.error.message}`);
        break;
      case 'reconnected':
        context.note(`watching again, at ${item.endpoint}`);
        break;
      case 'compacted':
        throw new CommandError(
          EXIT.failed,
          'changes were compacted before they could be read: run the command again',
        );
      case 'created':
      case 'progress':
        break;
    }
  }
  return EXIT.done;
}

const CHANGE_NAMES = { '+': 'up', '~': 'changed', '-': 'down' } as const;

function showChange(context: CommandContext, sign: '+' | '~' | '-', instance: Instance): void {
  const { name, id, address, meta } = instance;
  context.print({
    simple: () => [printable([sign, `${name}/${id}`, address, metaText(meta)].join(' ').trimEnd())],
    json: () => ({ change: CHANGE_NAMES[sign], ...instanceJson(instance) }),
  });
}

function pathOf({ name, id }: Instance): string {
  return `${name}/${id}`;
}

function instanceFrom(kv: KeyValue, prefix: string): Instance {
  const { name, id, address, meta } = readInstance(kv, prefix);
  return {
    name: printable(name),
    id: printable(id),
    address: isUtf8(kv.value) ? printable(address) : inlineBytes(kv.value),
    meta,
    lease: kv.lease === 0 ? '' : leaseText(kv.lease),
  };
}

/**
 * `kvctl role ...`: what users may do with which keys, under a name.
 */
import type { Command } from 'commander';
import type { Permission } from '../../src/client/messages.js';
import { prefix } from '../../src/client/ranges.js';
import type { CommandContext } from '../context.js';
import { EXIT, usageError } from '../exit.js';
import { inlineBytes, jsonBytes } from '../output.js';
import { type KeyOptions, type ParsedRange, parseRange } from '../values.js';

const ACCESS = ['read', 'write', 'readwrite'] as const;

export function addRoleCommands(root: Command, context: CommandContext): void {
  const role = root.command('role').description('what users may do, under a name');
  role
    .command('add')
    .description('add a role')
    .argument('<role>')
    .action(
      context.run(async (name: string) => {
        const header = await context.client.addRole(name);
        return context.tell(`Role ${name} created`, header, { role: name });
      }),
    );
  role
    .command('delete')
    .description('delete a role, and take it from everybody')
    .argument('<role>')
    .action(
      context.run(async (name: string) => {
        const header = await context.client.deleteRole(name);
        return context.tell(`Role ${name} deleted`, header, { role: name });
      }),
    );
  role
    .command('get')
    .description('show the permissions of a role')
    .argument('<role>')
    .action(
      context.run(async (name: string) => {
        const permissions = await context.client.permissionsOf(name);
        context.print({
          simple: () => permissionLines(name, permissions),
          json: () => ({
            role: name,
            permissions: permissions.map(({ access, key, rangeEnd }) => ({
              access,
              ...jsonBytes('key', key),
              ...jsonBytes('range_end', rangeEnd),
            })),
          }),
        });
        return EXIT.done;
      }),
    );
  role
    .command('list')
    .description('list the roles')
    .action(
      context.run(async () => {
        const roles = await context.client.listRoles();
        context.print({ simple: () => roles, json: () => ({ roles }) });
        return EXIT.done;
      }),
    );
  withRange(role.command('grant-permission').description('let a role read or write keys'))
    .argument('<role>')
    .argument('<access>', ACCESS.join(', '))
    .argument('<key>')
    .argument('[end]', 'end of a range, exclusive')
    .action(
      context.run(
        async (name: string, access: string, key: string, end: string | undefined, options) => {
          if (!(ACCESS as readonly string[]).includes(access)) {
            throw usageError(`"${access}" is none of ${ACCESS.join(', ')}`);
          }
          const range = parseRange(key, end, options as KeyOptions);
          const header = await context.client.grantPermission(name, {
            access: access as Permission['access'],
            ...bytesOf(range),
          });
          return context.tell(`Role ${name} updated`, header, { role: name });
        },
      ),
    );
  withRange(
    role.command('revoke-permission').description('take back a permission, as it was given'),
  )
    .argument('<role>')
    .argument('<key>')
    .argument('[end]', 'end of a range, exclusive')
    .action(
      context.run(async (name: string, key: string, end: string | undefined, options) => {
        const { key: from, rangeEnd } = bytesOf(parseRange(key, end, options as KeyOptions));
        const header = await context.client.revokePermission(name, { key: from, rangeEnd });
        const shown = inlineBytes(from);
        const what =
          rangeEnd.length === 0
            ? `key ${shown}`
            : isOpen(rangeEnd)
              ? `range [${shown}, <open ended>`
              : `range [${shown}, ${inlineBytes(rangeEnd)})`;
        const text = `Permission of ${what} is revoked from role ${name}`;
        return context.tell(text, header, { role: name });
      }),
    );
}

/** As etcdctl prints a role. */
export function permissionLines(role: string, permissions: readonly Permission[]): string[] {
  const shown = (wanted: 'read' | 'write'): string[] =>
    permissions
      .filter(({ access }) => access === 'readwrite' || access === wanted)
      .map((permission) => `\t${rangeText(permission)}`);
  return [`Role ${role}`, 'KV Read:', ...shown('read'), 'KV Write:', ...shown('write')];
}

function rangeText({ key, rangeEnd }: Permission): string {
  const from = inlineBytes(key);
  if (rangeEnd.length === 0) return from;
  if (isOpen(rangeEnd)) return `[${from}, <open ended>`;
  const end = key.length > 0 ? prefix(key).rangeEnd : undefined;
  const isPrefix = end !== undefined && Buffer.from(end).equals(Buffer.from(rangeEnd));
  return `[${from}, ${inlineBytes(rangeEnd)})${isPrefix ? ` (prefix ${from})` : ''}`;
}

function isOpen(rangeEnd: Uint8Array): boolean {
  return rangeEnd.length === 1 && rangeEnd[0] === 0;
}

function bytesOf({ key, rangeEnd }: ParsedRange): {
  readonly key: Uint8Array;
  readonly rangeEnd: Uint8Array;
} {
  return { key, rangeEnd: rangeEnd ?? new Uint8Array(0) };
}

function withRange(command: Command): Command {
  return command
    .option('--prefix', 'all keys with this prefix')
    .option('--from-key', 'all keys from this one on');
}

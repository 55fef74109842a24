/**
 * `kvctl auth ...`: whether users count, and what one of them may do.
 */
import type { Command } from 'commander';
import { KeySpans } from '../../src/auth/key-spans.js';
import { toLatin1 } from '../../src/bytes.js';
import { ClientError } from '../../src/client/client-error.js';
import type { Permission } from '../../src/client/messages.js';
import type { CommandContext } from '../context.js';
import { EXIT, usageError } from '../exit.js';
import { inlineBytes, jsonHeader } from '../output.js';
import { type KeyOptions, parseRange } from '../values.js';

const ROOT = 'root';

export function addAuthCommands(root: Command, context: CommandContext): void {
  const auth = root
    .command('auth')
    .description('switch authentication on or off, and ask about it');
  auth
    .command('enable')
    .description('from now on every call needs a user; the user root must have the role root')
    .action(context.run(() => enable(context)));
  auth
    .command('disable')
    .description('from now on everybody may do everything')
    .action(
      context.run(async () => {
        const header = await context.client.disableAuth();
        return context.tell('Authentication Disabled', header, {});
      }),
    );
  auth
    .command('status')
    .description('whether authentication is on, and the revision of users and roles')
    .action(
      context.run(async () => {
        const { header, enabled, authRevision } = await context.client.authStatus();
        context.print({
          simple: () => [`Authentication Status: ${enabled}`, `AuthRevision: ${authRevision}`],
          json: () => ({ header: jsonHeader(header), enabled, auth_revision: authRevision }),
        });
        return EXIT.done;
      }),
    );
  auth
    .command('can-i')
    .description('whether a user may read or write keys, and by which roles (exit code 4: no)')
    .argument('<user>')
    .argument('<verb>', 'read or write')
    .argument('<key>')
    .argument('[end]', 'end of a range, exclusive')
    .option('--prefix', 'all keys with this prefix')
    .option('--from-key', 'all keys from this one on')
    .action(
      context.run((user: string, verb: string, key: string, end: string | undefined, options) =>
        canI(context, user, verb, parseRange(key, end, options as KeyOptions)),
      ),
    );
}

async function enable(context: CommandContext): Promise<number> {
  const { client } = context;
  let header: Awaited<ReturnType<typeof client.enableAuth>>;
  try {
    header = await client.enableAuth();
  } catch (error) {
    if (!(error instanceof ClientError) || error.code !== 'ROOT_ROLE_MISSING') throw error;
    // As etcdctl does it: the user is there, and what it lacks is a formality.
    await client.grantRole(ROOT, ROOT);
    header = await client.enableAuth();
  }
  return context.tell('Authentication Enabled', header, {});
}

async function canI(
  context: CommandContext,
  user: string,
  verb: string,
  range: { readonly key: Uint8Array; readonly rangeEnd: Uint8Array | undefined },
): Promise<number> {
  if (verb !== 'read' && verb !== 'write') throw usageError(`"${verb}" is neither read nor write`);
  const { client } = context;
  const roles = await client.rolesOf(user);
  const granted: { readonly role: string; readonly permission: Permission }[] = [];
  for (const role of roles.filter((each) => each !== ROOT)) {
    for (const permission of await client.permissionsOf(role)) {
      if (permission.access !== 'readwrite' && permission.access !== verb) continue;
      granted.push({ role, permission });
    }
  }
  const key = toLatin1(range.key);
  const rangeEnd = range.rangeEnd === undefined ? '' : toLatin1(range.rangeEnd);
  const spanOf = ({ permission }: (typeof granted)[number]) => ({
    key: toLatin1(permission.key),
    rangeEnd: toLatin1(permission.rangeEnd),
  });
  const isAllowed = roles.includes(ROOT) || new KeySpans(granted.map(spanOf)).covers(key, rangeEnd);
  const by = roles.includes(ROOT) ? [ROOT] : [...new Set(granted.map(({ role }) => role))];
  context.print({
    simple: () => {
      const what = `${verb} ${inlineBytes(range.key)}`;
      if (isAllowed) return [`yes: ${user} may ${what}, by ${by.join(', ')}`];
      const has = roles.length === 0 ? 'no role' : `the roles ${roles.join(', ')}`;
      return [`no: ${user} has ${has}, and they do not allow to ${what}`];
    },
    json: () => ({ user, verb, allowed: isAllowed, roles, by: isAllowed ? by : [] }),
  });
  return isAllowed ? EXIT.done : EXIT.notWon;
}

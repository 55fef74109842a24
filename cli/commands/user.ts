/**
 * `kvctl user ...`: who there is, with which roles. Passwords are asked for, see ../password.ts.
 */
import type { Command } from 'commander';
import type { CommandContext } from '../context.js';
import { EXIT, usageError } from '../exit.js';
import { readNewPassword } from '../password.js';
import { permissionLines } from './role.js';

interface AddOptions {
  readonly newUserPassword?: string;
  readonly password?: boolean;
}

export function addUserCommands(root: Command, context: CommandContext): void {
  const user = root.command('user').description('the users of the cluster');
  user
    .command('add')
    .description('add a user; the password is asked for')
    .argument('<name>', 'the name, or NAME:PASSWORD, which others on this machine can see')
    .option('--new-user-password <password>', 'the password, which others on this machine can see')
    .option('--no-password', 'known by its certificate alone')
    .action(context.run((name: string, options: AddOptions) => add(context, name, options)));
  user
    .command('delete')
    .description('delete a user')
    .argument('<name>')
    .action(
      context.run(async (name: string) => {
        const header = await context.client.deleteUser(name);
        return context.tell(`User ${name} deleted`, header, { user: name });
      }),
    );
  user
    .command('get')
    .description('show the roles of a user')
    .argument('<name>')
    .option('--detail', 'with the permissions of its roles')
    .action(
      context.run((name: string, options: { detail?: boolean }) => get(context, name, options)),
    );
  user
    .command('list')
    .description('list the users')
    .action(
      context.run(async () => {
        const users = await context.client.listUsers();
        context.print({ simple: () => users, json: () => ({ users }) });
        return EXIT.done;
      }),
    );
  user
    .command('passwd')
    .description('change the password of a user; it is asked for')
    .argument('<name>')
    .action(
      context.run(async (name: string) => {
        const password = await readNewPassword(context.io, name);
        const header = await context.client.setPassword(name, password);
        return context.tell('Password updated', header, { user: name });
      }),
    );
  user
    .command('grant-role')
    .description('give a role to a user')
    .argument('<name>')
    .argument('<role>')
    .action(
      context.run(async (name: string, role: string) => {
        const header = await context.client.grantRole(name, role);
        const text = `Role ${role} is granted to user ${name}`;
        return context.tell(text, header, { user: name, role });
      }),
    );
  user
    .command('revoke-role')
    .description('take a role from a user')
    .argument('<name>')
    .argument('<role>')
    .action(
      context.run(async (name: string, role: string) => {
        const header = await context.client.revokeRole(name, role);
        const text = `Role ${role} is revoked from user ${name}`;
        return context.tell(text, header, { user: name, role });
      }),
    );
}

async function add(context: CommandContext, given: string, options: AddOptions): Promise<number> {
  const cut = given.indexOf(':');
  const isInline = cut >= 0 && options.newUserPassword === undefined && options.password !== false;
  const name = isInline ? given.slice(0, cut) : given;
  if (name === '') throw usageError('a user needs a name');
  let password: string | null = null;
  if (isInline) password = given.slice(cut + 1);
  else if (options.newUserPassword !== undefined) password = options.newUserPassword;
  else if (options.password !== false) password = await readNewPassword(context.io, name);
  const header = await context.client.addUser(name, password);
  return context.tell(`User ${name} created`, header, { user: name });
}

async function get(
  context: CommandContext,
  name: string,
  { detail }: { readonly detail?: boolean },
): Promise<number> {
  const { client } = context;
  const roles = await client.rolesOf(name);
  const shown: string[] = [];
  if (detail === true) {
    for (const role of roles) {
      shown.push('', ...permissionLines(role, await client.permissionsOf(role)));
    }
  }
  context.print({
    simple: () =>
      detail === true
        ? [`User: ${name}`, ...shown]
        : [`User: ${name}`, ['Roles:', ...roles].join(' ')],
    json: () => ({ user: name, roles }),
  });
  return EXIT.done;
}

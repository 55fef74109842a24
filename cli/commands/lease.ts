/**
 * `kvctl lease ...`: leases by hand. Ids are hexadecimal, as in every output.
 */
import type { Command } from 'commander';
import { LeaseKeeper } from '../../src/client/lease-keeper.js';
import type { Int64 } from '../../src/int64.js';
import { waitFor } from '../child.js';
import type { CommandContext } from '../context.js';
import { CommandError, EXIT } from '../exit.js';
import { inlineBytes, jsonBytes, jsonHeader, leaseText } from '../output.js';
import { parseCount, parseLeaseId } from '../values.js';

export function addLeaseCommands(root: Command, context: CommandContext): void {
  const lease = root.command('lease').description('grant, keep and end leases');
  lease
    .command('grant')
    .description('grant a lease')
    .argument('<ttl>', 'seconds', parseCount('the TTL', 1))
    .option('--id <id>', 'the id to use (hexadecimal)', parseLeaseId)
    .action(
      context.run((ttl: number, options: { readonly id?: Int64 }) =>
        grant(context, ttl, options.id ?? 0),
      ),
    );
  lease
    .command('revoke')
    .description('end a lease and delete its keys')
    .argument('<id>', 'hexadecimal', parseLeaseId)
    .action(context.run((id: Int64) => revoke(context, id)));
  lease
    .command('keep-alive')
    .description('renew a lease until interrupted')
    .argument('<id>', 'hexadecimal', parseLeaseId)
    .option('--once', 'renew once')
    .action(
      context.runUntilInterrupted((id: Int64, options: { readonly once?: boolean }) =>
        keepAlive(context, id, options.once === true),
      ),
    );
  lease
    .command('timetolive')
    .description('show how long a lease will live')
    .argument('<id>', 'hexadecimal', parseLeaseId)
    .option('--keys', 'list its keys too')
    .action(
      context.run((id: Int64, options: { readonly keys?: boolean }) =>
        timeToLive(context, id, options.keys === true),
      ),
    );
  lease
    .command('list')
    .description('list the leases')
    .action(context.run(() => list(context)));
}

async function grant(context: CommandContext, ttl: number, id: Int64): Promise<number> {
  const granted = await context.client.grantLease(ttl, id);
  context.print({
    simple: () => [`lease ${leaseText(granted.id)} granted with TTL(${granted.ttl}s)`],
    json: () => ({
      header: jsonHeader(granted.header),
      id: leaseText(granted.id),
      ttl: granted.ttl,
    }),
  });
  return EXIT.done;
}

async function revoke(context: CommandContext, id: Int64): Promise<number> {
  const header = await context.client.revokeLease(id);
  context.print({
    simple: () => [`lease ${leaseText(id)} revoked`],
    json: () => ({ header: jsonHeader(header), id: leaseText(id) }),
  });
  return EXIT.done;
}

function gone(id: Int64): CommandError {
  return new CommandError(
    EXIT.notFound,
    `lease ${leaseText(id)} is gone: it expired or was revoked; see "kvctl lease list"`,
  );
}

async function keepAlive(context: CommandContext, id: Int64, once: boolean): Promise<number> {
  const show = (ttl: number): void =>
    context.print({
      simple: () => [`lease ${leaseText(id)} keepalived with TTL(${ttl})`],
      json: () => ({ id: leaseText(id), ttl }),
    });
  const askedAt = performance.now();
  const { ttl } = await context.client.renewLease(id, { signal: context.io.interrupt });
  if (ttl <= 0) throw gone(id);
  show(ttl);
  if (once) return EXIT.done;
  const keeper = new LeaseKeeper(context.client, id, ttl, askedAt, { onRenewed: show });
  await waitFor(keeper.signal, context.io.interrupt);
  await keeper.stop();
  if (keeper.isLost) throw gone(id);
  return EXIT.done;
}

async function timeToLive(context: CommandContext, id: Int64, keys: boolean): Promise<number> {
  const answer = await context.client.leaseTimeToLive(id, keys);
  if (answer.ttl < 0) throw gone(id);
  context.print({
    simple: () => {
      const text = `lease ${leaseText(id)} granted with TTL(${answer.grantedTtl}s)`;
      const shown = answer.keys.map((key) => inlineBytes(key)).join(' ');
      const attached = keys ? `, attached keys([${shown}])` : '';
      return [`${text}, remaining(${answer.ttl}s)${attached}`];
    },
    json: () => ({
      header: jsonHeader(answer.header),
      id: leaseText(id),
      ttl: answer.ttl,
      granted_ttl: answer.grantedTtl,
      keys: keys ? answer.keys.map((key) => jsonBytes('key', key)) : undefined,
    }),
  });
  return EXIT.done;
}

async function list(context: CommandContext): Promise<number> {
  const { header, leases } = await context.client.listLeases();
  const ids = leases.map(leaseText);
  context.print({
    simple: () => [`found ${ids.length} leases`, ...ids],
    json: () => ({ header: jsonHeader(header), leases: ids.map((id) => ({ id })) }),
    table: () => ({ head: ['LEASE'], rows: ids.map((id) => [id]) }),
  });
  return EXIT.done;
}

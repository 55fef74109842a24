/**
 * `kvctl cert`: makes, shows and revokes certificates for TLS, without any other program. Nothing of it asks
 * a server.
 */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import type { ClusterMember } from '../../src/tls/certificate-folder.js';
import type { CommandContext } from '../context.js';
import { CommandError, EXIT, usageError } from '../exit.js';
import { parseCount } from '../values.js';

const DAY_MS = 86_400_000;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

interface InitOptions {
  readonly hosts?: string;
  readonly members: number;
  readonly users: string;
  readonly out: string;
  readonly days: number;
  readonly renew?: boolean;
}

export function addCertCommands(root: Command, context: CommandContext): void {
  const cert = root.command('cert').description('make, show and revoke certificates for TLS');
  cert
    .command('init')
    .description('make two authorities and the certificates of members and users')
    .option('--members <n>', 'members m1, m2, ...', parseCount('--members', 1), 3)
    .option('--hosts <list>', 'names and addresses of the members; m1=HOST for one of them')
    .option('--users <list>', 'users with a certificate each', 'root,client')
    .option('--days <n>', 'validity of what is made', parseCount('--days', 1), 365)
    .option('--out <dir>', 'folder', 'certs')
    .option('--renew', 'make the certificates of members and users anew')
    .action(context.run((options: InitOptions) => init(context, options)));
  cert
    .command('show')
    .description('explain the certificates in a file')
    .argument('<file>', 'PEM or DER')
    .action(context.run((file: string) => show(context, file)));
  cert
    .command('revoke')
    .description('take back a certificate that "cert init" has made')
    .argument('<file>', 'the certificate')
    .option('--out <dir>', 'folder with the authority', 'certs')
    .action(
      context.run((file: string, { out }: { readonly out: string }) => take(context, file, out)),
    );
}

async function init(context: CommandContext, options: InitOptions): Promise<number> {
  const members = membersOf(options.members, options.hosts ?? '');
  const users = options.users.split(',').filter((user) => user !== '');
  for (const user of users) {
    if (!NAME.test(user)) throw usageError(`--users: "${user}" cannot name a file`);
  }
  const folder = options.out;
  // Loads what writes certificates, which no other command needs.
  const { clientFlags, fillFolder, memberFlags } = await import(
    '../../src/tls/certificate-folder.js'
  );
  const { days, renew = false } = options;
  const made = await fillFolder({ folder, members, users, days, isRenewed: renew });
  const flags = members.map(({ name }) => ({ name, flags: memberFlags(folder, name).join(' ') }));
  const [user] = users;
  const client = user === undefined ? '' : clientFlags(folder, user).join(' ');
  context.print({
    simple: () => [
      made.length === 0 ? `all certificates in ${folder} are there` : `made in ${folder}:`,
      ...made.map((file) => `  ${file}`),
      '',
      'members, beside their URLs with https://',
      ...flags.map((member) => `  ${member.name}: ${member.flags}`),
      ...(client === '' ? [] : ['', `clients:`, `  kvctl ${client} --endpoints https://...`]),
      '',
      `keep ${join(folder, 'ca-key.pem')} and ${join(folder, 'peer-ca-key.pem')} away from the members`,
    ],
    json: () => ({ made, members: flags, client }),
  });
  return EXIT.done;
}

function membersOf(count: number, hosts: string): ClusterMember[] {
  const shared: string[] = [];
  const own = new Map<string, string[]>();
  for (let at = 1; at <= count; at += 1) own.set(`m${at}`, []);
  for (const part of hosts.split(',').filter((each) => each !== '')) {
    const [name, host] = part.split('=') as [string, string | undefined];
    if (host === undefined) shared.push(name);
    else if (!NAME.test(name)) throw usageError(`--hosts: "${name}" cannot name a folder`);
    else own.set(name, [...(own.get(name) ?? []), host]);
  }
  for (const host of [...shared, ...own.values()].flat()) {
    if (!/^[A-Za-z0-9*._:-]+$/.test(host)) {
      throw usageError(`--hosts: "${host}" is no host name and no address`);
    }
  }
  return [...own].map(([name, found]) => ({ name, hosts: [...found, ...shared] }));
}

async function show(context: CommandContext, file: string): Promise<number> {
  const found = certificatesOf(file).map(describe);
  context.print({
    simple: () =>
      found.flatMap((each, at) => [
        ...(at === 0 ? [] : ['']),
        ...Object.entries(each).map(([name, value]) => `${`${name}:`.padEnd(13)}${value}`),
      ]),
    json: () => found,
  });
  return EXIT.done;
}

function describe(certificate: X509Certificate): Record<string, string> {
  const from = Date.parse(certificate.validFrom);
  const to = Date.parse(certificate.validTo);
  const now = Date.now();
  const days = Math.floor(Math.abs(to - now) / DAY_MS);
  const left =
    now < from ? 'not valid yet' : now > to ? `expired ${days} days ago` : `${days} days left`;
  const line = (text: string | undefined): string => (text ?? '').split('\n').join(', ') || '-';
  const isSelfSigned = certificate.checkIssued(certificate);
  return {
    subject: line(certificate.subject),
    issuer: `${line(certificate.issuer)}${isSelfSigned ? ' (itself)' : ''}`,
    hosts: certificate.subjectAltName ?? '-',
    valid: `${new Date(from).toISOString()} to ${new Date(to).toISOString()}, ${left}`,
    usages: usagesOf(certificate),
    serial: certificate.serialNumber,
    fingerprint: `SHA-256 ${certificate.fingerprint256}`,
  };
}

const USAGES: Readonly<Record<string, string>> = {
  '1.3.6.1.5.5.7.3.1': 'server',
  '1.3.6.1.5.5.7.3.2': 'client',
};

function usagesOf(certificate: X509Certificate): string {
  // The types do not know that a certificate without the extension has none.
  const purposes = (certificate.keyUsage as string[] | undefined) ?? [];
  const named = purposes.map((oid) => USAGES[oid] ?? oid);
  if (certificate.ca) named.push('authority');
  return named.length === 0 ? 'any' : named.join(', ');
}

function certificatesOf(file: string): X509Certificate[] {
  let content: Buffer;
  try {
    content = readFileSync(file);
  } catch (error) {
    throw new CommandError(EXIT.usage, (error as Error).message);
  }
  const blocks = content
    .toString('latin1')
    .match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [content];
  try {
    return blocks.map((block) => new X509Certificate(block));
  } catch {
    throw new CommandError(EXIT.failed, `${file} holds no certificate (PEM or DER)`);
  }
}

async function take(context: CommandContext, file: string, folder: string): Promise<number> {
  const [certificate] = certificatesOf(file);
  const { revoke } = await import('../../src/tls/certificate-folder.js');
  let list: string;
  try {
    list = await revoke(folder, file);
  } catch (error) {
    throw new CommandError(EXIT.failed, (error as Error).message);
  }
  const flag = list.endsWith('peer-crl.pem') ? '--peer-crl-file' : '--client-crl-file';
  context.print({
    simple: () => [
      `${file} is on the list ${list}`,
      `members started with ${flag} ${list} refuse it from their next handshake on`,
    ],
    json: () => ({ list, serial: certificate?.serialNumber ?? '' }),
  });
  return EXIT.done;
}

/**
 * What is asked of the certificate of the other side beyond the handshake, by settings and lists that
 * OpenSSL does not know: acceptor.ts asks for callers, peer-sockets.ts for those who are called.
 */
import { X509Certificate } from 'node:crypto';
import { lookup, reverse } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { DetailedPeerCertificate, TLSSocket } from 'node:tls';
import { addressBytes, clientKey } from '../address.js';
import type { TlsSettings } from '../tls-options.js';
import { verificationText } from './handshake-words.js';
import { serialKey } from './serial-number.js';

/** Why the certificate of a verified handshake is not enough; null: it is. */
export function objection(
  socket: TLSSocket,
  settings: TlsSettings,
  revoked: ReadonlySet<string>,
): string | null {
  const certificate = shownBy(socket);
  if (certificate === null) return 'it showed no certificate';
  const who = `its certificate (${nameOf(certificate)})`;
  const { authorizationError } = socket;
  if (!socket.authorized && authorizationError) {
    const { code } = authorizationError as Error & { code?: string };
    return `${who} is not accepted: ${verificationText(code ?? String(authorizationError))}`;
  }
  if (serials(socket).some((serial) => revoked.has(serial))) return `${who} was revoked`;
  const { allowedCommonNames, allowedHosts } = settings;
  if (allowedCommonNames.length > 0) {
    const name = commonName(socket);
    if (name === null || !allowedCommonNames.includes(name)) {
      return `${who} has none of the common names that are allowed`;
    }
  }
  if (allowedHosts.length > 0 && !allowedHosts.some((host) => isFor(certificate, host))) {
    return `${who} is for none of the hosts that are allowed`;
  }
  return null;
}

/** Not by `getPeerX509Certificate`, which on Node 20 takes the certificate away from who asks later. */
export function shownBy(socket: TLSSocket): X509Certificate | null {
  const { raw } = socket.getPeerCertificate();
  return raw === undefined ? null : new X509Certificate(raw);
}

/** Null if there is none, or more than one: who calls must be beyond doubt. */
export function commonName(socket: TLSSocket): string | null {
  const { subject } = socket.getPeerCertificate();
  const name: unknown = subject?.CN;
  return typeof name === 'string' && name !== '' ? name : null;
}

/** As etcd does it: a certificate that names hosts or addresses must name the one that calls. */
export async function namesAddress(
  certificate: X509Certificate,
  address: string,
): Promise<boolean> {
  const names = alternativeNames(certificate);
  if (names.addresses.length === 0 && names.hosts.length === 0) return true;
  const own = plain(address);
  if (names.addresses.some((each) => plain(each) === own)) return true;
  if (names.hosts.length === 0) return false;
  const [called, found] = await Promise.all([
    reverse(own).catch(() => []),
    Promise.all(names.hosts.filter((host) => !host.startsWith('*.')).map(addressesOf)),
  ]);
  if (found.flat().some((each) => plain(each) === own)) return true;
  return called.some((name) =>
    names.hosts.some(
      (host) => name === host || (host.startsWith('*.') && name.endsWith(host.slice(1))),
    ),
  );
}

function alternativeNames({ subjectAltName }: X509Certificate): {
  readonly addresses: string[];
  readonly hosts: string[];
} {
  const parts = (subjectAltName ?? '').split(', ');
  const of = (kind: string): string[] =>
    parts.flatMap((part) => (part.startsWith(`${kind}:`) ? [part.slice(kind.length + 1)] : []));
  return { addresses: of('IP Address'), hosts: of('DNS') };
}

async function addressesOf(host: string): Promise<string[]> {
  try {
    return (await lookup(host, { all: true })).map(({ address }) => address);
  } catch {
    // Not known here: then it is not the one that calls.
    return [];
  }
}

/** One way of writing an address. */
function plain(address: string): string {
  const known = clientKey(address);
  return isIP(known) === 4 ? known : addressBytes(address).join();
}

export function isFor(certificate: X509Certificate, host: string): boolean {
  const found =
    isIP(host) === 0
      ? certificate.checkHost(host, { subject: 'never' })
      : certificate.checkIP(host);
  return found !== undefined;
}

/** Of the certificate and of those that signed it, as far as they were shown. */
function serials(socket: TLSSocket): string[] {
  const found: string[] = [];
  let each: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
  for (const seen = new Set<unknown>(); each?.serialNumber !== undefined && !seen.has(each); ) {
    seen.add(each);
    found.push(serialKey(each.serialNumber));
    each = each.issuerCertificate;
  }
  return found;
}

/** For a log: one line, whatever is in the certificate. */
function nameOf({ subject, serialNumber }: X509Certificate): string {
  const name = (subject ?? '').replace(/\s+/g, ' ').slice(0, 200);
  return `${name === '' ? 'without a subject' : name}, serial ${serialNumber}`;
}

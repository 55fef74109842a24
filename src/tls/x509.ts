/**
 * Makes certificates and lists of revoked ones, and reads the latter: the only file that names pkijs.
 *
 * Called by auto-tls.ts, by `kvctl cert` and by tests. Everything that only reads certificates uses Node's
 * X509Certificate. Import it dynamically: a server with certificates of its own needs none of this.
 *
 * Keys are P-256 with SHA-256 (handshakes cost a tenth of what RSA costs); serial numbers are 127 random
 * bits; host names go into the subject alternative names, the only place where clients look for them.
 */
import { createHash, randomBytes, webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import { Integer, OctetString, Utf8String } from 'asn1js';
import {
  AttributeTypeAndValue,
  AuthorityKeyIdentifier,
  BasicConstraints,
  Certificate,
  CertificateRevocationList,
  CryptoEngine,
  Extension,
  ExtKeyUsage,
  GeneralName,
  GeneralNames,
  id_AuthorityKeyIdentifier,
  id_BasicConstraints,
  id_ExtKeyUsage,
  id_KeyUsage,
  id_SubjectAltName,
  id_SubjectKeyIdentifier,
  RelativeDistinguishedNames,
  RevokedCertificate,
  Time,
} from 'pkijs';
import { addressBytes } from '../address.js';
import { serialKey } from './serial-number.js';

/** A certificate with its key. */
export interface Issued {
  readonly certificate: string;
  readonly key: string;
}

/** What a certificate may be shown for. */
export type Usage = 'server' | 'client';

export interface CertificateWish {
  readonly commonName: string;
  /** DNS names and IP addresses. */
  readonly hosts: readonly string[];
  readonly usages: readonly Usage[];
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** May sign other certificates. */
  readonly isAuthority: boolean;
}

const KEYS = { name: 'ECDSA', namedCurve: 'P-256' } as const;
const HASH = 'SHA-256';
const COMMON_NAME = '2.5.4.3';
const USAGE_OID = { server: '1.3.6.1.5.5.7.3.1', client: '1.3.6.1.5.5.7.3.2' } as const;
/** Bits of key usage (RFC 5280, 4.2.1.3), with the number of unused ones in front. */
const SIGNS_HANDSHAKES = [0x03, 0x02, 0x07, 0x80];
const SIGNS_ALL = [0x03, 0x02, 0x01, 0x86];
const IS_DNS_NAME = 2;
const IS_ADDRESS = 7;

const engine = new CryptoEngine({ name: 'node', crypto: webcrypto });

/** Signed by the authority, or by itself when there is none. */
export async function makeCertificate(
  wish: CertificateWish,
  authority: Issued | null,
): Promise<Issued> {
  const { publicKey, privateKey } = await webcrypto.subtle.generateKey(KEYS, true, [
    'sign',
    'verify',
  ]);
  const certificate = new Certificate();
  certificate.version = 2;
  certificate.serialNumber = Integer.fromBigInt(
    BigInt(`0x${randomBytes(16).toString('hex')}`) >> 1n,
  );
  certificate.subject = nameOf(wish.commonName);
  await certificate.subjectPublicKeyInfo.importKey(publicKey, engine);
  const issuer = authority === null ? certificate : parsed(authority.certificate);
  certificate.issuer = issuer.subject;
  certificate.notBefore = timeOf(wish.notBefore);
  certificate.notAfter = timeOf(wish.notAfter);
  certificate.extensions = [...extensionsOf(wish), ...keyIdentifiers(certificate, issuer)];
  const signer = authority === null ? privateKey : await privateKeyOf(authority.key);
  await certificate.sign(signer, HASH, engine);
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', privateKey);
  return {
    certificate: pem('CERTIFICATE', certificate.toSchema(true).toBER(false)),
    key: pem('PRIVATE KEY', pkcs8),
  };
}

/** A list that takes back certificates of this authority. */
export async function makeRevocationList(
  authority: Issued,
  /** Hexadecimal. */
  serials: readonly string[],
  now: Date,
  nextUpdate: Date,
): Promise<string> {
  const list = new CertificateRevocationList();
  list.version = 1;
  list.issuer = parsed(authority.certificate).subject;
  list.thisUpdate = timeOf(now);
  list.nextUpdate = timeOf(nextUpdate);
  if (serials.length > 0) {
    list.revokedCertificates = serials.map(
      (serial) =>
        new RevokedCertificate({
          userCertificate: Integer.fromBigInt(BigInt(`0x${serial}`)),
          revocationDate: timeOf(now),
        }),
    );
  }
  await list.sign(await privateKeyOf(authority.key), HASH, engine);
  return pem('X509 CRL', list.toSchema(true).toBER(false));
}

export interface RevocationList {
  /** As `serialKey` has them. */
  readonly serials: ReadonlySet<string>;
  /** When its author wants it to be replaced; null if it does not say. */
  readonly nextUpdate: Date | null;
}

/** Reads PEM or DER; throws on anything else. */
export function readRevocationList(content: Buffer): RevocationList {
  const list = CertificateRevocationList.fromBER(derOf(content, 'X509 CRL'));
  const revoked = list.revokedCertificates ?? [];
  return {
    serials: new Set(
      revoked.map(({ userCertificate }) => serialKey(userCertificate.toBigInt().toString(16))),
    ),
    nextUpdate: list.nextUpdate?.value ?? null,
  };
}

function extensionsOf({ hosts, usages, isAuthority }: CertificateWish): Extension[] {
  const constraints = new BasicConstraints({ cA: isAuthority });
  const extensions = [
    extension(id_BasicConstraints, true, constraints.toSchema().toBER(false)),
    extension(id_KeyUsage, true, Uint8Array.from(isAuthority ? SIGNS_ALL : SIGNS_HANDSHAKES)),
  ];
  if (usages.length > 0) {
    const purposes = new ExtKeyUsage({ keyPurposes: usages.map((usage) => USAGE_OID[usage]) });
    extensions.push(extension(id_ExtKeyUsage, false, purposes.toSchema().toBER(false)));
  }
  if (hosts.length > 0) {
    const names = new GeneralNames({ names: hosts.map(generalName) });
    extensions.push(extension(id_SubjectAltName, false, names.toSchema().toBER(false)));
  }
  return extensions;
}

/** Tells authorities of the same name apart; some clients insist on them. */
function keyIdentifiers(certificate: Certificate, issuer: Certificate): Extension[] {
  const own = new OctetString({ valueHex: keyIdentifier(certificate) });
  const authority = new AuthorityKeyIdentifier({
    keyIdentifier: new OctetString({ valueHex: keyIdentifier(issuer) }),
  });
  return [
    extension(id_SubjectKeyIdentifier, false, own.toBER(false)),
    extension(id_AuthorityKeyIdentifier, false, authority.toSchema().toBER(false)),
  ];
}

/** 20 bytes, as RFC 7093 has it. */
function keyIdentifier({ subjectPublicKeyInfo }: Certificate): ArrayBuffer {
  const bytes = subjectPublicKeyInfo.subjectPublicKey.valueBlock.valueHexView;
  return Uint8Array.from(createHash('sha256').update(bytes).digest().subarray(0, 20)).buffer;
}

function extension(extnID: string, critical: boolean, value: ArrayBuffer | Uint8Array): Extension {
  const bytes = new Uint8Array(value);
  return new Extension({ extnID, critical, extnValue: bytes.buffer });
}

function generalName(host: string): GeneralName {
  if (isIP(host) === 0) return new GeneralName({ type: IS_DNS_NAME, value: host });
  const valueHex = Uint8Array.from(addressBytes(host)).buffer;
  return new GeneralName({ type: IS_ADDRESS, value: new OctetString({ valueHex }) });
}

function nameOf(commonName: string): RelativeDistinguishedNames {
  const value = new Utf8String({ value: commonName });
  return new RelativeDistinguishedNames({
    typesAndValues: [new AttributeTypeAndValue({ type: COMMON_NAME, value })],
  });
}

/** Years from 2050 on have a form of their own (RFC 5280, 4.1.2.5). */
function timeOf(value: Date): Time {
  return new Time({ type: value.getUTCFullYear() < 2050 ? 0 : 1, value });
}

function parsed(certificate: string): Certificate {
  return Certificate.fromBER(derOf(Buffer.from(certificate), 'CERTIFICATE'));
}

async function privateKeyOf(key: string): Promise<webcrypto.CryptoKey> {
  const der = derOf(Buffer.from(key), 'PRIVATE KEY');
  return await webcrypto.subtle.importKey('pkcs8', der, KEYS, false, ['sign']);
}

function pem(label: string, der: ArrayBuffer): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

/** The bytes of the first block with this label, or the content itself if it is not text. */
function derOf(content: Buffer, label: string): Buffer {
  const text = content.toString('latin1');
  if (!text.includes('-----BEGIN')) return content;
  const block = new RegExp(`-----BEGIN ${label}-----([A-Za-z0-9+/=\\s]+)-----END ${label}-----`);
  const base64 = block.exec(text)?.[1];
  if (base64 === undefined) throw new Error(`it holds no "BEGIN ${label}"`);
  return Buffer.from(base64, 'base64');
}

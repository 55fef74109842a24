/**
 * Why there is no TLS with a server, for whoever runs the client: what is wrong, and on which side it is to
 * be mended. OpenSSL and Node say it in codes.
 */

/** How each of these reasons begins. */
export const TLS_TROUBLE = 'TLS: ';

const NOT_TRUSTED =
  'no authority that is trusted here has signed its certificate; name the right one with --cacert (tls.ca)';

const TROUBLES: readonly (readonly [RegExp, string])[] = [
  [/^(DEPTH_ZERO_)?SELF_SIGNED_CERT|^UNABLE_TO_(GET_ISSUER|VERIFY_LEAF)/, NOT_TRUSTED],
  [/^CERT_SIGNATURE_FAILURE$/, NOT_TRUSTED],
  [/^CERT_HAS_EXPIRED$/, 'its certificate has expired and must be renewed at the server'],
  [/^CERT_NOT_YET_VALID$/, 'its certificate is not valid yet; compare the clocks'],
  [/^INVALID_PURPOSE$/, 'its certificate is not made for servers'],
  [/WRONG_VERSION_NUMBER$|PACKET_LENGTH_TOO_LONG$/, 'it speaks plain text there; write http://'],
  [
    /ALERT_(BAD|UNSUPPORTED)_CERTIFICATE$|ALERT_CERTIFICATE_|ALERT_UNKNOWN_CA$|ALERT_ACCESS_DENIED$/,
    'it wants another certificate of the client than it was shown; name one with --cert and --key (tls.cert, tls.key)',
  ],
  [/PROTOCOL_VERSION$|UNSUPPORTED_PROTOCOL$|HANDSHAKE_FAILURE$/, 'no version or cipher in common'],
  [/KEY_VALUES_MISMATCH$/, 'the key does not fit the certificate of the client'],
];

/** Null: it has nothing to do with TLS. */
export function tlsTrouble(error: unknown): string | null {
  const { code, cert, host } = error as {
    readonly code?: unknown;
    readonly cert?: { readonly subjectaltname?: string };
    readonly host?: string;
  };
  if (typeof code !== 'string') return null;
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    const names = cert?.subjectaltname || 'no host at all';
    return `${TLS_TROUBLE}its certificate is for ${names}, not for ${host ?? 'this name'}; call it by one of these names`;
  }
  const known = TROUBLES.find(([pattern]) => pattern.test(code));
  return known === undefined ? null : TLS_TROUBLE + known[1];
}

/** The server closed a connection without a word. */
export const CLOSED_AFTER_HANDSHAKE = `${TLS_TROUBLE}it closed the connection after the handshake; it may want a certificate of the client (--cert and --key), or not accept the one it was shown`;

export const WANTS_TLS = `${TLS_TROUBLE}it speaks TLS there; write https://`;

/**
 * The words for what goes wrong with TLS connections. OpenSSL speaks in codes; whoever reads the log wants to
 * know which side has to change what.
 */

/** Why a certificate that was shown is not accepted; codes of OpenSSL's verification. */
const NOT_ACCEPTED: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'it has expired',
  CERT_NOT_YET_VALID: 'it is not valid yet; compare the clocks',
  INVALID_PURPOSE: 'it is not made for this purpose (extended key usage)',
  CERT_REVOKED: 'it was revoked',
  CERT_SIGNATURE_FAILURE: 'another authority of the same name has signed it',
  HOSTNAME_MISMATCH: 'it is for other hosts',
};
/** All these mean the same to whoever has to mend it. */
const FOREIGN: ReadonlySet<string> = new Set([
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
]);

export function verificationText(code: string): string {
  if (FOREIGN.has(code)) return 'no authority that is trusted here has signed it';
  return NOT_ACCEPTED[code] ?? code;
}

/** What the other side said when it broke a handshake off, by the end of OpenSSL's code. */
const ALERTS: readonly (readonly [RegExp, string])[] = [
  [/ALERT_UNKNOWN_CA$/, 'does not trust the authority of the certificate shown to it'],
  [/ALERT_CERTIFICATE_EXPIRED$/, 'says that the certificate shown to it has expired'],
  [/ALERT_CERTIFICATE_REVOKED$/, 'says that the certificate shown to it was revoked'],
  [
    /ALERT_(BAD|UNSUPPORTED)_CERTIFICATE$|ALERT_CERTIFICATE_UNKNOWN$/,
    'does not accept the certificate shown to it',
  ],
  [/ALERT_CERTIFICATE_REQUIRED$/, 'wants a certificate, and was shown none'],
  [/ALERT_ACCESS_DENIED$/, 'denies access'],
  [/ALERT_HANDSHAKE_FAILURE$|NO_SHARED_CIPHER$/, 'has no cipher suite in common with this side'],
  [
    /UNSUPPORTED_PROTOCOL$|ALERT_PROTOCOL_VERSION$|VERSION_TOO_LOW$/,
    'has no version of TLS in common with this side',
  ],
  [/ALERT_NO_APPLICATION_PROTOCOL$|NO_APPLICATION_PROTOCOL$/, 'speaks neither HTTP/2 nor HTTP/1.1'],
];

export const PLAIN_TEXT = 'speaks plain text on a port for TLS: its URL must begin with https://';

/** What broke a handshake, as words to follow the name of the other side; null: it went away. */
export function handshakeText(error: NodeJS.ErrnoException): string | null {
  const code = error.code ?? '';
  if (code === 'ECONNRESET' || code === 'EPIPE' || code === 'ECONNABORTED') return null;
  if (/HTTP_REQUEST$|HTTPS_PROXY_REQUEST$|WRONG_VERSION_NUMBER$/.test(code)) {
    return PLAIN_TEXT;
  }
  const alert = ALERTS.find(([pattern]) => pattern.test(code));
  return alert?.[1] ?? `broke the handshake: ${error.message}`;
}

/** Why somebody who was called is not spoken with; null: that has nothing to do with TLS. */
export function calledText(error: NodeJS.ErrnoException, host: string): string | null {
  const code = error.code ?? '';
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    const { cert } = error as { readonly cert?: { readonly subjectaltname?: string } };
    return `has a certificate for ${cert?.subjectaltname || 'no host'}, not for ${host}`;
  }
  if (FOREIGN.has(code) || NOT_ACCEPTED[code] !== undefined) {
    return `has a certificate that is not accepted: ${verificationText(code)}`;
  }
  if (/WRONG_VERSION_NUMBER$|PACKET_LENGTH_TOO_LONG$/.test(code)) {
    return 'speaks plain text there: its URL must begin with http://';
  }
  if (/^ERR_SSL_/.test(code)) return handshakeText(error);
  return null;
}

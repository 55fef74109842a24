/**
 * Settings of TLS with nothing in them, and what a test wants otherwise.
 */
import type { TlsSettings } from '../../src/tls-options.js';

export function tlsSettingsOf(change: Partial<TlsSettings>): TlsSettings {
  return {
    certFile: '',
    keyFile: '',
    callerCertFile: change.certFile ?? '',
    callerKeyFile: change.keyFile ?? '',
    trustedCaFile: '',
    crlFile: '',
    clientCertAuth: false,
    allowedCommonNames: [],
    allowedHosts: [],
    isCallerAnywhere: true,
    isSelfMade: false,
    selfMadeYears: 1,
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.3',
    ciphers: '',
    ...change,
  };
}

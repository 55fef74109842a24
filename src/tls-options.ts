/**
 * The options about TLS: their names, which of them belong together, and what contradicts what. Called by
 * config.ts, which has the values from flags, environment or file.
 *
 * Names and meanings are etcd's. Where its options contradict each other and it goes on without what was
 * asked for, kvd refuses: who asks for a check gets the check or a line that says why not. Only what is
 * harmless, a certificate that no URL uses, is a warning, as in etcd.
 */
import type { Option } from './options.js';

/** Of all ports for clients, or of all ports for members. */
export interface TlsSettings {
  /** Empty: this member shows no certificate, and calls only. */
  readonly certFile: string;
  readonly keyFile: string;
  /** What this member shows where it is the caller. */
  readonly callerCertFile: string;
  readonly callerKeyFile: string;
  /** Empty: callers show no certificate, and those who are called must have one of a public authority. */
  readonly trustedCaFile: string;
  readonly crlFile: string;
  /** The common name of a caller's certificate says who it is. */
  readonly clientCertAuth: boolean;
  /** One of these, if there are any, must be the common name, or among the hosts, of a certificate. */
  readonly allowedCommonNames: readonly string[];
  readonly allowedHosts: readonly string[];
  /** Callers need not call from an address that their certificate names. */
  readonly isCallerAnywhere: boolean;
  /** The certificate is made at the first start, signed by itself, and checked by nobody. */
  readonly isSelfMade: boolean;
  readonly selfMadeYears: number;
  readonly minVersion: TlsVersion;
  readonly maxVersion: TlsVersion;
  /** Names of OpenSSL, with colons between; empty: its defaults. */
  readonly ciphers: string;
}

export type TlsVersion = 'TLSv1.2' | 'TLSv1.3';

const PEM = 'FILE';

export const TLS_OPTIONS: readonly Option[] = [
  ...portOptions('', 'clients'),
  {
    name: 'client-crl-file',
    value: PEM,
    fallback: '',
    meaning: 'list of revoked certificates of clients (PEM or DER)',
  },
  {
    name: 'client-cert-allowed-hostname',
    value: 'HOST,...',
    fallback: '',
    meaning: 'clients need a certificate for one of these hosts',
  },
  ...portOptions('peer-', 'other members'),
  {
    name: 'peer-crl-file',
    value: PEM,
    fallback: '',
    meaning: 'list of revoked certificates of members (PEM or DER)',
  },
  {
    name: 'peer-cert-allowed-cn',
    value: 'NAME,...',
    fallback: '',
    meaning: 'members need a certificate with one of these common names',
  },
  {
    name: 'peer-cert-allowed-hostname',
    value: 'HOST,...',
    fallback: '',
    meaning: 'members need a certificate for one of these hosts',
  },
  {
    name: 'peer-skip-client-san-verification',
    value: '',
    fallback: 'false',
    meaning: 'members may call from addresses that their certificate does not name',
  },
  {
    name: 'self-signed-cert-validity',
    value: 'YEARS',
    fallback: '1',
    meaning: 'validity of what --auto-tls and --peer-auto-tls make',
  },
  {
    name: 'tls-min-version',
    value: 'VERSION',
    fallback: 'TLS1.2',
    meaning: 'TLS1.2 or TLS1.3',
  },
  {
    name: 'tls-max-version',
    value: 'VERSION',
    fallback: '',
    meaning: 'TLS1.2 or TLS1.3 (default: the newest)',
  },
  {
    name: 'cipher-suites',
    value: 'NAME,...',
    fallback: '',
    meaning: 'for TLS 1.2, by their IANA names (default: those of OpenSSL)',
  },
];

function portOptions(prefix: '' | 'peer-', who: string): Option[] {
  const file = (name: string, meaning: string): Option => ({
    name: prefix + name,
    value: PEM,
    fallback: '',
    meaning,
  });
  const switched = (name: string, meaning: string): Option => ({
    name: prefix + name,
    value: '',
    fallback: 'false',
    meaning,
  });
  return [
    file('cert-file', `certificate for ${who} that call by https (PEM, with its chain)`),
    file('key-file', `key of --${prefix}cert-file`),
    file('client-cert-file', `shown to ${who} instead where this member is the caller`),
    file('client-key-file', `key of --${prefix}client-cert-file`),
    file('trusted-ca-file', `${who} need a certificate that one of these authorities has signed`),
    switched('client-cert-auth', `${who} need a certificate; its common name says who calls`),
    switched('auto-tls', 'make a certificate at the first start, which nobody can check'),
  ];
}

/** Keys of the file that hold a group of options each, as in etcd's configuration file. */
export const TLS_GROUPS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'client-transport-security': {
    ...groupNames(''),
    'client-crl-file': 'client-crl-file',
    'crl-file': 'client-crl-file',
    'allowed-hostname': 'client-cert-allowed-hostname',
    'allowed-hostnames': 'client-cert-allowed-hostname',
  },
  'peer-transport-security': {
    ...groupNames('peer-'),
    'crl-file': 'peer-crl-file',
    'allowed-cn': 'peer-cert-allowed-cn',
    'allowed-cns': 'peer-cert-allowed-cn',
    'allowed-hostname': 'peer-cert-allowed-hostname',
    'allowed-hostnames': 'peer-cert-allowed-hostname',
    'skip-client-san-verification': 'peer-skip-client-san-verification',
  },
};

function groupNames(prefix: '' | 'peer-'): Record<string, string> {
  return Object.fromEntries(
    portOptions(prefix, '').map(({ name }) => [name.slice(prefix.length), name]),
  );
}

interface ListenFacts {
  readonly url: string;
  readonly secure: boolean;
}

/** What the settings of one kind of port need of the rest. */
export interface TlsQuestion {
  readonly prefix: '' | 'peer-';
  readonly listen: readonly ListenFacts[];
  /** Ports that show the same certificate and hold no keys: no check is asked for because of them. */
  readonly listenMetrics: readonly ListenFacts[];
  /** Somebody is called by https, or may be. */
  readonly isCaller: boolean;
  readonly text: (name: string) => string;
  readonly problems: string[];
  readonly warnings: string[];
}

/** Null when nobody speaks TLS. */
export function tlsSettings(question: TlsQuestion): TlsSettings | null {
  const { prefix, listen, listenMetrics, isCaller, text, problems } = question;
  const files = (name: string): string => text(prefix + name);
  const [secure] = [...listen, ...listenMetrics].filter((each) => each.secure);
  const isAsked = (name: string): boolean => isOn(text(prefix + name), prefix + name, problems);
  const clientCertAuth = isAsked('client-cert-auth');
  const isAuto = isAsked('auto-tls');
  const hasCertificate = files('cert-file') !== '' || files('key-file') !== '';
  const settings: TlsSettings = {
    certFile: files('cert-file'),
    keyFile: files('key-file'),
    callerCertFile: files('client-cert-file') || files('cert-file'),
    callerKeyFile: files('client-key-file') || files('key-file'),
    trustedCaFile: files('trusted-ca-file'),
    crlFile: text(prefix === '' ? 'client-crl-file' : 'peer-crl-file'),
    clientCertAuth,
    allowedCommonNames: prefix === '' ? [] : list(text('peer-cert-allowed-cn')),
    allowedHosts: list(
      text(prefix === '' ? 'client-cert-allowed-hostname' : 'peer-cert-allowed-hostname'),
    ),
    isCallerAnywhere:
      prefix === '' ||
      isOn(
        text('peer-skip-client-san-verification'),
        'peer-skip-client-san-verification',
        problems,
      ),
    isSelfMade: isAuto && !hasCertificate && secure !== undefined,
    ...common(text, problems),
  };
  refuseHalves(question, settings);
  refuseUncheckable(question, settings, isAuto);
  warnOfUnused(question, settings, isAuto);
  if (secure !== undefined && !hasCertificate && !isAuto) {
    const port = listenMetrics.includes(secure) ? 'metrics' : prefix === '' ? 'client' : 'peer';
    problems.push(
      `--listen-${port}-urls ${secure.url} needs a certificate: --${prefix}cert-file and --${prefix}key-file, or --${prefix}auto-tls`,
    );
  }
  return secure !== undefined || isCaller ? settings : null;
}

function refuseHalves({ prefix, text, problems }: TlsQuestion, settings: TlsSettings): void {
  for (const kind of ['', 'client-']) {
    const [cert, key] = [`${prefix}${kind}cert-file`, `${prefix}${kind}key-file`];
    if ((text(cert) === '') === (text(key) === '')) continue;
    const [given, missing] = text(cert) === '' ? [key, cert] : [cert, key];
    problems.push(`--${given} needs --${missing} beside it`);
  }
  if (settings.allowedCommonNames.length > 0 && settings.allowedHosts.length > 0) {
    problems.push(
      '--peer-cert-allowed-cn and --peer-cert-allowed-hostname exclude each other: keep one of them',
    );
  }
}

/** Checks that were asked for and could not be made. */
function refuseUncheckable(
  { prefix, listen, isCaller, problems }: TlsQuestion,
  settings: TlsSettings,
  isAuto: boolean,
): void {
  const { crlFile, allowedCommonNames, allowedHosts, trustedCaFile, clientCertAuth } = settings;
  const checks = [
    [clientCertAuth, `${prefix}client-cert-auth`],
    [crlFile !== '', prefix === '' ? 'client-crl-file' : 'peer-crl-file'],
    [allowedCommonNames.length > 0, 'peer-cert-allowed-cn'],
    [
      allowedHosts.length > 0,
      prefix === '' ? 'client-cert-allowed-hostname' : 'peer-cert-allowed-hostname',
    ],
  ] as const;
  const isSecure = isCaller || listen.some(({ secure }) => secure);
  for (const [isAsked, name] of checks) {
    if (!isAsked) continue;
    if (!isSecure) {
      const port = prefix === '' ? 'client' : 'peer';
      problems.push(`--${name} checks nobody: --listen-${port}-urls has no https:// URL`);
    } else if (isAuto && trustedCaFile === '') {
      problems.push(
        `--${name} cannot be had with --${prefix}auto-tls, which makes no authority; "kvctl cert init" makes one`,
      );
    } else if (trustedCaFile === '') {
      problems.push(
        `--${name} needs --${prefix}trusted-ca-file: whose certificates are to be trusted?`,
      );
    }
  }
  if (isAuto && trustedCaFile !== '' && settings.certFile === '') {
    problems.push(
      `--${prefix}auto-tls and --${prefix}trusted-ca-file exclude each other: "kvctl cert init" makes certificates that can be checked`,
    );
  }
}

/** As in etcd: what is not used is said and does no harm. */
function warnOfUnused(
  { prefix, listen, listenMetrics, isCaller, warnings }: TlsQuestion,
  settings: TlsSettings,
  isAuto: boolean,
): void {
  const option = `--listen-${prefix === '' ? 'client' : 'peer'}-urls`;
  const plain = listen.filter(({ secure }) => !secure);
  const isSecure = plain.length < listen.length;
  const isShown = isSecure || listenMetrics.some(({ secure }) => secure);
  if (settings.certFile !== '' && isAuto) {
    warnings.push(`--${prefix}auto-tls is ignored: --${prefix}cert-file is given`);
  }
  if (settings.certFile !== '' && !isShown && !isCaller) {
    warnings.push(`--${prefix}cert-file is ignored: ${option} has no https:// URL`);
  }
  if (isAuto && !isShown) {
    warnings.push(`--${prefix}auto-tls is ignored: ${option} has no https:// URL`);
  }
  if (isSecure && settings.trustedCaFile !== '') {
    for (const { url } of plain.filter((each) => each.url.startsWith('http'))) {
      warnings.push(`${option} ${url}: whoever calls there needs no certificate`);
    }
  }
}

function common(
  text: (name: string) => string,
  problems: string[],
): Pick<TlsSettings, 'minVersion' | 'maxVersion' | 'ciphers' | 'selfMadeYears'> {
  const minVersion = versionOf('tls-min-version', text, problems) ?? 'TLSv1.2';
  const maxVersion = versionOf('tls-max-version', text, problems) ?? 'TLSv1.3';
  if (minVersion > maxVersion) {
    say(problems, `--tls-min-version is above --tls-max-version ${text('tls-max-version')}`);
  }
  const suites = list(text('cipher-suites'));
  if (suites.length > 0 && minVersion === 'TLSv1.3') {
    say(problems, '--cipher-suites chooses for TLS 1.2, which --tls-min-version TLS1.3 excludes');
  }
  const years = Number(text('self-signed-cert-validity'));
  if (!Number.isInteger(years) || years < 1 || years > 100) {
    say(problems, `--self-signed-cert-validity ${years}: a number of years is wanted`);
  }
  return { minVersion, maxVersion, ciphers: ciphersOf(suites, problems), selfMadeYears: years };
}

/** These options are of both kinds of ports: what is wrong is said once. */
function say(problems: string[], problem: string): void {
  if (!problems.includes(problem)) problems.push(problem);
}

function versionOf(
  name: string,
  text: (name: string) => string,
  problems: string[],
): TlsVersion | null {
  switch (text(name)) {
    case '':
      return null;
    case 'TLS1.2':
      return 'TLSv1.2';
    case 'TLS1.3':
      return 'TLSv1.3';
    default:
      say(problems, `--${name} ${text(name)}: it is TLS1.2 or TLS1.3`);
      return null;
  }
}

/** Suites of TLS 1.2 that are served, by their IANA names. Without forward secrecy there is none. */
const SUITES: Readonly<Record<string, string>> = {
  TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: 'ECDHE-ECDSA-AES128-GCM-SHA256',
  TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384: 'ECDHE-ECDSA-AES256-GCM-SHA384',
  TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: 'ECDHE-ECDSA-CHACHA20-POLY1305',
  TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305: 'ECDHE-ECDSA-CHACHA20-POLY1305',
  TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: 'ECDHE-RSA-AES128-GCM-SHA256',
  TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384: 'ECDHE-RSA-AES256-GCM-SHA384',
  TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256: 'ECDHE-RSA-CHACHA20-POLY1305',
  TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305: 'ECDHE-RSA-CHACHA20-POLY1305',
  TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA: 'ECDHE-ECDSA-AES128-SHA',
  TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA: 'ECDHE-ECDSA-AES256-SHA',
  TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA: 'ECDHE-RSA-AES128-SHA',
  TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA: 'ECDHE-RSA-AES256-SHA',
};
/** Those of TLS 1.3 are always there, as in etcd. */
const SUITES_OF_13 = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
];

function ciphersOf(suites: readonly string[], problems: string[]): string {
  const found: string[] = [];
  for (const suite of suites) {
    const cipher = SUITES[suite];
    if (cipher !== undefined) found.push(cipher);
    else if (!SUITES_OF_13.includes(suite)) {
      say(
        problems,
        `--cipher-suites: ${suite} is not served; these are: ${Object.keys(SUITES).join(', ')}`,
      );
    }
  }
  return found.length === 0 ? '' : [...SUITES_OF_13, ...found].join(':');
}

function isOn(value: string, name: string, problems: string[]): boolean {
  // What Go takes for a boolean.
  if (/^(?:true|t|1)$/i.test(value)) return true;
  if (!/^(?:false|f|0|)$/i.test(value)) say(problems, `--${name} ${value}: it is true or false`);
  return false;
}

function list(text: string): string[] {
  return text.split(',').filter((part) => part !== '');
}

/**
 * Options about TLS: what they come to, and what is said of those that contradict each other.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Config, loadConfig } from '../../src/config.js';
import { tempFolder } from '../support/temp-folder.js';

const CLIENTS = ['--listen-client-urls', 'https://10.0.0.1:2379'];
const PEERS = ['--listen-peer-urls', 'https://10.0.0.1:2380'];
const CERT = ['--cert-file', 'c.pem', '--key-file', 'k.pem'];
const PEER_CERT = ['--peer-cert-file', 'p.pem', '--peer-key-file', 'pk.pem'];

function load(args: readonly string[], env: Record<string, string> = {}): Config {
  return loadConfig({ args, env });
}

function problems(...args: string[]): string {
  try {
    load(args);
  } catch (error) {
    return (error as Error).message;
  }
  return '';
}

describe('options about TLS', () => {
  it('are none when all is plain', () => {
    const { clientTls, peerTls, warnings } = load([]);
    expect([clientTls, peerTls, warnings]).toEqual([null, null, []]);
  });

  it('are of etcd, for the ports of clients and of members', () => {
    const { listenClient, listenPeer, clientTls, peerTls } = load([
      ...[...CLIENTS, ...CERT, '--trusted-ca-file=ca.pem', '--client-cert-auth'],
      ...['--client-crl-file', 'crl', '--client-cert-allowed-hostname', 'a,b'],
      ...[
        ...PEERS,
        ...PEER_CERT,
        '--peer-trusted-ca-file',
        'pca.pem',
        '--peer-client-cert-auth=true',
      ],
      ...['--peer-client-cert-file', 'pc.pem', '--peer-client-key-file', 'pck.pem'],
      ...['--peer-cert-allowed-cn', 'm1,m2', '--peer-crl-file', 'pcrl'],
      ...['--tls-min-version', 'TLS1.3', '--self-signed-cert-validity', '2'],
    ]);

    expect([...listenClient, ...listenPeer]).toMatchObject([{ secure: true }, { secure: true }]);
    expect(clientTls).toEqual({
      ...{ certFile: 'c.pem', keyFile: 'k.pem', callerCertFile: 'c.pem', callerKeyFile: 'k.pem' },
      ...{ trustedCaFile: 'ca.pem', crlFile: 'crl', clientCertAuth: true },
      ...{ allowedCommonNames: [], allowedHosts: ['a', 'b'], isCallerAnywhere: true },
      ...{ isSelfMade: false, selfMadeYears: 2, ciphers: '' },
      ...{ minVersion: 'TLSv1.3', maxVersion: 'TLSv1.3' },
    });
    expect(peerTls).toMatchObject({
      ...{ certFile: 'p.pem', callerCertFile: 'pc.pem', callerKeyFile: 'pck.pem', crlFile: 'pcrl' },
      ...{ clientCertAuth: true, allowedCommonNames: ['m1', 'm2'], isCallerAnywhere: false },
    });
  });

  it('are of ports for metrics, too, which show the same certificate', () => {
    const metrics = ['--listen-metrics-urls', 'http://127.0.0.1:2381,https://10.0.0.1:2382'];
    const { listenMetrics, clientTls, warnings } = load([...metrics, ...CERT]);
    expect(listenMetrics).toMatchObject([{ port: 2381, secure: false }, { secure: true }]);
    expect(clientTls).toMatchObject({ certFile: 'c.pem' });
    expect(warnings).toEqual([]);

    expect(problems(...metrics)).toContain('--listen-metrics-urls https://10.0.0.1:2382 needs a');
    // They hold no keys: a check on them alone would leave the keys open.
    expect(problems(...metrics, ...CERT, '--trusted-ca-file=a', '--client-cert-auth')).toContain(
      'checks nobody: --listen-client-urls has no https:// URL',
    );
  });

  it('warn of nothing when only metrics are plain', () => {
    const metrics = ['--listen-metrics-urls', 'http://127.0.0.1:2381'];
    const tls = [...CLIENTS, ...CERT, '--trusted-ca-file=a', '--client-cert-auth'];
    expect(load([...metrics, ...tls]).warnings).toEqual([]);
    expect(load([...metrics, ...CERT]).warnings).toEqual([
      '--cert-file is ignored: --listen-client-urls has no https:// URL',
    ]);
  });

  it('come from the environment, too', () => {
    const env = {
      ETCD_LISTEN_CLIENT_URLS: 'https://10.0.0.1:2379',
      ETCD_CERT_FILE: 'c.pem',
      KVD_KEY_FILE: 'k.pem',
      ETCD_CLIENT_CERT_AUTH: 'true',
      ETCD_TRUSTED_CA_FILE: 'ca.pem',
    };
    expect(load([], env).clientTls).toMatchObject({ certFile: 'c.pem', clientCertAuth: true });
    expect(load([], { ...env, ETCD_CLIENT_CERT_AUTH: 'false' }).clientTls?.clientCertAuth).toBe(
      false,
    );
  });

  it('come from the file, in the groups of etcd or one by one', () => {
    const file = join(tempFolder('yaml'), 'kvd.yaml');
    writeFileSync(
      file,
      [
        'listen-client-urls: https://10.0.0.1:2379',
        'listen-peer-urls: https://10.0.0.1:2380',
        'client-transport-security:',
        '  cert-file: c.pem',
        '  key-file: k.pem',
        '  client-cert-auth: true',
        '  trusted-ca-file: ca.pem',
        'peer-transport-security:',
        '  auto-tls: true',
        'tls-min-version: TLS1.3',
      ].join('\n'),
    );
    const { clientTls, peerTls } = load(['--config-file', file]);
    expect(clientTls).toMatchObject({ certFile: 'c.pem', clientCertAuth: true });
    expect(peerTls).toMatchObject({ isSelfMade: true, minVersion: 'TLSv1.3' });

    writeFileSync(file, 'client-transport-security:\n  cert: x\n');
    expect(problems('--config-file', file)).toContain('"client-transport-security: cert"');
  });

  it('are taken for who calls https only', () => {
    const join = load(['--join', 'https://10.0.0.1:2379', '--trusted-ca-file', 'ca.pem']);
    expect(join.clientTls).toMatchObject({ certFile: '', trustedCaFile: 'ca.pem' });
    const members = 'default=http://127.0.0.1:2380,b=https://10.0.0.2:2380';
    expect(load(['--initial-cluster', members]).peerTls).toMatchObject({ certFile: '' });
  });

  it.each([
    [CLIENTS, '--listen-client-urls https://10.0.0.1:2379 needs a certificate: --cert-file'],
    [PEERS, '--listen-peer-urls https://10.0.0.1:2380 needs a certificate: --peer-cert-file'],
    [[...CLIENTS, '--cert-file', 'c'], '--cert-file needs --key-file'],
    [[...PEERS, '--peer-key-file', 'k'], '--peer-key-file needs --peer-cert-file'],
    [[...CLIENTS, ...CERT, '--client-key-file', 'k'], '--client-key-file needs --client-cert-file'],
    [[...CLIENTS, ...CERT, '--client-cert-auth'], 'needs --trusted-ca-file'],
    [[...CLIENTS, ...CERT, '--client-crl-file', 'x'], '--client-crl-file needs --trusted-ca-file'],
    [[...PEERS, ...PEER_CERT, '--peer-cert-allowed-cn', 'x'], 'needs --peer-trusted-ca-file'],
    [['--client-cert-auth'], 'checks nobody: --listen-client-urls has no https:// URL'],
    [['--peer-crl-file', 'x'], 'checks nobody: --listen-peer-urls has no https:// URL'],
    [[...CLIENTS, '--auto-tls', '--client-cert-auth'], 'cannot be had with --auto-tls'],
    [[...PEERS, '--peer-auto-tls', '--peer-trusted-ca-file', 'x'], 'exclude each other'],
    [
      [
        ...[...PEERS, ...PEER_CERT, '--peer-trusted-ca-file', 'x'],
        ...['--peer-cert-allowed-cn', 'a', '--peer-cert-allowed-hostname', 'b'],
      ],
      'exclude each other',
    ],
    [['--tls-min-version', 'TLS1.1'], 'it is TLS1.2 or TLS1.3'],
    [['--tls-min-version', 'TLS1.3', '--tls-max-version', 'TLS1.2'], 'is above --tls-max-version'],
    [['--cipher-suites', 'TLS_RSA_WITH_RC4_128_SHA'], 'TLS_RSA_WITH_RC4_128_SHA is not served'],
    [
      ['--tls-min-version', 'TLS1.3', '--cipher-suites', 'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256'],
      'chooses for TLS 1.2',
    ],
    [['--auto-tls=maybe', ...CLIENTS], 'it is true or false'],
    [['--self-signed-cert-validity', '0'], 'a number of years'],
    [['--listen-client-urls', 'https://h'], 'not a URL of the form'],
    [['--listen-client-urls', 'https://h:99999'], 'not a URL of the form'],
  ])('%j are refused with a text that helps', (args, text) => {
    const found = problems(...args);
    expect(found).toContain(text);
    expect(new Set(found.split('\n')).size).toBe(found.split('\n').length);
  });

  it('that no URL uses are a warning, as in etcd', () => {
    expect(load(CERT).warnings).toEqual([
      '--cert-file is ignored: --listen-client-urls has no https:// URL',
    ]);
    expect(load(['--peer-auto-tls']).warnings).toEqual([
      '--peer-auto-tls is ignored: --listen-peer-urls has no https:// URL',
    ]);
    const both = load([...CLIENTS, ...CERT, '--auto-tls']);
    expect(both.warnings).toEqual(['--auto-tls is ignored: --cert-file is given']);
    expect(both.clientTls?.isSelfMade).toBe(false);
    const urls = ['--listen-client-urls', 'https://10.0.0.1:2379,http://127.0.0.1:2379'];
    expect(load([...urls, ...CERT, '--trusted-ca-file', 'ca']).warnings).toEqual([
      '--listen-client-urls http://127.0.0.1:2379: whoever calls there needs no certificate',
    ]);
  });

  it('name suites as IANA does', () => {
    const suites = 'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_AES_128_GCM_SHA256';
    const { clientTls } = load([...CLIENTS, ...CERT, '--cipher-suites', suites]);
    expect(clientTls?.ciphers).toMatch(/^TLS_AES_.*:ECDHE-RSA-AES128-GCM-SHA256$/);
  });
});

/**
 * The TLS side of a port: who gets in, who does not and what the log says of it, and what callers cost that
 * never complete a handshake.
 */
import { X509Certificate } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import tls from 'node:tls';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type AcceptorOptions, TlsAcceptor } from '../../src/tls/acceptor.js';
import { commonNameOf } from '../../src/tls/common-name.js';
import { Credentials } from '../../src/tls/credentials.js';
import type { TlsSettings } from '../../src/tls-options.js';
import { Authority, type CertificateFiles, daysFromNow } from '../support/certificates.js';
import { keptLog } from '../support/kept-log.js';
import { tlsSettingsOf } from '../support/tls-settings.js';
import { staysFalse, waitFor } from '../support/wait.js';

let authority: Authority;
let own: CertificateFiles;
const ends: (() => void)[] = [];

beforeAll(async () => {
  authority = await Authority.make();
  own = await authority.sign({ usages: ['server'] });
});

afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** A port that says `served NAME` to whoever gets in. */
async function open(change: Partial<TlsSettings> = {}, more: Partial<AcceptorOptions> = {}) {
  const { logger, lines } = keptLog();
  const settings = tlsSettingsOf({ certFile: own.cert, keyFile: own.key, ...change });
  const credentials = await Credentials.load(settings, logger);
  const acceptor = new TlsAcceptor({
    ...{ settings, credentials, logger, caller: 'client', protocols: ['http/1.1', 'h2'] },
    ...more,
  });
  const served: net.Socket[] = [];
  const server = net.createServer((raw) => {
    acceptor.accept(raw, (socket) => {
      served.push(socket);
      socket.on('error', () => socket.destroy());
      socket.write(`served ${commonNameOf(socket)}`);
      socket.resume();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  ends.push(() => {
    acceptor.close();
    for (const socket of served) socket.destroy();
    server.close();
  });
  const { port } = server.address() as net.AddressInfo;
  return { port, lines, served, acceptor };
}

/** What a caller is told, or why it is told nothing. */
function call(port: number, options: tls.ConnectionOptions = {}): Promise<string> {
  return new Promise((resolve) => {
    const ca = authority.issued.certificate;
    const socket = tls.connect({ port, host: '127.0.0.1', ca, ALPNProtocols: ['h2'], ...options });
    ends.push(() => socket.destroy());
    socket.once('data', (bytes) => resolve(`${String(bytes)} ${socket.alpnProtocol}`));
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.once('close', () => resolve('closed'));
  });
}

function shown({ issued }: CertificateFiles): tls.ConnectionOptions {
  return { cert: issued.certificate, key: issued.key };
}

function serialOf({ issued }: CertificateFiles): string {
  return new X509Certificate(issued.certificate).serialNumber;
}

describe('a port for TLS', () => {
  it('serves callers that speak HTTP/2 or HTTP/1.1, and those that do not say', async () => {
    const { port } = await open();

    expect(await call(port)).toBe('served null h2');
    expect(await call(port, { ALPNProtocols: ['h2', 'http/1.1'] })).toBe('served null http/1.1');
    expect(await call(port, { ALPNProtocols: [] })).toBe('served null false');
    expect(await call(port, { maxVersion: 'TLSv1.2' })).toBe('served null h2');
    expect(await call(port, { ALPNProtocols: ['spdy/3'] })).toContain('NO_APPLICATION_PROTOCOL');
  });

  it('resumes no session', async () => {
    const { port } = await open();
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      let session: Buffer | undefined;
      for (const round of [1, 2]) {
        const socket = tls.connect({
          ...{ port, host: '127.0.0.1', ca: authority.issued.certificate, maxVersion, session },
        });
        socket.on('session', (given) => {
          session = given;
        });
        await new Promise((resolve) => socket.once('data', resolve));
        expect(socket.isSessionReused(), `round ${round}`).toBe(false);
        socket.destroy();
      }
    }
  });

  it('speaks no version that it is not to speak', async () => {
    const { port, lines } = await open({ minVersion: 'TLSv1.3' });

    expect(await call(port, { maxVersion: 'TLSv1.2' })).toContain('PROTOCOL_VERSION');
    expect(lines.join()).toContain('has no version of TLS in common');
  });

  it('tells who calls by the common name, where that is asked for', async () => {
    const alice = await authority.sign({ commonName: 'alice', hosts: [], usages: ['client'] });
    const asked = await open({ trustedCaFile: authority.file, clientCertAuth: true });
    const trusted = await open({ trustedCaFile: authority.file });

    expect(await call(asked.port, shown(alice))).toBe('served alice h2');
    expect(await call(trusted.port, shown(alice))).toBe('served null h2');
  });

  it('refuses callers whose certificate is no good, and the log says what is wrong with it', async () => {
    const { port, lines, served } = await open({ trustedCaFile: authority.file });
    const other = await Authority.make('another authority');
    const namesake = await Authority.make();
    const callers = [
      [null, 'showed no certificate'],
      [await other.sign(), 'no authority that is trusted here has signed it'],
      [await namesake.sign(), 'no authority that is trusted here has signed it'],
      [await authority.sign({ notAfter: daysFromNow(-0.5) }), 'it has expired'],
      [await authority.sign({ notBefore: daysFromNow(2) }), 'it is not valid yet'],
      [await authority.sign({ usages: ['server'] }), 'it is not made for this purpose'],
    ] as const;
    for (const [files, text] of callers) {
      const told = await call(port, files === null ? {} : shown(files));
      expect(told, text).toMatch(/closed|ECONNRESET/);
      expect(lines.at(-1)).toContain('warn TLS: a client at 127.0.0.1 is refused: ');
      expect(lines.at(-1)).toContain(text);
    }
    expect(served).toEqual([]);
  });

  it('refuses who was revoked, is not named, or is not for an allowed host', async () => {
    const good = await authority.sign({ commonName: 'good', hosts: ['good.example'] });
    const bad = await authority.sign({ commonName: 'bad', hosts: ['bad.example'] });
    const trust = { trustedCaFile: authority.file };
    const strict: [Partial<TlsSettings>, string][] = [
      [{ crlFile: await authority.revoke(bad) }, 'was revoked'],
      [{ allowedCommonNames: ['x', 'good'] }, 'none of the common names'],
      [{ allowedHosts: ['x', 'good.example'] }, 'none of the hosts'],
    ];
    for (const [change, text] of strict) {
      const { port, lines } = await open({ ...trust, ...change });
      expect(await call(port, shown(good))).toBe('served null h2');
      expect(await call(port, shown(bad))).toMatch(/closed|ECONNRESET/);
      expect(lines.at(-1)).toContain(text);
    }
  });

  it('knows a revoked serial number by its value, not by how it is written', async () => {
    let bad = await authority.sign();
    while (!serialOf(bad).startsWith('0')) bad = await authority.sign();
    const crlFile = await authority.revoke(bad);
    const { port } = await open({ trustedCaFile: authority.file, crlFile });
    expect(await call(port, shown(bad))).toMatch(/closed|ECONNRESET/);
  });

  it('takes no member that calls from an address its certificate does not name', async () => {
    const settings = { trustedCaFile: authority.file, isCallerAnywhere: false };
    const { port, lines } = await open(settings);

    for (const hosts of [[], ['127.0.0.1'], ['10.1.1.1', 'localhost']]) {
      const files = await authority.sign({ hosts });
      expect(await call(port, shown(files)), hosts.join()).toBe('served null h2');
    }
    for (const hosts of [['10.1.1.1'], ['no.such.host.invalid'], ['10.1.1.1', '*.example.org']]) {
      const files = await authority.sign({ hosts });
      expect(await call(port, shown(files)), hosts.join()).toMatch(/closed|ECONNRESET/);
    }
    expect(lines.join()).toContain('but not 127.0.0.1');
  });

  it('says so, once, when plain text is spoken to it', async () => {
    const { port, lines } = await open();
    const told = await new Promise<string>((resolve) => {
      const request = http.get({ port, host: '127.0.0.1' }, (response) => {
        response.on('data', (bytes) => resolve(`${response.statusCode} ${String(bytes)}`));
      });
      request.on('error', (error) => resolve(error.message));
    });
    const socket = net.connect(port, '127.0.0.1').resume();
    socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    await new Promise((resolve) => socket.once('close', resolve));

    expect(told).toBe('400 this port speaks TLS: write https://\n');
    expect(lines).toEqual([
      'warn TLS: a client at 127.0.0.1 speaks plain text on a port for TLS: its URL must begin with https://',
    ]);
  });

  it('closes connections whose plain text does not end', async () => {
    const { port } = await open({}, { handshakeMs: 1500 });
    const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true }).resume();
    socket.on('error', () => socket.destroy());
    const talk = setInterval(() => socket.write('more'), 100);
    ends.push(() => clearInterval(talk));
    await waitFor('the end', 10_000, () => socket.destroyed);
  });

  it('says nothing of those that come and go, like health checks', async () => {
    const { port, lines } = await open();
    for (let at = 0; at < 5; at += 1) {
      const socket = net.connect(port, '127.0.0.1');
      await new Promise((resolve) => socket.once('connect', resolve));
      socket.end();
      await new Promise((resolve) => socket.once('close', resolve));
    }
    expect(lines).toEqual([]);
  });

  it('closes connections that do not complete a handshake in time', async () => {
    const { port, lines } = await open({}, { handshakeMs: 200 });
    const silent = net.connect(port, '127.0.0.1');
    const slow = net.connect(port, '127.0.0.1');
    slow.write(Buffer.from([0x16, 0x03, 0x01]));
    const ended = [silent, slow].map((socket) => {
      socket.on('error', () => socket.destroy());
      return new Promise((resolve) => socket.once('close', resolve));
    });
    await Promise.all(ended);
    expect(lines[0]).toContain('did not complete a handshake in time');
    expect(await call(port)).toBe('served null h2');
  });

  it('lets a caller with many handshakes that go nowhere wait, and others not', async () => {
    const limits = {
      waiting: 50,
      waitingEach: 50,
      underWay: 4,
      underWayEach: 4,
      aSecond: 1000,
      share: 1,
    };
    const { port, lines } = await open({}, { limits });
    const stalled = Array.from({ length: 8 }, () => {
      const socket = net.connect(port, '127.0.0.1');
      socket.on('error', () => socket.destroy());
      // The beginning of a record whose rest never comes.
      socket.write(Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]));
      ends.push(() => socket.destroy());
      return socket;
    });
    await Promise.all(
      stalled.map((socket) => new Promise((resolve) => socket.once('connect', resolve))),
    );

    // After the slow ones before it have lost their places.
    expect(await call(port)).toBe('served null h2');
    expect(lines.join()).toContain('is too slow with its handshake');
  });

  it('spends a share of its time on handshakes, however many are wanted', async () => {
    const wide = { waiting: 50, waitingEach: 50, underWay: 50, underWayEach: 50, aSecond: 1000 };
    // Enough for one, and for a tenth of a millisecond more in each second.
    const { port, served } = await open({}, { limits: { ...wide, share: 0.0001 } });
    const calls = Array.from({ length: 10 }, () => call(port));

    expect(await Promise.race(calls)).toBe('served null h2');
    await staysFalse('many handshakes', 500, () => served.length > 2);
  });

  it('refuses connections above its bound', async () => {
    const limits = {
      waiting: 3,
      waitingEach: 3,
      underWay: 1,
      underWayEach: 1,
      aSecond: 1000,
      share: 1,
    };
    const { port, lines } = await open({}, { limits });
    const sockets = Array.from({ length: 10 }, () => {
      const socket = net.connect(port, '127.0.0.1');
      socket.on('error', () => socket.destroy());
      socket.write(Buffer.from([0x16, 0x03]));
      ends.push(() => socket.destroy());
      return socket;
    });
    await waitFor('refusals', 5000, () => sockets.filter(({ destroyed }) => destroyed).length >= 6);
    expect(lines.join()).toContain('too many handshakes wait');
  });

  it('is HTTPS for programs that know nothing of it', async () => {
    const { port } = await open();
    const code = await new Promise((resolve) => {
      const ca = authority.issued.certificate;
      const request = https.get({ port, host: 'localhost', ca });
      request.on('error', (error: NodeJS.ErrnoException) => resolve(error.code));
    });
    // "served" is no HTTP; the handshake before it is what counts.
    expect(String(code)).toContain('HPE_');
  });
});

/**
 * Members that speak TLS with each other: frames and snapshots go through, both sides are checked, and a
 * certificate that was replaced counts from the next connection on.
 */
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock.js';
import { configurationOf } from '../../src/raft/configuration.js';
import { askPeer } from '../../src/rpc/peer/ask.js';
import { PeerNetwork } from '../../src/rpc/peer/peer-network.js';
import { TlsPeerSockets } from '../../src/tls/peer-sockets.js';
import type { TlsSettings } from '../../src/tls-options.js';
import { Authority, type CertificateFiles } from '../support/certificates.js';
import { keptLog } from '../support/kept-log.js';
import { tempFolder } from '../support/temp-folder.js';
import { tlsSettingsOf } from '../support/tls-settings.js';
import { waitFor } from '../support/wait.js';

const META = { index: 10, term: 2, configuration: configurationOf([1, 2]), generation: 3 };

let authority: Authority;
let both: CertificateFiles;
const open: (() => Promise<void>)[] = [];

beforeAll(async () => {
  authority = await Authority.make();
  both = await authority.sign();
});

afterEach(async () => {
  for (const end of open.splice(0)) await end();
});

async function member(id: number, change: Partial<TlsSettings> = {}) {
  const { logger, lines } = keptLog();
  const settings = tlsSettingsOf({
    ...{ certFile: both.cert, keyFile: both.key, trustedCaFile: authority.file },
    isCallerAnywhere: false,
    ...change,
  });
  const sockets = await TlsPeerSockets.open(settings, logger);
  const states: string[] = [];
  const chunks: string[] = [];
  const local = { clusterId: 1, memberId: id, boot: 1, folderId: id, host: '127.0.0.1', port: 1 };
  const network = new PeerNetwork({
    local,
    clock: systemClock,
    random: () => 0.5,
    sockets,
    events: {
      onMessage: () => undefined,
      onUnreachable: () => undefined,
      onRequest: (_from, _method, args, _body, respond) => respond(args),
      onSnapshot: () => ({
        accept: async (chunk) => void chunks.push(Buffer.from(chunk).toString()),
        end: async () => undefined,
        abort: () => undefined,
      }),
      onPeerState: (peer, up, reason) => states.push(`${peer} ${up ? 'up' : 'down'} ${reason}`),
      onRefused: (text) => lines.push(text),
      onHello: () => null,
      onRejected: () => undefined,
      onAsk: (question) => [question, id],
    },
  });
  open.push(async () => {
    sockets.close();
    await network.stop();
  });
  const port = await network.listen('127.0.0.1', 0, true);
  return { id, network, sockets, port, states, chunks, lines };
}

type Given = Awaited<ReturnType<typeof member>>;

function introduce(a: Given, b: Given, host = '127.0.0.1', secure = true): void {
  a.network.setPeers([{ id: b.id, host, port: b.port, secure }]);
}

async function isUp(a: Given, b: Given): Promise<void> {
  await waitFor('a connection', 10_000, () => a.network.isUp(b.id));
}

async function saying(lines: readonly string[], text: string): Promise<void> {
  await waitFor(`a line with ${text}`, 10_000, () => lines.some((line) => line.includes(text)));
}

describe('members that speak TLS', () => {
  it('exchange requests and snapshots, and answer questions', async () => {
    const [a, b] = [await member(1), await member(2)];
    introduce(a, b);
    await isUp(a, b);

    const answer = await new Promise((done) => a.network.request(2, 'echo', ['x'], [], done));
    expect(answer).toEqual(['x']);
    const chunks = (async function* () {
      yield Buffer.from('one');
      yield Buffer.from('two');
    })();
    await a.network.sendSnapshot(2, 1, META, chunks);
    expect(b.chunks).toEqual(['one', 'two']);
    const address = { host: '127.0.0.1', port: b.port, secure: true };
    expect(await askPeer(address, 'members', 5000, a.sockets)).toEqual(['members', 2]);
  });

  it('do not speak with a member whose certificate is for another host', async () => {
    const other = await authority.sign({ hosts: ['10.9.9.9'] });
    const [a, b] = [await member(1), await member(2, { certFile: other.cert, keyFile: other.key })];
    introduce(a, b);
    await saying(a.lines, 'has a certificate for IP Address:10.9.9.9, not for 127.0.0.1');
    expect(a.network.isUp(2)).toBe(false);
  });

  it('do not speak with strangers, in either direction', async () => {
    const foreign = await Authority.make('foreign');
    const theirs = await foreign.sign();
    const [a, b] = [
      await member(1),
      await member(2, { certFile: theirs.cert, keyFile: theirs.key, trustedCaFile: foreign.file }),
    ];
    introduce(a, b);
    introduce(b, a);
    const text = 'no authority that is trusted here has signed it';
    await saying(a.lines, `has a certificate that is not accepted: ${text}`);
    await saying(b.lines, `has a certificate that is not accepted: ${text}`);
    expect([a.network.isUp(2), b.network.isUp(1)]).toEqual([false, false]);
  });

  it('are refused without a certificate, with a revoked one, and under another name', async () => {
    const bad = await authority.sign({ commonName: 'bad' });
    const crlFile = await authority.revoke(bad);
    const cases: [Partial<TlsSettings>, Partial<TlsSettings>, string][] = [
      [{}, { callerCertFile: '', callerKeyFile: '' }, 'it showed no certificate'],
      [{ crlFile }, { callerCertFile: bad.cert, callerKeyFile: bad.key }, 'was revoked'],
      [
        { allowedCommonNames: ['localhost'] },
        { callerCertFile: bad.cert, callerKeyFile: bad.key },
        'none of the common names',
      ],
    ];
    for (const [server, caller, text] of cases) {
      const [a, b] = [await member(1, caller), await member(2, server)];
      introduce(a, b);
      await saying(b.lines, text);
      expect(a.network.isUp(2)).toBe(false);
    }
  });

  it('hold whom they call to the same names and lists', async () => {
    const bad = await authority.sign({ commonName: 'bad' });
    const crlFile = await authority.revoke(bad);
    const b = await member(2, {
      certFile: bad.cert,
      keyFile: bad.key,
      callerCertFile: both.cert,
      callerKeyFile: both.key,
    });
    for (const [change, text] of [
      [{ crlFile }, 'was revoked'],
      [{ allowedCommonNames: ['localhost'] }, 'none of the common names'],
    ] as const) {
      const a = await member(1, change);
      introduce(a, b);
      await saying(a.lines, text);
      expect(a.network.isUp(2)).toBe(false);
    }
  });

  it('do not understand those that speak plain text, and say so', async () => {
    const [a, b] = [await member(1), await member(2)];
    introduce(a, b, '127.0.0.1', false);
    await saying(b.lines, 'a peer at 127.0.0.1 speaks plain text on a port for TLS');
    expect(a.network.isUp(2)).toBe(false);
  });

  it('use a certificate that was replaced from the next connection on', async () => {
    const folder = tempFolder('peer');
    const files = { certFile: join(folder, 'c.pem'), keyFile: join(folder, 'k.pem') };
    const wrong = await authority.sign({ hosts: ['10.9.9.9'] });
    copyFileSync(wrong.cert, files.certFile);
    copyFileSync(wrong.key, files.keyFile);
    const [a, b] = [await member(1), await member(2, files)];
    introduce(a, b);
    await saying(a.lines, 'not for 127.0.0.1');

    copyFileSync(both.cert, files.certFile);
    copyFileSync(both.key, files.keyFile);
    await isUp(a, b);
  });
});

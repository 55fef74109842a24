/**
 * A program that floods a port for TLS with handshakes, from many connections, as fast as it can; and one
 * that answers handshakes and does nothing else, to be flooded instead. For test/long/tls-floods.test.ts.
 *
 *   node tls-flooder.js sink CA CERT KEY                     prints its port
 *   node tls-flooder.js flood KIND CONNECTIONS CA CERT KEY   reads ports from its input, one a line: floods
 *                                                            that one; 0 = rest. Prints how many connections
 *                                                            it began at the port before
 *
 * A connection that has ended, at either side, is made anew.
 */
import { constants } from 'node:crypto';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { createInterface } from 'node:readline';
import tls from 'node:tls';

const HOST = '127.0.0.1';
/** Who floods is to be told when it cannot connect, not to spin. */
const AGAIN_MS = 2;
const PART_OF_HELLO = 20;
/** Stands for those that never come. */
const NEVER_MS = 2 ** 30;

type Files = Required<Pick<tls.SecureContextOptions, 'ca' | 'cert' | 'key'>>;

/** What a client of TLS says first; replayed, it costs a server a signature and its sender nothing. */
function captureHello(): Promise<Buffer> {
  return new Promise((resolve) => {
    const server = net.createServer((socket) => {
      socket.once('data', (bytes) => {
        resolve(bytes);
        socket.destroy();
        server.close();
      });
    });
    server.listen(0, HOST, () => {
      const { port } = server.address() as net.AddressInfo;
      tls.connect({ port, host: HOST, ALPNProtocols: ['h2'] }).on('error', () => undefined);
    });
  });
}

/** Says these bytes and, if it gets an answer, stays for so long. */
function saying(bytes: Buffer, stayMs: number) {
  return (port: number): net.Socket => {
    const socket = net.connect(port, HOST);
    socket.on('connect', () => socket.write(bytes));
    socket.once('data', () => setTimeout(() => socket.destroy(), stayMs).unref());
    return socket;
  };
}

function flood(kind: string, hello: Buffer, files: Files): (port: number) => net.Socket {
  const secureContext = tls.createSecureContext(files);
  switch (kind) {
    case 'silence':
      return saying(Buffer.alloc(0), NEVER_MS);
    case 'half hellos':
      return saying(hello.subarray(0, PART_OF_HELLO), NEVER_MS);
    case 'unfinished handshakes':
      return saying(hello, NEVER_MS);
    case 'abandoned handshakes':
      return saying(hello, 0);
    case 'whole handshakes':
      return (port) => {
        const socket = tls.connect({ port, host: HOST, secureContext, ALPNProtocols: ['h2'] });
        return socket.on('secureConnect', () => socket.destroy());
      };
    default:
      throw new Error(`there is no flood of ${kind}`);
  }
}

class TlsFlooder {
  private readonly connect: (port: number) => net.Socket;
  private readonly sockets = new Set<net.Socket>();
  private port = 0;
  private begun = 0;

  constructor(connect: (port: number) => net.Socket) {
    this.connect = connect;
  }

  aim(port: number, connections: number): void {
    process.stdout.write(`${this.begun}\n`);
    this.begun = 0;
    this.port = port;
    for (const socket of this.sockets) socket.destroy();
    if (port === 0) return;
    for (let at = 0; at < connections; at += 1) this.begin(port);
  }

  private begin(port: number): void {
    if (this.port !== port) return;
    this.begun += 1;
    const socket = this.connect(port);
    this.sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.sockets.delete(socket);
      setTimeout(() => this.begin(port), AGAIN_MS);
    });
  }
}

function sink(files: Files): void {
  const secureOptions = constants.SSL_OP_NO_TICKET;
  const server = tls.createServer({ ...files, requestCert: true, secureOptions }, (socket) => {
    socket.on('error', () => socket.destroy());
    socket.resume();
  });
  server.on('tlsClientError', () => undefined);
  server.listen(0, HOST, () => {
    process.stdout.write(`${(server.address() as net.AddressInfo).port}\n`);
  });
}

const [role, ...rest] = process.argv.slice(2);
const [ca, cert, key] = rest.slice(-3) as [string, string, string];
const read = (): Files => ({
  ca: readFileSync(ca),
  cert: readFileSync(cert),
  key: readFileSync(key),
});
if (role === 'sink') sink(read());
if (role === 'flood') {
  const [kind, connections] = rest as [string, string];
  const flooder = new TlsFlooder(flood(kind, await captureHello(), read()));
  createInterface({ input: process.stdin })
    .on('line', (line) => flooder.aim(Number(line), Number(connections)))
    .on('close', () => process.exit(0));
}

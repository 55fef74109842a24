/**
 * Connections between members, with TLS where a URL says https: both ends show certificates if they are told
 * to, whoever is called must have one for the host of its URL, and allowed names and lists of revoked
 * certificates hold in both directions.
 */
import { connect, isIP, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { Complaints } from '../complaints.js';
import type { Logger } from '../logger.js';
import { type HostPort, type PeerSockets, PLAIN_SOCKETS } from '../rpc/peer/peer-sockets.js';
import type { TlsSettings } from '../tls-options.js';
import { TlsAcceptor } from './acceptor.js';
import { Credentials } from './credentials.js';
import { calledText } from './handshake-words.js';
import { objection } from './verification.js';

export class TlsPeerSockets implements PeerSockets {
  private readonly settings: TlsSettings;
  private readonly credentials: Credentials;
  private readonly complaints: Complaints;
  /** Null without a certificate to be called with. */
  private readonly acceptor: TlsAcceptor | null;

  static async open(settings: TlsSettings, logger: Logger): Promise<TlsPeerSockets> {
    return new TlsPeerSockets(settings, await Credentials.load(settings, logger), logger);
  }

  private constructor(settings: TlsSettings, credentials: Credentials, logger: Logger) {
    this.settings = settings;
    this.credentials = credentials;
    this.complaints = new Complaints(logger);
    const hasCertificate = settings.certFile !== '';
    const options = { settings, credentials, logger, caller: 'peer', protocols: [] } as const;
    this.acceptor = hasCertificate ? new TlsAcceptor(options) : null;
  }

  dial(address: HostPort, onOpen: () => void): Socket {
    const { host, port, secure } = address;
    if (secure !== true) return PLAIN_SOCKETS.dial(address, onOpen);
    const { caller, revoked } = this.credentials.current();
    // Made here for its noDelay, which is to hold from the first byte.
    const raw = connect({ host, port, noDelay: true });
    const socket: TLSSocket = connectTls({
      socket: raw,
      host,
      servername: isIP(host) === 0 ? host : '',
      secureContext: caller,
      rejectUnauthorized: !this.settings.isSelfMade,
    });
    const complain = (text: string): void => {
      this.complaints.say(`${host}:${port}`, `TLS: the peer at ${host}:${port} ${text}`);
    };
    socket.on('error', (error) => {
      const text = calledText(error, host);
      if (text !== null) complain(text);
    });
    socket.once('secureConnect', () => {
      const problem = this.settings.isSelfMade ? null : objection(socket, this.settings, revoked);
      if (problem === null) onOpen();
      else {
        complain(`is not spoken with: ${problem}`);
        socket.destroy();
      }
    });
    return socket;
  }

  admit(socket: Socket, secure: boolean, serve: (socket: Socket) => void): void {
    if (!secure) serve(socket);
    else if (this.acceptor === null) socket.destroy();
    else this.acceptor.accept(socket, serve);
  }

  close(): void {
    this.acceptor?.close();
  }
}

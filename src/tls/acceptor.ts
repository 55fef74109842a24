/**
 * TLS for connections that were accepted: the handshake, the certificate of the caller, and the log of what
 * went wrong. What comes out is a socket like any other; ALPN and the first bytes choose the face later.
 *
 *   accepted -> first bytes are here -> waits its turn -> handshake -> caller verified -> served
 *
 * Bounds: from being accepted to being served HANDSHAKE_MS; LIMITS of handshake-line.ts; a handshake that is
 * slower than SLOW_MS gives up its place when there is no room for others. A caller that says nothing holds
 * a socket and no more. No session is resumed: it would bring back a certificate that is revoked by now.
 *
 * Invariant: `serve` is called only with sockets whose caller was verified, if callers are to be verified.
 */
import { constants } from 'node:crypto';
import type { Socket } from 'node:net';
import { createServer, type SecureContextOptions, type Server, type TLSSocket } from 'node:tls';
import { clientKey } from '../address.js';
import { Complaints } from '../complaints.js';
import type { Logger } from '../logger.js';
import type { TlsSettings } from '../tls-options.js';
import { rememberCommonName } from './common-name.js';
import type { Credentials, Material } from './credentials.js';
import { HandshakeLine, type LineLimits } from './handshake-line.js';
import { handshakeText, PLAIN_TEXT } from './handshake-words.js';
import { commonName, namesAddress, objection, shownBy } from './verification.js';

const HANDSHAKE_MS = 10_000;
const SLOW_MS = 1000;
const NO_ROOM_MS = 50;
/** How every connection of TLS begins. */
const HANDSHAKE_RECORD = 0x16;
/** For who speaks plain text, in the only protocol that all of them show to somebody. */
const PLAIN_ANSWER =
  'HTTP/1.0 400 Bad Request\r\ncontent-type: text/plain\r\n\r\nthis port speaks TLS: write https://\n';
const LINGER_MS = 1000;
const LIMITS: LineLimits = {
  waiting: 4096,
  waitingEach: 1024,
  underWay: 512,
  underWayEach: 64,
  aSecond: 500,
  share: 0.25,
};

const { SSL_OP_NO_TICKET, SSL_OP_NO_RENEGOTIATION } = constants;

export interface AcceptorOptions {
  readonly settings: TlsSettings;
  readonly credentials: Credentials;
  readonly logger: Logger;
  /** Who calls, in the log. */
  readonly caller: 'client' | 'peer';
  /** What may be spoken inside, the one that is preferred first; none: it is not asked for. */
  readonly protocols: readonly string[];
  /** For tests. */
  readonly handshakeMs?: number;
  readonly limits?: LineLimits;
}

/** A connection until it is served. */
interface Arrival {
  readonly raw: Socket;
  readonly client: string;
  /** Null: it was closed before it was looked at. */
  readonly key: string | null;
  readonly serve: (socket: Socket) => void;
  readonly deadline: NodeJS.Timeout;
}

export class TlsAcceptor {
  private readonly options: AcceptorOptions;
  private readonly server: Server;
  private readonly line: HandshakeLine<Arrival>;
  private readonly complaints: Complaints;
  private readonly arrivals = new Set<Arrival>();
  /** Handshakes under way, by the addresses of their connection: Node does not tell whose they are. */
  private readonly handshakes = new Map<string, Arrival>();
  private material: Material;
  private isTurnDue = false;

  constructor(options: AcceptorOptions) {
    this.options = options;
    this.complaints = new Complaints(options.logger);
    this.line = new HandshakeLine(options.limits ?? LIMITS, performance.now());
    this.material = options.credentials.current();
    this.server = createServer({
      ...contextOf(this.material),
      ...(options.protocols.length === 0 ? {} : { ALPNCallback: chooserOf(options.protocols) }),
      requestCert: options.settings.trustedCaFile !== '',
      // Verified here, so that the log can say what is wrong with it.
      rejectUnauthorized: false,
    });
    this.server.on('secureConnection', (socket) => this.onSecure(socket));
    this.server.on('tlsClientError', (error, socket) => this.onBroken(error, socket));
  }

  /** Takes over a connection that nobody has read from; `serve` gets what comes out of it. */
  accept(raw: Socket, serve: (socket: Socket) => void): void {
    const client = clientKey(raw.remoteAddress ?? '');
    const deadline = setTimeout(() => {
      this.complain('slow', raw.remoteAddress, 'did not complete a handshake in time');
      raw.destroy();
    }, this.options.handshakeMs ?? HANDSHAKE_MS);
    const arrival: Arrival = { raw, client, key: connectionKey(raw), serve, deadline };
    this.arrivals.add(arrival);
    raw.on('error', () => raw.destroy());
    raw.once('close', () => this.forget(arrival));
    raw.once('readable', () => {
      const first = raw.read() as Buffer | null;
      // Also at its end.
      if (first === null) raw.destroy();
      if (raw.destroyed || first === null) return;
      if (first[0] !== HANDSHAKE_RECORD) {
        this.complain('plain', raw.remoteAddress, PLAIN_TEXT);
        clearTimeout(deadline);
        // Not an idle limit: who talks on would keep the connection for ever.
        const limit = setTimeout(() => raw.destroy(), LINGER_MS);
        raw.once('close', () => clearTimeout(limit));
        raw.resume();
        raw.end(PLAIN_ANSWER);
        return;
      }
      raw.unshift(first);
      if (this.line.join(arrival, client)) this.takeTurn();
      else {
        this.complain('crowd', raw.remoteAddress, 'is refused: too many handshakes wait');
        raw.destroy();
      }
    });
  }

  /** Ends what is not served yet. */
  close(): void {
    for (const { raw } of [...this.arrivals]) raw.destroy();
  }

  private takeTurn(): void {
    if (this.isTurnDue || this.line.isEmpty) return;
    this.isTurnDue = true;
    const pauseMs = this.line.pauseMs(performance.now());
    if (pauseMs > 0) setTimeout(this.turn, pauseMs);
    else setImmediate(this.turn);
  }

  /** One handshake in each turn of the event loop: others have theirs in between. */
  private readonly turn = (): void => {
    this.isTurnDue = false;
    const now = performance.now();
    const overdue = this.line.overdue(now - SLOW_MS);
    if (overdue !== null) {
      this.complain('slow', overdue.raw.remoteAddress, 'is too slow with its handshake');
      overdue.raw.destroy();
    }
    const arrival = this.line.next(now);
    if (arrival === null) {
      // No room: whoever ends makes some, and SLOW_MS have to pass at most.
      if (this.line.isEmpty) return;
      this.isTurnDue = true;
      setTimeout(this.turn, this.line.pauseMs(now) || NO_ROOM_MS);
      return;
    }
    // Not by the clock: on a busy machine, time passes that others have.
    const before = process.cpuUsage();
    this.begin(arrival);
    // Behind the tick in which Node hands over what was read, and makes the signature.
    process.nextTick(() => {
      const { user, system } = process.cpuUsage(before);
      this.line.spend((user + system) / 1000);
      this.takeTurn();
    });
  };

  private begin(arrival: Arrival): void {
    const material = this.options.credentials.current();
    if (material.version !== this.material.version) {
      this.material = material;
      this.server.setSecureContext(contextOf(material));
    }
    if (arrival.key === null) {
      arrival.raw.destroy();
      return;
    }
    this.handshakes.set(arrival.key, arrival);
    this.server.emit('connection', arrival.raw);
  }

  private onSecure(socket: TLSSocket): void {
    const key = connectionKey(socket);
    const arrival = key === null ? undefined : this.handshakes.get(key);
    socket.on('error', () => socket.destroy());
    if (arrival === undefined) {
      // It was closed in the meantime.
      socket.destroy();
      return;
    }
    this.verify(arrival, socket).then(
      (problem) => {
        if (socket.destroyed || arrival.raw.destroyed) return;
        if (problem !== null) {
          this.complain(problem.kind, socket.remoteAddress, `is refused: ${problem.text}`);
          socket.destroy();
          return;
        }
        this.forget(arrival);
        arrival.serve(socket);
      },
      (error: unknown) => {
        this.options.logger.error({ err: error }, 'TLS: a caller could not be verified');
        socket.destroy();
      },
    );
  }

  private async verify(
    { raw }: Arrival,
    socket: TLSSocket,
  ): Promise<{ readonly kind: string; readonly text: string } | null> {
    const { settings } = this.options;
    if (settings.trustedCaFile === '') return null;
    const text = objection(socket, settings, this.material.revoked);
    if (text !== null) return { kind: text.replace(/\(.*\)/, ''), text };
    const certificate = shownBy(socket);
    const address = raw.remoteAddress ?? '';
    if (!settings.isCallerAnywhere && certificate !== null) {
      if (!(await namesAddress(certificate, address))) {
        return {
          kind: 'address',
          text: `its certificate names ${certificate.subjectAltName}, but not ${address}; --peer-skip-client-san-verification does without this check`,
        };
      }
    }
    const name = settings.clientCertAuth ? commonName(socket) : null;
    if (name !== null) rememberCommonName(socket, name);
    return null;
  }

  private onBroken(error: Error, socket: TLSSocket): void {
    const text = handshakeText(error);
    const key = connectionKey(socket);
    const address = socket.remoteAddress ?? (key === null ? '' : this.handshakes.get(key)?.client);
    if (text !== null) this.complain(text, address, text);
    socket.destroy();
  }

  private complain(kind: string, address: string | undefined, text: string): void {
    this.complaints.say(
      kind,
      `TLS: a ${this.options.caller} at ${address || 'an address that is gone'} ${text}`,
    );
  }

  private forget(arrival: Arrival): void {
    clearTimeout(arrival.deadline);
    this.arrivals.delete(arrival);
    this.line.leave(arrival, arrival.client);
    const { key } = arrival;
    if (key !== null && this.handshakes.get(key) === arrival) this.handshakes.delete(key);
    this.takeTurn();
  }
}

/** Undefined ends the handshake: better than a connection on which nobody understands the other. */
function chooserOf(known: readonly string[]) {
  return ({ protocols }: { readonly protocols: string[] }): string | undefined =>
    known.find((each) => protocols.includes(each));
}

function contextOf({ server }: Material): SecureContextOptions {
  return { ...server, secureOptions: SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION };
}

/** Null of a connection that is closed. */
function connectionKey(socket: Socket): string | null {
  const { remoteAddress, remotePort, localAddress, localPort } = socket;
  if (remoteAddress === undefined || localAddress === undefined) return null;
  return [remoteAddress, remotePort, localAddress, localPort].join(' ');
}

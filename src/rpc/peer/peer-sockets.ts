/**
 * How bytes travel between members, declared by those who need it: in the clear here, with TLS in src/tls.
 */
import { connect, type Socket } from 'node:net';

export interface HostPort {
  readonly host: string;
  readonly port: number;
  /** TLS is spoken there. Default: no. */
  readonly secure?: boolean;
}

export interface PeerSockets {
  /** Calls a member. What is said before `onOpen` may get into wrong hands. */
  dial(address: HostPort, onOpen: () => void): Socket;
  /** Hands a caller on, once it may be spoken with. */
  admit(socket: Socket, secure: boolean, serve: (socket: Socket) => void): void;
}

export const PLAIN_SOCKETS: PeerSockets = {
  dial: ({ host, port }, onOpen) => connect({ host, port, noDelay: true }).on('connect', onOpen),
  admit: (socket, _secure, serve) => serve(socket),
};

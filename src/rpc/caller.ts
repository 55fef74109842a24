/**
 * Who is at the other end of a call, as far as the connection and the headers tell: what the running
 * member finds an actor by (NodeFace.authority).
 *
 * One object per connection serves all its calls that bring no token.
 */
import type { Socket } from 'node:net';
import type { Actor } from '../auth/actor.js';
import type { RequestContext } from '../node.js';

export interface Caller {
  /** Of the client or of the proxy in front of it; empty for a socket in the file system. */
  readonly address: string;
  /** Of a certificate that was verified; never of a request that came through the JSON gateway, whose
   *  connection may be that of a proxy. */
  readonly commonName: string | null;
  /** Of the connection, whoever speaks on it: for records, never for rights. */
  readonly certificate: string | null;
  readonly token: string | null;
}

/** Of a call, as handlers get it. */
export interface CalledContext extends RequestContext {
  readonly caller: Caller;
  /** Told for each request who it turned out to be from (audit.ts). */
  readonly identified?: (actor: Actor) => void;
}

export const NOBODY: Caller = { address: '', commonName: null, certificate: null, token: null };

export function callerOn(
  socket: Socket,
  commonName: string | null,
  certificate: string | null = commonName,
): Caller {
  return { address: socket.remoteAddress ?? '', commonName, certificate, token: null };
}

/** The same with the token of one call; `header` with or without the word Bearer. */
export function withToken(caller: Caller, header: string | undefined): Caller {
  if (header === undefined || header === '') return caller;
  return { ...caller, token: header.startsWith('Bearer ') ? header.slice(7) : header };
}

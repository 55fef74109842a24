/**
 * Connections for bytes that no client would send, to a member that may want TLS around them.
 */
import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import type { Member } from './cluster-processes.js';
import { testCertificates } from './test-certificates.js';

export interface Dialed {
  /** For the bytes. */
  readonly socket: net.Socket;
  /** Below it; the same one where there is no TLS. */
  readonly raw: net.Socket;
}

/** Does not wait: what is written before there is a connection is sent when there is one. */
export function dial(member: Member): Dialed {
  const raw = net.connect(member.clientPort, '127.0.0.1');
  if (!member.isSecure) return { socket: raw, raw };
  raw.on('error', () => raw.destroy());
  const socket = tls.connect({ socket: raw, ...testCertificates().client, host: '127.0.0.1' });
  return { socket, raw };
}

/** Waits until the member takes bytes. */
export async function dialed(member: Member): Promise<net.Socket> {
  const { socket } = dial(member);
  await once(socket, member.isSecure ? 'secureConnect' : 'connect');
  return socket;
}

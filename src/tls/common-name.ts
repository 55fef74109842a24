/**
 * Who calls, by the certificate that was shown: the common name in it counts as a name of a user where
 * --client-cert-auth asks for that, as in etcd.
 *
 * acceptor.ts remembers it when the certificate was verified, and only then; auth asks for it.
 */
import type { Socket } from 'node:net';

const names = new WeakMap<Socket, string>();

export function rememberCommonName(socket: Socket, name: string): void {
  names.set(socket, name);
}

/** Null: no certificate was asked for, or it does not say who calls. */
export function commonNameOf(socket: Socket): string | null {
  return names.get(socket) ?? null;
}

/**
 * Opens what clients connect to: TCP ports, and sockets in the file system.
 *
 * A socket in the file system outlives the process that made it, and a second process could take the name
 * from one that serves. So a file that is there is asked first: one that nobody answers behind is what a
 * dead process has left, and is replaced; one that answers is in use. It is for its owner alone (mode
 * 0600), and goes with the server: Node removes it when the listener is closed.
 */
import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { ClientAddress } from './config.js';
import { FatalError } from './errors.js';
import type { Logger } from './logger.js';

/** A client machine that vanished is asked for a sign of life after so long. */
const KEEP_ALIVE_MS = 30_000;
const BACKLOG = 4096;
/** A process that serves a socket takes the connection at once, unless it is stopped; then it is in use. */
const ANSWER_MS = 1000;

export async function listen(
  address: ClientAddress,
  logger: Logger,
  accept: (socket: Socket) => void,
): Promise<Server> {
  if ('path' in address) await clear(address.path, logger);
  const server = createServer(
    { noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS },
    accept,
  );
  await new Promise<void>((resolve, reject) => {
    const refuse = (error: Error): void => {
      reject(new FatalError(`cannot listen on ${nameOf(address)}: ${error.message}`, error));
    };
    server.once('error', refuse);
    const onListening = (): void => {
      server.off('error', refuse);
      // Later ones tell of a connection that could not be accepted, for want of descriptors mostly.
      server.on('error', (error) => logger.warn({ err: error }, 'a connection was not accepted'));
      resolve();
    };
    if ('path' in address) {
      server.listen({ path: address.path, backlog: BACKLOG }, onListening);
      // The name is bound by now, and nobody has been let in: that needs a turn of the event loop.
      if (server.listening) chmodSync(address.path, 0o600);
    } else server.listen({ host: address.host, port: address.port, backlog: BACKLOG }, onListening);
  });
  return server;
}

/** The TCP port, also when 0 was asked for; null of a socket in the file system. */
export function portOf(server: Server): number | null {
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : null;
}

function nameOf(address: ClientAddress): string {
  return 'path' in address ? address.path : `${address.host}:${address.port}`;
}

/** Makes room for a socket of this name, or says who has it. */
async function clear(path: string, logger: Logger): Promise<void> {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return;
  if (!stats.isSocket()) {
    throw new FatalError(`cannot listen on ${path}: it is there already, and is no socket`);
  }
  if (await isServed(path)) {
    throw new FatalError(
      `cannot listen on ${path}: another process serves it; stop that one or choose another name`,
    );
  }
  logger.info({ path }, 'replacing the socket of a process that is gone');
  unlinkSync(path);
}

function isServed(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    const end = (settle: () => void): void => {
      clearTimeout(timer);
      socket.destroy();
      settle();
    };
    const timer = setTimeout(() => end(() => resolve(true)), ANSWER_MS);
    socket.once('connect', () => end(() => resolve(true)));
    socket.once('error', (error: NodeJS.ErrnoException) => {
      const { code, message } = error;
      if (code === 'ECONNREFUSED' || code === 'ENOENT') end(() => resolve(false));
      // Its backlog is full.
      else if (code === 'EAGAIN') end(() => resolve(true));
      else end(() => reject(new FatalError(`cannot listen on ${path}: ${message}`, error)));
    });
  });
}

/**
 * All of TLS that one server needs, from its configuration. Called by server.ts before anybody is called or
 * listened to: wrong files are a line and an end of the process, not a member that is there and mute.
 */
import type { Socket } from 'node:net';
import type { TlsOptions } from '../client/transport/transport.js';
import { addressOf, type Config } from '../config.js';
import type { Logger } from '../logger.js';
import { type PeerSockets, PLAIN_SOCKETS } from '../rpc/peer/peer-sockets.js';
import { TlsAcceptor } from './acceptor.js';
import { withSelfMade } from './auto-tls.js';
import { Credentials } from './credentials.js';
import { TlsPeerSockets } from './peer-sockets.js';

/**
 * Over HTTP/1.1 there is all but gRPC: JSON, health, metrics; over HTTP/2 there is gRPC alone. Clients of
 * gRPC offer HTTP/2 alone, so who offers both, like curl and Prometheus, wants the former.
 */
const PROTOCOLS = ['http/1.1', 'h2'];

export interface OpenedTls {
  readonly peerSockets: PeerSockets;
  /** For calls to the client port of other members. */
  readonly clientTls: () => TlsOptions;
  /** For connections to ports for clients, or for metrics, whose URL says https. */
  acceptClient(socket: Socket, serve: (socket: Socket) => void): void;
  close(): void;
}

export async function openTls(config: Config, logger: Logger): Promise<OpenedTls> {
  const peers = await openPeers(config, logger);
  const clients = await openClients(config, logger);
  const { credentials = null, acceptor = null, isSelfMade = false } = clients ?? {};
  return {
    peerSockets: peers ?? PLAIN_SOCKETS,
    clientTls: () =>
      credentials === null
        ? {}
        : { ...credentials.current().callerFiles, rejectUnauthorized: !isSelfMade },
    acceptClient: (socket, serve) => {
      if (acceptor === null) socket.destroy();
      else acceptor.accept(socket, serve);
    },
    close: () => {
      peers?.close();
      acceptor?.close();
    },
  };
}

async function openPeers(config: Config, logger: Logger): Promise<TlsPeerSockets | null> {
  const { peerTls, dataDir, listenPeer, advertisePeerUrls } = config;
  if (peerTls === null) return null;
  const hosts = hostsOf([...listenPeer.map(({ url }) => url), ...advertisePeerUrls]);
  return await TlsPeerSockets.open(
    await withSelfMade(peerTls, dataDir, 'peer', hosts, logger),
    logger,
  );
}

async function openClients(
  config: Config,
  logger: Logger,
): Promise<{
  readonly credentials: Credentials;
  readonly acceptor: TlsAcceptor | null;
  readonly isSelfMade: boolean;
} | null> {
  const { clientTls, dataDir, listenClient, listenMetrics, advertiseClientUrls } = config;
  if (clientTls === null) return null;
  const urls = [...listenClient, ...listenMetrics]
    .map(({ url }) => url)
    .concat(advertiseClientUrls);
  const settings = await withSelfMade(clientTls, dataDir, 'client', hostsOf(urls), logger);
  const credentials = await Credentials.load(settings, logger);
  const options = {
    settings,
    credentials,
    logger,
    caller: 'client',
    protocols: PROTOCOLS,
  } as const;
  const acceptor = settings.certFile === '' ? null : new TlsAcceptor(options);
  return { credentials, acceptor, isSelfMade: settings.isSelfMade };
}

/** An address that means all of them names nobody. */
function hostsOf(urls: readonly string[]): string[] {
  return urls
    .filter((url) => /^https?:/i.test(url))
    .map((url) => addressOf(url).host)
    .filter((host) => host !== '0.0.0.0' && host !== '::');
}

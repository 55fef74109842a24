/**
 * Connections of clients, counted by address: whoever opens them without end takes descriptors and memory
 * from all others, so one address has a bounded number at a time, and what comes beyond is closed at once.
 *
 * Asked by server.ts for each connection that was accepted over TCP, in front of TLS. Sockets in the file
 * system have no address and are for the owner of the process alone; members come through their own port.
 * Neither is counted. Addresses are those of clientKey: of IPv6 a /64 counts as one.
 *
 * Bound: an address without a connection is not remembered. The log has a line about refusals every ten
 * seconds at most (Complaints).
 */
import type { Socket } from 'node:net';
import { clientKey } from './address.js';
import { Complaints } from './complaints.js';
import type { Logger } from './logger.js';
import type { Metrics } from './metrics.js';

export interface ConnectionLimitOptions {
  /** Of one address; 0 = no limit. */
  readonly most: number;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export class ConnectionLimit {
  private readonly most: number;
  private readonly complaints: Complaints;
  private readonly refused;
  private readonly open = new Map<string, number>();
  private total = 0;

  constructor({ most, logger, metrics }: ConnectionLimitOptions) {
    this.most = most;
    this.complaints = new Complaints(logger);
    this.refused = metrics.counter(
      'kvd_client_connections_refused_total',
      'Connections that were closed because their address had too many',
    );
    metrics.gauge('kvd_client_connections', 'Open TCP connections of clients', () => this.total);
  }

  /** False: the address has enough, and the connection was closed. */
  admit(socket: Socket): boolean {
    const { remoteAddress } = socket;
    // Gone already: whoever reads from it will notice.
    if (remoteAddress === undefined) return true;
    const key = clientKey(remoteAddress);
    const count = this.open.get(key) ?? 0;
    if (this.most > 0 && count >= this.most) {
      this.refused.value += 1;
      this.complaints.say(
        'connections',
        `a connection from ${remoteAddress} is refused: the address has ${count} open, --max-connections-per-address allows no more`,
      );
      socket.destroy();
      return false;
    }
    this.open.set(key, count + 1);
    this.total += 1;
    socket.once('close', () => this.leave(key));
    return true;
  }

  private leave(key: string): void {
    const count = this.open.get(key) ?? 0;
    this.total -= 1;
    if (count > 1) this.open.set(key, count - 1);
    else this.open.delete(key);
  }
}

/**
 * Keeps one lease alive and knows when it is lost.
 *
 * Used by locks, elections, registrations and `kvctl lease keep-alive`. Renews every third of the
 * TTL; a renewal that fails is tried again soon, at whatever endpoint the client has come to.
 *
 * The lease is lost when the server says so, or when TTL has passed since the last renewal that
 * worked was *sent*. The server counts from when it got the request, which is later, so the keeper
 * never believes in a lease longer than the server does. It may give up a lease that a new leader
 * has extended; for a lock that is the safe side.
 *
 * Invariants:
 * 1. `signal` is aborted at the latest when TTL has passed since the last successful renewal, also
 *    when every renewal hangs.
 * 2. At most one renewal is in flight.
 */
import type { Int64 } from '../int64.js';
import { hexInt64 } from '../int64.js';
import type { CallOptions } from './caller.js';
import { ClientError } from './client-error.js';
import { sleep } from './limit.js';
import type { Rpcs } from './rpcs.js';

export interface LeaseKeeperOptions {
  /** Told after each successful renewal with the TTL that the server answered, in seconds. */
  readonly onRenewed?: ((ttl: number) => void) | undefined;
}

export class LeaseKeeper implements AsyncDisposable {
  readonly leaseId: Int64;
  /** Aborted when the lease is lost; its reason is a ClientError with code LEASE_LOST. */
  readonly signal: AbortSignal;
  private readonly client: Rpcs;
  private readonly onRenewed: (ttl: number) => void;
  private readonly lost = new AbortController();
  private readonly stopping = new AbortController();
  private readonly running: Promise<void>;
  private ttlMs: number;
  private renewedAt: number;

  /** `grantedAt`: performance.now() from before the grant was asked for. */
  constructor(
    client: Rpcs,
    leaseId: Int64,
    ttl: number,
    grantedAt: number,
    options: LeaseKeeperOptions = {},
  ) {
    this.client = client;
    this.leaseId = leaseId;
    this.signal = this.lost.signal;
    this.ttlMs = ttl * 1000;
    this.renewedAt = grantedAt;
    this.onRenewed = options.onRenewed ?? (() => {});
    // Whatever ends the renewals ends the lease for its user, too: a callback that throws included.
    this.running = this.run().catch((error: unknown) => {
      this.lose(`lease ${leaseText(this.leaseId)} is not renewed any more: ${String(error)}`);
    });
  }

  get isLost(): boolean {
    return this.lost.signal.aborted;
  }

  /** Stops renewing, without revoking. Resolves when nothing is in flight any more. */
  async stop(): Promise<void> {
    this.stopping.abort();
    await this.running;
  }

  /** Stops renewing and gives the lease back; its keys go with it. */
  async revoke(options: CallOptions = {}): Promise<void> {
    await this.stop();
    try {
      await this.client.revokeLease(this.leaseId, options);
    } catch (error) {
      if (!(error instanceof ClientError) || error.code !== 'LEASE_NOT_FOUND') throw error;
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.revoke();
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    let pause = this.ttlMs / 3;
    for (;;) {
      await sleep(Math.min(pause, this.leftMs()), signal);
      if (signal.aborted || this.isLost) return;
      if (this.leftMs() <= 0) {
        this.lose(`lease ${leaseText(this.leaseId)} could not be renewed for its whole TTL`);
        return;
      }
      pause = (await this.renew()) ? this.ttlMs / 3 : Math.min(500, this.ttlMs / 10);
      if (this.isLost) return;
    }
  }

  /** One renewal; true when the server granted it. */
  private async renew(): Promise<boolean> {
    const sentAt = performance.now();
    try {
      const timeoutMs = Math.max(1, Math.min(this.leftMs(), Math.max(1_000, this.ttlMs / 3)));
      const answer = await this.client.renewLease(this.leaseId, {
        timeoutMs,
        signal: this.stopping.signal,
      });
      if (answer.ttl <= 0) {
        this.lose(`lease ${leaseText(this.leaseId)} expired or was revoked`);
        return false;
      }
      this.renewedAt = sentAt;
      this.ttlMs = answer.ttl * 1000;
      this.onRenewed(answer.ttl);
      return true;
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      if (error.code === 'LEASE_NOT_FOUND') this.lose(error.message);
      return false;
    }
  }

  private leftMs(): number {
    return this.renewedAt + this.ttlMs - performance.now();
  }

  private lose(message: string): void {
    if (!this.isLost) this.lost.abort(new ClientError('LEASE_LOST', message));
  }
}

/** Grants a lease and keeps it. Seconds. */
export async function keepLease(
  client: Rpcs,
  ttl: number,
  options: LeaseKeeperOptions & Pick<CallOptions, 'signal'> = {},
): Promise<LeaseKeeper> {
  const askedAt = performance.now();
  const { id, ttl: granted } = await client.grantLease(ttl, 0, { signal: options.signal });
  return new LeaseKeeper(client, id, granted, askedAt, options);
}

/** As kvctl prints lease ids. */
function leaseText(id: Int64): string {
  return hexInt64(id).padStart(16, '0');
}

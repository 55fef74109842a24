/**
 * Clients that hold leases, started by clients.ts: some renew for a while, some only let them end.
 * What they were told, and when, stands in `Clients.leases`; judge.ts holds it against the log.
 */
import type { Prng } from '../../src/prng.js';
import * as kv from '../../src/rpc/services/kv.js';
import * as leases from '../../src/rpc/services/lease.js';
import type { Clients, LeaseRecord, Run } from './clients.js';
import { LIMITS, putRequest } from './requests.js';
import { MS, SECOND } from './world.js';

/** Grants, attaches keys, renews for a while, and lets the lease end or revokes it. */
export class LeaseHolder {
  private readonly clients: Clients;
  private readonly number: number;
  private readonly random: Prng;
  private record: LeaseRecord | null = null;
  private renewals = 0;

  constructor(clients: Clients, number: number, random: Prng) {
    this.clients = clients;
    this.number = number;
    this.random = random;
    clients.later(random.below(SECOND), () => this.grant());
  }

  private grant(): void {
    const { clients, random } = this;
    if (clients.stopped) return;
    const request = { ID: 0, TTL: 1 + random.below(4) };
    const sentAt = clients.world.now;
    const run: Run = (node, context) => leases.leaseGrant(node, request as never, context);
    clients.call(this.number, clients.pick(random), 'grant', request, run, (call) => {
      if (call.outcome !== 'ok') {
        clients.later(random.below(SECOND), () => this.grant());
        return;
      }
      const { ID: id, TTL: ttl } = call.answer as { ID: number; TTL: number };
      this.record = { id, ttl, renewedAt: sentAt, stoppedAt: Number.POSITIVE_INFINITY };
      clients.leases.push(this.record);
      this.renewals = random.below(8);
      this.attach(this.record);
    });
  }

  private attach(record: LeaseRecord): void {
    const { clients, random } = this;
    const key = `lease/${this.number}/${random.below(3)}`;
    const request = putRequest(key, clients.value(this.number), record.id);
    const run: Run = (node, context) => kv.put(node, request as never, context, LIMITS);
    clients.call(this.number, clients.pick(random), 'put', request, run, () =>
      this.renewLater(record),
    );
  }

  private renewLater(record: LeaseRecord): void {
    const { clients } = this;
    clients.later((record.ttl * SECOND) / 3, () => {
      if (clients.stopped || this.renewals <= 0) this.letGo(record);
      else this.renew(record);
    });
  }

  private renew(record: LeaseRecord): void {
    const { clients, random } = this;
    this.renewals -= 1;
    const sentAt = clients.world.now;
    const run: Run = (node, context) => node.renewLease(record.id, context);
    clients.call(this.number, clients.pick(random), 'renew', record.id, run, (call) => {
      if (call.outcome === 'ok' && call.answer === 0) {
        clients.world.mark('renewal of a lease that ended');
        this.letGo(record);
        return;
      }
      if (call.outcome === 'ok') record.renewedAt = sentAt;
      // At once: a leader need not be confirmed for each of many.
      if (call.outcome === 'ok' && random.chance(0.3)) this.renew(record);
      else this.renewLater(record);
    });
  }

  private letGo(record: LeaseRecord): void {
    const { clients, random } = this;
    record.stoppedAt = clients.world.now;
    if (random.chance(0.3)) {
      const run: Run = (node, context) =>
        leases.leaseRevoke(node, { ID: record.id } as never, context);
      clients.call(this.number, clients.pick(random), 'revoke', record.id, run, () => {});
    }
    clients.later(record.ttl * SECOND, () => this.grant());
  }
}

const MAX_LATE_RENEWALS = 8;

/**
 * Grants many short leases with a key each and renews them hardly, if at all in the moment when their
 * time is up, so that at nearly every moment one is close to its end: also when leadership changes, and
 * its expiry is on its way.
 */
export class LeaseCrowd {
  private readonly clients: Clients;
  private readonly number: number;
  private readonly random: Prng;
  private granted = 0;

  constructor(clients: Clients, number: number, random: Prng) {
    this.clients = clients;
    this.number = number;
    this.random = random;
    clients.later(random.below(SECOND), () => this.turn());
  }

  private turn(): void {
    const { clients, random } = this;
    if (clients.stopped) return;
    const request = { ID: 0, TTL: 1 + random.below(2) };
    const sentAt = clients.world.now;
    const run: Run = (node, context) => leases.leaseGrant(node, request as never, context);
    clients.call(this.number, clients.pick(random), 'grant', request, run, (call) => {
      if (call.outcome !== 'ok') return;
      const { ID: id, TTL: ttl } = call.answer as { ID: number; TTL: number };
      const record: LeaseRecord = { id, ttl, renewedAt: sentAt, stoppedAt: sentAt };
      clients.leases.push(record);
      this.granted += 1;
      this.attach(id);
      if (random.chance(0.5)) this.renewLate(record, MAX_LATE_RENEWALS);
    });
    clients.later(100 * MS + random.below(200 * MS), () => this.turn());
  }

  /** As if the time to renew were the end of the lease; often it is too late. */
  private renewLate(
    record: LeaseRecord,
    left: number,
    wait = record.ttl * SECOND - 100 * MS,
  ): void {
    const { clients, random } = this;
    if (left === 0) return;
    clients.later(wait + random.below(300 * MS), () => {
      if (clients.stopped) return;
      const sentAt = clients.world.now;
      const run: Run = (node, context) => node.renewLease(record.id, context);
      clients.call(this.number, clients.pick(random), 'renew', record.id, run, (call) => {
        if (call.outcome !== 'ok') this.renewLate(record, left - 1, 0);
        else if (call.answer !== 0) {
          record.renewedAt = sentAt;
          this.renewLate(record, left - 1);
        }
      });
    });
  }

  /** Sometimes under a key that an earlier lease holds: the key hangs on the last one alone. */
  private attach(lease: number): void {
    const { clients, random } = this;
    const key = `lease/${this.number}/${this.granted % 5}`;
    const request = putRequest(key, clients.value(this.number), lease);
    const run: Run = (node, context) => kv.put(node, request as never, context, LIMITS);
    clients.call(this.number, clients.pick(random), 'put', request, run, () => {});
  }
}

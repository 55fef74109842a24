/**
 * Clients that take locks with leases, started by clients.ts. Many wait for longer than their lease
 * lasts and renew nothing while they wait, so that places end in the middle of the queue; whoever is
 * told that it holds the lock is judged by judge.ts.
 */
import type { Prng } from '../../src/prng.js';
import * as leases from '../../src/rpc/services/lease.js';
import { lock, unlock } from '../../src/rpc/services/lock.js';
import type { Call, Clients, Run } from './clients.js';
import { MS, SECOND } from './world.js';

/** Longer than any lease: whoever is cut off from the cluster waits on while its place ends. */
const WAIT_MS = 10_000;

interface LockAnswer {
  readonly header: { readonly revision: number };
  readonly key: string;
  readonly fencingToken: number;
}

/** Takes a lock with a lease, works on what it guards, and gives it back or lets the lease end. */
export class LockHolder {
  private readonly clients: Clients;
  private readonly number: number;
  private readonly random: Prng;

  constructor(clients: Clients, number: number, random: Prng) {
    this.clients = clients;
    this.number = number;
    this.random = random;
    clients.later(random.below(SECOND), () => this.turn());
  }

  private turn(): void {
    const { clients, random } = this;
    if (clients.stopped) return;
    // A short one ends while its holder waits behind a long one.
    const request = { ID: 0, TTL: random.chance(0.5) ? 1 : 3 + random.below(5) };
    const run: Run = (node, context) => leases.leaseGrant(node, request as never, context);
    clients.call(this.number, clients.pick(random), 'grant', request, run, (call) => {
      if (call.outcome === 'ok') this.lock((call.answer as { ID: number }).ID);
      else clients.later(random.below(SECOND), () => this.turn());
    });
  }

  private lock(lease: number): void {
    const { clients, random } = this;
    const request = { name: 'lock', lease };
    // The call waits for others who hold the lock, so its own time is the client's.
    const run: Run = (node, context) => {
      const abort = new AbortController();
      member.life?.input(WAIT_MS * MS, 'abort', () => abort.abort());
      return lock(node, request as never, { ...context, signal: abort.signal });
    };
    const member = clients.pick(random);
    const onAnswer = (call: Call): void => {
      if (call.outcome !== 'ok') {
        if (call.code === 'SESSION_EXPIRED') clients.world.mark('place in the queue ended');
        clients.later(random.below(SECOND), () => this.turn());
        return;
      }
      const { key, fencingToken, header } = call.answer as LockAnswer;
      const { fromIndex, toIndex } = call;
      const { revision } = header;
      clients.locks.push({ name: 'lock', token: fencingToken, key, revision, fromIndex, toIndex });
      clients.later(random.below(2 * SECOND), () => this.work(key, fencingToken));
    };
    clients.call(this.number, member, 'lock', request, run, onAnswer, WAIT_MS);
  }

  private work(key: string, token: number): void {
    const { clients, random } = this;
    const highest = clients.guarded.get('lock') ?? 0;
    if (token < highest) clients.world.mark('old holder fenced off');
    else clients.guarded.set('lock', token);
    if (random.chance(0.3)) {
      clients.later(random.below(8 * SECOND), () => this.turn());
      return;
    }
    const run: Run = (node, context) => unlock(node, { key } as never, context);
    clients.call(this.number, clients.pick(random), 'unlock', key, run, () => {
      clients.later(random.below(SECOND), () => this.turn());
    });
  }
}

/**
 * The client that compacts and moves leadership now and then, started by clients.ts: what an operator
 * does by hand, at moments that suit nobody.
 */
import type { Prng } from '../../src/prng.js';
import * as kv from '../../src/rpc/services/kv.js';
import type { Clients, Run } from './clients.js';

/** Compacts and moves leadership now and then. */
export class Administrator {
  private readonly clients: Clients;
  private readonly number: number;
  private readonly random: Prng;

  constructor(clients: Clients, number: number, random: Prng) {
    this.clients = clients;
    this.number = number;
    this.random = random;
    const { compactEachUs, transferEachUs } = clients.plan;
    if (compactEachUs > 0) this.each(compactEachUs, () => this.compact());
    if (transferEachUs > 0) this.each(transferEachUs, this.move);
  }

  private readonly move = (): void => this.transfer();

  private each(us: number, run: () => void): void {
    this.clients.later(this.random.below(2 * us), () => {
      if (this.clients.stopped || (run === this.move && this.clients.isCalm)) return;
      run();
      this.each(us, run);
    });
  }

  private compact(): void {
    const { clients, random } = this;
    const member = clients.pick(random);
    const revision = member.node?.machine.store.revision ?? 0;
    const wanted = revision - random.below(20);
    if (wanted <= 0) return;
    const request = { revision: wanted, physical: false };
    const run: Run = (node, context) => kv.compact(node, request as never, context);
    clients.call(this.number, member, 'compact', request, run, () => {});
  }

  private transfer(): void {
    const { clients, random } = this;
    for (let at = 0; at < 7; at += 1) {
      const leader = clients.memberAt(at);
      if (leader.node?.isLeader !== true) continue;
      const target = clients.pick(random).id;
      clients.call(
        this.number,
        leader,
        'transfer',
        target,
        (node, context) => node.transferLeadership(target, context),
        (call) => {
          if (call.outcome === 'ok') clients.world.mark('leadership transferred');
        },
      );
      return;
    }
  }
}

/**
 * How the writes that wait (proposals.ts) reach a leader: this member itself, or another one over the
 * peer network. Called once a turn by cluster-node.ts; no other file proposes.
 */
import { KvError } from './errors.js';
import type { PeerLinks, Respond } from './peer-links.js';
import { Proposals } from './proposals.js';
import type { Raft } from './raft/raft.js';
import { Role } from './raft/ready.js';

/** Forwarded writes in one frame, and payloads handed to Raft in one call. */
const BATCH_BYTES = 4 * 2 ** 20;

interface ForeignBatch {
  readonly term: number;
  readonly payloads: readonly Uint8Array[];
  readonly respond: Respond;
}

export class WriteRoad {
  readonly waiting = new Proposals();
  /** Refused because too many wait for a quorum; for metrics. */
  overloads = 0;
  private readonly raft: Raft;
  private readonly network: PeerLinks;
  /** Writes of other members, until the next turn. Bounded by what their members admit. */
  private foreign: ForeignBatch[] = [];

  constructor(raft: Raft, network: PeerLinks) {
    this.raft = raft;
    this.network = network;
  }

  /** Sends what can go now. */
  collect(): void {
    if (this.foreign.length > 0) this.proposeForeign();
    while (this.waiting.queued > 0) {
      const more = this.raft.role === Role.Leader ? this.proposeOwn() : this.forward();
      if (!more) return;
    }
  }

  /** Writes that another member forwards, as one body cut at `lengths`. */
  onForwarded(args: unknown, body: Uint8Array, respond: Respond): void {
    const payloads: Uint8Array[] = [];
    let at = 0;
    const [term, lengths] = Array.isArray(args) ? (args as unknown[]) : [];
    for (const length of Array.isArray(lengths) ? (lengths as unknown[]) : []) {
      if (typeof length !== 'number' || !(length > 0)) break;
      payloads.push(body.subarray(at, at + length));
      at += length;
    }
    if (typeof term === 'number' && payloads.length > 0 && at === body.length) {
      this.foreign.push({ term, payloads, respond });
    } else respond('malformed');
  }

  private proposeOwn(): boolean {
    const batch = this.waiting.takeQueued(this.raft.term, BATCH_BYTES);
    if (batch.length === 0) return false;
    const result = this.raft.propose(batch.map((waiter) => waiter.payload));
    if (result.ok) return true;
    if (result.reason !== 'tail-full') {
      this.waiting.requeue(batch);
      return false;
    }
    this.overloads += batch.length;
    this.waiting.refuse(batch, overloaded());
    return true;
  }

  private forward(): boolean {
    const { leader, term, id } = this.raft;
    if (leader === 0 || leader === id || !this.network.isUp(leader)) return false;
    const batch = this.waiting.takeQueued(term, BATCH_BYTES);
    if (batch.length === 0) return false;
    const payloads = batch.map((waiter) => waiter.payload);
    const lengths = payloads.map((payload) => payload.length);
    this.network.request(leader, 'propose', [term, lengths], payloads, (answer) => {
      if (answer === null || answer === 'ok') return;
      // Refused in this term, so it has no effect of this term. What was found lost meanwhile is queued
      // already, or on its way in a later term, of which this answer says nothing.
      const refused = batch.filter((waiter) => waiter.sentTerm === term);
      if (answer === 'tail-full') {
        this.overloads += refused.length;
        this.waiting.refuse(refused, overloaded());
        return;
      }
      // It goes again with the next tick, not at once: the leader that refuses is about to change.
      this.waiting.requeue(refused);
    });
    return true;
  }

  private proposeForeign(): void {
    const batches = this.foreign;
    this.foreign = [];
    for (const { term, payloads, respond } of batches) {
      // The proof in proposals.ts rests on this check.
      if (this.raft.role !== Role.Leader || this.raft.term !== term) {
        respond('not-leader');
        continue;
      }
      const result = this.raft.propose(payloads);
      respond(result.ok ? 'ok' : result.reason);
    }
  }
}

function overloaded(): KvError {
  return new KvError('OVERLOADED', 'too many writes wait for a quorum; slow down and retry');
}

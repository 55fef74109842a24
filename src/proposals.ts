/**
 * The writes that this member has taken from clients and not answered yet.
 *
 * A write waits in one of two states. *Queued*: no leader has it; it is sent when one is known. *Sent*
 * in a term: the leader of exactly that term has it, or it was lost on the way; only the log will tell.
 * It is answered when this member applies its entry.
 *
 * Lost writes are found by proof, not by a guess. A leader takes a forwarded write only if it leads
 * the very term that the write names, so its entry, if there is one, has that term. Terms never go down
 * along the log. So once an entry of a later term is applied here, a write of the earlier term that was
 * not applied before it never will be, and it is queued again for the new leader without the danger of
 * a second effect. Clients see a pause, not an error. The one exception is an installed snapshot: it
 * may hold the effect without the entry passing by, so what was in doubt then ends as unknown.
 *
 * Invariants: 1. a request id is answered once. 2. `sentTerm` is 0 exactly while queued. 3. at most
 * MAX_WAITING writes of MAX_WAITING_BYTES wait; more are refused as OVERLOADED. 4. no two that wait have one request id.
 */
import { assert } from './assert.js';
import { KvError } from './errors.js';
import type { ProposeOutcome, RequestContext } from './node.js';

const MAX_WAITING = 50_000;
const MAX_WAITING_BYTES = 256 * 2 ** 20;

export interface Waiter {
  readonly requestId: number;
  readonly payload: Uint8Array;
  readonly deadline: number;
  sentTerm: number;
  readonly finish: (error: KvError | null, outcome: ProposeOutcome | null) => void;
}

export class Proposals {
  /** Ended at their deadline, or in doubt when a snapshot came; for metrics. */
  failures = 0;
  private readonly waiting = new Map<number, Waiter>();
  private waitingBytes = 0;
  private queue: Waiter[] = [];
  /** The newest term of an entry applied here. */
  private appliedTerm = 0;

  get count(): number {
    return this.waiting.size;
  }

  get queued(): number {
    return this.queue.length;
  }

  add(requestId: number, payload: Uint8Array, context: RequestContext): Promise<ProposeOutcome> {
    // The second of two would take the answer of the first, which would wait for ever.
    assert(!this.waiting.has(requestId), 'a request id is used by two writes');
    if (this.waiting.size >= MAX_WAITING || this.waitingBytes > MAX_WAITING_BYTES) {
      throw new KvError(
        'OVERLOADED',
        `${this.waiting.size} writes are waiting already; slow down and retry`,
      );
    }
    return new Promise((resolve, reject) => {
      const { signal } = context;
      const onAbort = (): void => {
        const outcome = waiter.sentTerm === 0 ? 'not-applied' : 'unknown';
        this.take(requestId)?.finish(
          new KvError('CANCELED', 'the client called the request off', { outcome }),
          null,
        );
      };
      const waiter: Waiter = {
        requestId,
        payload,
        deadline: context.deadline,
        sentTerm: 0,
        finish: (error, outcome) => {
          signal?.removeEventListener('abort', onAbort);
          if (error !== null) reject(error);
          else resolve(outcome as ProposeOutcome);
        },
      };
      signal?.addEventListener('abort', onAbort);
      this.waiting.set(requestId, waiter);
      this.waitingBytes += payload.length;
      this.queue.push(waiter);
    });
  }

  /** The queued writes, in order, now counted as sent in `term`. Bounded so that one turn stays short. */
  takeQueued(term: number, mostBytes: number): Waiter[] {
    const batch: Waiter[] = [];
    let bytes = 0;
    let at = 0;
    for (; at < this.queue.length; at += 1) {
      const waiter = this.queue[at] as Waiter;
      if (!this.waiting.has(waiter.requestId)) continue;
      if (batch.length > 0 && bytes + waiter.payload.length > mostBytes) break;
      waiter.sentTerm = term;
      bytes += waiter.payload.length;
      batch.push(waiter);
    }
    this.queue = at === this.queue.length ? [] : this.queue.slice(at);
    return batch;
  }

  /** The leader said no, so these have no effect yet: back to the head of the queue. */
  requeue(batch: readonly Waiter[]): void {
    const again = batch.filter((waiter) => this.waiting.has(waiter.requestId));
    for (const waiter of again) waiter.sentTerm = 0;
    this.queue = [...again, ...this.queue];
  }

  /** Ends these with an error that proves that they had no effect. */
  refuse(batch: readonly Waiter[], error: KvError): void {
    for (const waiter of batch) this.take(waiter.requestId)?.finish(error, null);
  }

  /** The waiter of an entry that was just applied, if it is ours and still waits. */
  take(requestId: number): Waiter | null {
    const waiter = this.waiting.get(requestId);
    if (waiter === undefined) return null;
    this.forget(waiter);
    return waiter;
  }

  /** After each applied entry. True when writes were found lost and wait for a leader again. */
  onAppliedTerm(term: number): boolean {
    if (term <= this.appliedTerm) return false;
    this.appliedTerm = term;
    const lost: Waiter[] = [];
    for (const waiter of this.waiting.values()) {
      if (waiter.sentTerm !== 0 && waiter.sentTerm < term) lost.push(waiter);
    }
    this.requeue(lost);
    return lost.length > 0;
  }

  onSnapshotInstalled(term: number): void {
    this.appliedTerm = Math.max(this.appliedTerm, term);
    for (const waiter of [...this.waiting.values()]) {
      if (waiter.sentTerm === 0) continue;
      this.failures += 1;
      this.take(waiter.requestId)?.finish(
        new KvError(
          'TIMEOUT',
          'this member was too far behind to learn the outcome; read to find out',
        ),
        null,
      );
    }
  }

  /** Ends what is past its deadline. */
  sweep(now: number, hasLeader: boolean): void {
    for (const waiter of this.waiting.values()) {
      if (waiter.deadline > now) continue;
      this.forget(waiter);
      this.failures += 1;
      waiter.finish(deadlineError(waiter, hasLeader), null);
    }
    if (this.queue.length > 0) {
      this.queue = this.queue.filter((waiter) => this.waiting.has(waiter.requestId));
    }
  }

  private forget(waiter: Waiter): void {
    this.waiting.delete(waiter.requestId);
    this.waitingBytes -= waiter.payload.length;
  }

  /** The server stops: nobody will learn more here. */
  stop(): void {
    for (const waiter of [...this.waiting.values()]) {
      const outcome = waiter.sentTerm === 0 ? 'not-applied' : 'unknown';
      this.take(waiter.requestId)?.finish(
        new KvError('STOPPED', 'this member is stopping; use another one', { outcome }),
        null,
      );
    }
    this.queue = [];
  }
}

function deadlineError(waiter: Waiter, hasLeader: boolean): KvError {
  if (waiter.sentTerm !== 0) {
    return new KvError('TIMEOUT', 'the write was not confirmed in time; it may still take effect');
  }
  if (!hasLeader) {
    return new KvError('NO_LEADER', 'no leader was elected in time; the write had no effect');
  }
  return new KvError('TIMEOUT_NO_EFFECT', 'the leader did not take the write in time');
}

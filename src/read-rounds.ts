/**
 * Linearizable reads that wait for the word of the leader.
 *
 * All reads that arrive in one turn share one ReadIndex round (raft/reads.ts numbers the rounds). The
 * answer is a log index; a read is ready when this member has applied up to it. A read joins only a
 * round that is asked after it arrived. Failed and lost rounds are asked again under a new number, for
 * the reads that have time left. At most `MAX_WAITING` reads wait.
 */
import { KvError } from './errors.js';
import type { RequestContext } from './node.js';

const MAX_WAITING = 50_000;

interface Reader {
  readonly deadline: number;
  done: boolean;
  readonly finish: (error: KvError | null) => void;
}

interface Round {
  readonly readers: Reader[];
  readonly askedAt: number;
}

export class ReadRounds {
  private waiting: Reader[] = [];
  /** From failed rounds. They wait for the next sweep: a leader that hands over fails every round at
   *  once, and asking it again in the same turn would spin until the new one is there. */
  private failed: Reader[] = [];
  private readonly asked = new Map<number, Round>();
  /** Confirmed, but this member has not applied that far yet. By index, because it is looked at in every turn: who
   *  waits for the end of an entry that takes many turns is one of thousands that wait for the same. */
  private readonly behind = new Map<number, Reader[]>();
  private count = 0;
  private nextRound = 1;
  /** Who waits with which signal. One listener for all: a stream has one signal and may have thousands of
   *  renewals waiting, and a listener is found by looking at all of them. It stays as long as the stream: to take
   *  it away and add it again for each renewal cost a tenth of all of it. */
  private readonly bySignal = new WeakMap<AbortSignal, Set<Reader>>();

  get pending(): number {
    return this.count;
  }

  get unasked(): number {
    return this.waiting.length;
  }

  add(context: RequestContext): Promise<void> {
    return this.enter(context, (reader) => this.waiting.push(reader));
  }

  /** Resolves when this member has applied `index`. Fails like a read. */
  untilApplied(index: number, context: RequestContext): Promise<void> {
    return this.enter(context, (reader) => this.stayBehind(index, [reader]));
  }

  private enter(context: RequestContext, place: (reader: Reader) => void): Promise<void> {
    if (this.count >= MAX_WAITING) {
      throw new KvError(
        'OVERLOADED',
        `${MAX_WAITING} reads are waiting already; slow down and retry`,
      );
    }
    this.count += 1;
    return new Promise((resolve, reject) => {
      const { signal } = context;
      const reader: Reader = {
        deadline: context.deadline,
        done: false,
        finish: (error) => {
          if (reader.done) return;
          reader.done = true;
          this.count -= 1;
          if (signal !== null) this.bySignal.get(signal)?.delete(reader);
          if (error === null) resolve();
          else reject(error);
        },
      };
      if (signal !== null) this.follow(signal, reader);
      place(reader);
    });
  }

  /** Asks one round for all that wait. `ask` is false when no leader is known; they keep waiting. */
  collect(now: number, ask: (round: number) => boolean): void {
    if (this.waiting.length === 0) return;
    const round = this.nextRound;
    if (!ask(round)) return;
    this.nextRound += 1;
    this.asked.set(round, { readers: this.waiting, askedAt: now });
    this.waiting = [];
  }

  onConfirmed(round: number, index: number, appliedIndex: number): void {
    const state = this.asked.get(round);
    if (state === undefined) return;
    this.asked.delete(round);
    if (index <= appliedIndex) for (const reader of state.readers) reader.finish(null);
    else this.stayBehind(index, state.readers);
  }

  onFailed(round: number): void {
    const state = this.asked.get(round);
    if (state === undefined) return;
    this.asked.delete(round);
    for (const reader of state.readers) if (!reader.done) this.failed.push(reader);
  }

  onApplied(appliedIndex: number): void {
    for (const [index, readers] of this.behind) {
      if (index > appliedIndex) continue;
      this.behind.delete(index);
      for (const reader of readers) reader.finish(null);
    }
  }

  /** Ends reads past their deadline, and asks rounds again that got no answer for `retryMs`. */
  sweep(now: number, retryMs: number, hasLeader: boolean): void {
    for (const [round, state] of [...this.asked]) {
      if (now - state.askedAt > retryMs) this.onFailed(round);
    }
    this.waiting.push(...this.failed);
    this.failed = [];
    if (this.count === 0) return;
    const expire = (readers: Reader[]): Reader[] => {
      for (const reader of readers) {
        if (reader.deadline <= now && !reader.done) reader.finish(deadlineError(hasLeader));
      }
      return readers.filter((reader) => !reader.done);
    };
    this.waiting = expire(this.waiting);
    for (const state of this.asked.values()) expire(state.readers);
    for (const [index, readers] of this.behind) {
      const still = expire(readers);
      if (still.length === 0) this.behind.delete(index);
      else this.behind.set(index, still);
    }
  }

  stop(): void {
    const error = new KvError('STOPPED', 'this member is stopping; use another one', {
      outcome: 'not-applied',
    });
    const all = [
      this.waiting,
      this.failed,
      ...[...this.asked.values()].map((round) => round.readers),
    ];
    for (const readers of [...all, ...this.behind.values()]) {
      for (const reader of readers) reader.finish(error);
    }
    this.waiting = [];
    this.failed = [];
    this.asked.clear();
    this.behind.clear();
  }

  private stayBehind(index: number, readers: readonly Reader[]): void {
    const known = this.behind.get(index);
    if (known === undefined) this.behind.set(index, [...readers]);
    else for (const reader of readers) known.push(reader);
  }

  private follow(signal: AbortSignal, reader: Reader): void {
    const known = this.bySignal.get(signal);
    if (known !== undefined) {
      known.add(reader);
      return;
    }
    this.bySignal.set(signal, new Set([reader]));
    signal.addEventListener('abort', this.onAbort);
  }

  private readonly onAbort = (event: Event): void => {
    const readers = this.bySignal.get(event.target as AbortSignal) ?? [];
    for (const reader of [...readers]) {
      reader.finish(new KvError('CANCELED', 'the client called the request off'));
    }
  };
}

function deadlineError(hasLeader: boolean): KvError {
  return hasLeader
    ? new KvError('TIMEOUT_NO_EFFECT', 'the leader did not confirm the read in time')
    : new KvError('NO_LEADER', 'no leader was elected in time; a serializable read still works');
}

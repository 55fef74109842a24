/**
 * Writes that answer with pairs (deletions and puts with `prev_kv`, ranges beside writes): whether their answer
 * fits into `--max-range-bytes`. They are measured by the state of this member before they are proposed: apply must
 * not refuse what other members carry out, so the bound is as good as that state is new.
 *
 * Used by cluster-node.ts. Most of them need no look at a key, because the whole store fits, and most others are
 * measured in the turn in which they come. What takes longer goes on in later turns: to read back 300,000 keys that
 * an entry has deleted halfway took 0.3 to 2 s. Writes that come behind it are proposed before it then; nobody who
 * waits for no answer may rely on an order.
 *
 * All that take longer share the turns, each has one and then the next one: as many at once would be a long turn
 * again. They are measured at the revision that was there when they began. A compaction above it, or a snapshot in
 * place of the state, lets them begin anew: without the records the measure would be too small.
 */
import { AnswerBudget, PAIR_BYTES, RangeMeasure } from './answer-budget.js';
import type { Clock } from './clock.js';
import { KvError } from './errors.js';
import type { Command } from './kv/command.js';
import { type RangeRequest, type RequestOp, rangeOf } from './kv/request.js';
import type { StateMachine } from './kv/state-machine.js';
import type { Store } from './kv/store.js';
import { conditionHolds } from './kv/txn.js';
import { advance } from './store-reads.js';

/** That take longer than a turn, at once: each holds its request, of up to --max-request-bytes. */
const WAITING_MAX = 64;
const RESTARTS_MAX = 3;

interface Attempt {
  readonly store: Store;
  readonly revision: number;
  /** What is not measured yet. */
  readonly steps: RangeMeasure[];
}

interface Waiting {
  readonly op: RequestOp;
  readonly check: () => void;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
  attempt: Attempt;
  restarts: number;
}

export class WriteMeasures {
  private readonly machine: () => StateMachine;
  private readonly clock: Clock;
  private readonly bytesMax: number;
  private waiting: Waiting[] = [];

  constructor(machine: () => StateMachine, clock: Clock, bytesMax: number) {
    this.machine = machine;
    this.clock = clock;
    this.bytesMax = bytesMax;
  }

  /** Null: the answer fits. Else it takes more turns to see that, and `check` is asked in each of them. Throws, or
   *  rejects, when it does not fit or `check` throws. */
  measure(command: Command, check: () => void): Promise<void> | null {
    const { kind } = command;
    if (kind !== 'put' && kind !== 'deleteRange' && kind !== 'txn') return null;
    const attempt = this.begin(command);
    if (attempt === null) return null;
    advance(attempt);
    if (attempt.steps.length === 0) return null;
    if (this.waiting.length >= WAITING_MAX) {
      throw new KvError(
        'OVERLOADED',
        `${WAITING_MAX} writes with long answers are being measured; slow down and retry`,
      );
    }
    return new Promise((resolve, reject) => {
      this.waiting.push({ op: command, check, resolve, reject, attempt, restarts: 0 });
      if (this.waiting.length === 1) this.arm();
    });
  }

  private arm(): void {
    this.clock.soon(() => this.turn());
  }

  private turn(): void {
    this.waiting = this.waiting.filter(isStillWanted);
    const first = this.waiting.shift();
    if (first === undefined) return;
    try {
      if (this.goOn(first)) first.resolve();
      else this.waiting.push(first);
    } catch (error) {
      first.reject(error);
    }
    if (this.waiting.length > 0) this.arm();
  }

  /** True: it fits. */
  private goOn(waiting: Waiting): boolean {
    const { store } = this.machine();
    const { attempt } = waiting;
    if (attempt.store !== store || attempt.revision < store.compactRevision) {
      if (waiting.restarts >= RESTARTS_MAX) {
        throw new KvError(
          'TIMEOUT_NO_EFFECT',
          'compactions overtook the write again and again before it was proposed; try again',
        );
      }
      const next = this.begin(waiting.op);
      if (next === null) return true;
      waiting.attempt = next;
      waiting.restarts += 1;
    }
    advance(waiting.attempt);
    return waiting.attempt.steps.length === 0;
  }

  /** Null: it fits, whatever the store holds. */
  private begin(op: RequestOp): Attempt | null {
    const { store } = this.machine();
    const answers = answersOf(op);
    const budget = new AnswerBudget(this.bytesMax);
    if (answers === 0 || budget.hasRoomFor(store, answers)) return null;
    return { store, revision: store.revision, steps: [...stepsOf(store, op, budget)] };
  }
}

function isStillWanted({ check, reject }: Waiting): boolean {
  try {
    check();
    return true;
  } catch (error) {
    reject(error);
    return false;
  }
}

function* stepsOf(store: Store, op: RequestOp, budget: AnswerBudget): Generator<RangeMeasure> {
  switch (op.kind) {
    case 'put':
      if (op.prevKv) budget.spend(store.recordBytes(op.key) + PAIR_BYTES);
      return;
    case 'range':
      yield measureOf(store, op, budget);
      return;
    case 'deleteRange': {
      const { key, rangeEnd, prevKv } = op;
      if (prevKv) yield measureOf(store, rangeOf({ key, rangeEnd }), budget);
      return;
    }
    case 'txn': {
      const branch = conditionHolds(store, op) ? op.success : op.failure;
      for (const inner of branch) yield* stepsOf(store, inner, budget);
    }
  }
}

function measureOf(store: Store, request: RangeRequest, budget: AnswerBudget): RangeMeasure {
  return new RangeMeasure(store, request, request.revision || store.revision, budget);
}

/** How many parts of the store a command may answer with, at most. */
function answersOf(op: RequestOp): number {
  switch (op.kind) {
    case 'put':
    case 'deleteRange':
      return op.prevKv ? 1 : 0;
    case 'range':
      return op.countOnly ? 0 : 1;
    case 'txn':
      return Math.max(sumOf(op.success), sumOf(op.failure));
  }
}

function sumOf(ops: readonly RequestOp[]): number {
  let sum = 0;
  for (const op of ops) sum += answersOf(op);
  return sum;
}

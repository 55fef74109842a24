/**
 * Decides whether a history of put, get, delete and compare-and-swap could have happened on one
 * correct store: whether each operation can be given one moment between its call and its reply such
 * that all replies follow from the operations before.
 *
 * Operations on different keys do not touch each other, so each key is searched alone. The search is
 * that of Wing and Gong with Lowe's cache: take any operation that was called before the first
 * outstanding reply, apply it to the state, go on; back up at a contradiction; never visit the same
 * (set of applied operations, state) twice. An operation without a known outcome has no reply: it may
 * be taken at any later moment, and one at the very end is as good as never.
 *
 * The state of a key is the write that made its value, and the highest modification revision so far,
 * because revisions of one key only grow. A write whose revision no reply shows has none here; no
 * swap can have named it.
 *
 * Besides, revisions order the whole store, which gives cheap checks over all keys
 * (`checkRevisions`): a revision belongs to one write, a value has one revision, and a request sent
 * after another reply came shows no lower revision.
 *
 * A search that does not end in time is a failure, not a pass.
 */
import { describeOperation, type History, type Operation, type Seen } from './history.js';

export interface Verdict {
  readonly ok: boolean;
  /** What is wrong, for a human; empty when ok. */
  readonly problem: string;
}

const OK: Verdict = { ok: true, problem: '' };
const ABSENT = 0;

/** An operation in the form the search needs: values as small numbers, unknown revisions 0. */
interface Step {
  readonly operation: Operation;
  readonly kind: 'put' | 'get' | 'delete' | 'cas';
  /** The value this step would write; 0 = none. */
  readonly writes: number;
  /** Modification revision of what it writes or of its deletion; 0 = nobody was told. */
  readonly revision: number;
  /** What its reply says was there before; -1 = it says nothing. */
  readonly found: number;
  /** For a swap: the value that must be there; -1 = a revision that nobody saw. */
  readonly expected: number;
  /** For a swap: true, false, or null when no reply came. */
  readonly succeeded: boolean | null;
}

/** Runs all checks over a whole history. */
export function checkHistory(
  history: History,
  timeLimitMs = 60_000,
  stale: StaleReads = new Map(),
): Verdict {
  const revisions = checkRevisions(history);
  if (!revisions.ok) return revisions;
  return checkLinearizable(history, timeLimitMs, stale);
}

/**
 * What serializable reads have shown, by key. They have no place in the order, but they are how a client
 * may come to know the revision of a write that was never answered, and build a swap on it.
 */
export type StaleReads = ReadonlyMap<string, readonly Seen[]>;

/** Searches a valid order for every key. */
export function checkLinearizable(
  history: History,
  timeLimitMs = 60_000,
  stale: StaleReads = new Map(),
): Verdict {
  const deadline = performance.now() + timeLimitMs;
  for (const [key, operations] of groupByKey(history)) {
    const verdict = checkKey(key, operations, stale.get(key) ?? [], deadline);
    if (!verdict.ok) return verdict;
  }
  return OK;
}

function groupByKey(history: History): Map<string, Operation[]> {
  const groups = new Map<string, Operation[]>();
  for (const operation of history) {
    const group = groups.get(operation.key);
    if (group === undefined) groups.set(operation.key, [operation]);
    else group.push(operation);
  }
  return groups;
}

/** What a reply tells about the value before or at the operation; undefined = nothing. */
function foundIn(operation: Operation): Seen | null | undefined {
  if (operation.reply.outcome !== 'ok') return undefined;
  const { effect } = operation.reply;
  if (effect.kind === 'get') return effect.seen;
  if (effect.kind === 'delete') return effect.removed;
  if (effect.kind === 'cas' && !effect.succeeded) return effect.seen;
  return undefined;
}

/** Revision of the write that this operation is told to have made; 0 if it made none or unknown. */
function madeRevision(operation: Operation): number {
  if (operation.reply.outcome !== 'ok') return 0;
  const { effect, revision } = operation.reply;
  if (effect.kind === 'put') return revision;
  if (effect.kind === 'delete') return effect.removed === null ? 0 : revision;
  if (effect.kind === 'cas') return effect.succeeded ? revision : 0;
  return 0;
}

function writtenValue(operation: Operation): string | null {
  const { action } = operation;
  return action.kind === 'put' || action.kind === 'cas' ? action.value : null;
}

/**
 * Checks what holds over all keys: unique revisions, one revision per value, and revisions that
 * follow real time.
 */
export function checkRevisions(history: History): Verdict {
  const makers = new Map<number, Operation>();
  const revisionOf = new Map<string, number>();
  const writers = new Map<string, Operation>();
  for (const operation of history) {
    const value = writtenValue(operation);
    if (value === null) continue;
    const other = writers.get(value);
    if (other !== undefined) return bad(`two writes carry ${value}`, [other, operation]);
    writers.set(value, operation);
  }
  for (const operation of history) {
    const made = madeRevision(operation);
    if (made > 0) {
      const other = makers.get(made);
      if (other !== undefined) return bad(`revision ${made} was given twice`, [other, operation]);
      makers.set(made, operation);
    }
    const value = writtenValue(operation);
    const shown = foundIn(operation);
    const facts: Seen[] = [];
    if (made > 0 && value !== null) facts.push({ value, modRevision: made });
    if (shown !== undefined && shown !== null) facts.push(shown);
    for (const fact of facts) {
      const known = revisionOf.get(fact.value) ?? fact.modRevision;
      if (known !== fact.modRevision) {
        return bad(`${fact.value} has revisions ${known} and ${fact.modRevision}`, [operation]);
      }
      revisionOf.set(fact.value, fact.modRevision);
      const writer = writers.get(fact.value);
      if (writer === undefined) return bad(`nobody wrote ${fact.value}`, [operation]);
      if (writer.key !== operation.key) return bad('value of another key', [writer, operation]);
      if (writer.reply.outcome === 'failed') {
        return bad('a write reported as not applied was applied', [writer, operation]);
      }
      if (writer.invokedAt > operation.returnedAt) {
        return bad('a value was seen before it was written', [writer, operation]);
      }
      const header = operation.reply.outcome === 'ok' ? operation.reply.revision : 0;
      if (header < fact.modRevision) {
        return bad('the header has a lower revision than the data', [operation]);
      }
    }
  }
  return checkRealTime(history);
}

/** A request sent after a reply came sees at least the revision of that reply. */
function checkRealTime(history: History): Verdict {
  const answered = history.filter((operation) => operation.reply.outcome === 'ok');
  const byReturn = [...answered].sort((a, b) => a.returnedAt - b.returnedAt);
  const byInvoke = [...answered].sort((a, b) => a.invokedAt - b.invokedAt);
  let next = 0;
  let floor: Operation | null = null;
  for (const operation of byInvoke) {
    for (;;) {
      const returned = byReturn[next];
      if (returned === undefined || returned.returnedAt >= operation.invokedAt) break;
      if (floor === null || headerOf(returned) > headerOf(floor)) floor = returned;
      next += 1;
    }
    if (floor === null) continue;
    const made = madeRevision(operation);
    if (headerOf(operation) < headerOf(floor) || (made > 0 && made <= headerOf(floor))) {
      return bad('the revision went back', [floor, operation]);
    }
  }
  return OK;
}

function headerOf(operation: Operation): number {
  return operation.reply.outcome === 'ok' ? operation.reply.revision : 0;
}

function bad(problem: string, operations: readonly Operation[]): Verdict {
  const lines = operations.map((operation) => `  ${operation.key} ${describeOperation(operation)}`);
  return { ok: false, problem: `${problem}:\n${lines.join('\n')}` };
}

/** Turns the operations on one key into steps; drops those that cannot have mattered. */
function toSteps(operations: readonly Operation[], stale: readonly Seen[]): Step[] {
  const numbers = new Map<string, number>();
  const revisionOf = new Map<string, number>();
  const valueAt = new Map<number, string>();
  const seenValues = new Set<string>();
  const learn = (value: string, revision: number): void => {
    revisionOf.set(value, revision);
    valueAt.set(revision, value);
  };
  for (const operation of operations) {
    const value = writtenValue(operation);
    if (value !== null && !numbers.has(value)) numbers.set(value, numbers.size + 1);
    const made = madeRevision(operation);
    if (made > 0 && value !== null) learn(value, made);
    const shown = foundIn(operation);
    if (shown === undefined || shown === null) continue;
    learn(shown.value, shown.modRevision);
    seenValues.add(shown.value);
    if (!numbers.has(shown.value)) numbers.set(shown.value, numbers.size + 1);
  }
  for (const { value, modRevision } of stale) learn(value, modRevision);
  const numberOf = (value: string | undefined): number => {
    return value === undefined ? -1 : (numbers.get(value) ?? -1);
  };
  const swapBases = new Set(
    operations.map(({ action }) => (action.kind === 'cas' ? valueAt.get(action.expected) : '')),
  );

  const steps: Step[] = [];
  for (const operation of operations) {
    const { action, reply } = operation;
    if (reply.outcome === 'failed') continue;
    const unknown = reply.outcome === 'unknown';
    if (unknown && action.kind === 'get') continue;
    const value = writtenValue(operation);
    // Nobody saw it, nobody was told and nobody built on it: with or without it, all replies fit.
    const traceless = value !== null && !seenValues.has(value) && !swapBases.has(value);
    if (unknown && traceless) continue;
    const shown = foundIn(operation);
    steps.push({
      operation,
      kind: action.kind,
      writes: value === null ? ABSENT : numberOf(value),
      revision: value === null ? madeRevision(operation) : (revisionOf.get(value) ?? 0),
      found: shown === undefined ? -1 : shown === null ? ABSENT : numberOf(shown.value),
      expected: expectedNumber(operation, valueAt, numberOf),
      succeeded:
        reply.outcome === 'ok' && reply.effect.kind === 'cas' ? reply.effect.succeeded : null,
    });
  }
  return steps;
}

function expectedNumber(
  operation: Operation,
  valueAt: ReadonlyMap<number, string>,
  numberOf: (value: string | undefined) => number,
): number {
  if (operation.action.kind !== 'cas') return -1;
  if (operation.action.expected === 0) return ABSENT;
  return numberOf(valueAt.get(operation.action.expected));
}

interface State {
  readonly value: number;
  readonly revision: number;
}

/** The state after the step, or null when its reply contradicts the state before. */
function apply(state: State, step: Step): State | null {
  if (step.found >= 0 && step.found !== state.value) return null;
  const { operation } = step;
  if (step.kind === 'get') return state;
  if (step.kind === 'delete') {
    if (state.value === ABSENT)
      return operation.reply.outcome === 'ok' && step.revision > 0 ? null : state;
    if (operation.reply.outcome === 'ok' && step.found === ABSENT) return null;
    return written(state, ABSENT, step.revision);
  }
  if (step.kind === 'cas') {
    const matches = state.value === step.expected;
    if (step.succeeded !== null && step.succeeded !== matches) return null;
    if (!matches) return state;
  }
  return written(state, step.writes, step.revision);
}

function written(state: State, value: number, revision: number): State | null {
  if (revision === 0) return { value, revision: state.revision };
  return revision > state.revision ? { value, revision } : null;
}

/** An end of a step in the time line: its call or its reply. */
interface Mark {
  readonly step: number;
  readonly call: boolean;
  readonly time: number;
  previous: Mark | null;
  next: Mark | null;
  /** For a call: the mark of its reply. */
  match: Mark | null;
}

/** The marks of all steps in order of time as a linked list; the head is a sentinel. */
function timeLine(steps: readonly Step[]): Mark {
  const marks: Mark[] = [];
  steps.forEach(({ operation }, step) => {
    const { invokedAt } = operation;
    const end = operation.reply.outcome === 'ok' ? operation.returnedAt : Number.POSITIVE_INFINITY;
    const reply: Mark = { step, call: false, time: end, previous: null, next: null, match: null };
    marks.push({ step, call: true, time: invokedAt, previous: null, next: null, match: reply });
    marks.push(reply);
  });
  // At one instant calls come first: the more forgiving order when the clock is too coarse to tell.
  marks.sort((a, b) => {
    if (a.time !== b.time) return a.time < b.time ? -1 : 1;
    return Number(b.call) - Number(a.call);
  });
  const head: Mark = { step: -1, call: true, time: 0, previous: null, next: null, match: null };
  let last = head;
  for (const mark of marks) {
    last.next = mark;
    mark.previous = last;
    last = mark;
  }
  return head;
}

function unlink(mark: Mark): void {
  if (mark.previous !== null) mark.previous.next = mark.next;
  if (mark.next !== null) mark.next.previous = mark.previous;
}

function relink(mark: Mark): void {
  if (mark.previous !== null) mark.previous.next = mark;
  if (mark.next !== null) mark.next.previous = mark;
}

function checkKey(
  key: string,
  operations: readonly Operation[],
  stale: readonly Seen[],
  deadline: number,
): Verdict {
  const steps = toSteps(operations, stale);
  const head = timeLine(steps);
  const applied = new Uint16Array(Math.ceil(steps.length / 16));
  const visited = new Set<string>();
  const stack: { mark: Mark; before: State }[] = [];
  let state: State = { value: ABSENT, revision: 0 };
  let furthest = 0;
  let stuckAt: readonly Step[] = [];
  let turns = 0;

  let mark = head.next;
  while (mark !== null) {
    turns += 1;
    if (turns % 1_024 === 0 && performance.now() > deadline) {
      return { ok: false, problem: `${key}: the search did not end in time` };
    }
    if (mark.call) {
      const step = steps[mark.step] as Step;
      const after = apply(state, step);
      if (after !== null) {
        flip(applied, mark.step);
        const visit = `${String.fromCharCode(...applied)} ${after.value} ${after.revision}`;
        if (!visited.has(visit)) {
          visited.add(visit);
          stack.push({ mark, before: state });
          state = after;
          unlink(mark);
          if (mark.match !== null) unlink(mark.match);
          mark = head.next;
          continue;
        }
        flip(applied, mark.step);
      }
      mark = mark.next;
      continue;
    }
    // Everything before this reply was tried. A reply at infinity need not be honoured.
    if (mark.time === Number.POSITIVE_INFINITY) return OK;
    if (stack.length >= furthest) {
      furthest = stack.length;
      stuckAt = [...outstanding(head, steps)];
    }
    const back = stack.pop();
    if (back === undefined) return explain(key, steps, furthest, stuckAt);
    state = back.before;
    flip(applied, back.mark.step);
    if (back.mark.match !== null) relink(back.mark.match);
    relink(back.mark);
    mark = back.mark.next;
  }
  return OK;
}

function flip(bits: Uint16Array, place: number): void {
  bits[place >> 4] = (bits[place >> 4] ?? 0) ^ (1 << (place & 15));
}

/** The steps that could be taken next when the search was furthest. */
function* outstanding(head: Mark, steps: readonly Step[]): Generator<Step> {
  for (let mark = head.next; mark?.call === true; mark = mark.next) {
    yield steps[mark.step] as Step;
  }
}

function explain(
  key: string,
  steps: readonly Step[],
  furthest: number,
  stuck: readonly Step[],
): Verdict {
  const lines = stuck.slice(0, 20).map((step) => `  ${describeOperation(step.operation)}`);
  const what = `${key}: not linearizable; at most ${furthest} of ${steps.length} operations fit`;
  return { ok: false, problem: `${what}, then none of these:\n${lines.join('\n')}` };
}

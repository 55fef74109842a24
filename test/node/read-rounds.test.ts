/**
 * Linearizable reads that wait for a round: which round they join, and how they end.
 */
import { describe, expect, test } from 'vitest';
import type { KvError } from '../../src/errors.js';
import { ReadRounds } from '../../src/read-rounds.js';

const context = (deadline = 1000, signal: AbortSignal | null = null) => ({
  deadline,
  signal,
  requireLeader: false,
  actor: null,
});

async function state(promise: Promise<void>): Promise<string> {
  const pending = new Promise<string>((resolve) => setImmediate(() => resolve('pending')));
  return await Promise.race([
    pending,
    promise.then(
      () => 'done',
      (error: KvError) => error.code,
    ),
  ]);
}

describe('read rounds', () => {
  test('reads of one turn share a round, a later read needs another', async () => {
    const reads = new ReadRounds();
    const rounds: number[] = [];
    const ask = (round: number): boolean => rounds.push(round) > 0;
    const [first, second] = [reads.add(context()), reads.add(context())];
    reads.collect(0, ask);
    const third = reads.add(context());

    reads.onConfirmed(rounds[0] as number, 5, 5);

    expect(await Promise.all([first, second].map(state))).toEqual(['done', 'done']);
    expect(await state(third)).toBe('pending');
    reads.collect(0, ask);
    expect(rounds.length).toBe(2);
  });

  test('a confirmed read waits until this member has applied its index', async () => {
    const reads = new ReadRounds();
    const read = reads.add(context());
    reads.collect(0, () => true);

    reads.onConfirmed(1, 9, 8);
    expect(await state(read)).toBe('pending');
    reads.onApplied(9);

    expect(await state(read)).toBe('done');
    expect(reads.pending).toBe(0);
  });

  test('all who wait for one index are let go with it, and none before its own time is over', async () => {
    const reads = new ReadRounds();
    reads.add(context()).catch(() => undefined);
    reads.collect(0, () => true);
    const confirmed = reads.add(context());
    reads.collect(0, () => true);
    const hasted = reads.untilApplied(9, context(100));
    const patient = reads.untilApplied(9, context());
    const later = reads.untilApplied(10, context());
    reads.onConfirmed(2, 9, 8);
    const states = (): Promise<string[]> =>
      Promise.all([hasted, patient, confirmed, later].map(state));

    reads.onApplied(8);
    reads.sweep(100, 200, true);
    expect(await states()).toEqual(['TIMEOUT_NO_EFFECT', 'pending', 'pending', 'pending']);
    reads.onApplied(9);
    expect(await states()).toEqual(['TIMEOUT_NO_EFFECT', 'done', 'done', 'pending']);
    reads.sweep(1000, 200, true);
    expect(await state(later)).toBe('TIMEOUT_NO_EFFECT');
    expect(reads.pending).toBe(0);
  });

  test('thousands of reads of one client share one ear for its departure, the later ones, too', async () => {
    const reads = new ReadRounds();
    const controller = new AbortController();
    const { signal } = controller;
    let listeners = 0;
    const { addEventListener } = signal;
    Object.assign(signal, {
      addEventListener: (...args: Parameters<typeof addEventListener>) => {
        listeners += 1;
        addEventListener.apply(signal, args);
      },
    });
    const wait = (): Promise<void>[] =>
      Array.from({ length: 10_000 }, () => reads.add(context(1000, signal)));

    const first = wait();
    expect(listeners).toBe(1);
    reads.collect(0, () => true);
    reads.onConfirmed(1, 5, 5);
    await Promise.all(first);

    const second = wait();
    expect(listeners).toBe(1);
    controller.abort();
    expect(await Promise.all(second.map(state))).toEqual(second.map(() => 'CANCELED'));
    expect(reads.pending).toBe(0);
  });

  test('a failed or unanswered round is asked again under a new number', () => {
    const reads = new ReadRounds();
    const rounds: number[] = [];
    const ask = (round: number): boolean => rounds.push(round) > 0;
    void reads.add(context());
    reads.collect(0, ask);
    reads.onFailed(1);
    reads.collect(10, ask);
    expect(rounds, 'not in the same turn').toEqual([1]);

    reads.sweep(50, 200, true);
    reads.collect(50, ask);
    reads.sweep(300, 200, true);
    reads.collect(300, ask);

    expect(rounds).toEqual([1, 2, 3]);
  });

  test('a late answer to an abandoned round confirms nothing', async () => {
    const reads = new ReadRounds();
    const read = reads.add(context());
    reads.collect(0, () => true);
    reads.sweep(300, 200, true);

    reads.onConfirmed(1, 1, 100);

    expect(await state(read)).toBe('pending');
  });

  test('without a leader reads wait, and end at their deadline with a text that helps', async () => {
    const reads = new ReadRounds();
    const read = reads.add(context(100));
    reads.collect(0, () => false);

    reads.sweep(99, 200, false);
    expect(await state(read)).toBe('pending');
    reads.sweep(100, 200, false);

    expect(await state(read)).toBe('NO_LEADER');
    expect(reads.pending).toBe(0);
  });

  test('a read that its client called off is forgotten', async () => {
    const reads = new ReadRounds();
    const client = new AbortController();
    const read = reads.add(context(100, client.signal));
    reads.collect(0, () => true);

    client.abort();

    expect(await state(read)).toBe('CANCELED');
    expect(reads.pending).toBe(0);
  });
});

/**
 * Writes that wait: when they are sent again, when they end, and what is claimed of their outcome.
 */
import { describe, expect, test } from 'vitest';
import { InvariantError } from '../../src/assert.js';
import type { KvError } from '../../src/errors.js';
import type { RequestContext } from '../../src/node.js';
import { Proposals } from '../../src/proposals.js';

const context = (deadline = 1000, signal: AbortSignal | null = null): RequestContext => ({
  deadline,
  signal,
  requireLeader: false,
  actor: null,
});
const bytes = Buffer.from('payload');

async function failure(promise: Promise<unknown>): Promise<KvError> {
  return await promise.then(
    () => {
      throw new Error('it did not fail');
    },
    (error: KvError) => error,
  );
}

describe('waiting writes', () => {
  test('a write is sent again once an entry of a later term proves that it was lost', () => {
    const proposals = new Proposals();
    void proposals.add(1, bytes, context());
    const sent = proposals.takeQueued(5, 1e6);

    const sameTerm = proposals.onAppliedTerm(5);
    const again = proposals.onAppliedTerm(6);

    expect(sent.length).toBe(1);
    expect([sameTerm, again]).toEqual([false, true]);
    expect(proposals.takeQueued(6, 1e6).map(({ requestId }) => requestId)).toEqual([1]);
  });

  test('a write that was applied before the later term is not sent again', async () => {
    const proposals = new Proposals();
    const answer = proposals.add(1, bytes, context());
    proposals.takeQueued(5, 1e6);

    proposals.take(1)?.finish(null, { revision: 7, response: null });
    proposals.onAppliedTerm(6);

    expect(await answer).toEqual({ revision: 7, response: null });
    expect(proposals.takeQueued(6, 1e6)).toEqual([]);
  });

  test('an installed snapshot ends what was in doubt as unknown, and keeps what was not sent', async () => {
    const proposals = new Proposals();
    const sent = proposals.add(1, bytes, context());
    proposals.takeQueued(5, 1e6);
    void proposals.add(2, bytes, context());

    proposals.onSnapshotInstalled(9);

    expect(await failure(sent)).toMatchObject({ code: 'TIMEOUT', outcome: 'unknown' });
    expect(proposals.takeQueued(9, 1e6).map(({ requestId }) => requestId)).toEqual([2]);
  });

  test('at its deadline a sent write is unknown, a queued one had no effect', async () => {
    const proposals = new Proposals();
    const sent = proposals.add(1, bytes, context(50));
    proposals.takeQueued(5, 1e6);
    const queued = proposals.add(2, bytes, context(50));
    const leaderless = proposals.add(3, bytes, context(60));

    proposals.sweep(50, true);
    proposals.sweep(60, false);

    expect(await failure(sent)).toMatchObject({ code: 'TIMEOUT', outcome: 'unknown' });
    expect(await failure(queued)).toMatchObject({
      code: 'TIMEOUT_NO_EFFECT',
      outcome: 'not-applied',
    });
    expect(await failure(leaderless)).toMatchObject({ code: 'NO_LEADER', outcome: 'not-applied' });
    expect(proposals.count).toBe(0);
  });

  test('a second write with the id of one that waits is refused: it would take the answer of the first', () => {
    const proposals = new Proposals();
    void proposals.add(1, bytes, context());

    expect(() => proposals.add(1, bytes, context())).toThrow(InvariantError);
    expect(proposals.count).toBe(1);
  });

  test('a client that goes away ends its write, and the queue forgets it', async () => {
    const proposals = new Proposals();
    const client = new AbortController();
    const write = proposals.add(1, bytes, context(1000, client.signal));

    client.abort();

    expect(await failure(write)).toMatchObject({ code: 'CANCELED', outcome: 'not-applied' });
    expect(proposals.takeQueued(1, 1e6)).toEqual([]);
  });

  test('writes keep their order over a refusal, and batches keep to their bound', () => {
    const proposals = new Proposals();
    for (let id = 1; id <= 5; id += 1) void proposals.add(id, bytes, context());
    const refused = proposals.takeQueued(3, 2 * bytes.length);

    proposals.requeue(refused);

    expect(refused.map(({ requestId }) => requestId)).toEqual([1, 2]);
    expect(proposals.takeQueued(3, 1).map(({ requestId }) => requestId)).toEqual([1]);
    expect(proposals.takeQueued(3, 1e6).map(({ requestId }) => requestId)).toEqual([2, 3, 4, 5]);
  });

  test('more writes than the bound are refused at once', async () => {
    const proposals = new Proposals();
    const waiting: Promise<unknown>[] = [];
    for (let id = 1; id <= 50_000; id += 1) waiting.push(proposals.add(id, bytes, context(10)));

    expect(() => proposals.add(50_001, bytes, context(10))).toThrow(/slow down/);

    proposals.sweep(10, true);
    await Promise.allSettled(waiting);
  });

  test('more bytes than the bound are refused, and room comes back when writes end', async () => {
    const proposals = new Proposals();
    const large = Buffer.alloc(64 * 2 ** 20);
    const waiting = [1, 2, 3, 4, 5].map((id) => proposals.add(id, large, context(10)));

    expect(() => proposals.add(6, bytes, context())).toThrow(/slow down/);
    proposals.sweep(10, true);
    await Promise.allSettled(waiting);

    void proposals.add(7, bytes, context());
    expect(proposals.count).toBe(1);
  });
});

/**
 * Which messages wait for which write.
 */
import { describe, expect, it } from 'vitest';
import { MessageKind } from '../../src/raft/message.js';
import { Outbox } from '../../src/raft/outbox.js';
import { from } from '../support/raft-core.js';

const K = MessageKind;

function acknowledgement(index: number, round = 0, reject = false, term = 1) {
  return from(2, K.AppendResponse, term, { index, round, reject });
}

function kept(...messages: ReturnType<typeof acknowledgement>[]): number[] {
  const outbox = new Outbox();
  for (const message of messages) outbox.now(message);
  return outbox.sendNow.map(({ index }) => index);
}

describe('neighbouring acknowledgements', () => {
  it('become the newest one', () => {
    expect(kept(acknowledgement(1), acknowledgement(2), acknowledgement(2, 3))).toEqual([2]);
  });

  it('stay apart when one says less about log or round', () => {
    expect(kept(acknowledgement(5), acknowledgement(2))).toEqual([5, 2]);
    expect(kept(acknowledgement(1, 4), acknowledgement(2, 3))).toEqual([1, 2]);
  });

  it('stay apart over rejections, terms and other messages', () => {
    expect(kept(acknowledgement(1, 0, true), acknowledgement(2))).toEqual([1, 2]);
    expect(kept(acknowledgement(1), acknowledgement(2, 0, true))).toEqual([1, 2]);
    expect(kept(acknowledgement(1), acknowledgement(2, 0, false, 2))).toEqual([1, 2]);
    const vote = from(2, K.VoteResponse, 1);
    expect(kept(acknowledgement(1), vote, acknowledgement(2))).toEqual([1, 0, 2]);
  });
});

describe('held messages', () => {
  it('leave with the write they rest on', () => {
    const outbox = new Outbox();
    outbox.afterWriteInFlight(acknowledgement(1));
    outbox.afterNextWrite(acknowledgement(2));
    expect(outbox.isEmpty).toBe(true);
    outbox.releaseWriteInFlight();
    expect(outbox.sendNow).toMatchObject([{ index: 1 }]);
    outbox.releaseWriteInFlight();
    expect(outbox.sendNow).toHaveLength(1);
    expect(outbox.takeHeldForNextWrite()).toMatchObject([{ index: 2 }]);
    expect(outbox.takeHeldForNextWrite()).toEqual([]);
  });

  it('do not acknowledge entries that went away before they were written', () => {
    const outbox = new Outbox();
    const vote = from(2, K.VoteResponse, 3);
    for (const message of [acknowledgement(9), acknowledgement(8, 0, false, 2), vote]) {
      outbox.afterNextWrite(message);
    }
    outbox.afterNextWrite(acknowledgement(9, 0, true));
    outbox.withdrawAcknowledgementsAbove(8);
    expect(outbox.takeHeldForNextWrite()).toMatchObject([
      { index: 8 },
      { kind: K.VoteResponse },
      { index: 9, reject: true },
    ]);
  });
});

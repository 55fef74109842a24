/**
 * The road of a change of members to the log: whom it waits for, who may refuse it, and that it is
 * never proposed twice.
 */
import { beforeEach, describe, expect, it } from 'vitest';
import { ChangeRoad } from '../../src/change-road.js';
import type { ErrorCode } from '../../src/errors.js';
import { encodeEnvelope, type MemberStep } from '../../src/kv/command.js';
import type { PeerLinks } from '../../src/peer-links.js';
import { EntryType } from '../../src/raft/entry.js';
import type { Raft } from '../../src/raft/raft.js';
import { acknowledge, flush, makeCore, makeLeader, tick } from '../support/raft-core.js';

const DEADLINE = { deadline: 1e9, signal: null, requireLeader: false, actor: null };

function payloadOf(...steps: MemberStep[]): Uint8Array {
  const command = { kind: 'memberChange', steps, joint: false } as const;
  return encodeEnvelope({ origin: 1, requestId: 1, actor: null, command });
}

const removeTwo = payloadOf({ kind: 'remove', id: 2 });
const removeSelf = payloadOf({ kind: 'remove', id: 1 });

let refusal: ErrorCode | null = null;
let forwarded: { to: number; args: unknown; answer: (value: unknown) => void }[] = [];

function roadOf(raft: Raft): ChangeRoad {
  const network = {
    isUp: () => true,
    request: (to: number, _method: string, args: unknown, _body: unknown, answer: () => void) =>
      forwarded.push({ to, args, answer }),
  } as unknown as PeerLinks;
  return new ChangeRoad({ raft, network, guard: () => refusal });
}

function proposed(raft: Raft): number {
  let count = 0;
  for (let index = raft.firstIndex; index <= raft.lastIndex; index += 1) {
    if (raft.log.entryAt(index).type === EntryType.Configuration) count += 1;
  }
  return count;
}

/** A leader that is old enough to know everybody. */
function oldLeader(): Raft {
  const raft = makeLeader();
  for (let at = 0; at < raft.options.electionTicks; at += 1) {
    tick(raft);
    for (const peer of [2, 3]) acknowledge(raft, peer);
  }
  raft.applied(raft.commitIndex);
  return raft;
}

beforeEach(() => {
  refusal = null;
  forwarded = [];
});

describe('on the leader', () => {
  it('proposes one change and lets the next wait until it is applied', () => {
    const raft = oldLeader();
    const road = roadOf(raft);
    road.waiting.add(1, removeTwo, DEADLINE).catch(() => undefined);
    road.waiting.add(2, removeTwo, DEADLINE).catch(() => undefined);

    road.collect();
    road.collect();
    const first = proposed(raft);
    flush(raft);
    acknowledge(raft, 2);
    raft.applyConfiguration(null);
    raft.applied(raft.commitIndex);
    road.collect();

    expect([first, proposed(raft), road.waiting.queued]).toEqual([1, 2, 0]);
  });

  it('refuses what the guard refuses, with proof that nothing happened', async () => {
    const raft = oldLeader();
    const road = roadOf(raft);
    refusal = 'UNHEALTHY';
    const outcome = road.waiting.add(1, removeTwo, DEADLINE);

    road.collect();

    await expect(outcome).rejects.toMatchObject({ code: 'UNHEALTHY', outcome: 'not-applied' });
    expect(proposed(raft)).toBe(0);
  });

  it('waits with a refusal for want of health until it has led for an election timeout', async () => {
    const raft = makeLeader();
    raft.applied(raft.commitIndex);
    const road = roadOf(raft);
    refusal = 'UNHEALTHY';
    const outcome = road.waiting.add(1, removeTwo, DEADLINE);
    road.collect();
    const waited = road.waiting.queued;
    for (let at = 0; at < raft.options.electionTicks; at += 1) {
      tick(raft);
      acknowledge(raft, 2);
    }
    road.collect();

    await expect(outcome).rejects.toMatchObject({ code: 'UNHEALTHY' });
    expect(waited).toBe(1);
  });

  it('hands over before it removes itself, and goes first if that failed', () => {
    const raft = oldLeader();
    const road = roadOf(raft);
    road.waiting.add(1, removeSelf, DEADLINE).catch(() => undefined);

    road.collect();
    const target = raft.transfer?.target;
    road.collect();
    const waited = proposed(raft);
    for (let at = 0; at < raft.options.electionTicks; at += 1) {
      tick(raft);
      for (const peer of [2, 3]) acknowledge(raft, peer);
    }
    raft.applied(raft.commitIndex);
    road.collect();

    expect([target === 2 || target === 3, waited, raft.transfer, proposed(raft)]).toEqual([
      ...[true, 0, null, 1],
    ]);
  });

  it('takes a forwarded change only in the term that it names', () => {
    const raft = oldLeader();
    const road = roadOf(raft);
    const answers: unknown[] = [];
    for (const term of [raft.term - 1, raft.term + 1, 'x', raft.term]) {
      road.onForwarded(term, removeTwo, (value) => answers.push(value));
      road.collect();
    }

    expect(answers).toEqual(['again', 'again', 'again', 'ok']);
    expect(proposed(raft)).toBe(1);
  });
});

describe('on a follower', () => {
  function follower(): Raft {
    const raft = makeCore();
    raft.becomeFollower(3, 2, 'a test');
    return raft;
  }

  it('sends it to the leader once, and again when the leader says so', () => {
    const raft = follower();
    const road = roadOf(raft);
    road.waiting.add(1, removeTwo, DEADLINE).catch(() => undefined);

    road.collect();
    road.collect();
    expect(forwarded).toMatchObject([{ to: 2, args: 3 }]);
    forwarded[0]?.answer('again');
    road.collect();
    expect(forwarded).toHaveLength(2);
  });

  it('keeps it in doubt when no answer comes, and sends it again only after proof of its loss', () => {
    const raft = follower();
    const road = roadOf(raft);
    road.waiting.add(1, removeTwo, DEADLINE).catch(() => undefined);
    road.collect();

    forwarded[0]?.answer(null);
    road.collect();
    expect(forwarded).toHaveLength(1);
    raft.becomeFollower(4, 3, 'a test');
    road.waiting.onAppliedTerm(4);
    road.collect();

    expect(forwarded).toMatchObject([{ to: 2 }, { to: 3, args: 4 }]);
  });

  it('passes on why the leader refused', async () => {
    const road = roadOf(follower());
    const outcome = road.waiting.add(1, removeTwo, DEADLINE);
    road.collect();

    forwarded[0]?.answer('LEARNER_NOT_READY');

    await expect(outcome).rejects.toMatchObject({
      ...{ code: 'LEARNER_NOT_READY', outcome: 'not-applied' },
    });
  });
});

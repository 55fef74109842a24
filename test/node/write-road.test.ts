/**
 * Writes on their way to a leader over a network in the hand of the test: what late and odd answers
 * may and may not say about them.
 */
import { describe, expect, test } from 'vitest';
import type { ProposeOutcome, RequestContext } from '../../src/node.js';
import type { PeerLinks } from '../../src/peer-links.js';
import type { ProposeResult, Raft } from '../../src/raft/raft.js';
import { Role } from '../../src/raft/ready.js';
import { WriteRoad } from '../../src/write-road.js';

const context: RequestContext = { deadline: 1000, signal: null, requireLeader: false, actor: null };
const payload = Buffer.from('payload');

interface Asked {
  readonly to: number;
  readonly term: number;
  readonly answer: (value: unknown) => void;
}

/** The few fields of the core that the road looks at. */
class Core {
  id = 1;
  role: Role = Role.Follower;
  leader = 2;
  term = 5;
  readonly proposed: Uint8Array[] = [];
  result: ProposeResult = { ok: true, firstIndex: 1, term: 5 };

  propose(payloads: readonly Uint8Array[]): ProposeResult {
    this.proposed.push(...payloads);
    return this.result;
  }
}

function rigOf(): { core: Core; asked: Asked[]; road: WriteRoad } {
  const core = new Core();
  const asked: Asked[] = [];
  const links: Partial<PeerLinks> = {
    isUp: () => true,
    request: (to, _method, args, _body, answer) => {
      asked.push({ to, term: (args as [number])[0], answer });
    },
  };
  const road = new WriteRoad(core as unknown as Raft, links as PeerLinks);
  return { core, asked, road };
}

describe('the road of a write', () => {
  test('a refusal of an old term says nothing of the write that was sent again since', async () => {
    const { core, asked, road } = rigOf();
    const write = road.waiting.add(1, payload, context);
    road.collect();
    // The leader of term 5 is gone, an entry of term 6 proves that its copy is lost.
    core.leader = 3;
    core.term = 6;
    road.waiting.onAppliedTerm(6);
    road.collect();
    expect(asked.map(({ to, term }) => [to, term])).toEqual([
      [2, 5],
      [3, 6],
    ]);

    asked[0]?.answer('tail-full');
    asked[0]?.answer('not-leader');

    expect([road.waiting.count, road.waiting.queued]).toEqual([1, 0]);
    const outcome: ProposeOutcome = { revision: 9, response: null };
    road.waiting.take(1)?.finish(null, outcome);
    expect(await write).toEqual(outcome);
  });

  test('a refusal of the term that has the write ends it, or sends it again', async () => {
    const { asked, road } = rigOf();
    const write = road.waiting.add(1, payload, context);
    road.collect();
    asked[0]?.answer('not-leader');
    expect(road.waiting.queued).toBe(1);
    road.collect();

    asked[1]?.answer('tail-full');

    await expect(write).rejects.toMatchObject({ code: 'OVERLOADED', outcome: 'not-applied' });
    expect(road.overloads).toBe(1);
  });

  test('what another member forwards for another term is never proposed', () => {
    const { core, road } = rigOf();
    const answers: unknown[] = [];
    core.role = Role.Leader;
    road.onForwarded([4, [payload.length]], payload, (value) => answers.push(value));
    road.onForwarded([5, [payload.length]], payload, (value) => answers.push(value));
    core.result = { ok: false, reason: 'tail-full' };

    road.collect();

    expect(answers).toEqual(['not-leader', 'tail-full']);
    expect(core.proposed.length).toBe(1);
  });

  test.each([
    [null],
    [[5]],
    [[5, 7]],
    [[5, ['7']]],
    [[5, [-1, payload.length + 1]]],
    [[5, [payload.length + 1]]],
    [[5, [payload.length - 1]]],
    [[5, [Number.NaN]]],
    [['5', [payload.length]]],
    [[5, []]],
  ])('a malformed frame of writes is refused: %j', (args) => {
    const { core, road } = rigOf();
    const answers: unknown[] = [];
    core.role = Role.Leader;

    road.onForwarded(args, payload, (value) => answers.push(value));
    road.collect();

    expect(answers).toEqual(['malformed']);
    expect(core.proposed).toEqual([]);
  });
});

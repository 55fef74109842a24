/**
 * How changes of members reach the log: like a write (write-road.ts), from any member, answered when
 * the member that was asked has applied them; but one at a time, judged by the leader first, and apart
 * from the writes, which must not wait behind a change that waits for its turn.
 *
 *   queued -> leader of this term: may it be judged now? -> guardChange -> log
 *                                  no: again in a moment     refused: answered, nothing proposed
 *
 * "Not now" is: an earlier change is not applied, no entry of the term is committed, a joint phase or a
 * hand-over is under way, or the leader is too young to know who answers. A leader that is asked to
 * remove itself hands its leadership over first, so that nobody waits for an election; its successor
 * makes the change.
 *
 * The proof that a lost change can be sent again without a second effect is that of proposals.ts.
 */
import { ERROR_TABLE, type ErrorCode, KvError } from './errors.js';
import { removesVote } from './membership.js';
import type { PeerLinks, Respond } from './peer-links.js';
import { Proposals } from './proposals.js';
import type { Raft } from './raft/raft.js';
import { Role } from './raft/ready.js';

/** Changes of other members that wait for the next turn; more are told to come again. */
const MAX_FOREIGN = 64;
const AGAIN = 'again';
const OK = 'ok';

type Verdict = typeof OK | typeof AGAIN | ErrorCode;

interface ForeignChange {
  readonly term: number;
  readonly payload: Uint8Array;
  readonly respond: Respond;
}

export interface ChangeRoadOptions {
  readonly raft: Raft;
  readonly network: PeerLinks;
  /** The leader's doubts about a change. */
  readonly guard: (payload: Uint8Array) => ErrorCode | null;
}

export class ChangeRoad {
  readonly waiting = new Proposals();
  private readonly options: ChangeRoadOptions;
  private foreign: ForeignChange[] = [];
  /** When a hand-over was last tried because of a removal. */
  private handOverTick = Number.NEGATIVE_INFINITY;

  constructor(options: ChangeRoadOptions) {
    this.options = options;
  }

  collect(): void {
    const foreign = this.foreign;
    this.foreign = [];
    for (const change of foreign) change.respond(this.judge(change.term, change.payload));
    while (this.waiting.queued > 0) {
      const { raft } = this.options;
      const more = raft.role === Role.Leader ? this.proposeOwn() : this.forward();
      if (!more) return;
    }
  }

  /** A change that another member forwards. */
  onForwarded(args: unknown, body: Uint8Array, respond: Respond): void {
    if (typeof args !== 'number' || body.length === 0 || this.foreign.length >= MAX_FOREIGN) {
      respond(AGAIN);
      return;
    }
    this.foreign.push({ term: args, payload: body, respond });
  }

  private proposeOwn(): boolean {
    const { raft } = this.options;
    const batch = this.waiting.takeQueued(raft.term, 0);
    const [change] = batch;
    if (change === undefined) return false;
    const verdict = this.judge(raft.term, change.payload);
    if (verdict === AGAIN) this.waiting.requeue(batch);
    else if (verdict !== OK) this.waiting.refuse(batch, changeError(verdict));
    return verdict !== AGAIN;
  }

  private forward(): boolean {
    const { raft, network } = this.options;
    const { leader, term } = raft;
    if (leader === 0 || leader === raft.id || !network.isUp(leader)) return false;
    const batch = this.waiting.takeQueued(term, 0);
    const [change] = batch;
    if (change === undefined) return false;
    network.request(leader, 'change', term, [change.payload], (answer) => {
      if (answer === null || answer === OK || change.sentTerm !== term) return;
      if (typeof answer === 'string' && Object.hasOwn(ERROR_TABLE, answer)) {
        this.waiting.refuse(batch, changeError(answer as ErrorCode));
      } else this.waiting.requeue(batch);
    });
    return true;
  }

  private judge(term: number, payload: Uint8Array): Verdict {
    const { raft, guard } = this.options;
    if (raft.term !== term || !raft.canChangeMembers()) return AGAIN;
    const refusal = guard(payload);
    if (refusal !== null) return raft.isYoungLeader && isPassing(refusal) ? AGAIN : refusal;
    if (removesVote(payload, raft.id) && this.handsOver()) return AGAIN;
    return raft.proposeConfiguration(payload).ok ? OK : AGAIN;
  }

  /** Begins a hand-over unless one was tried just now and failed: then the change goes first, and
   *  the core hands over as well as it can when it is applied. */
  private handsOver(): boolean {
    const { raft } = this.options;
    if (raft.now - this.handOverTick < 4 * raft.options.electionTicks) return false;
    let best: { id: number; match: number } | null = null;
    for (const { id, matchIndex: match } of raft.progress.values()) {
      if (!raft.configuration.voters.includes(id) || !raft.isHealthy(id)) continue;
      if (best === null || match > best.match) best = { id, match };
    }
    if (best === null) return false;
    this.handOverTick = raft.now;
    return raft.transferLeadership(best.id);
  }
}

/** What a leader may find only because it has not heard of everybody yet. */
function isPassing(code: ErrorCode): boolean {
  return code === 'UNHEALTHY' || code === 'LEARNER_NOT_READY' || code === 'NOT_ENOUGH_STARTED';
}

const TEXTS: Readonly<Partial<Record<ErrorCode, string>>> = {
  MEMBER_EXISTS: 'a member with this id exists or has existed',
  PEER_URLS_EXIST: 'another member has one of these peer URLs',
  MEMBER_NOT_FOUND: 'no such member in the cluster',
  NOT_A_LEARNER: 'the member votes already',
  LEARNER_NOT_READY: 'the learner has not caught up with the leader yet; try again later',
  TOO_MANY_LEARNERS: 'there is a learner already; promote or remove it first',
  NOT_ENOUGH_STARTED: 'too few started members would be left for a majority',
  UNHEALTHY: 'too few members answer to make a majority after this change; start them first',
};

function changeError(code: ErrorCode): KvError {
  const text = TEXTS[code] ?? `the change of members was refused: ${code}`;
  return new KvError(code, text, { outcome: 'not-applied' });
}

/**
 * Questions about leases that only the leader can answer, asked by any member over the peer network.
 *
 * An answer is a number of seconds; -1 means "not me" and is asked again until the request's deadline,
 * because leadership moves. Asking twice does no harm: renewing is idempotent.
 */
import type { Clock } from './clock.js';
import { KvError } from './errors.js';
import { type Int64, parseInt64 } from './int64.js';
import type { LeaseKeeper } from './lease-keeper.js';
import type { RequestContext } from './node.js';
import type { PeerLinks, Respond } from './peer-links.js';

const ANSWER_MS = 1000;
const AGAIN_MS = 20;

export type LeaderQuestion = 'renew' | 'remaining';

export interface LeaderQuestionsOptions {
  readonly clock: Clock;
  readonly network: PeerLinks;
  readonly leases: LeaseKeeper;
  readonly memberId: number;
  readonly leader: () => number;
  readonly context: () => RequestContext;
  /** Throws when the request should end now. */
  readonly check: (context: RequestContext) => void;
}

export class LeaderQuestions {
  private readonly options: LeaderQuestionsOptions;

  constructor(options: LeaderQuestionsOptions) {
    this.options = options;
  }

  async ask(question: LeaderQuestion, id: Int64, context: RequestContext): Promise<number> {
    const { clock, leader, memberId, check } = this.options;
    for (;;) {
      check(context);
      const asked = leader();
      let answer = -1;
      if (asked === memberId) answer = await this.answer(question, id, context);
      else if (asked !== 0) answer = await this.askPeer(asked, question, id);
      if (answer >= 0) return answer;
      if (clock.now() >= context.deadline) {
        throw leader() === 0
          ? new KvError('NO_LEADER', 'no leader was elected in time')
          : new KvError('TIMEOUT', 'the leader did not answer in time');
      }
      await new Promise<void>((resolve) => clock.after(AGAIN_MS, resolve));
    }
  }

  /** A question that came from another member. */
  onRequest(question: LeaderQuestion, args: unknown, respond: Respond): void {
    const id = parseInt64(String(args));
    if (id === null) {
      respond(-1);
      return;
    }
    this.answer(question, id, this.options.context()).then(respond, (error: unknown) => {
      respond(-1);
      // A bug is not for the other member to wait out; unhandled, it ends this one.
      if (!(error instanceof KvError)) throw error;
    });
  }

  private async answer(
    question: LeaderQuestion,
    id: Int64,
    context: RequestContext,
  ): Promise<number> {
    const { leases } = this.options;
    if (question === 'remaining') return leases.isPrimary ? leases.remainingSeconds(id) : -1;
    try {
      return await leases.renew(id, context);
    } catch (error) {
      if (error instanceof KvError && error.code === 'NOT_PRIMARY_LESSOR') return -1;
      throw error;
    }
  }

  private askPeer(peer: number, question: LeaderQuestion, id: Int64): Promise<number> {
    const { clock, network } = this.options;
    return new Promise((resolve) => {
      const timer = clock.after(ANSWER_MS, () => resolve(-1));
      network.request(peer, question, String(id), [], (value) => {
        timer.cancel();
        resolve(typeof value === 'number' ? value : -1);
      });
    });
  }
}

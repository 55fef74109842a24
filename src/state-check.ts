/**
 * Whether the members have the same state: their hash chains at equal indices are compared, and who
 * differs from most voters is reported through the log (kv/state-machine.ts raises CORRUPT for it).
 *
 * Each member notes its chain at every sixteenth index, the newest few thousand of them. Now and then
 * the leader asks all others for their notes at the indices of its own newest ones; a member that starts
 * asks the same way, so that it does not serve what it should not. A round is one small message to each
 * member, and nothing is read from disk.
 *
 * What a round says: where a majority of the voters has one hash at one index, every member with another
 * one there is wrong, the asker included. Where all voters answered and no majority agrees, nobody knows
 * who is right, and the alarm is raised for the cluster, in the name of member 0 as etcd does: then
 * nothing is written or read until somebody decides. Too few answers say nothing; the next round comes.
 */
import type { Clock, Timer } from './clock.js';
import { AlarmType, type Command } from './kv/command.js';
import type { StateMachine } from './kv/state-machine.js';
import type { Logger } from './logger.js';
import type { PeerLinks } from './peer-links.js';
import { majorityOf } from './raft/quorum.js';

const NOTE_EACH = 16;
const NOTES_MAX = 4096;
/** Indices in one question. */
const ASKED_MAX = 64;
const ANSWER_MS = 1000;
const WHOLE_CLUSTER = 0;

export interface StateCheckOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly network: Pick<PeerLinks, 'request'>;
  readonly memberId: number;
  /** Between two rounds of the leader; 0 = members compare only when they start. */
  readonly everyMs: number;
  readonly machine: () => StateMachine;
  readonly isLeader: () => boolean;
  readonly propose: (command: Command) => Promise<unknown>;
}

/** What a round found out. `unclear`: all voters answered and no majority agrees. */
export interface Verdict {
  readonly differing: readonly number[];
  readonly unclear: boolean;
}

/** By member, its hash at each index asked for, or null. */
export type Answers = ReadonlyMap<number, readonly (string | null)[]>;

export class StateCheck {
  private readonly options: StateCheckOptions;
  /** By index, oldest first. */
  private readonly notes = new Map<number, string>();
  private timer: Timer | null = null;

  constructor(options: StateCheckOptions) {
    this.options = options;
  }

  start(): void {
    const { clock, everyMs, isLeader } = this.options;
    if (everyMs === 0) return;
    this.timer = clock.after(everyMs, () => {
      if (isLeader()) this.round().catch((error: unknown) => this.onFailed(error));
      if (this.timer !== null) this.start();
    });
  }

  stop(): void {
    this.timer?.cancel();
    this.timer = null;
  }

  /** The machine stands at this index now. */
  note(machine: StateMachine): void {
    const { appliedIndex } = machine;
    if (appliedIndex % NOTE_EACH !== 0) return;
    this.notes.set(appliedIndex, machine.hashChain);
    if (this.notes.size <= NOTES_MAX) return;
    for (const oldest of this.notes.keys()) {
      this.notes.delete(oldest);
      return;
    }
  }

  /** Another state took the place of the one that the notes are of. */
  forget(): void {
    this.notes.clear();
  }

  /** The answer to a question that came from another member. */
  answer(asked: unknown): (string | null)[] {
    if (!Array.isArray(asked) || asked.length > ASKED_MAX) return [];
    return asked.map((index: unknown) => this.notes.get(Number(index)) ?? null);
  }

  /** Asks all others and reports who differs. Resolves when what it found is applied. */
  async round(): Promise<void> {
    const { machine, memberId, logger, propose } = this.options;
    const { configuration } = machine();
    const indices = [...this.notes.keys()].slice(-ASKED_MAX).reverse();
    const members = [...new Set([...configuration.voters, ...configuration.learners])];
    const others = members.filter((member) => member !== memberId);
    if (indices.length === 0 || others.length === 0) return;
    const answers = new Map<number, readonly (string | null)[]>([[memberId, this.answer(indices)]]);
    await Promise.all(
      others.map(async (member) => {
        answers.set(member, await this.ask(member, indices));
      }),
    );
    const { differing, unclear } = judge(answers, configuration.voters);
    for (const member of differing) {
      if (machine().isCorrupt(member)) continue;
      logger.error(
        { peer: member.toString(16) },
        'the state of a member differs from that of most others: it serves no clients any more; replace it',
      );
      await propose({ kind: 'report', memberId: member, finding: 'state-differs' });
    }
    const isKnown = machine().alarms.some(({ alarm, memberId: of }) => {
      return alarm === AlarmType.Corrupt && of === WHOLE_CLUSTER;
    });
    if (!unclear || isKnown) return;
    logger.error('the members have different states and no majority agrees: nothing is served');
    const alarm = { memberId: WHOLE_CLUSTER, alarm: AlarmType.Corrupt };
    await propose({ kind: 'alarm', action: 'activate', ...alarm });
  }

  private ask(member: number, indices: readonly number[]): Promise<readonly (string | null)[]> {
    const { clock, network } = this.options;
    return new Promise((resolve) => {
      const timer = clock.after(ANSWER_MS, () => resolve([]));
      network.request(member, 'state-hashes', indices, [], (value) => {
        timer.cancel();
        resolve(Array.isArray(value) ? (value as (string | null)[]) : []);
      });
    });
  }

  private onFailed(error: unknown): void {
    this.options.logger.debug({ err: error }, 'the states were not compared; tried again later');
  }
}

export function judge(answers: Answers, voters: readonly number[]): Verdict {
  const differing = new Set<number>();
  let unclear = false;
  const places = Math.max(0, ...[...answers.values()].map((hashes) => hashes.length));
  for (let place = 0; place < places; place += 1) {
    const known = [...answers].flatMap(([member, hashes]) => {
      const hash = hashes[place];
      return typeof hash === 'string' ? [{ member, hash }] : [];
    });
    const ofVoters = known.filter(({ member }) => voters.includes(member));
    const right = ofVoters.find(({ hash }) => {
      const same = ofVoters.filter((other) => other.hash === hash).length;
      return same >= majorityOf(voters.length);
    });
    if (right === undefined) unclear ||= ofVoters.length === voters.length;
    else for (const { member, hash } of known) if (hash !== right.hash) differing.add(member);
  }
  return { differing: [...differing].sort((a, b) => a - b), unclear };
}

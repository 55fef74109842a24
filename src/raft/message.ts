/**
 * What members send each other. Raft here is messages, not calls: each may be lost, delayed,
 * duplicated or reordered, and every handler must live with that.
 *
 * All messages have the same fields in the same order (one hidden class in V8); the table says which
 * fields a kind uses. Only the factories below build them.
 *
 * | kind              | fields used                                                | leaves      |
 * | ----------------- | ---------------------------------------------------------- | ----------- |
 * | PreVote           | term = own + 1, index/logTerm = last entry                  | now         |
 * | PreVoteResponse   | term = requested term if granted, own term if rejected;     | durable     |
 * |                   | commit with its logTerm                                     |             |
 * | Vote              | term, index/logTerm = last entry, force with hintIndex =    | durable     |
 * |                   | the old leader                                              |             |
 * | VoteResponse      | term, reject, commit with its logTerm                       | durable     |
 * | Append            | index/logTerm = previous entry, commit, entries, round      | now         |
 * | AppendResponse    | index = match, or the rejected previous index with a hint   | durable     |
 * | Heartbeat         | commit = min(match, commit), index = match, round           | now         |
 * | HeartbeatResponse | round, index = last durable index, hintIndex = the match of | now         |
 * |                   | the heartbeat (a late answer is then no false alarm)        |             |
 * | Commit            | index/logTerm = an entry sent before, commit; no answer     | now         |
 * | TimeoutNow        | index/logTerm = leader's last, round = transfer id          | now         |
 * | TransferReject    | round = transfer id                                         | now         |
 * | ReadIndex         | round = requester's id; term 0                              | now         |
 * | ReadIndexResponse | round, index, reject                                        | now         |
 * | Snapshot          | snapshot: the receiver has the data of it on its disk       | local only  |
 *
 * "durable" means: only after everything that this member had accepted when the message was made is
 * on its disk (thesis 10.2.1 lets the leader's own appends leave before). The gate is decided in one
 * place, Raft.send.
 */
import type { Configuration } from './configuration.js';
import type { Entry, LogIndex, NodeId, Term } from './entry.js';

export const MessageKind = {
  PreVote: 1,
  PreVoteResponse: 2,
  Vote: 3,
  VoteResponse: 4,
  Append: 5,
  AppendResponse: 6,
  Heartbeat: 7,
  HeartbeatResponse: 8,
  TimeoutNow: 9,
  TransferReject: 10,
  ReadIndex: 11,
  ReadIndexResponse: 12,
  Snapshot: 13,
  Commit: 14,
} as const;
export type MessageKind = (typeof MessageKind)[keyof typeof MessageKind];

/** Identifies a state: everything up to `index` is applied in it. */
export interface SnapshotMeta {
  readonly index: LogIndex;
  readonly term: Term;
  readonly configuration: Configuration;
  /** Names the folder of the state on the disk of the member that holds it. Unique per member. */
  readonly generation: number;
}

export interface Message {
  readonly kind: MessageKind;
  readonly from: NodeId;
  readonly to: NodeId;
  readonly term: Term;
  /** Incarnation of the sender: counts its starts. */
  readonly fromBoot: number;
  /** Incarnation of the receiver that a response answers, 0 in requests. A response to an earlier
   *  life is dropped: its promise was made to a log that may be gone. */
  readonly toBoot: number;
  readonly index: LogIndex;
  readonly logTerm: Term;
  readonly commit: LogIndex;
  readonly hintIndex: LogIndex;
  readonly hintTerm: Term;
  readonly round: number;
  readonly reject: boolean;
  /** Vote: sent because the old leader asked for it; overrides leader stickiness (thesis 4.2.3). */
  readonly force: boolean;
  readonly entries: readonly Entry[];
  readonly snapshot: SnapshotMeta | null;
}

const NO_ENTRIES: readonly Entry[] = [];

export type MessageFields = Partial<Omit<Message, 'kind' | 'from' | 'to' | 'term'>>;

/** The only place that builds a message: all fields, always in this order. */
export function makeMessage(
  kind: MessageKind,
  from: NodeId,
  to: NodeId,
  term: Term,
  fields: MessageFields,
): Message {
  return {
    kind,
    from,
    to,
    term,
    fromBoot: fields.fromBoot ?? 0,
    toBoot: fields.toBoot ?? 0,
    index: fields.index ?? 0,
    logTerm: fields.logTerm ?? 0,
    commit: fields.commit ?? 0,
    hintIndex: fields.hintIndex ?? 0,
    hintTerm: fields.hintTerm ?? 0,
    round: fields.round ?? 0,
    reject: fields.reject ?? false,
    force: fields.force ?? false,
    entries: fields.entries ?? NO_ENTRIES,
    snapshot: fields.snapshot ?? null,
  };
}

/** Kinds that answer a request: `toBoot` must name the life that asked. */
export function isResponse(kind: MessageKind): boolean {
  switch (kind) {
    case MessageKind.PreVoteResponse:
    case MessageKind.VoteResponse:
    case MessageKind.AppendResponse:
    case MessageKind.HeartbeatResponse:
    case MessageKind.TransferReject:
    case MessageKind.ReadIndexResponse:
      return true;
    default:
      return false;
  }
}

/** Kinds that may leave only when all that they rest on is durable; see the table above. */
export function needsDurability(kind: MessageKind): boolean {
  switch (kind) {
    case MessageKind.PreVoteResponse:
    case MessageKind.Vote:
    case MessageKind.VoteResponse:
    case MessageKind.AppendResponse:
      return true;
    default:
      return false;
  }
}

/** The gateway check for messages from a peer: what is wrong with it, or null. */
export function messageProblem(message: Message): string | null {
  const { kind, term, index, logTerm, commit, hintIndex, hintTerm, round } = message;
  if (!(kind >= MessageKind.PreVote && kind <= MessageKind.Commit)) return 'unknown kind';
  if (!isCount(term) || !isCount(index) || !isCount(logTerm) || !isCount(commit)) {
    return 'a number is out of range';
  }
  if (!isCount(hintIndex) || !isCount(hintTerm) || !isCount(round)) {
    return 'a number is out of range';
  }
  if (term === 0 && kind !== MessageKind.ReadIndex) return 'no term';
  if (kind === MessageKind.Snapshot) return message.snapshot === null ? 'no snapshot' : null;
  if (kind !== MessageKind.Append) return null;
  let previousTerm = logTerm;
  let previousIndex = index;
  for (const entry of message.entries) {
    if (entry.index !== previousIndex + 1) return 'entries are not consecutive';
    if (entry.term < previousTerm || entry.term > term) return 'terms of entries are out of order';
    previousIndex = entry.index;
    previousTerm = entry.term;
  }
  return null;
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

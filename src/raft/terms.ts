/**
 * What a message of another term does, before any role looks at it (paper 5.1).
 *
 * Called by Raft.step. A higher term is adopted, with two exceptions that keep a member which was cut
 * off from disturbing the others: a pre-vote asks about a term that does not exist yet, and a vote
 * request is not even looked at while the own leader is heard (thesis 4.2.3, 9.6).
 *
 * A lower term is answered where silence would block somebody for ever:
 *
 *   append, heartbeat   the sender leads an old term, and this member ignores its own leader's rivals
 *                       but cannot join the old term: the answer makes the sender step down once
 *   pre-vote, vote      the sender cannot win, and learns here in which term it could
 */
import { NO_NODE } from './entry.js';
import { type Message, MessageKind } from './message.js';
import type { Raft } from './raft.js';

/** Returns true when the message is done with; else the role goes on with it. */
export function foreignTerm(raft: Raft, message: Message): boolean {
  return message.term > raft.term ? higherTerm(raft, message) : lowerTerm(raft, message);
}

function higherTerm(raft: Raft, message: Message): boolean {
  switch (message.kind) {
    case MessageKind.PreVote:
      return false;
    case MessageKind.PreVoteResponse:
      // A grant carries the term that was asked for, a rejection the term of who rejects. Adopting
      // the latter is the only way for a long log in a low term to learn in which term it can win.
      if (!message.reject) return false;
      raft.becomeFollower(message.term, NO_NODE, 'a pre-vote was rejected in a higher term');
      return true;
    case MessageKind.Vote:
      if (raft.hearsLeader() && !isHandedOver(raft, message)) {
        raft.tell({
          kind: 'vote',
          candidate: message.from,
          term: message.term,
          granted: false,
          pre: false,
          reason: 'the leader is heard',
        });
        return true;
      }
      raft.becomeFollower(message.term, NO_NODE, 'a candidate has a higher term');
      return false;
    case MessageKind.Append:
    case MessageKind.Heartbeat:
    case MessageKind.Commit:
    case MessageKind.Snapshot:
      raft.becomeFollower(message.term, message.from, 'a leader has a higher term');
      return false;
    case MessageKind.TimeoutNow:
      raft.becomeFollower(message.term, NO_NODE, 'a leader has a higher term');
      return false;
    default:
      raft.becomeFollower(message.term, NO_NODE, 'a peer has a higher term');
      return true;
  }
}

/** Whether this vote request comes of a transfer that the own leader asked for: then, and only for
 *  the very next term, it overrides the protection of that leader. */
function isHandedOver(raft: Raft, message: Message): boolean {
  if (!message.force || raft.leader === NO_NODE) return false;
  return message.hintIndex === raft.leader && message.term === raft.term + 1;
}

function lowerTerm(raft: Raft, message: Message): boolean {
  switch (message.kind) {
    case MessageKind.Append:
    case MessageKind.Heartbeat:
    case MessageKind.Commit:
      // Rejects index 0, which no append can be rejected at: it means the term and nothing else.
      raft.respond(message, MessageKind.AppendResponse, { reject: true });
      break;
    case MessageKind.PreVote:
      raft.respond(message, MessageKind.PreVoteResponse, {
        reject: true,
        ...raft.log.commitPoint,
      });
      break;
    case MessageKind.Vote:
      raft.respond(message, MessageKind.VoteResponse, { reject: true, ...raft.log.commitPoint });
      break;
    case MessageKind.Snapshot: {
      const index = message.snapshot?.index ?? 0;
      raft.tell({ kind: 'snapshot-ignored', index, reason: 'its leader is deposed' });
      break;
    }
    default:
      raft.drop(message, `term ${message.term} is over, this is ${raft.term}`);
  }
  return true;
}

/**
 * One Raft core under the hands of a test: how to build it in a given state, how to take all of its
 * output with a disk that answers at once, and how to make the messages of its peers.
 */
import { expect } from 'vitest';
import { type Configuration, configurationOf } from '../../src/raft/configuration.js';
import {
  type Entry,
  EntryType,
  frameEntries,
  type LogIndex,
  type NodeId,
  type Term,
} from '../../src/raft/entry.js';
import { checkInvariants } from '../../src/raft/invariants.js';
import {
  isResponse,
  type Message,
  type MessageFields,
  MessageKind,
  makeMessage,
} from '../../src/raft/message.js';
import { Raft, type RaftOptions } from '../../src/raft/raft.js';
import { type Persist, type RaftEvent, type ReadState, Role } from '../../src/raft/ready.js';

export interface CoreOptions extends Partial<RaftOptions> {
  readonly voters?: readonly NodeId[];
  readonly configuration?: Configuration;
  readonly term?: Term;
  readonly vote?: NodeId;
  readonly commit?: LogIndex;
  /** Terms of the entries, from index 1 (or behind `before`). */
  readonly log?: readonly Term[];
  readonly before?: { readonly index: LogIndex; readonly term: Term };
  readonly applied?: LogIndex;
}

/** All output of a core since the last time. */
export interface Output {
  readonly messages: Message[];
  readonly persists: Persist[];
  readonly committed: Entry[];
  readonly reads: ReadState[];
  readonly readsFailed: number[];
  readonly wanted: NodeId[];
  readonly events: RaftEvent[];
}

export const BOOT = 7;
export const PEER_BOOT = 3;

export function entriesOf(first: LogIndex, terms: readonly Term[], bytes = 1): Entry[] {
  return terms.map((term, at) => {
    const payload = new Uint8Array(bytes).fill(at);
    return frameEntries({ term, index: first + at }, EntryType.Normal, [payload])[0]!;
  });
}

export function makeCore(options: CoreOptions = {}): Raft {
  const { voters, configuration, term, vote, commit, log, before, applied, ...rest } = options;
  const floor = before ?? { index: 0, term: 0 };
  const terms = log ?? [];
  const base = applied ?? floor.index;
  const raft = new Raft(
    { id: 1, boot: BOOT, seed: 1, electionTicks: 10, heartbeatTicks: 2, ...rest },
    {
      hardState: {
        term: term ?? terms[terms.length - 1] ?? floor.term,
        vote: vote ?? 0,
        commit: commit ?? base,
      },
      base: {
        index: base,
        term: base === floor.index ? floor.term : terms[base - floor.index - 1]!,
        configuration: configuration ?? configurationOf(voters ?? [1, 2, 3]),
        generation: 1,
      },
      before: floor,
      entries: entriesOf(floor.index + 1, terms),
    },
  );
  checkInvariants(raft);
  return raft;
}

/** Takes output until there is none; every write is durable at once, every entry applied at once. */
export function flush(raft: Raft): Output {
  const output: Output = {
    messages: [],
    persists: [],
    committed: [],
    reads: [],
    readsFailed: [],
    wanted: [],
    events: [],
  };
  for (let turn = 0; turn < 1000; turn += 1) {
    const ready = raft.takeReady();
    checkInvariants(raft);
    if (ready === null) return output;
    output.messages.push(...ready.sendNow);
    if (ready.persist !== null) {
      output.persists.push(ready.persist);
      raft.persisted(ready.persist.token);
      output.messages.push(...ready.sendAfterPersist);
    }
    output.committed.push(...ready.committed);
    const last = ready.committed[ready.committed.length - 1];
    if (last !== undefined) raft.applied(last.index);
    output.reads.push(...ready.reads);
    output.readsFailed.push(...ready.readsFailed);
    output.wanted.push(...ready.snapshotsWanted);
    output.events.push(...ready.events);
  }
  return expect.fail('the core never falls silent');
}

/** A message of a peer to member 1. */
export function from(
  peer: NodeId,
  kind: MessageKind,
  term: Term,
  fields: MessageFields = {},
  to: NodeId = 1,
): Message {
  const toBoot = isResponse(kind) ? BOOT : 0;
  return makeMessage(kind, peer, to, term, { fromBoot: PEER_BOOT, toBoot, ...fields });
}

export function step(raft: Raft, message: Message): Output {
  raft.step(message);
  checkInvariants(raft);
  return flush(raft);
}

export function tick(raft: Raft, count = 1): void {
  for (let number = 0; number < count; number += 1) {
    raft.tick();
    checkInvariants(raft);
  }
}

/** Ticks until the core asks for pre-votes. */
export function timeOut(raft: Raft): Output {
  const { term } = raft;
  for (let count = 0; count < 40; count += 1) {
    tick(raft);
    if (raft.role === Role.PreCandidate || raft.term > term) return flush(raft);
  }
  return expect.fail('the core does not stand');
}

/** Makes the core win an election with the grants of all other voters. */
export function becomeCandidate(raft: Raft): Output {
  timeOut(raft);
  const { term } = raft;
  for (const peer of raft.configuration.voters) {
    if (peer === raft.id || raft.term > term) continue;
    raft.step(from(peer, MessageKind.PreVoteResponse, term + 1));
  }
  return flush(raft);
}

export function becomeLeader(raft: Raft): Output {
  const first = becomeCandidate(raft);
  for (const peer of raft.configuration.voters) {
    if (peer !== raft.id && raft.role !== Role.Leader) {
      raft.step(from(peer, MessageKind.VoteResponse, raft.term));
    }
  }
  const second = flush(raft);
  expect(raft.role).toBe(Role.Leader);
  return { ...second, messages: [...first.messages, ...second.messages] };
}

/** The peer acknowledges everything up to `index`. */
export function acknowledge(raft: Raft, peer: NodeId, index = raft.lastIndex, round = 0): Output {
  return step(raft, from(peer, MessageKind.AppendResponse, raft.term, { index, round }));
}

/** A leader whose log is committed and acknowledged by everybody. */
export function makeLeader(options: CoreOptions = {}): Raft {
  const raft = makeCore(options);
  becomeLeader(raft);
  for (const peer of raft.configuration.voters) if (peer !== raft.id) acknowledge(raft, peer);
  expect(raft.commitIndex).toBe(raft.lastIndex);
  return raft;
}

export function payload(bytes = 1): Uint8Array {
  return new Uint8Array(bytes);
}

export function ofKind(output: Output, kind: MessageKind, to?: NodeId): Message[] {
  return output.messages.filter((message) => {
    return message.kind === kind && (to === undefined || message.to === to);
  });
}

export function termsOf(raft: Raft): Term[] {
  const terms: Term[] = [];
  for (let index = raft.firstIndex; index <= raft.lastIndex; index += 1) {
    terms.push(raft.log.termAt(index));
  }
  return terms;
}

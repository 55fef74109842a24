/**
 * Raft messages as frames: the fields as a msgpack list, the entries as their records, untouched.
 *
 * The wire is a gateway: everything is checked here (safe integers, known kind, entries that parse
 * and are consecutive), so that the core can trust what it is given.
 */
import type { Configuration } from '../../raft/configuration.js';
import { contiguousRecords, parseEntries } from '../../raft/entry.js';
import type { Message, MessageKind, SnapshotMeta } from '../../raft/message.js';
import { MessageKind as Kind, makeMessage } from '../../raft/message.js';
import type { Frame } from './frame.js';
import { encodeFrame, FrameError, FrameKind } from './frame.js';

const KINDS: ReadonlySet<number> = new Set(Object.values(Kind));
const NUMBERS = 13;

export function encodeMessage(message: Message): Uint8Array[] {
  return encodeFrame(
    [
      FrameKind.Raft,
      message.kind,
      message.from,
      message.to,
      message.term,
      message.fromBoot,
      message.toBoot,
      message.index,
      message.logTerm,
      message.commit,
      message.hintIndex,
      message.hintTerm,
      message.round,
      message.entries.length,
      message.reject,
      message.force,
    ],
    message.entries.length === 0 ? undefined : contiguousRecords(message.entries),
  );
}

/** Throws FrameError when the message is not well-formed. */
export function decodeMessage(frame: Frame): Message {
  const { head } = frame;
  for (let at = 1; at <= NUMBERS; at += 1) {
    if (!Number.isSafeInteger(head[at]) || (head[at] as number) < 0) {
      throw new FrameError(`field ${at} of a message is not a number: ${String(head[at])}`);
    }
  }
  const number = head as unknown as readonly number[];
  const kind = number[1] as MessageKind;
  if (!KINDS.has(kind) || kind === Kind.Snapshot) {
    throw new FrameError(`unknown message kind ${kind}`);
  }
  const count = number[13] as number;
  const index = number[7] as number;
  const entries = parseEntries(frame.body, count);
  if (entries === null) throw new FrameError('entries of a message are damaged');
  for (let at = 0; at < entries.length; at += 1) {
    if (entries[at]?.index !== index + 1 + at) throw new FrameError('entries are not consecutive');
  }
  return makeMessage(kind, number[2] as number, number[3] as number, number[4] as number, {
    fromBoot: number[5] as number,
    toBoot: number[6] as number,
    index,
    logTerm: number[8] as number,
    commit: number[9] as number,
    hintIndex: number[10] as number,
    hintTerm: number[11] as number,
    round: number[12] as number,
    reject: head[14] === true,
    force: head[15] === true,
    entries,
  });
}

export function encodeMeta(meta: SnapshotMeta): unknown {
  const { voters, votersOutgoing, learners, learnersNext, autoLeave } = meta.configuration;
  return [meta.index, meta.term, voters, votersOutgoing, learners, learnersNext, autoLeave];
}

/** The generation is the receiver's to choose. */
export function decodeMeta(value: unknown, generation: number): SnapshotMeta {
  if (!Array.isArray(value) || value.length !== 7)
    throw new FrameError('snapshot mark is malformed');
  const ids = (list: unknown): number[] => {
    if (!Array.isArray(list) || !list.every((id) => Number.isSafeInteger(id) && id > 0)) {
      throw new FrameError('configuration in a snapshot mark is malformed');
    }
    return list as number[];
  };
  const [index, term] = value as [number, number];
  if (!Number.isSafeInteger(index) || !Number.isSafeInteger(term) || index < 0 || term < 0) {
    throw new FrameError('index or term of a snapshot mark is malformed');
  }
  const configuration: Configuration = {
    voters: ids(value[2]),
    votersOutgoing: ids(value[3]),
    learners: ids(value[4]),
    learnersNext: ids(value[5]),
    autoLeave: value[6] === true,
  };
  return { index, term, configuration, generation };
}

/**
 * Everything that can stand in the log, as one union, and its bytes.
 *
 * A command travels with the address of whoever waits for its result: the member that took the
 * request (`origin`) and a number that this member never uses twice (`requestId`). Every member
 * applies the command; only the origin builds the answer. Commands hold no clock and no randomness:
 * ids and times were chosen by the proposer.
 *
 *   bytes = kind u8 | origin varint | requestId varint | body by kind
 *
 * and, with the actor when there is one (auth/actor.ts), as the body of a kind of its own:
 *
 *   body  = actor | kind u8 | body by kind
 *
 * Kinds below 128 belong to this format; a later one can begin with another byte. The encoder is
 * called once per proposal and the decoder once per entry and member, so a put, the common case, is
 * written into one buffer of the right size and read without a copy of the value.
 */
import { assertNever } from '../assert.js';
import type { Actor } from '../auth/actor.js';
import { type AuthCommand, readAuthCommand, writeAuthCommand } from '../auth/auth-command.js';
import { ByteReader, ByteWriter, MalformedBytesError } from '../bytes.js';
import type { Int64 } from '../int64.js';
import type { DeleteRangeRequest, PutRequest, TxnRequest } from './request.js';
import {
  OpKind,
  readDeleteRange,
  readPut,
  readTxn,
  roomOfTxn,
  writeDeleteRange,
  writePut,
  writeTxn,
} from './request-codec.js';

export interface MemberAttributes {
  readonly id: number;
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  readonly isLearner: boolean;
  /** The data folder that this id belongs to, 0 until the member has told it: who comes back with
   *  another one has lost what it had promised. */
  readonly folderId: number;
}

/** One step of a change of the membership. A member that is added is unnamed until it publishes. */
export type MemberStep =
  | {
      readonly kind: 'add';
      readonly id: number;
      readonly peerUrls: readonly string[];
      readonly isLearner: boolean;
    }
  | { readonly kind: 'promote'; readonly id: number }
  | { readonly kind: 'remove'; readonly id: number }
  | { readonly kind: 'update'; readonly id: number; readonly peerUrls: readonly string[] };

/** Most steps in one change. */
export const MAX_MEMBER_STEPS = 32;

export const AlarmType = { None: 0, NoSpace: 1, Corrupt: 2 } as const;
export type AlarmType = (typeof AlarmType)[keyof typeof AlarmType];

export type Command =
  | PutRequest
  | DeleteRangeRequest
  | TxnRequest
  | { readonly kind: 'compact'; readonly revision: number }
  /** `id` was chosen by the client or by the proposing member, never 0; `ttl` in seconds, already
   *  raised to the minimum. */
  | { readonly kind: 'leaseGrant'; readonly id: Int64; readonly ttl: number }
  | { readonly kind: 'leaseRevoke'; readonly id: Int64 }
  /** Expiry, proposed by the leader of `term`. Ignored when the entry got another term: a deposed
   *  leader must not revoke what its successor has renewed. */
  | { readonly kind: 'leaseExpire'; readonly ids: readonly Int64[]; readonly term: number }
  /** Remaining seconds of long leases, so that a new leader does not start them anew. */
  | {
      readonly kind: 'leaseCheckpoint';
      readonly remaining: readonly { readonly id: Int64; readonly seconds: number }[];
      readonly term: number;
    }
  /** A member that started tells its name, client addresses and data folder. */
  | {
      readonly kind: 'memberPublish';
      readonly id: number;
      readonly name: string;
      readonly clientUrls: readonly string[];
      readonly folderId: number;
    }
  /** Stands in an entry of the configuration type. All steps or none; `joint`: through a joint phase,
   *  so that several votes may come and go. */
  | {
      readonly kind: 'memberChange';
      readonly steps: readonly MemberStep[];
      readonly joint: boolean;
    }
  | {
      readonly kind: 'alarm';
      readonly action: 'activate' | 'deactivate';
      readonly memberId: number;
      readonly alarm: AlarmType;
    }
  /** The quota of the cluster from here on, as the flags of the leader have it; 0 = none. */
  | { readonly kind: 'setQuota'; readonly bytes: number }
  /** What was found out about a member: by itself about its disk, by the leader about its state. Raises
   *  or ends the alarm that goes with it. */
  | { readonly kind: 'report'; readonly memberId: number; readonly finding: Finding }
  | { readonly kind: 'auth'; readonly change: AuthCommand };

/** In the order of their numbers in the log. */
export const FINDINGS = ['disk-full', 'disk-free', 'state-differs'] as const;
export type Finding = (typeof FINDINGS)[number];

export interface Envelope {
  readonly origin: number;
  readonly requestId: number;
  /** Who wants it; its right is judged where the entry is applied. */
  readonly actor: Actor;
  readonly command: Command;
}

const Kind = {
  Put: OpKind.Put,
  DeleteRange: OpKind.DeleteRange,
  Txn: OpKind.Txn,
  Compact: 16,
  LeaseGrant: 17,
  LeaseRevoke: 18,
  LeaseExpire: 19,
  LeaseCheckpoint: 20,
  /** Of logs of the time before folders had ids; only read. */
  OldMemberPublish: 21,
  Alarm: 22,
  MemberChange: 23,
  MemberPublish: 24,
  Auth: 32,
  /** A command with its actor in front. */
  Acting: 33,
  SetQuota: 40,
  Report: 41,
} as const;

const ActorKind = { User: 1, Member: 2 } as const;

const STEP_KINDS = ['add', 'promote', 'remove', 'update'] as const;

/** Room for kind, origin, request id, flags, lease and two lengths. */
const HEAD_BYTES = 48;

export function encodeEnvelope(envelope: Envelope): Uint8Array {
  const { command, actor } = envelope;
  const writer = new ByteWriter(HEAD_BYTES + roomOf(command));
  const kind = kindOf(command);
  writer.u8(actor === null ? kind : Kind.Acting);
  writer.varint(envelope.origin).varint(envelope.requestId);
  if (actor !== null) {
    writeActor(writer, actor);
    writer.u8(kind);
  }
  writeCommand(writer, command);
  return writer.take();
}

/** For most of the bytes of a command, so that its writer seldom has to grow. */
function roomOf(command: Command): number {
  if (command.kind === 'put') return command.key.length + command.value.length;
  return command.kind === 'txn' ? roomOfTxn(command) : 192;
}

/** Null for an unknown kind and for malformed bytes: every member applies both as the same refusal. */
export function decodeEnvelope(bytes: Uint8Array): Envelope | null {
  try {
    const reader = new ByteReader(bytes);
    const kind = reader.u8();
    const origin = reader.varint();
    const requestId = reader.varint();
    const actor = kind === Kind.Acting ? readActor(reader) : null;
    const command = readCommand(reader, actor === null ? kind : reader.u8());
    return command === null || reader.remaining > 0 ? null : { origin, requestId, actor, command };
  } catch (error) {
    if (error instanceof MalformedBytesError) return null;
    throw error;
  }
}

function kindOf(command: Command): number {
  switch (command.kind) {
    case 'put':
      return Kind.Put;
    case 'deleteRange':
      return Kind.DeleteRange;
    case 'txn':
      return Kind.Txn;
    case 'compact':
      return Kind.Compact;
    case 'leaseGrant':
      return Kind.LeaseGrant;
    case 'leaseRevoke':
      return Kind.LeaseRevoke;
    case 'leaseExpire':
      return Kind.LeaseExpire;
    case 'leaseCheckpoint':
      return Kind.LeaseCheckpoint;
    case 'memberPublish':
      return Kind.MemberPublish;
    case 'alarm':
      return Kind.Alarm;
    case 'memberChange':
      return Kind.MemberChange;
    case 'setQuota':
      return Kind.SetQuota;
    case 'report':
      return Kind.Report;
    case 'auth':
      return Kind.Auth;
    default:
      return assertNever(command, 'command');
  }
}

function writeCommand(writer: ByteWriter, command: Command): void {
  switch (command.kind) {
    case 'put':
      writePut(writer, command);
      break;
    case 'deleteRange':
      writeDeleteRange(writer, command);
      break;
    case 'txn':
      writeTxn(writer, command);
      break;
    case 'compact':
      writer.varint(command.revision);
      break;
    case 'leaseGrant':
      writer.int64(command.id).varint(command.ttl);
      break;
    case 'leaseRevoke':
      writer.int64(command.id);
      break;
    case 'leaseExpire':
      writer.varint(command.term).varint(command.ids.length);
      for (const id of command.ids) writer.int64(id);
      break;
    case 'leaseCheckpoint':
      writer.varint(command.term).varint(command.remaining.length);
      for (const { id, seconds } of command.remaining) writer.int64(id).varint(seconds);
      break;
    case 'memberPublish':
      writer.varint(command.id).utf8(command.name).varint(command.clientUrls.length);
      for (const url of command.clientUrls) writer.utf8(url);
      writer.varint(command.folderId);
      break;
    case 'memberChange':
      writer.u8(command.joint ? 1 : 0).varint(command.steps.length);
      for (const step of command.steps) writeStep(writer, step);
      break;
    case 'alarm':
      writer
        .u8(command.action === 'activate' ? 1 : 0)
        .u8(command.alarm)
        .varint(command.memberId);
      break;
    case 'setQuota':
      writer.varint(command.bytes);
      break;
    case 'report':
      writer.varint(command.memberId).u8(FINDINGS.indexOf(command.finding));
      break;
    case 'auth':
      writeAuthCommand(writer, command.change);
      break;
    default:
      assertNever(command, 'command');
  }
}

function readCommand(reader: ByteReader, kind: number): Command | null {
  switch (kind) {
    case Kind.Put:
      return readPut(reader);
    case Kind.DeleteRange:
      return readDeleteRange(reader);
    case Kind.Txn:
      return readTxn(reader);
    case Kind.Compact:
      return { kind: 'compact', revision: reader.varint() };
    case Kind.LeaseGrant:
      return { kind: 'leaseGrant', id: reader.int64(), ttl: reader.varint() };
    case Kind.LeaseRevoke:
      return { kind: 'leaseRevoke', id: reader.int64() };
    case Kind.LeaseExpire: {
      const term = reader.varint();
      return { kind: 'leaseExpire', ids: readList(reader, () => reader.int64()), term };
    }
    case Kind.LeaseCheckpoint: {
      const term = reader.varint();
      const read = () => ({ id: reader.int64(), seconds: reader.varint() });
      return { kind: 'leaseCheckpoint', remaining: readList(reader, read), term };
    }
    case Kind.OldMemberPublish:
    case Kind.MemberPublish: {
      const id = reader.varint();
      const name = reader.utf8();
      const clientUrls = readList(reader, () => reader.utf8());
      const folderId = kind === Kind.MemberPublish ? reader.varint() : 0;
      return { kind: 'memberPublish', id, name, clientUrls, folderId };
    }
    case Kind.MemberChange: {
      const joint = reader.u8() === 1;
      const steps = readList(reader, () => readStep(reader));
      if (steps.length > MAX_MEMBER_STEPS) throw new MalformedBytesError('too many steps');
      return { kind: 'memberChange', steps, joint };
    }
    case Kind.Alarm:
      return readAlarm(reader);
    case Kind.SetQuota:
      return { kind: 'setQuota', bytes: reader.varint() };
    case Kind.Report: {
      const memberId = reader.varint();
      const finding = FINDINGS[reader.u8()];
      if (finding === undefined) throw new MalformedBytesError('unknown finding');
      return { kind: 'report', memberId, finding };
    }
    case Kind.Auth:
      return { kind: 'auth', change: readAuthCommand(reader) };
    default:
      return null;
  }
}

function writeActor(writer: ByteWriter, actor: NonNullable<Actor>): void {
  if (actor === 'member') writer.u8(ActorKind.Member);
  else writer.u8(ActorKind.User).utf8(actor.user).varint(actor.authRevision);
}

function readActor(reader: ByteReader): NonNullable<Actor> {
  const kind = reader.u8();
  if (kind === ActorKind.Member) return 'member';
  if (kind !== ActorKind.User) throw new MalformedBytesError(`unknown actor ${kind}`);
  return { user: reader.utf8(), authRevision: reader.varint() };
}

function writeStep(writer: ByteWriter, step: MemberStep): void {
  writer.u8(STEP_KINDS.indexOf(step.kind)).varint(step.id);
  if (step.kind === 'add') writer.u8(step.isLearner ? 1 : 0);
  if (step.kind !== 'add' && step.kind !== 'update') return;
  writer.varint(step.peerUrls.length);
  for (const url of step.peerUrls) writer.utf8(url);
}

function readStep(reader: ByteReader): MemberStep {
  const kind = STEP_KINDS[reader.u8()];
  const id = reader.varint();
  switch (kind) {
    case 'add': {
      const isLearner = reader.u8() === 1;
      return { kind, id, isLearner, peerUrls: readList(reader, () => reader.utf8()) };
    }
    case 'update':
      return { kind, id, peerUrls: readList(reader, () => reader.utf8()) };
    case 'promote':
    case 'remove':
      return { kind, id };
    default:
      throw new MalformedBytesError('unknown step of a change of members');
  }
}

function readAlarm(reader: ByteReader): Command {
  const action = reader.u8() === 1 ? 'activate' : 'deactivate';
  const alarm = reader.u8();
  if (alarm > AlarmType.Corrupt) throw new MalformedBytesError(`unknown alarm ${alarm}`);
  return { kind: 'alarm', action, memberId: reader.varint(), alarm: alarm as AlarmType };
}

function readList<T>(reader: ByteReader, read: () => T): T[] {
  const count = reader.varint();
  if (count > reader.remaining) throw new MalformedBytesError(`${count} elements do not fit`);
  const list: T[] = [];
  while (list.length < count) list.push(read());
  return list;
}

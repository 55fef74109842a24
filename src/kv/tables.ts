/**
 * Everything of the state machine that is not a record, as bytes: written with every batch of records
 * and at the head of a snapshot, so that a member restarts from exactly one index.
 *
 * state-machine.ts makes and reads them. Lists are sorted, so two members at the same index have the
 * same bytes. `liveCount` and `retainedCount` are not needed to rebuild anything; they prove at the end
 * of a restore that the records next to the tables belong to them.
 *
 *   format u8 | applied index, term | revision, compact revision | hash | counts |
 *   configuration | members | removed | genesis | alarms | leases | users and roles |
 *   quota | causes of the alarms | crc u32
 */
import { type AuthTables, NO_AUTH, readAuthTables, writeAuthTables } from '../auth/auth-tables.js';
import { ByteReader, ByteWriter, MalformedBytesError } from '../bytes.js';
import { crc32c } from '../crc32c.js';
import { FatalError } from '../errors.js';
import type { LeaseState } from '../lease/lessor.js';
import type { Configuration } from '../raft/configuration.js';
import type { Alarm } from './alarms.js';
import { AlarmCause } from './alarms.js';
import type { AlarmType, MemberAttributes } from './command.js';
import { NO_QUOTA } from './space.js';

const FORMAT = 4;
/** Without a quota and the causes of alarms: only clients raised them. */
const THIRD_FORMAT = 3;
/** Without users and roles. */
const SECOND_FORMAT = 2;
/** Without folders, removed and genesis: members could not change then. */
const FIRST_FORMAT = 1;

export interface Tables {
  readonly appliedIndex: number;
  readonly appliedTerm: number;
  readonly revision: number;
  readonly compactRevision: number;
  readonly hashLanes: readonly [high: number, low: number];
  readonly liveCount: number;
  readonly retainedCount: number;
  readonly configuration: Configuration;
  readonly members: readonly MemberAttributes[];
  /** Ids of members that left, ascending. */
  readonly removed: readonly number[];
  /** The members of index 0, from which a log without a snapshot is replayed. */
  readonly genesis: readonly MemberAttributes[];
  /** 0 = none. */
  readonly quotaBytes: number;
  readonly alarms: readonly Alarm[];
  readonly leases: readonly LeaseState[];
  readonly auth: AuthTables;
}

export function encodeTables(tables: Tables): Uint8Array {
  const writer = new ByteWriter(512 + tables.leases.length * 16);
  writer.u8(FORMAT).varint(tables.appliedIndex).varint(tables.appliedTerm);
  writer.varint(tables.revision).varint(tables.compactRevision);
  writer.u32(tables.hashLanes[0]).u32(tables.hashLanes[1]);
  writer.varint(tables.liveCount).varint(tables.retainedCount);
  const { configuration } = tables;
  writeIds(writer, configuration.voters);
  writeIds(writer, configuration.votersOutgoing);
  writeIds(writer, configuration.learners);
  writeIds(writer, configuration.learnersNext);
  writer.u8(configuration.autoLeave ? 1 : 0);
  writeMembers(writer, tables.members);
  writeIds(writer, tables.removed);
  writeMembers(writer, tables.genesis);
  writer.varint(tables.alarms.length);
  for (const { memberId, alarm } of tables.alarms) writer.varint(memberId).u8(alarm);
  writer.varint(tables.leases.length);
  for (const { id, ttl, remaining } of tables.leases) {
    writer.int64(id).varint(ttl).varint(remaining);
  }
  writeAuthTables(writer, tables.auth);
  writer.varint(tables.quotaBytes);
  for (const { causes } of tables.alarms) writer.u8(causes);
  const body = writer.finish();
  const sealed = new ByteWriter(body.length + 4);
  return sealed.raw(body).u32(crc32c(body)).finish();
}

/** Throws FatalError when the bytes are not whole tables of this format. */
export function decodeTables(bytes: Uint8Array): Tables {
  const end = bytes.length - 4;
  if (end < 1 || new ByteReader(bytes, end).u32() !== crc32c(bytes, 0, end)) {
    throw new FatalError('the tables of the state machine are damaged');
  }
  const reader = new ByteReader(bytes, 0, end);
  const format = reader.u8();
  if (format < FIRST_FORMAT || format > FORMAT) {
    throw new FatalError(`the tables have format ${format}, this version reads ${FORMAT}`);
  }
  try {
    return readTables(reader, format);
  } catch (error) {
    if (!(error instanceof MalformedBytesError)) throw error;
    throw new FatalError('the tables of the state machine are malformed', error);
  }
}

function readTables(reader: ByteReader, format: number): Tables {
  const head = readHead(reader);
  const isFirst = format === FIRST_FORMAT;
  const members = readList(reader, () => readMember(reader, !isFirst));
  const removed = isFirst ? [] : readList(reader, readId);
  const genesis = isFirst
    ? members.map((member) => ({ ...member, name: '', clientUrls: [] }))
    : readList(reader, () => readMember(reader, true));
  const alarms = readList(reader, () => ({
    memberId: reader.varint(),
    alarm: reader.u8() as AlarmType,
  }));
  const leases = readList(reader, () => ({
    id: reader.int64(),
    ttl: reader.varint(),
    remaining: reader.varint(),
  }));
  const auth = format <= SECOND_FORMAT ? NO_AUTH : readAuthTables(reader);
  const hasSpace = format > THIRD_FORMAT;
  return {
    ...{ ...head, members, removed, genesis, leases, auth },
    quotaBytes: hasSpace ? reader.varint() : NO_QUOTA,
    alarms: alarms.map((alarm) => ({
      ...alarm,
      causes: hasSpace ? reader.u8() : AlarmCause.Client,
    })),
  };
}

function readHead(
  reader: ByteReader,
): Omit<Tables, 'members' | 'removed' | 'genesis' | 'quotaBytes' | 'alarms' | 'leases' | 'auth'> {
  return {
    appliedIndex: reader.varint(),
    appliedTerm: reader.varint(),
    revision: reader.varint(),
    compactRevision: reader.varint(),
    hashLanes: [reader.u32(), reader.u32()],
    liveCount: reader.varint(),
    retainedCount: reader.varint(),
    configuration: {
      voters: readList(reader, readId),
      votersOutgoing: readList(reader, readId),
      learners: readList(reader, readId),
      learnersNext: readList(reader, readId),
      autoLeave: reader.u8() === 1,
    },
  };
}

function readMember(reader: ByteReader, hasFolder: boolean): MemberAttributes {
  const id = reader.varint();
  const isLearner = reader.u8() === 1;
  const name = reader.utf8();
  const peerUrls = readList(reader, readText);
  const clientUrls = readList(reader, readText);
  const folderId = hasFolder ? reader.varint() : 0;
  return { id, name, peerUrls, clientUrls, isLearner, folderId };
}

function writeMembers(writer: ByteWriter, members: readonly MemberAttributes[]): void {
  writer.varint(members.length);
  for (const member of members) {
    writer
      .varint(member.id)
      .u8(member.isLearner ? 1 : 0)
      .utf8(member.name);
    writeTexts(writer, member.peerUrls);
    writeTexts(writer, member.clientUrls);
    writer.varint(member.folderId);
  }
}

function writeIds(writer: ByteWriter, ids: readonly number[]): void {
  writer.varint(ids.length);
  for (const id of ids) writer.varint(id);
}

function writeTexts(writer: ByteWriter, texts: readonly string[]): void {
  writer.varint(texts.length);
  for (const text of texts) writer.utf8(text);
}

function readId(reader: ByteReader): number {
  return reader.varint();
}

function readText(reader: ByteReader): string {
  return reader.utf8();
}

function readList<T>(reader: ByteReader, read: (reader: ByteReader) => T): T[] {
  const count = reader.varint();
  if (count > reader.remaining) throw new MalformedBytesError(`${count} elements do not fit`);
  const list: T[] = [];
  while (list.length < count) list.push(read(reader));
  return list;
}

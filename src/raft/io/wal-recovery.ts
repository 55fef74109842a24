/**
 * Reads the segments of a log and says what they hold: the state as of the last batch that is whole,
 * and where that batch ends. Called once, by openWal; changes nothing on the disk.
 *
 *   sealed segment    read up to the batch before the first of the next segment; all must be good
 *   last segment      read up to the first bad batch; wal-tail.ts judges what that is
 *
 * Replay: later entries replace earlier ones from their index on, the last hard state wins, the
 * newest mark wins; a snapshot mark empties the log, a checkpoint mark keeps it.
 *
 * Invariants: 1 the entries have no gap. 2 `before.index <= base.index <= last index`: state machine
 * and log touch. 3 Damage and missing files are an error with file and offset, never a shorter log.
 */
import { copyBytes } from '../../bytes.js';
import { FatalError } from '../../errors.js';
import type { Entry, EntryId, LogIndex } from '../entry.js';
import type { SnapshotMeta } from '../message.js';
import type { HardState } from '../ready.js';
import type { Disk } from './disk.js';
import type { Identity } from './log-store.js';
import type { BatchContent, BatchHeader } from './wal-record.js';
import { parseBatchBody, parseBatchHeader } from './wal-record.js';
import type { SealedHeader } from './wal-segment.js';
import {
  parseSegmentHeader,
  parseSegmentName,
  SEGMENT_HEADER_BYTES,
  SPARE_NAME,
} from './wal-segment.js';
import { classifyTail } from './wal-tail.js';

const ADVICE =
  'the log of this member cannot be trusted: remove the member from the cluster and add it again ' +
  'with an empty data folder, or restore a backup';

export interface FoundSegment {
  readonly path: string;
  readonly header: SealedHeader;
  /** Size of the file. */
  bytes: number;
}

export interface FoundLog {
  /** Oldest first. */
  readonly segments: readonly FoundSegment[];
  readonly identity: Identity;
  readonly before: EntryId;
  readonly entries: readonly Entry[];
  readonly hardState: HardState;
  readonly base: SnapshotMeta;
  /** Sequence of the segment with the newest snapshot mark, 0 if there is none. */
  readonly snapshotSegment: number;
  readonly boot: number;
  readonly clean: boolean;
  /** Number and check value of the last good batch. */
  readonly lastBatch: number;
  readonly chain: number;
  /** Where the last good batch ends in the last segment. */
  readonly end: number;
  /** The batches at the end of the last segment that no other batch proves to be durable. */
  readonly unproven: Uint8Array;
  readonly notes: readonly string[];
}

export interface SegmentFiles {
  readonly names: readonly string[];
  /** Left over from an interrupted creation: to be removed. */
  readonly temporary: readonly string[];
  readonly notes: readonly string[];
}

/** Sorts the names in a log folder into what they are. */
export function sortFiles(disk: Disk, directory: string): SegmentFiles {
  const names: string[] = [];
  const temporary: string[] = [];
  const notes: string[] = [];
  for (const name of disk.list(directory)) {
    if (parseSegmentName(name) !== null) {
      names.push(name);
    } else if (name.endsWith('.tmp')) {
      temporary.push(name);
      if (name !== SPARE_NAME) notes.push(`removed ${directory}/${name}, left by an earlier run`);
    } else {
      notes.push(`ignored ${directory}/${name}, which is not part of the log`);
    }
  }
  return { names, temporary, notes };
}

/** `names` is not empty and in order. `identity` null = whoever the folder belongs to. */
export function readLog(
  disk: Disk,
  directory: string,
  names: readonly string[],
  identity: Identity | null,
): FoundLog {
  checkNames(directory, names);
  const replay = new Replay();
  const segments: FoundSegment[] = [];
  let bytes = disk.readFile(`${directory}/${names[0]}`);
  let position: Position | null = null;
  for (let at = 0; at < names.length; at += 1) {
    const path = `${directory}/${names[at]}`;
    const segment = { path, header: headerOf(bytes, path, identity), bytes: bytes.length };
    const previous = segments.at(-1);
    if (previous !== undefined) checkNeighbours(previous, segment, position);
    segments.push(segment);
    replay.begin(segment);
    const next = names[at + 1];
    const nextBytes = next === undefined ? null : disk.readFile(`${directory}/${next}`);
    if (nextBytes === null) {
      position = readBatches(bytes, segment, replay, Number.POSITIVE_INFINITY);
    } else {
      const nextPath = `${directory}/${next}`;
      const stop = headerOf(nextBytes, nextPath, identity).firstBatch - 1;
      position = readBatches(bytes, segment, replay, stop);
      bytes = nextBytes;
    }
  }
  return replay.finish(segments, position as Position);
}

interface Position {
  number: number;
  chain: number;
  end: number;
  unproven: Uint8Array;
  note: string | null;
}

function headerOf(bytes: Uint8Array, path: string, identity: Identity | null): SealedHeader {
  const header = parseSegmentHeader(bytes);
  if (typeof header === 'string') throw corrupt(path, 0, header);
  const name = parseSegmentName(path.slice(path.lastIndexOf('/') + 1));
  if (name?.sequence !== header.sequence || name.firstIndex !== header.before.index + 1) {
    throw corrupt(path, 0, `the file is segment ${header.sequence} under another name`);
  }
  if (identity !== null) checkIdentity(path, header.identity, identity);
  return header;
}

function checkIdentity(path: string, found: Identity, wanted: Identity): void {
  if (found.clusterId !== wanted.clusterId) {
    throw new FatalError(
      `${path} belongs to cluster ${found.clusterId.toString(16)}, not to cluster ` +
        `${wanted.clusterId.toString(16)}; use the data folder of this cluster or an empty one`,
    );
  }
  if (found.memberId !== wanted.memberId) {
    throw new FatalError(
      `${path} belongs to member ${found.memberId.toString(16)}, not to member ` +
        `${wanted.memberId.toString(16)}; use the data folder of this member or an empty one`,
    );
  }
}

function checkNeighbours(
  previous: FoundSegment,
  segment: FoundSegment,
  position: Position | null,
): void {
  checkIdentity(segment.path, segment.header.identity, previous.header.identity);
  if (position?.chain !== segment.header.chain) {
    throw corrupt(segment.path, 0, `the segment does not continue ${previous.path}`);
  }
}

/** Segments are numbered without a gap. */
function checkNames(directory: string, names: readonly string[]): void {
  let previous: { name: string; sequence: number } | null = null;
  for (const name of names) {
    const sequence = parseSegmentName(name)?.sequence ?? 0;
    if (previous !== null && sequence === previous.sequence) {
      throw new FatalError(
        `${directory}/${previous.name} and ${directory}/${name} are both segment ${sequence}; ` +
          `remove the one that does not belong there, or else: ${ADVICE}`,
      );
    }
    if (previous !== null && sequence !== previous.sequence + 1) {
      throw new FatalError(
        `log segment ${previous.sequence + 1} is missing between ${directory}/${previous.name} ` +
          `and ${name}; ${ADVICE}`,
      );
    }
    previous = { name, sequence };
  }
}

/** Replays batches up to number `stop`, which must be there, or up to the end of the log. */
function readBatches(
  file: Uint8Array,
  segment: FoundSegment,
  replay: Replay,
  stop: number,
): Position {
  const { header, path } = segment;
  const bytes = usedPart(file, header.seed);
  const ends: { number: number; end: number }[] = [];
  let durable = header.firstBatch;
  let number = header.firstBatch - 1;
  let chain = header.chain;
  let at = SEGMENT_HEADER_BYTES;
  let note: string | null = null;
  while (number < stop) {
    const batch = parseBatchHeader(bytes, at, header.seed);
    const content = batch === null ? 'no batch begins here' : parseBatchBody(bytes, at, batch);
    if (typeof content === 'string') {
      if (stop !== Number.POSITIVE_INFINITY) throw corrupt(path, at, content);
      const tail = classifyTail(file, at, header, number + 1);
      if (tail.kind === 'corrupt') throw corrupt(path, at, `${content}; ${tail.reason}`);
      if (tail.kind === 'torn') note = `cut a torn tail of ${tail.bytes} bytes at ${path}:${at}`;
      break;
    }
    const found = batch as BatchHeader;
    if (found.number !== number + 1 || found.previous !== chain) {
      throw corrupt(path, at, `batch ${found.number} does not follow batch ${number}`);
    }
    const problem = replay.apply(content, header.sequence);
    if (problem !== null) throw corrupt(path, at, problem);
    number = found.number;
    chain = found.chain;
    at += found.length;
    durable = Math.max(durable, found.durable);
    ends.push({ number, end: at });
  }
  const proven = ends.findLast((batch) => batch.number <= durable);
  const unproven = bytes.subarray(proven?.end ?? SEGMENT_HEADER_BYTES, at);
  return { number, chain, end: at, unproven, note };
}

/**
 * The bytes up to the last batch header that can be reached. Entries are views of what this returns
 * and live long: without the copy a nearly empty segment of 64 MiB would stay in memory.
 */
function usedPart(file: Uint8Array, seed: number): Uint8Array {
  let end = SEGMENT_HEADER_BYTES;
  for (;;) {
    const batch = parseBatchHeader(file, end, seed);
    if (batch === null || end + batch.length > file.length || batch.length <= 0) break;
    end += batch.length;
  }
  return end > file.length / 2 ? file : copyBytes(file.subarray(0, end));
}

function corrupt(path: string, at: number, reason: string): FatalError {
  return new FatalError(`${path} is corrupt at offset ${at}: ${reason}; ${ADVICE}`);
}

/** The state of the log, batch by batch. */
class Replay {
  private identity: Identity | null = null;
  /** Null after the log was cut below the first entry that is still on disk. */
  private before: EntryId | null = null;
  private entries: Entry[] = [];
  private hardState: HardState = { term: 0, vote: 0, commit: 0 };
  private base: SnapshotMeta | null = null;
  private snapshotSegment = 0;
  private boot = 0;
  private clean = false;

  begin(segment: FoundSegment): void {
    const { before, identity, sequence, firstBatch } = segment.header;
    this.identity = identity;
    if (this.entries.length > 0 || this.base !== null) {
      const last = this.last();
      if (last !== null && (last.index !== before.index || last.term !== before.term)) {
        const text = `segment ${sequence} (batch ${firstBatch}) begins behind entry ${before.index}`;
        throw corrupt(segment.path, 0, `${text}, but the one before ends at ${last.index}`);
      }
    }
    if (this.entries.length === 0) this.before = before;
  }

  /** What is wrong with the batch, or null. */
  apply(batch: BatchContent, sequence: number): string | null {
    this.clean = batch.clean;
    if (batch.boot !== 0) this.boot = batch.boot;
    if (batch.hardState !== null) {
      if (batch.hardState.term < this.hardState.term) {
        return `term ${batch.hardState.term} follows term ${this.hardState.term}`;
      }
      this.hardState = batch.hardState;
    }
    if (batch.snapshot !== null) {
      this.base = batch.snapshot;
      this.before = { index: batch.snapshot.index, term: batch.snapshot.term };
      this.entries = [];
      this.snapshotSegment = sequence;
    }
    if (batch.truncateFrom !== 0) this.cutFrom(batch.truncateFrom);
    const gap = this.add(batch.entries);
    if (gap !== null) return gap;
    if (batch.checkpoint !== null && batch.checkpoint.index >= (this.base?.index ?? 0)) {
      this.base = batch.checkpoint;
    }
    return null;
  }

  finish(segments: readonly FoundSegment[], position: Position): FoundLog {
    const first = segments[0] as FoundSegment;
    const { base, identity } = this;
    if (base === null || identity === null || this.boot === 0) {
      throw corrupt(
        first.path,
        SEGMENT_HEADER_BYTES,
        'the first batch names no state to start from',
      );
    }
    const { before } = this;
    if (before === null) {
      throw new FatalError(`the log in ${first.path} ends before its checkpoint; ${ADVICE}`);
    }
    if (before.index > base.index) {
      throw new FatalError(
        `the log begins with ${first.path} behind entry ${before.index}, but the newest checkpoint ` +
          `is at ${base.index}: an older segment is missing; ${ADVICE}`,
      );
    }
    const last = this.entries.at(-1) ?? before;
    if (last.index < base.index) {
      throw new FatalError(
        `the log ends at entry ${last.index}, before its checkpoint at ${base.index}; ${ADVICE}`,
      );
    }
    return {
      segments,
      identity,
      before,
      entries: this.entries,
      hardState: this.hardState,
      base,
      snapshotSegment: this.snapshotSegment,
      boot: this.boot,
      clean: this.clean,
      lastBatch: position.number,
      chain: position.chain,
      end: position.end,
      unproven: position.unproven,
      notes: position.note === null ? [] : [position.note],
    };
  }

  private last(): EntryId | null {
    return this.entries.at(-1) ?? this.before;
  }

  private cutFrom(index: LogIndex): void {
    const first = this.entries[0]?.index;
    if (first !== undefined && index > first) {
      this.entries.length = Math.min(this.entries.length, index - first);
      return;
    }
    this.entries = [];
    // The oldest segments are gone and the log was cut into what they held: the entry in front of
    // `index` is on this disk no more. The next entry takes its place, so nothing is lost but the
    // chance to send that one entry, which a checkpoint covers.
    if (this.before !== null && index <= this.before.index) this.before = null;
  }

  private add(entries: readonly Entry[]): string | null {
    for (const entry of entries) {
      const last = this.last();
      if (last === null) {
        this.before = { index: entry.index, term: entry.term };
        continue;
      }
      if (entry.index > last.index + 1) return `entry ${entry.index} follows entry ${last.index}`;
      if (entry.index <= last.index) {
        this.cutFrom(entry.index);
        if (this.before === null) {
          this.before = { index: entry.index, term: entry.term };
          continue;
        }
      }
      this.entries.push(entry);
    }
    return null;
  }
}

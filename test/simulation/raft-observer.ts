/**
 * Watches all members at once and holds them against the properties of Raft, after every event, by its
 * own book-keeping: what each member said, what its disk has confirmed, and what was ever committed.
 *
 * The book survives crashes: a vote that was spoken counts in the next life too, and a member that
 * comes back must hold at least what its disk had confirmed. Names of properties:
 *
 * S1 one leader per term, for ever        S2 one vote per member and term, for ever
 * S3 a leader cuts nothing off            S4 same index and term: same bytes, same entry before
 * S5 a new leader has all committed       S6 same state at the same applied index
 * S7 what is committed never changes      S8 committed: durable at a majority of the voters
 * S9 a leader counts for its own term     S10 terms, commit and applied never go back
 * S11, S14 order within a log: log-rules.ts
 * S12 durable entries are there after a crash   S13 promises rest on what is durable
 * S15 a member counts by the configuration it has applied, and nobody leads without a vote in it
 */
import type { AuthState } from '../../src/auth/auth-state.js';
import { NO_AUTH } from '../../src/auth/auth-tables.js';
import type { StateMachine } from '../../src/kv/state-machine.js';
import type { Configuration } from '../../src/raft/configuration.js';
import { type Entry, EntryType } from '../../src/raft/entry.js';
import {
  checkInvariants,
  checkTransition,
  type Observed,
  observe,
} from '../../src/raft/invariants.js';
import type { LogBatch, LogStore, RecoveredLog } from '../../src/raft/io/log-store.js';
import { type Message, MessageKind } from '../../src/raft/message.js';
import { majorityOf } from '../../src/raft/quorum.js';
import type { Raft } from '../../src/raft/raft.js';
import { Role } from '../../src/raft/ready.js';
import { textOfTables } from './auth-model.js';
import { checkLogRules } from './log-rules.js';
import type { SimMember } from './member.js';
import { Violation, type World } from './world.js';

const TERMS = 2 ** 20;
/** The product's own checks walk the log, so they run after one in so many changes. */
const FULL_CHECK_EACH = 8;

/** What the disk of a member has confirmed. */
interface Durable {
  term: number;
  vote: number;
  before: { index: number; term: number };
  /** Terms of the entries behind `before`. */
  terms: number[];
}

interface Seen {
  term: number;
  role: Role;
  lastIndex: number;
  lastTerm: number;
  committed: number;
  persisted: number;
  applied: number;
}

interface Book {
  durable: Durable;
  /** Batches handed to the disk and not confirmed yet. */
  pending: LogBatch[];
  readonly votes: Map<number, number>;
  /** Terms of the own log that were checked. */
  verified: number[];
  seen: Seen | null;
  observed: Observed | null;
  highestTerm: number;
  /** Of this life. */
  machine: StateMachine | null;
}

export interface Committed {
  readonly entry: Entry;
  readonly at: number;
  /** In which it was committed, at or above that of the entry. */
  readonly term: number;
}

export class RaftObserver {
  /** By index; the place 0 stays empty. */
  readonly committed: (Committed | null)[] = [null];
  /** Hash chains that members showed, by applied index. */
  readonly hashes = new Map<number, string>();
  checks = 0;
  private readonly world: World;
  private readonly books = new Map<number, Book>();
  private readonly leaders = new Map<number, number>();
  private readonly entries = new Map<number, number>();
  private readonly touched = new Set<SimMember>();

  constructor(world: World) {
    this.world = world;
  }

  get committedIndex(): number {
    return this.committed.length - 1;
  }

  touch(member: SimMember): void {
    this.touched.add(member);
  }

  /** After each event. */
  check(): void {
    for (const member of this.touched) {
      if (member.life?.alive === true && member.raft !== null)
        this.checkMember(member, member.raft);
    }
    this.touched.clear();
  }

  onOpened(member: SimMember, recovered: RecoveredLog, log: LogStore): void {
    const book = this.books.get(member.id);
    const durable = durableOf(recovered);
    if (book !== undefined) this.checkRecovered(member, book, durable);
    this.books.set(member.id, {
      durable,
      pending: [],
      votes: book?.votes ?? new Map(),
      verified: [],
      seen: null,
      observed: null,
      highestTerm: book?.highestTerm ?? 0,
      machine: member.node?.machine ?? null,
    });
    const opened = this.bookOf(member);
    if (opened.machine?.auth.enabled === true) this.world.mark('rights taken from a checkpoint');
    const append = log.append.bind(log);
    log.append = (batch, done) => {
      if (member.life?.alive === true) opened.pending.push(batch);
      append(batch, (error) => {
        if (error === null && member.life?.alive === true) {
          opened.pending.shift();
          applyBatch(opened.durable, batch);
        }
        done(error);
      });
    };
  }

  /** A message leaves: what it promises must be on the disk. */
  onSend(member: SimMember, message: Message): void {
    const { kind, term, to, index, reject } = message;
    const { durable, votes } = this.bookOf(member);
    const name = `m${member.number}`;
    if (kind === MessageKind.Vote || (kind === MessageKind.VoteResponse && !reject)) {
      const candidate = kind === MessageKind.Vote ? member.id : to;
      const earlier = votes.get(term);
      if (earlier !== undefined && earlier !== candidate) {
        throw new Violation('S2', `${name} voted for ${earlier} and ${candidate} in term ${term}`);
      }
      votes.set(term, candidate);
      // A later term on the disk keeps the vote as well: it never votes in an earlier one again.
      if (durable.term < term || (durable.term === term && durable.vote !== candidate)) {
        throw new Violation(
          'S13',
          `${name} speaks of its vote for ${candidate} in term ${term}, its disk holds ${durable.vote} in ${durable.term}`,
        );
      }
    }
    if (kind === MessageKind.AppendResponse && !reject) {
      const last = lastOf(durable);
      if (index > last || durable.term < term) {
        throw new Violation(
          'S13',
          `${name} acknowledges ${index} in term ${term}, its disk ends at ${last} in ${durable.term}`,
        );
      }
      const raft = member.raft as Raft;
      // An answer of an earlier term speaks of the log of that term, which is still on the disk.
      const own = raft.term === term ? raft.log.termAt(index) : -1;
      const onDisk = termOf(durable, index);
      if (onDisk > term) {
        const text = `${name} acknowledges ${index} in term ${term}, its disk has it of ${onDisk}`;
        throw new Violation('S13', text);
      }
      if (own >= 0 && onDisk >= 0 && own !== onDisk) {
        throw new Violation(
          'S13',
          `${name} acknowledges ${index} of ${own}, its disk has ${onDisk}`,
        );
      }
    }
    if (kind === MessageKind.HeartbeatResponse && index > lastOf(durable)) {
      throw new Violation('S13', `${name} reports ${index}, its disk ends at ${lastOf(durable)}`);
    }
  }

  private bookOf(member: SimMember): Book {
    return this.books.get(member.id) as Book;
  }

  private checkRecovered(member: SimMember, book: Book, found: Durable): void {
    const candidates = [book.durable];
    for (const batch of book.pending) {
      const next = copyOf(candidates[candidates.length - 1] as Durable);
      applyBatch(next, batch);
      candidates.push(next);
    }
    if (candidates.some((candidate) => isSame(candidate, found))) return;
    throw new Violation(
      'S12',
      `m${member.number} comes back with ${textOf(found)}, its disk had confirmed ${textOf(book.durable)}`,
    );
  }

  private checkMember(member: SimMember, raft: Raft): void {
    const book = this.bookOf(member);
    const { log, term, role } = raft;
    const { seen } = book;
    const applied = member.node?.machine.appliedIndex ?? 0;
    if (
      seen !== null &&
      seen.term === term &&
      seen.role === role &&
      seen.lastIndex === log.lastIndex &&
      seen.lastTerm === log.lastTerm &&
      seen.committed === log.committed &&
      seen.persisted === log.persisted &&
      seen.applied === applied
    ) {
      return;
    }
    this.checks += 1;
    this.checkTerm(member, book, raft);
    this.checkEntries(member, book, raft);
    this.checkCommit(member, book, raft);
    checkLogRules({
      name: `m${member.number}`,
      isLeader: role === Role.Leader,
      term,
      applied,
      before: log.firstIndex - 1,
      committed: log.committed,
      persisted: log.persisted,
      last: log.lastIndex,
      durable: lastOf(book.durable),
      termAt: (index) => log.termAt(index),
      isChange: (index) => log.entryAt(index).type === EntryType.Configuration,
    });
    if (seen?.applied !== applied) this.checkApplied(member, book, applied, seen?.applied ?? 0);
    checkVotes(member, raft, applied);
    if (this.checks % FULL_CHECK_EACH === 0) {
      checkInvariants(raft);
      if (book.observed !== null) checkTransition(book.observed, raft);
      book.observed = observe(raft);
    }
    book.seen = {
      term,
      role,
      lastIndex: log.lastIndex,
      lastTerm: log.lastTerm,
      committed: log.committed,
      persisted: log.persisted,
      applied,
    };
  }

  private checkTerm(member: SimMember, book: Book, raft: Raft): void {
    const { term, role, log } = raft;
    const { seen, durable } = book;
    const name = `m${member.number}`;
    if (term < durable.term)
      throw new Violation('S10', `${name}: term ${term} below ${durable.term}`);
    if (seen !== null && term < seen.term)
      throw new Violation('S10', `${name}: term fell to ${term}`);
    if (seen?.role === Role.Leader && role === Role.Leader && seen.term === term) {
      if (log.lastIndex < seen.lastIndex) {
        throw new Violation('S3', `${name} leads ${term} and cut its log to ${log.lastIndex}`);
      }
    }
    if (role !== Role.Leader || (seen?.role === Role.Leader && seen.term === term)) return;
    const other = this.leaders.get(term);
    if (other !== undefined && other !== member.id) {
      throw new Violation('S1', `${name} leads term ${term}, which ${other} led`);
    }
    this.leaders.set(term, member.id);
    if (durable.term !== term || durable.vote !== member.id) {
      throw new Violation('S13', `${name} leads ${term}, its disk is in ${durable.term}`);
    }
    this.world.mark('leader elected');
    for (let index = log.firstIndex; index <= this.committedIndex; index += 1) {
      const known = this.committed[index];
      // A leader of an earlier term, elected late, owes nothing of later terms.
      if (known === null || known === undefined || known.term >= term) continue;
      if (log.termAt(index) === known.entry.term) continue;
      throw new Violation(
        'S5',
        `${name} leads ${term} without entry ${index} of ${known.entry.term}, which was committed`,
      );
    }
  }

  /** Walks down from the end to what was checked before. */
  private checkEntries(member: SimMember, book: Book, raft: Raft): void {
    const { log } = raft;
    const { verified } = book;
    for (let index = log.lastIndex; index >= log.firstIndex; index -= 1) {
      const entry = log.entryAt(index);
      if (verified[index] === entry.term) break;
      verified[index] = entry.term;
      const bytes = crcOf(entry) + log.termAt(index - 1) * 2 ** 32;
      const known = this.entries.get(index * TERMS + entry.term);
      if (known === undefined) this.entries.set(index * TERMS + entry.term, bytes);
      else if (known !== bytes) {
        throw new Violation('S4', `m${member.number}: entry ${index} of ${entry.term} differs`);
      }
    }
  }

  private checkCommit(member: SimMember, book: Book, raft: Raft): void {
    const { log, role, term } = raft;
    const from = book.seen?.committed ?? 0;
    const name = `m${member.number}`;
    if (log.committed < from)
      throw new Violation('S10', `${name}: commit fell to ${log.committed}`);
    if (log.committed === from) return;
    for (let index = Math.max(from + 1, log.firstIndex); index <= log.committed; index += 1) {
      const entry = log.entryAt(index);
      const known = this.committed[index];
      if (known === null || known === undefined) this.commit(member, raft, entry);
      else if (known.entry.term !== entry.term || crcOf(known.entry) !== crcOf(entry)) {
        throw new Violation('S7', `${name}: entry ${index} was committed with other bytes`);
      }
    }
    if (log.committed > this.committedIndex) {
      throw new Violation('S7', `${name} knows a commit of ${log.committed} that nobody made`);
    }
    if (
      role === Role.Leader &&
      book.seen?.role === Role.Leader &&
      log.termAt(log.committed) !== term
    ) {
      throw new Violation(
        'S9',
        `${name} leads ${term}, committed ${log.committed} of another term`,
      );
    }
  }

  /** Nobody has committed this entry before. */
  private commit(member: SimMember, raft: Raft, entry: Entry): void {
    const { index, term } = entry;
    if (index !== this.committed.length) {
      throw new Violation('S7', `entry ${index} was committed behind ${this.committedIndex}`);
    }
    const { voters, votersOutgoing } = raft.configuration;
    for (const half of [voters, votersOutgoing]) {
      if (half.length === 0) continue;
      const holders = half.filter((id) => {
        const book = this.books.get(id);
        return book !== undefined && holds(book.durable, index, term);
      });
      if (holders.length >= majorityOf(half.length)) continue;
      throw new Violation(
        'S8',
        `m${member.number} commits ${index} of ${term}, which is durable at ${holders.length} of ${half.length}`,
      );
    }
    if (raft.term > term && entry.type === EntryType.Normal)
      this.world.mark('commit of an old term');
    this.committed.push({ entry, at: this.world.now, term: raft.term });
  }

  private checkApplied(member: SimMember, book: Book, applied: number, before: number): void {
    const name = `m${member.number}`;
    if (applied < before) throw new Violation('S10', `${name}: applied fell to ${applied}`);
    const machine = member.node?.machine;
    if (machine === undefined || applied === 0) return;
    if (book.machine !== null && book.machine !== machine && machine.auth.enabled) {
      this.world.mark('rights taken from a snapshot');
    }
    book.machine = machine;
    if (applied > this.committedIndex) {
      throw new Violation('S6', `${name} applied ${applied}, committed is ${this.committedIndex}`);
    }
    if (machine.isMidway) {
      this.world.mark('entry applied halfway');
      return;
    }
    const hash = fingerprint(machine);
    const known = this.hashes.get(applied);
    if (known !== undefined && known !== hash) {
      throw new Violation('S6', `${name} at ${applied} has the state ${hash}, others had ${known}`);
    }
    this.hashes.set(applied, hash);
  }
}

/** What must be equal on all members at one index: the hash of all effects, the alarms, and
 *  users with their rights. */
export function fingerprint({ hashChain, alarms, auth }: StateMachine): string {
  const raised = alarms.map(({ memberId, alarm, causes }) => `${memberId}:${alarm}:${causes}`);
  return [hashChain, ...raised, rightsOf(auth)].join(' ');
}

/** Rights change seldom, and members are asked for them after every event. */
const rights = new WeakMap<AuthState, { readonly changes: number; readonly text: string }>();

function rightsOf(auth: AuthState): string {
  if (!auth.enabled && auth.revision === NO_AUTH.revision) return '';
  const known = rights.get(auth);
  if (known?.changes === auth.changes) return known.text;
  const text = textOfTables(auth.tables);
  rights.set(auth, { changes: auth.changes, text });
  return text;
}

/** The core and the state machine each keep the membership, and hear of a change by different roads. */
function checkVotes(member: SimMember, raft: Raft, applied: number): void {
  const { log, configuration, role, pendingSnapshot } = raft;
  const machine = member.node?.machine;
  if (machine === undefined || pendingSnapshot !== null || log.applied !== applied) return;
  const own = textOfVotes(configuration);
  const table = textOfVotes(machine.configuration);
  const name = `m${member.number}`;
  if (own !== table) {
    throw new Violation('S15', `${name} at ${applied} counts by ${own}, its state says ${table}`);
  }
  const { voters, votersOutgoing } = configuration;
  if (role !== Role.Leader || voters.includes(raft.id) || votersOutgoing.includes(raft.id)) return;
  throw new Violation('S15', `${name} leads ${raft.term} at ${applied} without a vote in ${own}`);
}

function textOfVotes({ voters, votersOutgoing, learners }: Configuration): string {
  return `${voters.join(' ')} | ${votersOutgoing.join(' ')} | learners ${learners.join(' ')}`;
}

function durableOf({ hardState, before, entries }: RecoveredLog): Durable {
  const { term, vote } = hardState;
  return { term, vote, before, terms: entries.map((entry) => entry.term) };
}

function copyOf(durable: Durable): Durable {
  return { ...durable, terms: [...durable.terms] };
}

function applyBatch(durable: Durable, batch: LogBatch): void {
  if (batch.hardState !== null) {
    durable.term = batch.hardState.term;
    durable.vote = batch.hardState.vote;
  }
  if (batch.snapshot !== null) {
    durable.before = { index: batch.snapshot.index, term: batch.snapshot.term };
    durable.terms = [];
  }
  if (batch.truncateFrom > 0) {
    durable.terms.length = Math.max(0, batch.truncateFrom - durable.before.index - 1);
  }
  for (const entry of batch.entries) {
    // Entries begin where the log is cut, also when nobody says so.
    durable.terms.length = Math.min(durable.terms.length, entry.index - durable.before.index - 1);
    durable.terms.push(entry.term);
  }
}

function lastOf({ before, terms }: Durable): number {
  return before.index + terms.length;
}

function termOf({ before, terms }: Durable, index: number): number {
  if (index === before.index) return before.term;
  return terms[index - before.index - 1] ?? -1;
}

/** What lies in front of the log is part of a state that was committed. */
function holds(durable: Durable, index: number, term: number): boolean {
  return index < durable.before.index || termOf(durable, index) === term;
}

/** The log that was found may begin later: what is in front is in a checkpoint. */
function isSame(wanted: Durable, found: Durable): boolean {
  if (wanted.term !== found.term || wanted.vote !== found.vote) return false;
  const last = lastOf(wanted);
  if (last !== lastOf(found)) return false;
  for (let index = Math.max(wanted.before.index, found.before.index); index <= last; index += 1) {
    if (termOf(wanted, index) !== termOf(found, index)) return false;
  }
  return true;
}

function textOf(durable: Durable): string {
  const last = lastOf(durable);
  return `term ${durable.term}, vote ${durable.vote}, entries to ${last} of ${termOf(durable, last)}`;
}

function crcOf({ record }: Entry): number {
  return new DataView(record.buffer, record.byteOffset).getUint32(4, true);
}

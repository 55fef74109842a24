/**
 * Proves that a backup file holds a whole state, by building the state from it: digest, blocks, pages,
 * records, tables, and that all of them belong together. `kvctl snapshot status` ends there; restore.ts goes
 * on with what was built.
 *
 * Memory is that of the index of a member. Nothing is written.
 */
import { crc32c } from '../crc32c.js';
import { FatalError } from '../errors.js';
import type { OnRecord } from '../kv/io/page.js';
import type { SnapshotHead } from '../kv/io/snapshot-parser.js';
import { decodeRecord, HISTORY_HASH_SEED } from '../kv/record.js';
import type { RecordStore } from '../kv/record-store.js';
import type { Restore } from '../kv/restore.js';
import { StateMachine } from '../kv/state-machine.js';
import { decodeTables, type Tables } from '../kv/tables.js';
import { type BackupContents, damaged, type ReadOptions, readBackup } from './backup-reader.js';

export interface VerifiedBackup extends BackupContents {
  readonly path: string;
  readonly tables: Tables;
  /** Restored from the file. Answers what its index knows; it has no values. */
  readonly machine: StateMachine;
}

/** Throws BackupError unless every byte is as it was written and the state is whole. */
export async function verifyBackup(path: string, options: ReadOptions): Promise<VerifiedBackup> {
  try {
    return await build(path, options);
  } catch (error) {
    // What the machine says of records and tables that do not fit.
    if (error instanceof FatalError) throw damaged(path, error.message);
    throw error;
  }
}

async function build(path: string, options: ReadOptions): Promise<VerifiedBackup> {
  let restore: Restore | null = null;
  const begin = ({ tables }: SnapshotHead): Restore =>
    StateMachine.beginRestore(tables, { records: NO_RECORDS, selfId: 0 });
  const contents = await readBackup(
    path,
    (snapshot, main, sub, bytes) => {
      restore ??= begin(snapshot);
      // A restore trusts the sums of the pages; who proves a file trusts none of them alone.
      decodeRecord(main, sub, bytes);
      restore.record(main, sub, bytes);
    },
    options,
  );
  const machine = (restore ?? begin(contents.snapshot)).finish();
  const tables = decodeTables(contents.snapshot.tables);
  assertAgrees(path, contents, machine);
  return { ...contents, path, tables, machine };
}

/** Every retained record once more, in order. The machine must have been restored from the file. */
export async function eachRetained(
  { path, machine, digest }: VerifiedBackup,
  onRecord: OnRecord,
  afterBlock = async (): Promise<void> => {},
): Promise<void> {
  const { store } = machine;
  const again = await readBackup(
    path,
    (_snapshot, main, sub, bytes) => {
      const { key } = decodeRecord(main, sub, bytes);
      if (store.isRetained(key, main, sub)) onRecord(main, sub, bytes);
    },
    { skipHashCheck: true, afterBlock },
  );
  if (again.digest !== digest) throw damaged(path, 'it was changed while it was read');
}

/** The hash that `kvctl endpoint hashkv` shows of the same history (store-reads.ts). */
export async function hashOf(backup: VerifiedBackup): Promise<number> {
  let hash = HISTORY_HASH_SEED;
  await eachRetained(backup, (_main, _sub, bytes) => {
    hash = crc32c(bytes, 0, bytes.length, hash);
  });
  return hash;
}

/** The head is written for those who read no further: it must not tell them anything else. */
function assertAgrees(
  path: string,
  { head, snapshot }: BackupContents,
  machine: StateMachine,
): void {
  const { store } = machine;
  const pairs: readonly (readonly [string, unknown, unknown])[] = [
    ['index', head.index, machine.appliedIndex],
    ['index', head.index, snapshot.mark.index],
    ['term', head.term, machine.appliedTerm],
    ['revision', head.revision, store.revision],
    ['revision', head.revision, snapshot.revision],
    ['compacted revision', head.compactRevision, store.compactRevision],
    ['number of keys', head.keyCount, store.liveCount],
    ['history', head.historyCount, store.index.retainedCount],
    ['hash chain', head.hashChain, machine.hashChain],
  ];
  for (const [what, told, found] of pairs) {
    if (told !== found) throw damaged(path, `its head tells ${what} ${told}, its state ${found}`);
  }
}

/** For a machine that is only asked what its index knows. */
const NO_RECORDS: RecordStore = {
  write() {
    throw new FatalError('a backup is not written to');
  },
  read() {
    throw new FatalError('the values of a backup are not in memory');
  },
  remove() {
    // What compaction has passed is simply not among those that are retained.
  },
};

/**
 * The requests of a log in the words of etcd's model (its `EtcdRequest`, a JSON object each), for the judge.
 * Read from the folders of members that have stopped; their logs must reach back to the first entry.
 *
 * Errors: logs that differ below what is committed, a log without its beginning, a command that the
 * traffic never sends and the model does not know.
 */
import type { Command } from '../../src/kv/command.js';
import { decodeEnvelope } from '../../src/kv/command.js';
import type { Compare, RequestOp } from '../../src/kv/request.js';
import { type Entry, EntryType, payloadOf } from '../../src/raft/entry.js';
import { NodeDisk } from '../../src/raft/io/node-disk.js';
import { type FoundLog, readLog, sortFiles } from '../../src/raft/io/wal-recovery.js';

/** Of the commands that change no key and no lease: the model has no word for them. */
const SILENT: ReadonlySet<Command['kind']> = new Set(['memberPublish', 'setQuota', 'report']);

export function requestsOfLogs(walFolders: readonly string[]): string[] {
  const entries = committedEntries(walFolders.map(logOf));
  const requests = entries.filter(({ type }) => type === EntryType.Normal).map(requestOf);
  return requests.filter((request) => request !== null).map((request) => JSON.stringify(request));
}

function logOf(folder: string): FoundLog {
  const disk = new NodeDisk();
  return readLog(disk, folder, sortFiles(disk, folder).names, null);
}

function committedEntries(logs: readonly FoundLog[]): readonly Entry[] {
  const commit = Math.max(...logs.map(({ hardState }) => hardState.commit));
  const found: Entry[] = [];
  for (const { before, entries } of logs) {
    if (before.index !== 0) throw new Error(`a log begins behind entry ${before.index}`);
    for (const entry of entries.slice(0, commit)) {
      const other = found[entry.index - 1];
      if (other === undefined) found[entry.index - 1] = entry;
      else if (Buffer.compare(other.record, entry.record) !== 0) {
        throw new Error(`entry ${entry.index} is not the same in all logs`);
      }
    }
  }
  if (found.length !== commit) throw new Error(`${commit} entries, of which ${found.length} exist`);
  return found;
}

function requestOf(entry: Entry): object | null {
  const command = decodeEnvelope(payloadOf(entry))?.command;
  if (command === undefined) throw new Error(`entry ${entry.index} is none of a client`);
  switch (command.kind) {
    case 'put':
    case 'deleteRange':
      return { Type: 'txn', Txn: { OperationsOnSuccess: [operationOf(command)] } };
    case 'txn':
      return {
        Type: 'txn',
        Txn: {
          Conditions: command.compare.map(conditionOf),
          OperationsOnSuccess: command.success.map(operationOf),
          OperationsOnFailure: command.failure.map(operationOf),
        },
      };
    case 'compact':
      return { Type: 'compact', Compact: { Revision: command.revision } };
    case 'leaseGrant':
      return { Type: 'leaseGrant', LeaseGrant: { LeaseID: Number(command.id) } };
    case 'leaseRevoke':
      return { Type: 'leaseRevoke', LeaseRevoke: { LeaseID: Number(command.id) } };
    default:
      if (SILENT.has(command.kind)) return null;
      throw new Error(`entry ${entry.index} is of a kind that no client sends: ${command.kind}`);
  }
}

function operationOf(operation: RequestOp): object {
  switch (operation.kind) {
    case 'put': {
      const Value = { Value: Buffer.from(operation.value).toString() };
      const LeaseID = Number(operation.lease);
      return { Type: 'put-operation', Put: { Key: textOf(operation.key), Value, LeaseID } };
    }
    case 'deleteRange':
      return { Type: 'delete-operation', Delete: { Key: textOf(operation.key) } };
    case 'range':
      return {
        Type: 'range-operation',
        Range: {
          Start: textOf(operation.key),
          End: textOf(operation.rangeEnd),
          Limit: operation.limit,
          KeysOnly: operation.keysOnly,
        },
      };
    case 'txn':
      throw new Error('the model has no transactions within transactions');
  }
}

function conditionOf(clause: Compare): object {
  const Key = textOf(clause.key);
  if (clause.target === 'version') return { Key, ExpectedVersion: Number(clause.number) };
  if (clause.target === 'mod') return { Key, ExpectedRevision: Number(clause.number) };
  throw new Error(`the model has no condition of the kind ${clause.target}`);
}

/** Keys are a char per byte. */
function textOf(key: string): string {
  return Buffer.from(key, 'latin1').toString();
}

/**
 * The store once more, written for this purpose alone: every key with all its versions, so that each
 * state that ever was can be asked again. The committed log is replayed through it at the end of a
 * run, and all answers that clients got are held against it.
 *
 * Knows puts, deletes, ranges by key, transactions (nested too), leases and compaction: what simulated
 * clients ask for. Quota and alarms are in space-model.ts, rights in auth-model.ts.
 */
import type { Int64 } from '../../src/int64.js';
import type { Command } from '../../src/kv/command.js';
import type {
  Compare,
  DeleteRangeRequest,
  KeyValue,
  OpResponse,
  PutRequest,
  RangeRequest,
  RequestOp,
  TxnRequest,
} from '../../src/kv/request.js';

export interface ModelEvent {
  readonly type: 'PUT' | 'DELETE';
  readonly pair: KeyValue;
}

export interface ModelResult {
  readonly code: string | null;
  readonly revision: number;
  readonly response: OpResponse | null;
  readonly events: readonly ModelEvent[];
}

interface Version {
  readonly revision: number;
  /** Of the record in the store of the product. */
  readonly bytes: number;
  /** Null = deleted. */
  readonly pair: KeyValue | null;
}

export class ModelStore {
  revision = 1;
  compacted = 0;
  /** Leases that exist, with their seconds. */
  readonly leases = new Map<Int64, number>();
  private readonly keys = new Map<string, Version[]>();
  private sorted: string[] = [];
  private events: ModelEvent[] = [];

  /** `refused`: by what this model does not know. */
  apply(command: Command, term: number, refused: string | null): ModelResult {
    this.events = [];
    const code = refused ?? this.refusal(command);
    const response = code === null ? this.run(command, term) : null;
    if (this.events.length > 0) this.revision += 1;
    return { code, revision: this.revision, response, events: this.events };
  }

  /** The pair as it was at a revision. */
  get(key: string, revision = this.revision + 1): KeyValue | null {
    const versions = this.keys.get(key);
    if (versions === undefined) return null;
    for (let at = versions.length - 1; at >= 0; at -= 1) {
      const version = versions[at] as Version;
      if (version.revision <= revision) return version.pair;
    }
    return null;
  }

  /** Bytes of the records that compaction has left: a version goes when a later one stands at or below
   *  the compact revision, a deletion as soon as that is above it. */
  recordBytes(): number {
    let bytes = 0;
    for (const versions of this.keys.values()) {
      for (let at = versions.length - 1; at >= 0; at -= 1) {
        const version = versions[at] as Version;
        const next = versions[at + 1];
        const isGone =
          version.pair === null
            ? version.revision < this.compacted
            : next !== undefined && next.revision <= this.compacted;
        if (!isGone) bytes += version.bytes;
      }
    }
    return bytes;
  }

  /** Keys that hang on a lease. */
  readonly keysOn = (lease: Int64): string[] => {
    if (!this.leases.has(lease)) return [];
    return this.sorted.filter((key) => this.get(key)?.lease === lease);
  };

  leaseCount(): number {
    return this.leases.size;
  }

  /** All pairs of a range at a revision, by key. */
  list(key: string, rangeEnd: string, revision = this.revision + 1): KeyValue[] {
    if (rangeEnd === '') {
      const pair = this.get(key, revision);
      return pair === null ? [] : [pair];
    }
    const found: KeyValue[] = [];
    for (const each of this.sorted) {
      if (each < key || (rangeEnd !== '\0' && each >= rangeEnd)) continue;
      const pair = this.get(each, revision);
      if (pair !== null) found.push(pair);
    }
    return found;
  }

  private refusal(command: Command): string | null {
    switch (command.kind) {
      case 'put':
        return this.putRefusal(command);
      case 'txn':
        for (const op of this.branchOf(command)) {
          const refused = op.kind === 'range' ? this.rangeRefusal(op) : this.refusal(op);
          if (refused !== null) return refused;
        }
        return null;
      case 'compact':
        if (command.revision <= this.compacted) return 'COMPACTED';
        return command.revision > this.revision ? 'FUTURE_REVISION' : null;
      case 'leaseGrant':
        return this.leases.has(command.id) ? 'LEASE_EXISTS' : null;
      case 'leaseRevoke':
        return this.leases.has(command.id) ? null : 'LEASE_NOT_FOUND';
      default:
        return null;
    }
  }

  private putRefusal({ lease }: PutRequest): string | null {
    return lease !== 0 && !this.leases.has(lease) ? 'LEASE_NOT_FOUND' : null;
  }

  private rangeRefusal({ revision }: RangeRequest): string | null {
    if (revision === 0) return null;
    if (revision > this.revision) return 'FUTURE_REVISION';
    return revision < this.compacted ? 'COMPACTED' : null;
  }

  private run(command: Command, term: number): OpResponse | null {
    switch (command.kind) {
      case 'put':
      case 'deleteRange':
      case 'txn':
        return this.execute(command);
      case 'compact':
        this.compacted = command.revision;
        return null;
      case 'leaseGrant':
        this.leases.set(command.id, command.ttl);
        return null;
      case 'leaseRevoke':
        this.revoke([command.id]);
        return null;
      case 'leaseExpire':
        if (command.term === term) this.revoke(command.ids);
        return null;
      default:
        return null;
    }
  }

  private execute(op: RequestOp): OpResponse {
    switch (op.kind) {
      case 'put':
        return this.put(op);
      case 'deleteRange':
        return this.delete(op);
      case 'range':
        return this.range(op);
      case 'txn': {
        const succeeded = op.compare.every((clause) => this.holds(clause));
        const responses = (succeeded ? op.success : op.failure).map((each) => this.execute(each));
        return { kind: 'txn', succeeded, responses, revision: this.head };
      }
    }
  }

  private get head(): number {
    return this.events.length > 0 ? this.revision + 1 : this.revision;
  }

  private branchOf(txn: TxnRequest): readonly RequestOp[] {
    return txn.compare.every((clause) => this.holds(clause)) ? txn.success : txn.failure;
  }

  private put({ key, value, lease, prevKv }: PutRequest): OpResponse {
    const before = this.get(key);
    this.change(key, {
      key,
      createRevision: before?.createRevision ?? this.revision + 1,
      modRevision: this.revision + 1,
      version: (before?.version ?? 0) + 1,
      value: Uint8Array.from(value),
      lease,
    });
    return { kind: 'put', prevKv: prevKv ? before : null, revision: this.head };
  }

  private delete({ key, rangeEnd, prevKv }: DeleteRangeRequest): OpResponse {
    const gone = this.list(key, rangeEnd);
    for (const pair of gone) this.change(pair.key, null);
    const prevKvs = prevKv ? gone : [];
    return { kind: 'deleteRange', deleted: gone.length, prevKvs, revision: this.head };
  }

  range({ key, rangeEnd, revision }: RangeRequest): OpResponse {
    const kvs = this.list(key, rangeEnd, revision === 0 ? undefined : revision);
    return { kind: 'range', kvs, more: false, count: kvs.length, revision: this.head };
  }

  private revoke(ids: readonly Int64[]): void {
    const ending = new Set(ids.filter((id) => this.leases.has(id)));
    for (const key of this.sorted) {
      const pair = this.get(key);
      if (pair !== null && pair.lease !== 0 && ending.has(pair.lease)) this.change(key, null);
    }
    for (const id of ending) this.leases.delete(id);
  }

  private change(key: string, pair: KeyValue | null): void {
    const revision = this.revision + 1;
    const gone = { key, value: new Uint8Array(0), createRevision: 0, version: 0, lease: 0 };
    this.events.push(
      pair === null
        ? { type: 'DELETE', pair: { ...gone, modRevision: revision } }
        : { type: 'PUT', pair },
    );
    const versions = this.keys.get(key);
    const newest = versions?.at(-1) ?? null;
    const previous = newest === null || newest.pair === null ? 0 : newest.revision;
    const version = { revision, pair, bytes: recordBytes(key, pair, previous) };
    if (versions !== undefined) {
      if (newest?.revision === revision) versions.pop();
      versions.push(version);
      return;
    }
    this.keys.set(key, [version]);
    this.sorted.push(key);
    this.sorted.sort((a, b) => (a < b ? -1 : 1));
  }

  private holds(clause: Compare): boolean {
    // What the transaction has written already does not steer those inside it.
    const pair = this.get(clause.key, this.revision);
    let sign: number;
    if (clause.target === 'value') {
      if (pair === null) return false;
      sign = Buffer.compare(pair.value, clause.value);
    } else {
      const field = {
        version: pair?.version ?? 0,
        create: pair?.createRevision ?? 0,
        mod: pair?.modRevision ?? 0,
        lease: pair?.lease ?? 0,
      }[clause.target];
      sign = field < clause.number ? -1 : field > clause.number ? 1 : 0;
    }
    return [sign === 0, sign > 0, sign < 0, sign !== 0][clause.result] as boolean;
  }
}

/** Flags, numbers of seven bits a byte, key with its length, value, checksum. */
function recordBytes(key: string, pair: KeyValue | null, previous: number): number {
  const rest = 5 + groups(previous) + groups(key.length) + key.length;
  if (pair === null) return rest;
  const lease = pair.lease === 0 ? 0 : groups(2 * Number(pair.lease));
  return rest + groups(pair.createRevision) + groups(pair.version) + lease + pair.value.length;
}

function groups(value: number): number {
  return value < 128 ? 1 : 1 + groups(Math.floor(value / 128));
}

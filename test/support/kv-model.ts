/**
 * The store as anybody would write it who has all the time in the world: one list of all changes, and
 * every question is answered by looking through it. The real one must give the same answers.
 */
import type { Command } from '../../src/kv/command.js';
import type {
  Compare,
  KeyValue,
  OpResponse,
  RangeRequest,
  RequestOp,
  TxnRequest,
} from '../../src/kv/request.js';
import { compareBytes, compareText, isBetween } from './order.js';

interface Change {
  readonly main: number;
  readonly sub: number;
  readonly key: string;
  /** Null = deleted. */
  readonly pair: KeyValue | null;
}

export interface ModelResult {
  readonly code: string | null;
  readonly response: OpResponse | null;
  readonly revision: number;
  readonly changes: readonly Change[];
}

class Refused extends Error {}

export class KvModel {
  revision = 1;
  compactRevision = 0;
  changes: Change[] = [];
  leases = new Map<number | bigint, { ttl: number; remaining: number }>();

  apply(command: Command, term: number): ModelResult {
    const before = this.changes.length;
    try {
      const response = this.run(command, term);
      const made = this.changes.filter(({ main }) => main > this.revision);
      this.revision = this.visible();
      return { code: null, response, revision: this.revision, changes: made };
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (this.changes.length !== before) throw new Error('the model refused too late');
      return { code: error.message, response: null, revision: this.revision, changes: [] };
    }
  }

  /** All pairs at a revision, by key. */
  at(revision: number): KeyValue[] {
    const newest = new Map<string, KeyValue | null>();
    for (const { main, key, pair } of this.changes) if (main <= revision) newest.set(key, pair);
    return [...newest.values()]
      .filter((pair) => pair !== null)
      .sort((a, b) => compareText(a.key, b.key));
  }

  range(request: RangeRequest): OpResponse {
    const head = this.visible();
    if (request.revision > head) throw new Refused('FUTURE_REVISION');
    if (request.revision !== 0 && request.revision < this.compactRevision) {
      throw new Refused('COMPACTED');
    }
    const all = this.at(request.revision || head).filter(({ key }) => isBetween(key, request));
    const count = all.length;
    if (request.countOnly) return { kind: 'range', kvs: [], more: false, count, revision: head };
    const { minModRevision, maxModRevision, minCreateRevision, maxCreateRevision } = request;
    const filtered = [minModRevision, maxModRevision, minCreateRevision, maxCreateRevision].some(
      (bound) => bound > 0,
    );
    let kvs = all;
    // The quirk of the API: without an order only the first limit + 1 keys are looked at.
    if (request.limit > 0 && request.sortOrder === 0 && !filtered) {
      kvs = kvs.slice(0, request.limit + 1);
    }
    kvs = kvs.filter(
      (kv) =>
        kv.modRevision >= minModRevision &&
        kv.createRevision >= minCreateRevision &&
        (maxModRevision === 0 || kv.modRevision <= maxModRevision) &&
        (maxCreateRevision === 0 || kv.createRevision <= maxCreateRevision),
    );
    const sign = request.sortOrder === 2 ? -1 : 1;
    const by = [
      (a: KeyValue, b: KeyValue) => compareText(a.key, b.key),
      (a: KeyValue, b: KeyValue) => a.version - b.version,
      (a: KeyValue, b: KeyValue) => a.createRevision - b.createRevision,
      (a: KeyValue, b: KeyValue) => a.modRevision - b.modRevision,
      (a: KeyValue, b: KeyValue) => compareBytes(a.value, b.value),
    ][request.sortTarget]!;
    kvs = [...kvs].sort((a, b) => sign * by(a, b));
    const more = request.limit > 0 && kvs.length > request.limit;
    if (more) kvs = kvs.slice(0, request.limit);
    if (request.keysOnly) kvs = kvs.map((kv) => ({ ...kv, value: new Uint8Array(0) }));
    return { kind: 'range', kvs, more, count, revision: head };
  }

  keysOf(lease: number | bigint): string[] {
    return this.at(this.revision)
      .filter((pair) => pair.lease === lease)
      .map(({ key }) => key);
  }

  private visible(): number {
    return Math.max(this.revision, this.changes.at(-1)?.main ?? 0);
  }

  private run(command: Command, term: number): OpResponse | null {
    switch (command.kind) {
      case 'put':
      case 'deleteRange':
      case 'txn': {
        const path: boolean[] = [];
        this.choose(command, path);
        this.check(command, [...path]);
        return this.execute(command, path);
      }
      case 'compact':
        if (command.revision <= this.compactRevision) throw new Refused('COMPACTED');
        if (command.revision > this.revision) throw new Refused('FUTURE_REVISION');
        this.compact(command.revision);
        return null;
      case 'leaseGrant':
        if (this.leases.has(command.id)) throw new Refused('LEASE_EXISTS');
        this.leases.set(command.id, { ttl: command.ttl, remaining: 0 });
        return null;
      case 'leaseRevoke':
        if (!this.leases.has(command.id)) throw new Refused('LEASE_NOT_FOUND');
        this.revoke([command.id]);
        return null;
      case 'leaseExpire':
        if (command.term === term) this.revoke(command.ids);
        return null;
      case 'leaseCheckpoint':
        if (command.term !== term) return null;
        for (const { id, seconds } of command.remaining) {
          const lease = this.leases.get(id);
          if (lease !== undefined) lease.remaining = Math.min(seconds, lease.ttl);
        }
        return null;
      default:
        throw new Error(`the model does not know ${command.kind}`);
    }
  }

  private compact(revision: number): void {
    this.compactRevision = revision;
    this.changes = this.changes.filter((change, at) => {
      const replaced = this.changes
        .slice(at + 1)
        .some(({ key, main }) => key === change.key && main <= revision);
      return !replaced && !(change.pair === null && change.main < revision);
    });
  }

  private revoke(ids: readonly (number | bigint)[]): void {
    const keys = this.at(this.revision).filter(
      ({ lease }) => lease !== 0 && ids.includes(lease) && this.leases.has(lease),
    );
    for (const { key } of keys) this.change(key, null);
    for (const id of ids) this.leases.delete(id);
  }

  private choose(op: RequestOp, path: boolean[]): void {
    if (op.kind !== 'txn') return;
    const succeeded = op.compare.every((compare) => this.holds(compare));
    path.push(succeeded);
    for (const inner of succeeded ? op.success : op.failure) this.choose(inner, path);
  }

  private branch(txn: TxnRequest, path: boolean[]): readonly RequestOp[] {
    return path.shift() ? txn.success : txn.failure;
  }

  private check(op: RequestOp, path: boolean[]): void {
    if (op.kind === 'range') this.range(op);
    if (op.kind === 'txn') for (const inner of this.branch(op, path)) this.check(inner, path);
    if (op.kind !== 'put') return;
    const exists = this.at(this.revision).some(({ key }) => key === op.key);
    if ((op.ignoreValue || op.ignoreLease) && !exists) throw new Refused('KEY_NOT_FOUND');
    const names = op.ignoreLease ? 0 : op.lease;
    if (names !== 0 && !this.leases.has(names)) throw new Refused('LEASE_NOT_FOUND');
  }

  private execute(op: RequestOp, path: boolean[]): OpResponse {
    if (op.kind === 'range') return this.range(op);
    if (op.kind === 'txn') {
      const succeeded = path[0]!;
      const responses = this.branch(op, path).map((inner) => this.execute(inner, path));
      return { kind: 'txn', succeeded, responses, revision: this.visible() };
    }
    const now = this.at(this.visible());
    if (op.kind === 'deleteRange') {
      const gone = now.filter(({ key }) => isBetween(key, op));
      for (const { key } of gone) this.change(key, null);
      const prevKvs = op.prevKv ? gone : [];
      return { kind: 'deleteRange', deleted: gone.length, prevKvs, revision: this.visible() };
    }
    const before = now.find(({ key }) => key === op.key) ?? null;
    this.change(op.key, {
      key: op.key,
      createRevision: before?.createRevision ?? this.revision + 1,
      modRevision: this.revision + 1,
      version: (before?.version ?? 0) + 1,
      value: op.ignoreValue ? (before?.value ?? new Uint8Array(0)) : op.value.slice(),
      lease: op.ignoreLease ? (before?.lease ?? 0) : op.lease,
    });
    return { kind: 'put', prevKv: op.prevKv ? before : null, revision: this.visible() };
  }

  private change(key: string, pair: KeyValue | null): void {
    const main = this.revision + 1;
    const sub = this.changes.filter((change) => change.main === main).length;
    this.changes.push({ main, sub, key, pair });
  }

  private holds(compare: Compare): boolean {
    const pairs = this.at(this.revision).filter(({ key }) => isBetween(key, compare));
    if (pairs.length === 0 && compare.target === 'value') return false;
    const zero = { version: 0, createRevision: 0, modRevision: 0, lease: 0 } as KeyValue;
    return (pairs.length === 0 ? [zero] : pairs).every((pair) => {
      let sign: number;
      if (compare.target === 'value') sign = compareBytes(pair.value, compare.value);
      else {
        const field = {
          version: pair.version,
          create: pair.createRevision,
          mod: pair.modRevision,
          lease: pair.lease,
        }[compare.target];
        sign = field < compare.number ? -1 : field > compare.number ? 1 : 0;
      }
      return [sign === 0, sign > 0, sign < 0, sign !== 0][compare.result]!;
    });
  }
}

/**
 * Quota and alarms once more, for judge.ts: how much is used by a walk over all that was ever written,
 * who is out of space, and what must therefore be refused. Shares nothing with the product but the
 * numbers that the operations manual names: 256 bytes, key and value for a put, 64 for a lease, and the
 * alarm that ends when a tenth is free.
 *
 * What is used after an accepted write must be within the quota (Q4), and the alarms that the product
 * shows after each entry must be those that follow from the log (Q5).
 */
import type { Alarm } from '../../src/kv/alarms.js';
import { AlarmType, type Command } from '../../src/kv/command.js';
import type { RequestOp } from '../../src/kv/request.js';
import { Violation } from './world.js';

/** What the model of the store knows of sizes. */
export interface Sizes {
  /** Bytes of all records that compaction has left. */
  recordBytes(): number;
  leaseCount(): number;
}

type Cause = 'client' | 'quota' | 'disk' | 'check';
const BITS: Readonly<Record<Cause, number>> = { client: 1, quota: 2, disk: 4, check: 8 };

export class SpaceModel {
  quota = 0;
  /** By `member kind`. */
  private readonly alarms = new Map<string, Set<Cause>>();
  private members: ReadonlySet<number>;
  private readonly sizes: Sizes;

  constructor(members: readonly number[], sizes: Sizes) {
    this.members = new Set(members);
    this.sizes = sizes;
  }

  /** Who is in the cluster now; alarms of others are gone. */
  onMembers(members: readonly number[]): void {
    for (const member of this.members) {
      if (members.includes(member)) continue;
      for (const kind of [AlarmType.NoSpace, AlarmType.Corrupt]) {
        this.alarms.delete(`${member} ${kind}`);
      }
    }
    this.members = new Set(members);
  }

  /** Why this command is refused; raises the alarm where it must. */
  refusal(command: Command, origin: number): string | null {
    const isHeld = ['put', 'deleteRange', 'txn', 'compact'].includes(command.kind);
    const isLease = command.kind.startsWith('lease');
    if ((isHeld || isLease) && this.stands(AlarmType.Corrupt, ['client'])) return 'CORRUPT';
    const cost = costOf(command);
    if (cost === 0) return null;
    if (this.stands(AlarmType.NoSpace, ['client', 'quota', 'disk'])) return 'NO_SPACE';
    if (this.quota === 0) return null;
    const used = this.used();
    if (used + cost <= this.quota) return null;
    if (used > this.quota - this.quota / 10) this.raise(origin, AlarmType.NoSpace, 'quota');
    return 'NO_SPACE';
  }

  /** What else commands do to quota and alarms. */
  apply(command: Command): void {
    if (command.kind === 'setQuota') this.quota = command.bytes;
    if (command.kind === 'alarm' && command.alarm !== AlarmType.None) {
      const { memberId, alarm } = command;
      if (command.action === 'activate') this.raise(memberId, alarm, 'client');
      else this.alarms.delete(`${memberId} ${alarm}`);
    }
    if (command.kind !== 'report' || !this.members.has(command.memberId)) return;
    const { memberId, finding } = command;
    if (finding === 'state-differs') this.raise(memberId, AlarmType.Corrupt, 'check');
    else if (finding === 'disk-full') this.raise(memberId, AlarmType.NoSpace, 'disk');
    else this.end(memberId, 'disk');
  }

  /** Behind every entry: the alarm of the quota ends when there is room. */
  settle(index: number, isAccepted: boolean, command: Command): void {
    if (this.quota > 0 && isAccepted && costOf(command) > 0 && this.used() > this.quota) {
      throw new Violation('Q4', `entry ${index} was accepted above the quota of ${this.quota}`);
    }
    if (!this.stands(AlarmType.NoSpace, ['quota'])) return;
    if (this.quota > 0 && this.used() > this.quota - this.quota / 10) return;
    for (const name of [...this.alarms.keys()]) {
      if (name.endsWith(` ${AlarmType.NoSpace}`)) this.end(Number(name.split(' ')[0]), 'quota');
    }
  }

  /** Holds the alarms of the product against these. */
  check(index: number, shown: readonly Alarm[]): void {
    const mine = [...this.alarms].map(([name, causes]) => {
      return `${name}: ${[...causes].reduce((sum, cause) => sum + BITS[cause], 0)}`;
    });
    const theirs = shown.map(({ memberId, alarm, causes }) => `${memberId} ${alarm}: ${causes}`);
    if (mine.sort().join() === theirs.sort().join()) return;
    throw new Violation(
      'Q5',
      `entry ${index}: alarms ${theirs.join()}, the log says ${mine.join()}`,
    );
  }

  private used(): number {
    return this.sizes.recordBytes() + 64 * this.sizes.leaseCount();
  }

  private stands(kind: AlarmType, causes: readonly Cause[]): boolean {
    return [...this.alarms].some(
      ([name, has]) => name.endsWith(` ${kind}`) && causes.some((cause) => has.has(cause)),
    );
  }

  private raise(member: number, kind: AlarmType, cause: Cause): void {
    const name = `${member} ${kind}`;
    this.alarms.set(name, new Set([...(this.alarms.get(name) ?? []), cause]));
  }

  private end(member: number, cause: Cause): void {
    const name = `${member} ${AlarmType.NoSpace}`;
    const causes = this.alarms.get(name);
    causes?.delete(cause);
    if (causes?.size === 0) this.alarms.delete(name);
  }
}

/** Simulated clients keep no values, so the size of a put is in the request. */
function costOf(command: Command | RequestOp): number {
  if (command.kind === 'put') return 256 + command.key.length + command.value.length;
  if (command.kind === 'leaseGrant') return 64;
  if (command.kind !== 'txn') return 0;
  const sum = (ops: readonly RequestOp[]): number =>
    ops.map(costOf).reduce((total, each) => total + each, 0);
  return Math.max(sum(command.success), sum(command.failure));
}

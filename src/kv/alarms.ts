/**
 * Which alarms stand, replicated and part of the tables. Changed by state-machine.ts alone.
 *
 * An alarm belongs to a member and has a kind, as in etcd, and here also causes: who raised it. A cause
 * that has passed takes its own away and no other's: when a disk has room again, the alarm that an
 * operator raised for the same member stands. Disarming takes all causes.
 *
 * What the causes mean for writes is decided by state-machine.ts: a member whose state differs from that
 * of the others (`check`) is out alone, an alarm that an operator raised stops everybody.
 *
 * Bound: kinds times members; a member that is removed takes its alarms along.
 */
import type { AlarmType } from './command.js';

export const AlarmCause = {
  /** A client activated it, or members differ and nobody can say who is right. */
  Client: 1,
  /** A write did not fit into the quota. */
  Quota: 2,
  /** The disk of the member is nearly full. */
  Disk: 4,
  /** The state of the member differs from that of most others. */
  Check: 8,
} as const;
export type AlarmCause = (typeof AlarmCause)[keyof typeof AlarmCause];

export const ALL_CAUSES = 15;

export interface Alarm {
  readonly memberId: number;
  readonly alarm: AlarmType;
  /** Sum of AlarmCause; never 0. */
  readonly causes: number;
}

export class AlarmTable {
  private alarms: readonly Alarm[];

  constructor(alarms: readonly Alarm[] = []) {
    this.alarms = alarms;
  }

  /** Sorted by member and kind. */
  get list(): readonly Alarm[] {
    return this.alarms;
  }

  /** Whether an alarm of this kind stands for one of the causes, of this member if one is named. */
  has(alarm: AlarmType, causes: number = ALL_CAUSES, memberId: number | null = null): boolean {
    return this.alarms.some(
      (each) =>
        each.alarm === alarm &&
        (each.causes & causes) !== 0 &&
        (memberId === null || each.memberId === memberId),
    );
  }

  raise(memberId: number, alarm: AlarmType, cause: AlarmCause): void {
    this.set(memberId, alarm, this.causesOf(memberId, alarm) | cause);
  }

  /** Takes causes away from one member's alarm; without causes left it is gone. */
  clear(memberId: number, alarm: AlarmType, causes: number): void {
    this.set(memberId, alarm, this.causesOf(memberId, alarm) & ~causes);
  }

  /** The same for every member. */
  clearAll(alarm: AlarmType, causes: number): void {
    for (const each of this.alarms) {
      if (each.alarm === alarm) this.clear(each.memberId, alarm, causes);
    }
  }

  /** The member has left the cluster. */
  forget(memberId: number): void {
    this.alarms = this.alarms.filter((each) => each.memberId !== memberId);
  }

  private causesOf(memberId: number, alarm: AlarmType): number {
    const found = this.alarms.find((each) => each.memberId === memberId && each.alarm === alarm);
    return found?.causes ?? 0;
  }

  private set(memberId: number, alarm: AlarmType, causes: number): void {
    const others = this.alarms.filter((each) => each.memberId !== memberId || each.alarm !== alarm);
    const changed = causes === 0 ? [] : [{ memberId, alarm, causes }];
    this.alarms = [...others, ...changed].sort(
      (a, b) => a.memberId - b.memberId || a.alarm - b.alarm,
    );
  }
}

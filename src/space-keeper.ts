/**
 * What a member does so that space does not run out, run by cluster-node.ts once a second.
 *
 * - The leader sees to it that the quota of the cluster is the one of its flags. So members with
 *   different flags agree at every moment, and a new flag counts when its member leads.
 * - A member whose disk has less room than it keeps in reserve says so through the log, and the space
 *   alarm stops writes everywhere while its log can still take what is on its way. With a quarter more
 *   than the reserve it takes that back.
 * - A member that is gone cannot take it back. It would keep the others from writing for as long as it
 *   is down, so the leader does it after having heard nothing for some time; when the member returns and
 *   its disk is still full, it raises the alarm anew.
 *
 * One proposal at a time; one that fails is made again at a later look, if it is still true then. The log
 * hears of it once, however many looks it takes: without a leader that may be a night of them.
 */
import type { Clock, Timer } from './clock.js';
import { AlarmCause } from './kv/alarms.js';
import { AlarmType, type Command } from './kv/command.js';
import type { StateMachine } from './kv/state-machine.js';
import type { Logger } from './logger.js';

const LOOK_MS = 1000;
/** Looks in a row at which a member was silent before it counts as gone. */
const SILENT_LOOKS = 5;

export interface SpaceKeeperOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly memberId: number;
  /** By the flags; 0 = none. */
  readonly quotaBytes: number;
  /** 0 = the disk is not looked at. */
  readonly diskReserveBytes: number;
  readonly freeBytes: () => number;
  readonly machine: () => StateMachine;
  readonly isLeader: () => boolean;
  /** Of another member, asked on the leader: it has not answered lately. */
  readonly isSilent: (member: number) => boolean;
  readonly propose: (command: Command) => Promise<unknown>;
}

/** What a look comes to. */
interface Wish {
  readonly command: Command;
  /** Of the log; called when the wish arises. */
  readonly tell: (() => void) | null;
}

export class SpaceKeeper {
  private readonly options: SpaceKeeperOptions;
  private timer: Timer | null = null;
  private proposing = false;
  /** The wish of the last look, as text; '' = none. */
  private wished = '';
  /** Looks in a row, by member; only of those whose alarm stands. */
  private silent = new Map<number, number>();

  constructor(options: SpaceKeeperOptions) {
    this.options = options;
  }

  start(): void {
    this.timer = this.options.clock.after(LOOK_MS, () => {
      this.look();
      if (this.timer !== null) this.start();
    });
  }

  stop(): void {
    this.timer?.cancel();
    this.timer = null;
  }

  private look(): void {
    const { propose, logger } = this.options;
    const wish = this.wish();
    const text = wish === null ? '' : JSON.stringify(wish.command);
    if (text !== this.wished) wish?.tell?.();
    this.wished = text;
    if (wish === null || this.proposing) return;
    this.proposing = true;
    propose(wish.command)
      .catch((error: unknown) => logger.debug({ err: error }, 'not proposed; tried again later'))
      .finally(() => {
        this.proposing = false;
      });
  }

  private wish(): Wish | null {
    const gone = this.goneWithAlarm();
    const { machine, isLeader, quotaBytes } = this.options;
    if (isLeader() && machine().quotaBytes !== quotaBytes) {
      return { command: { kind: 'setQuota', bytes: quotaBytes }, tell: null };
    }
    return this.ofOwnDisk() ?? gone;
  }

  private ofOwnDisk(): Wish | null {
    const { memberId, diskReserveBytes: reserve, freeBytes, logger } = this.options;
    if (reserve === 0) return null;
    const free = freeBytes();
    const stands = this.diskAlarms().includes(memberId);
    if (!stands && free < reserve) {
      const text = 'the disk is nearly full: writes are refused until it has room';
      return {
        command: { kind: 'report', memberId, finding: 'disk-full' },
        tell: () => logger.error({ free, reserve }, text),
      };
    }
    if (!stands || free < reserve * 1.25) return null;
    return {
      command: { kind: 'report', memberId, finding: 'disk-free' },
      tell: () => logger.info({ free }, 'the disk has room again'),
    };
  }

  /** On the leader: one that is silent for long, whose disk stops everybody. */
  private goneWithAlarm(): Wish | null {
    const { isLeader, isSilent, memberId, logger } = this.options;
    const before = this.silent;
    this.silent = new Map();
    if (!isLeader()) return null;
    for (const member of this.diskAlarms()) {
      if (member !== memberId && isSilent(member)) {
        this.silent.set(member, (before.get(member) ?? 0) + 1);
      }
    }
    const gone = [...this.silent].find(([, looks]) => looks >= SILENT_LOOKS);
    if (gone === undefined) return null;
    const [member] = gone;
    const about = { peer: member.toString(16) };
    return {
      command: { kind: 'report', memberId: member, finding: 'disk-free' },
      tell: () => logger.warn(about, 'a member with a full disk is gone; going on'),
    };
  }

  private diskAlarms(): number[] {
    return this.options
      .machine()
      .alarms.filter(({ alarm, causes }) => {
        return alarm === AlarmType.NoSpace && (causes & AlarmCause.Disk) !== 0;
      })
      .map(({ memberId }) => memberId);
  }
}

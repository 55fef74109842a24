/**
 * The status line of `kvd dev`: who leads, how many members are up, where they are reached.
 *
 * dev.ts asks the members a few times a second and prints what comes back from here. A line is worth
 * printing when it says something new that will last. Members come up one after the other, and a
 * user who copies the endpoints of the first line should have all of them; so a state in which
 * members are still on their way is held back, but not for ever.
 *
 * Invariants:
 * 1. The same line is not printed twice in a row, unless it is asked for.
 * 2. With fewer running members than a majority the line never names a leader, although one that
 *    was left alone thinks for a moment that it leads.
 */

export interface ObservedMember {
  readonly name: string;
  readonly clientPort: number;
  /** Its process is there. */
  readonly running: boolean;
  /** It answers on its client port. */
  readonly answers: boolean;
  /** It says that it leads. */
  readonly leads: boolean;
}

/** How long a state is held back in which members are still on their way. */
export const SETTLE_MS = 3000;

export class StatusLine {
  private shown = '';
  private unsettledSince: number | null = null;
  private asked = false;
  private readonly scheme: string;

  /** `https://` for members with TLS: kvctl needs no other word for plain ones. */
  constructor(scheme: '' | 'https://' = '') {
    this.scheme = scheme;
  }

  /** The next observation is printed, whatever it is. */
  ask(): void {
    this.asked = true;
  }

  /** The line to print now; null for none. */
  next(members: readonly ObservedMember[], nowMs: number): string | null {
    const { text, settled } = describe(members, this.scheme);
    if (settled) this.unsettledSince = null;
    else this.unsettledSince ??= nowMs;
    const late = this.unsettledSince !== null && nowMs - this.unsettledSince >= SETTLE_MS;
    const due = (settled || late) && text !== this.shown;
    if (!due && !this.asked) return null;
    this.asked = false;
    this.shown = text;
    this.unsettledSince = null;
    return text;
  }
}

function describe(
  members: readonly ObservedMember[],
  scheme: string,
): {
  readonly text: string;
  readonly settled: boolean;
} {
  const total = members.length;
  const majority = Math.floor(total / 2) + 1;
  const running = members.filter((member) => member.running).length;
  const up = members.filter((member) => member.answers);
  const count = `${up.length} of ${total} up`;
  if (running < majority) {
    const stopped = members.find((member) => !member.running)?.name ?? '';
    const text = `no leader: ${count}, ${majority} are needed; "start ${stopped}" starts one`;
    return { text, settled: up.length === running };
  }
  const leader = up.find((member) => member.leads);
  if (leader === undefined) return { text: `no leader yet, ${count}`, settled: false };
  const endpoints = up.map(({ clientPort }) => `${scheme}127.0.0.1:${clientPort}`).join(',');
  return {
    text: `ready: leader ${leader.name}, ${count}, --endpoints ${endpoints}`,
    settled: up.length === running,
  };
}

/**
 * The catalogue of faults: what they are called, to which class they belong, for how long they last,
 * and what they need. How each is done is in faults.ts; a kind that is in one of the two files only
 * does not compile.
 */

/** Classes in the order of reports. */
export const FAULT_CLASSES = [
  ...['kill', 'stop', 'pause', 'network', 'client', 'disk', 'clock', 'compaction', 'transfer'],
  ...['membership', 'certificates'],
] as const;
export type FaultClass =
  | 'kill'
  | 'stop'
  | 'pause'
  | 'network'
  | 'client'
  | 'disk'
  | 'clock'
  | 'compaction'
  | 'transfer'
  | 'membership'
  | 'certificates';

export interface FaultKind {
  readonly class: FaultClass;
  /** How long it lasts, shortest and longest, in ms. */
  readonly hold: readonly [from: number, to: number];
  /** How many times it lies in the bag that plans are drawn from, default 1. */
  readonly weight?: number;
  /** Members that a cluster must have for it, default 3. */
  readonly members?: number;
  /** Only for a cluster with TLS. */
  readonly tls?: boolean;
  readonly about: string;
}

export const FAULT_KINDS = {
  'kill-leader': { class: 'kill', hold: [800, 3_000], weight: 3, about: 'kill -9 of the leader' },
  'kill-follower': { class: 'kill', hold: [800, 4_000], about: 'kill -9 of a follower' },
  'kill-minority': {
    class: 'kill',
    hold: [800, 4_000],
    members: 5,
    about: 'kill -9 of the leader and a follower at once, with a majority left',
  },
  'kill-majority': { class: 'kill', hold: [500, 2_500], about: 'kill -9 of a majority at once' },
  'kill-all': { class: 'kill', hold: [100, 1_500], about: 'kill -9 of all members at once' },
  'kill-storm': {
    class: 'kill',
    hold: [1_500, 3_000],
    about: 'one member killed again and again while it starts',
  },
  'stop-leader': { class: 'stop', hold: [500, 2_000], weight: 2, about: 'SIGTERM of the leader' },
  'rolling-restart': {
    class: 'stop',
    hold: [0, 0],
    about: 'SIGTERM and start of every member, one after the other',
  },
  'pause-leader': {
    class: 'pause',
    hold: [1_500, 5_000],
    weight: 2,
    about: 'SIGSTOP of the leader',
  },
  'pause-follower': { class: 'pause', hold: [1_500, 5_000], about: 'SIGSTOP of a follower' },
  'pause-blinks': {
    class: 'pause',
    hold: [2_000, 4_000],
    about: 'the leader stopped for 100 to 900 ms again and again',
  },
  'pause-all': { class: 'pause', hold: [500, 3_000], about: 'SIGSTOP of all members' },
  'isolate-leader': {
    class: 'network',
    hold: [1_500, 5_000],
    weight: 2,
    about: 'the leader hears and reaches no other member',
  },
  'isolate-follower': { class: 'network', hold: [1_500, 6_000], about: 'a follower cut off' },
  'split-leader-minority': {
    class: 'network',
    hold: [1_500, 5_000],
    members: 5,
    about: 'two groups, the leader in the smaller one',
  },
  'cut-link': { class: 'network', hold: [1_500, 5_000], about: 'two members cut from each other' },
  'mute-leader': {
    class: 'network',
    hold: [1_500, 4_000],
    about: 'the leader hears but cannot speak',
  },
  'deaf-leader': {
    class: 'network',
    hold: [1_500, 4_000],
    about: 'the leader speaks but cannot hear',
  },
  'deaf-follower': { class: 'network', hold: [1_500, 4_000], about: 'a follower that cannot hear' },
  'majorities-ring': {
    class: 'network',
    hold: [1_500, 5_000],
    members: 5,
    about: 'each member reaches its two neighbours only, all majorities differ',
  },
  'slow-links': {
    class: 'network',
    hold: [2_000, 5_000],
    about: 'all links between members 10 to 150 ms slower',
  },
  'narrow-links': {
    class: 'network',
    hold: [2_000, 5_000],
    about: 'the links of one member carry 20 to 200 kB/s',
  },
  'flapping-link': {
    class: 'network',
    hold: [2_000, 5_000],
    about: 'a member cut off and back every 50 to 700 ms',
  },
  'reset-links': {
    class: 'network',
    hold: [1_500, 4_000],
    about: 'connections between members reset every 50 to 500 ms',
  },
  'reset-mid-frame': {
    class: 'network',
    hold: [1_500, 4_000],
    about: 'connections between members reset after a few more bytes, inside a frame',
  },
  'client-cut': {
    class: 'client',
    hold: [1_500, 4_000],
    about: 'clients hear nothing of a member',
  },
  'client-reset': {
    class: 'client',
    hold: [1_500, 4_000],
    about: 'connections of clients reset every 50 to 300 ms, also inside a reply',
  },
  'client-slow': { class: 'client', hold: [1_500, 4_000], about: 'clients wait 20 to 200 ms more' },
  'disk-sync-error': {
    class: 'disk',
    hold: [1_000, 3_000],
    about: 'one fsync of the log fails with EIO; the member ends',
  },
  'disk-write-error': { class: 'disk', hold: [1_000, 3_000], about: 'a write to the log fails' },
  'disk-full': { class: 'disk', hold: [1_000, 3_000], about: 'ENOSPC for every write to the log' },
  'disk-torn-write': {
    class: 'disk',
    hold: [800, 2_000],
    about: 'half of a write reaches the log, then the member dies',
  },
  'disk-slow': {
    class: 'disk',
    hold: [2_000, 5_000],
    about: 'every fsync of one member takes 20 to 200 ms more',
  },
  'disk-hang-leader': {
    class: 'disk',
    hold: [2_500, 6_000],
    about: 'the fsync of the leader hangs',
  },
  'clock-wall-jump': {
    class: 'clock',
    hold: [1_500, 4_000],
    about: 'the wall clocks jump, each its own way, by up to ten years',
  },
  'clock-monotonic-jump': {
    class: 'clock',
    hold: [1_000, 2_000],
    about: 'the monotonic clock of one member jumps ahead by 1 to 30 s and stays there',
  },
  'compact-behind': {
    class: 'compaction',
    hold: [0, 0],
    about: 'compaction a few hundred revisions back',
  },
  'compact-head': {
    class: 'compaction',
    hold: [0, 0],
    about: 'compaction right at the newest revision',
  },
  'transfer-leader': {
    class: 'transfer',
    hold: [0, 0],
    about: 'the leader hands over to another member',
  },
  'transfer-storm': {
    class: 'transfer',
    hold: [1_500, 3_000],
    about: 'leadership handed over every 100 to 500 ms',
  },
  'member-join-leave': {
    class: 'membership',
    hold: [1_000, 4_000],
    about: 'a new member joins, votes, and is removed again',
  },
  'member-replace': {
    class: 'membership',
    hold: [500, 2_000],
    about: 'a follower is removed, emptied, and taken in as a new member',
  },
  'replace-certificates': {
    class: 'certificates',
    hold: [0, 0],
    tls: true,
    about: 'every member gets new certificates, one after the other, and is called anew with them',
  },
} as const satisfies Record<string, FaultKind>;

export type FaultName = keyof typeof FAULT_KINDS;
export const FAULT_NAMES = Object.keys(FAULT_KINDS) as readonly FaultName[];

export function kindOf(name: FaultName): FaultKind {
  return FAULT_KINDS[name];
}

export function isFaultName(name: string): name is FaultName {
  return Object.hasOwn(FAULT_KINDS, name);
}

/**
 * The kinds that a list such as `kill,network,disk-slow` names: classes and kinds; `all` and `none`.
 * A word that is neither is given back as it is.
 */
export function parseFaultList(
  text: string,
): { readonly names: readonly FaultName[] } | { readonly unknown: string } {
  const chosen = new Set<FaultName>();
  for (const word of text.split(',').map((each) => each.trim())) {
    if (word === 'none') continue;
    const named = FAULT_NAMES.filter(
      (name) => word === 'all' || name === word || kindOf(name).class === word,
    );
    if (named.length === 0) return { unknown: word };
    for (const name of named) chosen.add(name);
  }
  return { names: FAULT_NAMES.filter((name) => chosen.has(name)) };
}

/**
 * How each fault of the catalogue is done and undone.
 *
 * A fault first chooses its victims (`prepare`), which may end in a Skip when nobody fits: nobody
 * leads, or all are victims of another fault. Then it is installed, held and lifted by run.ts, which
 * writes down the times. What is drawn here comes from the dice of the plan's step; who is drawn from
 * depends on who leads and runs at that moment.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { Prng } from '../../src/prng.js';
import type { Member } from '../support/cluster-processes.js';
import type { DiskFault } from '../support/disk-faults.js';
import type { Direction, Rule } from '../support/fault-proxy.js';
import { ApiError } from '../support/http-api.js';
import { certificateAt, testCertificates } from '../support/test-certificates.js';
import { waitFor } from '../support/wait.js';
import type { Archive } from './archive.js';
import type { Arena } from './arena.js';
import type { FaultName } from './fault-kinds.js';
import { dismissGuest, makeGuest, replace, untilVoting } from './membership-faults.js';
import { between, type PlanStep } from './plan.js';

export interface Prepared {
  readonly targets: readonly string[];
  readonly note?: string;
  readonly install: () => void | Promise<void>;
  readonly lift: () => void | Promise<void>;
}

/** Nobody fits: the fault is left out, which the report says. */
export class Skip extends Error {}

export interface Scene {
  readonly arena: Arena;
  readonly archive: Archive;
  readonly prng: Prng;
  readonly step: PlanStep;
}

type Prepare = (scene: Scene) => Prepared | Promise<Prepared>;

const FATAL_EXIT = 74;
const TORN_EXIT = 137;
const CERTIFICATE_MS = 20_000;
/** A program that goes on by itself between install and lift. */
type Beat = (signal: AbortSignal) => Promise<void>;

export function prepareFault(arena: Arena, archive: Archive, step: PlanStep): Promise<Prepared> {
  const scene = { arena, archive, prng: new Prng(step.dice), step };
  return Promise.resolve(FAULTS[step.fault](scene));
}

const FAULTS: Readonly<Record<FaultName, Prepare>> = {
  'kill-leader': async (scene) => killing(scene, [await freeLeader(scene)]),
  'kill-follower': async (scene) => killing(scene, [await freeFollower(scene)]),
  'kill-minority': async (scene) => {
    const leader = await freeLeader(scene);
    return killing(scene, [leader, ...drawOthers(scene, leader, minority(scene) - 1)]);
  },
  'kill-majority': async (scene) => {
    const leader = await freeLeader(scene);
    return killing(scene, [leader, ...drawOthers(scene, leader, minority(scene))]);
  },
  'kill-all': (scene) => killing(scene, allFree(scene)),
  'kill-storm': async (scene) => killStorm(scene, await freeFollower(scene)),
  'stop-leader': async (scene) => stopping(scene, await freeLeader(scene)),
  'rolling-restart': rollingRestart,
  'pause-leader': async (scene) => pausing(scene, [await freeLeader(scene)]),
  'pause-follower': async (scene) => pausing(scene, [await freeFollower(scene)]),
  'pause-all': (scene) => pausing(scene, allFree(scene)),
  'pause-blinks': async (scene) => blinking(scene, await freeLeader(scene)),
  'isolate-leader': async (scene) => isolation(scene, [await leaderOf(scene)]),
  'isolate-follower': async (scene) => isolation(scene, [await followerOf(scene)]),
  'split-leader-minority': async (scene) => {
    const leader = await leaderOf(scene);
    const others = shuffled(scene.prng, scene.arena.cluster.others(leader));
    return isolation(scene, [leader, ...others.slice(0, minority(scene) - 1)]);
  },
  'cut-link': (scene) => {
    const [a, b] = shuffled(scene.prng, scene.arena.members) as [Member, Member];
    return network(scene, [a, b], () => {
      scene.arena.cluster.cutLink(a, b);
      scene.arena.cluster.cutLink(b, a);
    });
  },
  'mute-leader': async (scene) => oneWay(scene, await leaderOf(scene), 'mute'),
  'deaf-leader': async (scene) => oneWay(scene, await leaderOf(scene), 'deaf'),
  'deaf-follower': async (scene) => oneWay(scene, await followerOf(scene), 'deaf'),
  'majorities-ring': (scene) => {
    const ring = shuffled(scene.prng, scene.arena.members);
    return network(scene, ring, () => {
      ring.forEach((from, place) => {
        ring.forEach((to, other) => {
          const apart = Math.abs(place - other);
          if (apart > 1 && apart < ring.length - 1) scene.arena.cluster.cutLink(from, to);
        });
      });
    });
  },
  'slow-links': (scene) => {
    const rule = { delayMs: between(scene.prng, [10, 150]) };
    return network(
      scene,
      scene.arena.members,
      () => setRule(scene.arena.members, rule),
      `${rule.delayMs} ms`,
    );
  },
  'narrow-links': (scene) => {
    const member = draw(scene.prng, scene.arena.members);
    const rule = { bytesPerSecond: between(scene.prng, [20_000, 200_000]) };
    const install = (): void => {
      setRule([member], rule);
      for (const other of scene.arena.cluster.others(member)) setRule([other], rule, member.name);
    };
    return network(scene, [member], install, `${rule.bytesPerSecond} B/s`);
  },
  'flapping-link': (scene) => {
    const member = draw(scene.prng, scene.arena.members);
    return beating(scene, [member], async (signal) => {
      while (!signal.aborted) {
        scene.arena.cluster.isolate(member);
        await sleep(between(scene.prng, [50, 700]), signal);
        scene.arena.healNetwork();
        await sleep(between(scene.prng, [50, 700]), signal);
      }
      scene.arena.healNetwork();
    });
  },
  'reset-links': (scene) => {
    return beating(scene, scene.arena.members, async (signal) => {
      while (!signal.aborted) {
        draw(scene.prng, scene.arena.members).proxy?.reset();
        await sleep(between(scene.prng, [50, 500]), signal);
      }
    });
  },
  'reset-mid-frame': (scene) => {
    return beating(scene, scene.arena.members, async (signal) => {
      while (!signal.aborted) {
        const member = draw(scene.prng, scene.arena.members);
        member.proxy?.resetAfter(1 + scene.prng.below(4_000));
        await sleep(between(scene.prng, [30, 200]), signal);
      }
      scene.arena.healNetwork();
    });
  },
  'client-cut': (scene) => {
    const member = draw(scene.prng, scene.arena.members);
    return doors(scene, [member], () => scene.arena.door(member).cut());
  },
  'client-slow': (scene) => {
    const member = draw(scene.prng, scene.arena.members);
    const rule = { delayMs: between(scene.prng, [20, 200]) };
    return doors(scene, [member], () => {
      for (const way of ['forward', 'backward'] as const) scene.arena.door(member).set(way, rule);
    });
  },
  'client-reset': (scene) => {
    return beating(scene, scene.arena.members, async (signal) => {
      while (!signal.aborted) {
        const door = scene.arena.door(draw(scene.prng, scene.arena.members));
        if (scene.prng.chance(0.5)) door.reset();
        else door.resetAfter(1 + scene.prng.below(2_000));
        await sleep(between(scene.prng, [50, 300]), signal);
      }
      scene.arena.healDoors();
    });
  },
  'disk-sync-error': (scene) => {
    return failingDisk(scene, { operation: 'fsync', what: 'EIO', path: '/wal/', count: 1 });
  },
  'disk-write-error': (scene) => {
    return failingDisk(scene, { operation: 'write', what: 'EIO', path: '/wal/', count: 1 });
  },
  'disk-full': (scene) => {
    return failingDisk(scene, { operation: 'write', what: 'ENOSPC', path: '/wal/' });
  },
  'disk-torn-write': (scene) => {
    return failingDisk(scene, { operation: 'write', what: 'TORN', path: '/wal/' });
  },
  'disk-slow': (scene) => {
    const member = draw(scene.prng, someFree(scene));
    return slowDisk(scene, member, between(scene.prng, [20, 200]));
  },
  'disk-hang-leader': async (scene) => slowDisk(scene, await freeLeader(scene), 600_000),
  'clock-wall-jump': wallJump,
  'clock-monotonic-jump': (scene) => {
    const member = draw(scene.prng, scene.arena.members);
    const ms = between(scene.prng, [1_000, 30_000]);
    return {
      targets: [member.name],
      note: `${ms} ms ahead`,
      install: () => scene.arena.clocks.get(member)?.advanceMonotonic(ms),
      lift: () => undefined,
    };
  },
  'compact-behind': (scene) => compaction(scene, 50 + scene.prng.below(500)),
  'compact-head': (scene) => compaction(scene, 0),
  'transfer-leader': async (scene) => {
    const leader = await leaderOf(scene);
    const to = draw(scene.prng, scene.arena.cluster.others(leader));
    return {
      targets: [leader.name, to.name],
      install: () => transfer(leader, to),
      lift: () => undefined,
    };
  },
  'transfer-storm': (scene) => {
    return beating(scene, scene.arena.members, async (signal) => {
      while (!signal.aborted) {
        const leader = await scene.arena.findLeader(500);
        if (leader !== null) {
          await transfer(leader, draw(scene.prng, scene.arena.cluster.others(leader)));
        }
        await sleep(between(scene.prng, [100, 500]), signal);
      }
    });
  },
  'member-join-leave': joinAndLeave,
  'member-replace': async (scene) => replacement(scene, await freeFollower(scene)),
  'replace-certificates': replaceCertificates,
};

// ---------------------------------------------------------------- who

function draw<T>(prng: Prng, from: readonly T[]): T {
  const drawn = from[prng.below(from.length)];
  if (drawn === undefined) throw new Skip('nobody is left to choose from');
  return drawn;
}

function shuffled<T>(prng: Prng, values: readonly T[]): T[] {
  const left = [...values];
  return values.map(() => left.splice(prng.below(left.length), 1)[0] as T);
}

function minority({ arena }: Scene): number {
  return Math.floor((arena.members.length - 1) / 2);
}

async function leaderOf({ arena }: Scene): Promise<Member> {
  const leader = await arena.findLeader();
  if (leader === null) throw new Skip('nobody leads');
  return leader;
}

async function followerOf(scene: Scene): Promise<Member> {
  return draw(scene.prng, scene.arena.cluster.others(await leaderOf(scene)));
}

function someFree({ arena }: Scene): readonly Member[] {
  if (arena.free.length === 0) throw new Skip('all members are under another fault');
  return arena.free;
}

function allFree({ arena }: Scene): readonly Member[] {
  if (arena.free.length < arena.members.length) throw new Skip('a member is under another fault');
  return arena.free;
}

async function freeLeader(scene: Scene): Promise<Member> {
  const leader = await leaderOf(scene);
  if (!scene.arena.free.includes(leader)) throw new Skip('the leader is under another fault');
  return leader;
}

async function freeFollower(scene: Scene): Promise<Member> {
  const leader = await leaderOf(scene);
  return draw(
    scene.prng,
    someFree(scene).filter((member) => member !== leader),
  );
}

function drawOthers(scene: Scene, than: Member, count: number): Member[] {
  const others = scene.arena.free.filter((member) => member !== than);
  if (others.length < count) throw new Skip('too few members are free');
  return shuffled(scene.prng, others).slice(0, count);
}

// ---------------------------------------------------------------- how

function namesOf(members: readonly Member[]): string[] {
  return members.map((member) => member.name);
}

/** Waits, or less long when the fault is lifted. */
async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  await pause(ms, undefined, { signal }).catch(() => undefined);
}

/** A fault that goes on by itself; lifting it waits until its last move is made. */
function beating(_scene: Scene, members: readonly Member[], beat: Beat): Prepared {
  const end = new AbortController();
  let running: Promise<void> | null = null;
  return {
    targets: namesOf(members),
    install: () => {
      running = beat(end.signal);
      running.catch(() => undefined);
    },
    lift: async () => {
      end.abort();
      await running;
    },
  };
}

function killing({ arena }: Scene, victims: readonly Member[]): Prepared {
  arena.claim(victims);
  return {
    targets: namesOf(victims),
    install: async () => {
      await Promise.all(victims.map((victim) => arena.kill(victim)));
    },
    lift: async () => {
      for (const victim of victims) arena.launch(victim);
      await Promise.all(victims.map((victim) => arena.waitReady(victim, 10_000)));
      arena.release(victims);
    },
  };
}

function killStorm(scene: Scene, victim: Member): Prepared {
  const { arena, prng } = scene;
  arena.claim([victim]);
  const storm = beating(scene, [victim], async (signal) => {
    while (!signal.aborted) {
      await arena.kill(victim);
      arena.launch(victim);
      await sleep(between(prng, [50, 600]), signal);
    }
  });
  return {
    ...storm,
    lift: async () => {
      await storm.lift();
      await arena.waitReady(victim, 10_000);
      arena.release([victim]);
    },
  };
}

function cleanExit({ code, signal }: { code: number | null; signal: string | null }): boolean {
  return code === 0 && signal === null;
}

function stopping({ arena }: Scene, victim: Member): Prepared {
  arena.claim([victim]);
  return {
    targets: [victim.name],
    install: async () => {
      arena.expectExit(victim, cleanExit);
      await victim.terminate();
    },
    lift: async () => {
      arena.launch(victim);
      await arena.waitReady(victim, 10_000);
      arena.release([victim]);
    },
  };
}

function rollingRestart(scene: Scene): Prepared {
  const { arena, prng } = scene;
  const all = shuffled(prng, allFree(scene));
  arena.claim(all);
  return {
    targets: namesOf(all),
    install: async () => {
      for (const member of all) {
        arena.expectExit(member, cleanExit);
        await member.terminate();
        arena.launch(member);
        await arena.waitReady(member, 20_000);
        await pause(300);
      }
    },
    lift: () => arena.release(all),
  };
}

function pausing({ arena }: Scene, victims: readonly Member[]): Prepared {
  arena.claim(victims);
  return {
    targets: namesOf(victims),
    install: () => {
      for (const victim of victims) arena.freeze(victim);
    },
    lift: () => {
      for (const victim of victims) arena.thaw(victim);
      arena.release(victims);
    },
  };
}

function blinking(scene: Scene, victim: Member): Prepared {
  const { arena, prng } = scene;
  arena.claim([victim]);
  const blinks = beating(scene, [victim], async (signal) => {
    while (!signal.aborted) {
      arena.freeze(victim);
      await sleep(between(prng, [100, 900]), signal);
      arena.thaw(victim);
      await sleep(between(prng, [50, 400]), signal);
    }
  });
  return {
    ...blinks,
    lift: async () => {
      await blinks.lift();
      arena.release([victim]);
    },
  };
}

function network(
  { arena }: Scene,
  members: readonly Member[],
  install: () => void,
  note?: string,
): Prepared {
  const lift = (): void => arena.healNetwork();
  return { targets: namesOf(members), install, lift, ...(note === undefined ? {} : { note }) };
}

/** The group and the others hear nothing of each other. */
function isolation(scene: Scene, group: readonly Member[]): Prepared {
  const { cluster, members } = scene.arena;
  return network(scene, group, () => {
    for (const inside of group) {
      for (const outside of members.filter((member) => !group.includes(member))) {
        cluster.cutLink(inside, outside);
        cluster.cutLink(outside, inside);
      }
    }
  });
}

function oneWay(scene: Scene, member: Member, how: 'mute' | 'deaf'): Prepared {
  const { cluster } = scene.arena;
  return network(scene, [member], () => {
    for (const other of cluster.others(member)) {
      if (how === 'mute') cluster.cutLink(member, other);
      else cluster.cutLink(other, member);
    }
  });
}

function setRule(members: readonly Member[], rule: Rule, dialer?: string): void {
  const ways: readonly Direction[] = ['forward', 'backward'];
  for (const member of members) for (const way of ways) member.proxy?.set(way, rule, dialer);
}

function doors({ arena }: Scene, members: readonly Member[], install: () => void): Prepared {
  return { targets: namesOf(members), install, lift: () => arena.healDoors() };
}

/** The member may end by itself, with the exit code for failing surroundings. */
function failingDisk(scene: Scene, fault: DiskFault): Prepared {
  const { arena, prng } = scene;
  const victim = draw(prng, someFree(scene));
  const disk = arena.disks.get(victim);
  if (disk === undefined) throw new Skip('the members run without the failing disk');
  arena.claim([victim]);
  return {
    targets: [victim.name],
    install: () => {
      arena.expectExit(victim, ({ code }) => code === FATAL_EXIT || code === TORN_EXIT);
      disk.arm(fault);
    },
    lift: async () => {
      disk.disarm();
      // What has failed already ends the member in a moment.
      await pause(200);
      if (victim.isRunning) await arena.kill(victim);
      arena.launch(victim);
      await arena.waitReady(victim, 10_000);
      arena.release([victim]);
    },
  };
}

function slowDisk({ arena }: Scene, victim: Member, ms: number): Prepared {
  const disk = arena.disks.get(victim);
  if (disk === undefined) throw new Skip('the members run without the failing disk');
  arena.claim([victim]);
  return {
    targets: [victim.name],
    install: () => disk.arm({ operation: 'fsync', what: `SLEEP:${ms}`, path: '/wal/' }),
    lift: () => {
      disk.disarm();
      arena.release([victim]);
    },
  };
}

/** Up to ten years to either side, for each member its own. */
function wallJump({ arena, prng }: Scene): Prepared {
  const scales = [5_000, 3_600_000, 315_360_000_000];
  const jumps = arena.members.map(() => {
    const scale = draw(prng, scales);
    return between(prng, [-scale, scale]);
  });
  return {
    targets: namesOf(arena.members),
    note: jumps.map((ms) => `${Math.round(ms / 1_000)} s`).join(', '),
    install: () => {
      arena.members.forEach((member, place) => {
        arena.clocks.get(member)?.setWall(jumps[place] ?? 0);
      });
    },
    lift: () => {
      for (const clock of arena.clocks.values()) clock.setWall(0);
    },
  };
}

/** What is compacted is read into the archive first: the checks need the whole history. */
async function compaction({ arena, archive }: Scene, behind: number): Promise<Prepared> {
  await archive.advance(arena.cluster.running);
  const revision = Math.max(2, archive.revision - behind);
  const member = arena.members.find((each) => each.isRunning);
  if (member === undefined || archive.revision < 2) throw new Skip('nobody can compact now');
  return {
    targets: [member.name],
    note: `at revision ${revision}`,
    install: () => archive.compact(member, revision),
    lift: () => undefined,
  };
}

/** A refusal is no failure: the leader may have changed, the target may be down. */
async function transfer(leader: Member, to: Member): Promise<void> {
  try {
    const target = { targetID: to.id };
    await leader.api.call('/v3/maintenance/transfer-leadership', target, 3_000);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}

async function joinAndLeave({ arena, step }: Scene): Promise<Prepared> {
  const guest = await makeGuest(arena, `guest${step.number}`);
  return {
    targets: [guest.name],
    install: async () => {
      arena.welcome(guest);
      await untilVoting(arena, guest);
    },
    lift: () => dismissGuest(arena, guest),
  };
}

function replacement({ arena }: Scene, victim: Member): Prepared {
  arena.claim([victim]);
  return {
    targets: [victim.name],
    install: () => replace(arena, victim),
    lift: async () => {
      await untilVoting(arena, victim);
      arena.release([victim]);
    },
  };
}

/**
 * One member after the other, with its peers made to connect anew; whoever runs then has to show the new
 * certificate to new callers, and the connections of clients go on.
 */
function replaceCertificates({ arena, prng }: Scene): Prepared {
  const all = shuffled(prng, arena.members);
  const certificates = testCertificates();
  return {
    targets: namesOf(all),
    install: async () => {
      for (const { name, proxy } of all) {
        await certificates.renew(name);
        proxy?.reset();
        await pause(between(prng, [100, 1_000]));
      }
    },
    lift: async () => {
      for (const member of all) {
        // Who is down or frozen now reads them later.
        const isAwake = (): boolean => arena.free.includes(member);
        await waitFor(`the new certificate of ${member.name}`, CERTIFICATE_MS, async () => {
          if (!isAwake()) return true;
          return (
            (await certificateAt(member.clientPort)) === certificates.fingerprintOf(member.name)
          );
        });
      }
    },
  };
}

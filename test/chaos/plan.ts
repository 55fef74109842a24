/**
 * The plan of a run, derived from its seed: which faults at which times, how long, and with which
 * options the members run. Pure: the same request gives the same plan, so a run is repeated in its
 * plan by its flags; its interleavings are those of the machine.
 *
 * Kinds are drawn from a bag that holds each of them (by its weight) and is filled again when empty,
 * so that every kind comes up before one comes up too often. Between two faults the cluster gets time
 * to recover, because the time to the next accepted write is measured; some faults get a second one of
 * another class into their middle.
 *
 * Victims are named by role and drawn when the fault comes, from `dice`: who leads is not known here.
 */
import { Prng } from '../../src/prng.js';
import { type FaultName, kindOf } from './fault-kinds.js';

export interface PlanStep {
  readonly number: number;
  /** Start, in ms after the beginning of the faults. */
  readonly at: number;
  readonly holdMs: number;
  readonly fault: FaultName;
  /** Decides everything that is drawn when the fault comes. */
  readonly dice: number;
  /** The step into whose middle this one falls. */
  readonly within?: number;
}

export interface Plan {
  readonly seed: number;
  readonly members: number;
  /** TLS on all ports, with certificates of members and clients. */
  readonly tls: boolean;
  readonly durationMs: number;
  readonly faults: readonly FaultName[];
  /** Flags of every member. */
  readonly flags: readonly string[];
  readonly steps: readonly PlanStep[];
}

export interface PlanRequest {
  readonly seed: number;
  readonly members: number;
  readonly tls: boolean;
  readonly durationMs: number;
  readonly faults: readonly FaultName[];
}

const FIRST_MS = 500;
/** Between the end of a fault and the next one. */
const CALM_MS = [1_500, 4_000] as const;
const OVERLAP = 0.45;
/** An overlapping fault shows little when less is left of the first one. */
const OVERLAP_ROOM_MS = 1_000;

export function makePlan(request: PlanRequest): Plan {
  const prng = new Prng(request.seed);
  const usable = request.faults.filter((name) => {
    const { members = 3, tls = false } = kindOf(name);
    return members <= request.members && (request.tls || !tls);
  });
  const bag = new Bag(usable, prng);
  const steps: PlanStep[] = [];
  const flags = chooseFlags(prng);
  let at = FIRST_MS;
  while (usable.length > 0) {
    const fault = bag.take();
    const holdMs = between(prng, kindOf(fault).hold);
    if (at + holdMs > request.durationMs) break;
    const number = steps.length + 1;
    steps.push({ number, at, holdMs, fault, dice: prng.u32() });
    const second = prng.chance(OVERLAP) ? bag.takeOther(fault) : null;
    if (second !== null && holdMs >= OVERLAP_ROOM_MS) {
      const start = at + Math.round(holdMs * (0.2 + 0.4 * (prng.below(1_000) / 1_000)));
      const hold = Math.min(between(prng, kindOf(second).hold), request.durationMs - start);
      const dice = prng.u32();
      steps.push({
        number: number + 1,
        at: start,
        holdMs: hold,
        fault: second,
        dice,
        within: number,
      });
      at = Math.max(at + holdMs, start + hold);
    } else {
      at += holdMs;
    }
    at += between(prng, CALM_MS);
  }
  const { seed, members, tls, durationMs } = request;
  return { seed, members, tls, durationMs, faults: usable, flags, steps };
}

/** Small limits, so that snapshots, installs and new files of the log happen within minutes. */
function chooseFlags(prng: Prng): string[] {
  const pick = (values: readonly number[]): string => String(values[prng.below(values.length)]);
  return [
    ...['--snapshot-count', pick([200, 1_000, 5_000])],
    ...['--snapshot-catchup-entries', pick([20, 200, 2_000])],
    ...['--watch-progress-notify-interval', '1s'],
  ];
}

export function between(prng: Prng, [from, to]: readonly [number, number]): number {
  return from + prng.below(to - from + 1);
}

/** Draws without putting back until everything has come up. */
class Bag {
  private readonly names: readonly FaultName[];
  private readonly prng: Prng;
  private left: FaultName[] = [];

  constructor(names: readonly FaultName[], prng: Prng) {
    this.names = names;
    this.prng = prng;
  }

  take(): FaultName {
    return this.takeFrom(() => true) as FaultName;
  }

  /** One of another class; null when there is none. */
  takeOther(than: FaultName): FaultName | null {
    return this.takeFrom((name) => kindOf(name).class !== kindOf(than).class);
  }

  private takeFrom(wanted: (name: FaultName) => boolean): FaultName | null {
    let places = this.places(wanted);
    if (places.length === 0) {
      this.left.push(...this.names.flatMap((name) => Array(kindOf(name).weight ?? 1).fill(name)));
      places = this.places(wanted);
    }
    const place = places[this.prng.below(places.length)];
    return place === undefined ? null : (this.left.splice(place, 1)[0] ?? null);
  }

  private places(wanted: (name: FaultName) => boolean): number[] {
    return this.left.flatMap((name, place) => (wanted(name) ? [place] : []));
  }
}

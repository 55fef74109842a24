/**
 * How often one user may ask: `--rate-per-user`, a bucket of tokens for each, filled at that rate and as
 * large as a second of it. Asked by access.ts, which stands in front of the services of both faces: what
 * members say to each other, a forwarded write among it, does not come by and is not counted twice. Each
 * member counts for itself.
 *
 * Who has shown that it is a user is counted by that name, whatever its address; anybody else by its
 * address (clientKey), all callers on a socket in the file system together. Somebody who logs in is not the
 * user yet: a stranger cannot use up what a user may.
 *
 * Not counted: what keeps alive what is there. To refuse the renewal of a lease would take from its owner
 * what it holds (clients of etcd give a lease up then), and a load balancer would take the refusal of its
 * health check for a member that is down. Of a watch its creation counts.
 *
 * Bound: BUCKETS_MAX users. The one that has been silent for longest is forgotten first, which gives it a
 * full bucket; whoever has that many addresses is not held by a limit on each.
 */
import { clientKey } from '../address.js';
import type { Actor } from '../auth/actor.js';
import { KvError } from '../errors.js';
import type { Counter } from '../metrics.js';
import type { Caller } from './caller.js';

const BUCKETS_MAX = 65_536;

const WATCH = 'etcdserverpb.Watch/Watch';
const NOT_COUNTED = /^etcdserverpb\.Lease\/LeaseKeepAlive$|^grpc\./;

interface Bucket {
  tokens: number;
  /** Monotonic ms. */
  filledAt: number;
}

export class RequestRate {
  private readonly perSecond: number;
  private readonly refused: Counter;
  private readonly bucketsMax: number;
  /** In the order of their last use. */
  private readonly buckets = new Map<string, Bucket>();

  constructor(perSecond: number, refused: Counter, bucketsMax = BUCKETS_MAX) {
    this.perSecond = perSecond;
    this.refused = refused;
    this.bucketsMax = bucketsMax;
  }

  /** Counts a request; null if it may go on. `now` is in monotonic ms. */
  refusal(
    method: string,
    request: object,
    who: { readonly actor: Actor; readonly caller: Caller },
    now: number,
  ): KvError | null {
    if (!isCounted(method, request)) return null;
    const { actor, caller } = who;
    const isUser = actor !== null && actor !== 'member';
    const isTaken = this.take(
      isUser ? `user ${actor.user}` : `address ${clientKey(caller.address)}`,
      now,
    );
    if (isTaken) return null;
    this.refused.value += 1;
    const name = isUser ? `user ${actor.user}` : caller.address || 'the socket';
    return new KvError(
      'OVERLOADED',
      `${name} asks more often than --rate-per-user ${this.perSecond}; slow down and retry`,
    );
  }

  private take(name: string, now: number): boolean {
    const { buckets, perSecond } = this;
    const bucket = buckets.get(name) ?? { tokens: perSecond, filledAt: now };
    buckets.delete(name);
    buckets.set(name, bucket);
    if (buckets.size > this.bucketsMax) buckets.delete(buckets.keys().next().value as string);
    const filled = bucket.tokens + ((now - bucket.filledAt) * perSecond) / 1000;
    bucket.tokens = Math.min(perSecond, filled);
    bucket.filledAt = now;
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
  }
}

function isCounted(method: string, request: object): boolean {
  if (method === WATCH)
    return (request as { readonly createRequest?: object }).createRequest != null;
  return !NOT_COUNTED.test(method);
}

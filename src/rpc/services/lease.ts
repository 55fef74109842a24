/**
 * The Lease service. Grants and revokes go through the log; renewals are a question to the leader and
 * leave no trace in it.
 *
 * A renewal of an unknown lease is answered without a TTL, never by an error: clients take the mere
 * presence of TTL for "alive".
 */
import { asError, KvError } from '../../errors.js';
import type { Int64 } from '../../int64.js';
import { refusalOfLease } from '../../kv/authorize.js';
import { checkLeaseGrant, MAX_LEASE_TTL_SECONDS } from '../../kv/validate.js';
import type { NodeFace, RequestContext } from '../../node.js';
import { assertAllowed } from '../access.js';
import type { ResponseSink, StreamSession } from '../api/handler.js';
import type { Decoded, Encodable, Header } from '../api/schema.js';
import { currentHeader, header } from './header.js';

/** Renewals of one stream that wait for their answer; the next ones wait in the stream, until half are left. */
const PENDING_RENEWALS_MAX = 256;

export async function leaseGrant(
  node: NodeFace,
  request: Decoded<'LeaseGrantRequest'>,
  context: RequestContext,
): Promise<Encodable<'LeaseGrantResponse'>> {
  const ttl = Math.max(Number(request.TTL), node.minLeaseTtl);
  const error = checkLeaseGrant(ttl);
  if (error !== null) throw new KvError(error, `a TTL is at most ${MAX_LEASE_TTL_SECONDS} seconds`);
  const id = request.ID === 0 ? node.newLeaseId() : request.ID;
  const { revision } = await node.propose({ kind: 'leaseGrant', id, ttl }, context);
  return { header: header(node, revision), ID: id, TTL: ttl };
}

export async function leaseRevoke(
  node: NodeFace,
  request: Decoded<'LeaseRevokeRequest'>,
  context: RequestContext,
): Promise<Encodable<'LeaseRevokeResponse'>> {
  const { revision } = await node.propose({ kind: 'leaseRevoke', id: request.ID }, context);
  return { header: header(node, revision) };
}

export async function leaseTimeToLive(
  node: NodeFace,
  request: Decoded<'LeaseTimeToLiveRequest'>,
  context: RequestContext,
): Promise<Encodable<'LeaseTimeToLiveResponse'>> {
  const { ttl, grantedTtl, keys } = await node.leaseTimeToLive(request.ID, request.keys, context);
  return { header: currentHeader(node), ID: request.ID, TTL: ttl, grantedTTL: grantedTtl, keys };
}

/** From this member's own state: may miss what others have applied already. Who lists them all could learn
 *  of each, so it needs the right to read all keys that hang on any. */
export async function leaseLeases(
  node: NodeFace,
  _request: Decoded<'LeaseLeasesRequest'>,
  context: RequestContext,
): Promise<Encodable<'LeaseLeasesResponse'>> {
  // Half of an entry may have taken away just the keys that forbid it.
  await node.untilWhole(context);
  const { machine } = node;
  const list = machine.lessor.list();
  if (machine.auth.refusesAdmin(context.actor) !== null) {
    for (const { id } of list) assertAllowed(refusalOfLease(machine, context.actor, 'read', id));
  }
  const leases = list.map(({ id }) => ({ ID: id }));
  return { header: currentHeader(node), leases };
}

export function openKeepAlive(
  node: NodeFace,
  context: RequestContext,
  sink: ResponseSink<Encodable<'LeaseKeepAliveResponse'>>,
): StreamSession<Decoded<'LeaseKeepAliveRequest'>> {
  return new KeepAliveStream(node, context, sink);
}

interface Renewal {
  readonly id: Int64;
  /** Taken before the renewal, as etcd does: its revision is one that the client may know. */
  readonly header: Header;
  readonly ttl: Promise<number>;
}

/** Renewals run side by side; answers leave in the order of the requests. */
class KeepAliveStream implements StreamSession<Decoded<'LeaseKeepAliveRequest'>> {
  isFull = false;
  wasQuick = false;
  private readonly node: NodeFace;
  private readonly context: RequestContext;
  private readonly sink: ResponseSink<Encodable<'LeaseKeepAliveResponse'>>;
  private readonly renewals: Renewal[] = [];
  private answering = false;
  private paused = false;
  private noMoreRequests = false;
  private over = false;

  constructor(
    node: NodeFace,
    context: RequestContext,
    sink: ResponseSink<Encodable<'LeaseKeepAliveResponse'>>,
  ) {
    this.node = node;
    this.context = context;
    this.sink = sink;
  }

  handle(request: Decoded<'LeaseKeepAliveRequest'>): void {
    if (this.over) return;
    const { ID: id } = request;
    const header = currentHeader(this.node);
    this.wasQuick = false;
    if (this.renewals.length === 0 && !this.paused) {
      const ttl = this.node.renewLeaseNow(id, this.context);
      if (ttl !== null) {
        // With users on, all keys of the lease were looked at, to find out whether this one may.
        this.wasQuick = !this.node.machine.auth.enabled;
        this.paused = !this.sink.send({ header, ID: id, TTL: ttl });
        return;
      }
    }
    const { signal, requireLeader, actor } = this.context;
    const ttl = this.node.renewLease(
      id,
      this.node.context(undefined, signal, requireLeader, actor),
    );
    // Its failure is seen when its turn to be answered comes; until then it must not count as lost.
    ttl.catch(() => undefined);
    this.renewals.push({ id, header, ttl });
    this.isFull = this.renewals.length >= PENDING_RENEWALS_MAX;
    void this.answer();
  }

  requestsEnded(): void {
    this.noMoreRequests = true;
    void this.answer();
  }

  drained(): void {
    this.paused = false;
    void this.answer();
  }

  close(): void {
    this.over = true;
    this.renewals.length = 0;
  }

  private async answer(): Promise<void> {
    if (this.answering) return;
    this.answering = true;
    try {
      for (;;) {
        const renewal = this.renewals[0];
        if (renewal === undefined || this.paused || this.over) break;
        const ttl = await renewal.ttl;
        if (this.over) break;
        this.renewals.shift();
        this.paused = !this.sink.send({ header: renewal.header, ID: renewal.id, TTL: ttl });
        if (this.isFull && this.renewals.length <= PENDING_RENEWALS_MAX / 2) {
          this.isFull = false;
          this.sink.resume();
        }
      }
      if (this.noMoreRequests && this.renewals.length === 0) this.finish(null);
    } catch (error) {
      this.finish(asError(error));
    } finally {
      this.answering = false;
    }
  }

  private finish(error: Error | null): void {
    if (this.over) return;
    this.close();
    this.sink.end(error);
  }
}

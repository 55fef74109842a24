/**
 * The Maintenance service: the state of this one member, hashes, alarms, and moving the leader.
 *
 * Status and hashes speak of the member that is asked, without a quorum. Moving the leader and
 * defragmenting answer an empty message, without a header.
 */
import { KvError } from '../../errors.js';
import { AlarmType } from '../../kv/command.js';
import type { NodeFace, RequestContext } from '../../node.js';
import type { Decoded, Encodable } from '../api/schema.js';
import { ENUMS } from '../api/schema.js';
import { currentHeader, header } from './header.js';

/** The version of etcd's API that is served. Digits only: clients parse it. */
export const API_VERSION = '3.6.0';
const CLUSTER_VERSION = '3.6';
/** What etcd reads as a version: three numbers with what may follow them, or the first two alone. */
const VERSION = /^\d{1,18}\.\d{1,18}(?:\.\d{1,18}(?:-[0-9A-Za-z.-]*)?(?:\+[0-9A-Za-z.-]*)?)?$/;

export async function status(node: NodeFace): Promise<Encodable<'StatusResponse'>> {
  const state = node.status();
  const errors: string[] = node.hasLeader ? [] : ['etcdserver: no leader'];
  for (const { memberId, alarm } of node.machine.alarms) {
    errors.push(`memberID:${memberId} alarm:${ENUMS.AlarmType[alarm]} `);
  }
  return {
    header: currentHeader(node),
    version: API_VERSION,
    dbSize: state.dbSizeBytes,
    leader: state.leader,
    raftIndex: state.commitIndex,
    raftTerm: state.term,
    raftAppliedIndex: state.appliedIndex,
    errors,
    dbSizeInUse: state.dbSizeInUseBytes,
    isLearner: state.isLearner,
    storageVersion: API_VERSION,
    dbSizeQuota: node.machine.quotaBytes,
    downgradeInfo: {},
  };
}

export async function hash(
  node: NodeFace,
  _request: Decoded<'HashRequest'>,
  context: RequestContext,
): Promise<Encodable<'HashResponse'>> {
  const result = await node.hashKv(0, context);
  return { header: currentHeader(node), hash: result.hash };
}

export async function hashKv(
  node: NodeFace,
  request: Decoded<'HashKVRequest'>,
  context: RequestContext,
): Promise<Encodable<'HashKVResponse'>> {
  const { revision } = request;
  if (typeof revision === 'bigint' && revision > 0n) {
    throw new KvError('FUTURE_REVISION', `revision ${revision} is in the future`);
  }
  const result = await node.hashKv(revision > 0 ? Number(revision) : 0, context);
  return {
    header: currentHeader(node),
    hash: result.hash,
    // Clients of etcd know a store that was never compacted by -1.
    compactRevision: result.compactRevision > 0 ? result.compactRevision : -1,
    hashRevision: result.hashRevision,
  };
}

export async function alarm(
  node: NodeFace,
  request: Decoded<'AlarmRequest'>,
  context: RequestContext,
): Promise<Encodable<'AlarmResponse'>> {
  const type = alarmType(request.alarm);
  const action = ENUMS.AlarmAction[request.action];
  if (action === undefined) {
    throw new KvError('INVALID_ARGUMENT', `there is no alarm action ${request.action}`);
  }
  if (action === 'GET') {
    await node.linearize(context);
    return { header: currentHeader(node), alarms: raised(node, null, type) };
  }
  const memberId = request.memberID;
  // No member has such an id, so no alarm of it can be raised or be standing.
  const nothingToDo = type === AlarmType.None || typeof memberId === 'bigint';
  if (nothingToDo) return { header: currentHeader(node) };
  if (action === 'DEACTIVATE') await node.linearize(context);
  const before = raised(node, memberId, type);
  const { revision } = await node.propose(
    {
      kind: 'alarm',
      action: action === 'ACTIVATE' ? 'activate' : 'deactivate',
      memberId,
      alarm: type,
    },
    context,
  );
  const alarms = action === 'ACTIVATE' ? raised(node, memberId, type) : before;
  return { header: header(node, revision), alarms };
}

export async function moveLeader(
  node: NodeFace,
  request: Decoded<'MoveLeaderRequest'>,
  context: RequestContext,
): Promise<Encodable<'MoveLeaderResponse'>> {
  if (node.status().leader !== node.memberId) {
    throw new KvError('NOT_LEADER', 'only the leader hands its role over; ask the leader');
  }
  if (typeof request.targetID === 'bigint') {
    throw new KvError('BAD_TRANSFEREE', `no member has the id ${request.targetID}`);
  }
  await node.transferLeadership(request.targetID, context);
  return {};
}

export async function defragment(
  node: NodeFace,
  _request: Decoded<'DefragmentRequest'>,
  context: RequestContext,
): Promise<Encodable<'DefragmentResponse'>> {
  await node.defragment(context);
  return {};
}

/**
 * The files of kvd are those of no version of etcd, so there is no version to go back to: any target is
 * the wrong one. Calling off a downgrade that nobody began is no error; etcd 3.6 logs it and answers.
 */
export async function downgrade(
  node: NodeFace,
  { action, version }: Decoded<'DowngradeRequest'>,
  context: RequestContext,
): Promise<Encodable<'DowngradeResponse'>> {
  switch (ENUMS.DowngradeAction[action]) {
    case 'CANCEL':
      return { header: currentHeader(node), version: CLUSTER_VERSION };
    case 'VALIDATE':
    case 'ENABLE':
      if (!VERSION.test(version)) {
        throw new KvError('BAD_VERSION', `"${version}" is no version such as 3.5 or 3.5.0`);
      }
      await node.linearize(context);
      throw new KvError('NO_DOWNGRADE', `this cluster cannot be run by etcd ${version}`);
    default:
      throw new KvError('UNKNOWN_ACTION', `there is no downgrade action ${action}`);
  }
}

function alarmType(value: number): AlarmType {
  const types: readonly number[] = Object.values(AlarmType);
  if (!types.includes(value)) {
    throw new KvError('INVALID_ARGUMENT', `there is no alarm ${value}`);
  }
  return value as AlarmType;
}

/** Standing alarms; a member or type that is not given matches all. */
function raised(
  node: NodeFace,
  memberId: number | null,
  type: AlarmType,
): Encodable<'AlarmMember'>[] {
  return [...node.machine.alarms]
    .filter((each) => memberId === null || each.memberId === memberId)
    .filter((each) => type === AlarmType.None || each.alarm === type)
    .map((each) => ({ memberID: each.memberId, alarm: each.alarm }));
}

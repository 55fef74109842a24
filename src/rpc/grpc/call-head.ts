/**
 * What the headers of a gRPC request say (gRPC over HTTP/2, "Requests"): its method, encoding, deadline
 * and metadata, or why it is none.
 */
import type { CallWish } from '../call.js';
import { type Caller, withToken } from '../caller.js';
import { GrpcCode, type WireError, wireErrorOf } from '../error-mapping.js';
import type { HeaderField } from '../http2/header-table.js';
import type { RequestHead } from '../http2/message-head.js';

export interface CallHead extends CallWish {
  readonly encoding: string;
  /** Failures are to be told with all that is known of them (status.ts). */
  readonly wantsDetails: boolean;
}

export type HeadOutcome =
  | { readonly ok: true; readonly head: CallHead }
  | { readonly ok: false; readonly httpStatus: number; readonly error: WireError };

const NOT_GRPC = wireErrorOf(
  GrpcCode.INVALID_ARGUMENT,
  'this is not a gRPC request; the JSON gateway is served over HTTP/1.1',
);

const GRPC = /^application\/grpc(?:\+proto)?(?:;|$)/;

export function callHead(
  { method, fields, firstRegular }: RequestHead,
  connection: Caller,
): HeadOutcome {
  let contentType = '';
  let encoding = 'identity';
  let timeout: string | undefined;
  let clientApiVersion: string | undefined;
  let requireLeader = false;
  let wantsDetails = false;
  let token: string | undefined;
  // A gateway in front speaks for many clients: the name in its certificate is of none of them.
  let isOfProxy = false;
  let authorization: string | undefined;
  for (let at = firstRegular; at < fields.length; at += 1) {
    const { name, value } = fields[at] as HeaderField;
    switch (name) {
      case 'content-type':
        contentType = value;
        break;
      case 'grpc-encoding':
        encoding = value;
        break;
      case 'grpc-timeout':
        timeout = value;
        break;
      case 'client-api-version':
        clientApiVersion ??= value;
        break;
      case 'hasleader':
        requireLeader = value === 'true';
        break;
      case 'token':
        token = value;
        break;
      case 'authorization':
        authorization = value;
        break;
      case 'grpcgateway-accept':
        isOfProxy = true;
        break;
      case 'kvd-error-details':
        wantsDetails = value === 'true';
        break;
      default:
    }
  }
  if (method !== 'POST') return { ok: false, httpStatus: 405, error: NOT_GRPC };
  // Nearly all say just this.
  if (contentType !== 'application/grpc' && !GRPC.test(contentType)) {
    return { ok: false, httpStatus: 415, error: NOT_GRPC };
  }
  const own = isOfProxy ? { ...connection, commonName: null } : connection;
  const caller = withToken(own, token ?? authorization);
  const head = { timeout, requireLeader, clientApiVersion, encoding, wantsDetails, caller };
  return { ok: true, head };
}

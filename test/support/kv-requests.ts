/** Short ways to write requests: everything that is not named has its default. */
import type {
  DeleteRangeRequest,
  PutRequest,
  RangeRequest,
  RequestOp,
  TxnRequest,
} from '../../src/kv/request.js';

export function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}

export function put(key: string, value = '', fields: Partial<PutRequest> = {}): PutRequest {
  return {
    kind: 'put',
    key,
    value: bytesOf(value),
    lease: 0,
    prevKv: false,
    ignoreValue: false,
    ignoreLease: false,
    ...fields,
  };
}

export function del(key: string, rangeEnd = '', prevKv = false): DeleteRangeRequest {
  return { kind: 'deleteRange', key, rangeEnd, prevKv };
}

export function range(
  key: string,
  rangeEnd = '',
  fields: Partial<RangeRequest> = {},
): RangeRequest {
  return {
    kind: 'range',
    key,
    rangeEnd,
    limit: 0,
    revision: 0,
    sortOrder: 0,
    sortTarget: 0,
    keysOnly: false,
    countOnly: false,
    minModRevision: 0,
    maxModRevision: 0,
    minCreateRevision: 0,
    maxCreateRevision: 0,
    ...fields,
  };
}

export function txn(
  compare: TxnRequest['compare'],
  success: readonly RequestOp[],
  failure: readonly RequestOp[] = [],
): TxnRequest {
  return { kind: 'txn', compare, success, failure };
}

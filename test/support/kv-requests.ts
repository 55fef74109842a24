/** Short ways to write requests: everything that is not named has its default. */
import {
  type DeleteRangeRequest,
  type PutRequest,
  type RangeRequest,
  type RequestOp,
  rangeOf,
  type TxnRequest,
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
  return rangeOf({ key, rangeEnd, ...fields });
}

export function txn(
  compare: TxnRequest['compare'],
  success: readonly RequestOp[],
  failure: readonly RequestOp[] = [],
): TxnRequest {
  return { kind: 'txn', compare, success, failure };
}

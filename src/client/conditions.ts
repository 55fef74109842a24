/**
 * The parts of a transaction in few words. Conditions compare one key each and must all hold; the
 * operations of `success` or of `failure` are done as one.
 *
 *   client.txn({
 *     compare: [when('config/a', 'MOD', '=', seen)],
 *     success: [put('config/a', 'new')],
 *     failure: [get('config/a')],
 *   })
 */
import type { Int64 } from '../int64.js';
import type {
  BytesInput,
  Compare,
  CompareResult,
  KeyRange,
  PutOptions,
  RangeRequest,
  RequestOp,
} from './messages.js';

const RESULTS = {
  '=': 'EQUAL',
  '!=': 'NOT_EQUAL',
  '<': 'LESS',
  '>': 'GREATER',
} as const satisfies Record<string, CompareResult>;

export type Comparison = keyof typeof RESULTS;

/** Holds if the value of the key compares so. A key that does not exist has no value: it never does. */
export function when(
  key: BytesInput,
  target: 'VALUE',
  comparison: Comparison,
  operand: BytesInput,
): Compare;
/** Holds if this number of the key compares so. Of a key that does not exist, all are 0. */
export function when(
  key: BytesInput,
  target: 'VERSION' | 'CREATE' | 'MOD' | 'LEASE',
  comparison: Comparison,
  operand: Int64,
): Compare;
export function when(
  key: BytesInput,
  target: Compare['target'],
  comparison: Comparison,
  operand: BytesInput | Int64,
): Compare {
  return { key, target, result: RESULTS[comparison], operand } as Compare;
}

export function whenExists(key: BytesInput): Compare {
  return when(key, 'CREATE', '>', 0);
}

export function whenMissing(key: BytesInput): Compare {
  return when(key, 'CREATE', '=', 0);
}

export function put(key: BytesInput, value: BytesInput, options: PutOptions = {}): RequestOp {
  return { type: 'put', put: { ...options, key, value } };
}

export function get(keys: BytesInput | RangeRequest): RequestOp {
  return { type: 'range', range: isBytes(keys) ? { key: keys } : keys };
}

export function remove(
  keys: BytesInput | KeyRange,
  options: { readonly prevKv?: boolean } = {},
): RequestOp {
  return { type: 'delete', delete: { ...(isBytes(keys) ? { key: keys } : keys), ...options } };
}

function isBytes(keys: BytesInput | KeyRange): keys is BytesInput {
  return typeof keys === 'string' || keys instanceof Uint8Array;
}

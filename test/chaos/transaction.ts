/**
 * Transactions of the shape that the workloads need: compare some keys, then put some, or read some
 * when a comparison fails.
 */
import { type HttpApi, type KeyValue, toBase64, toKeyValue } from '../support/http-api.js';

export interface Comparison {
  readonly key: string;
  /** Exactly one of these must be what the key has. */
  readonly modRevision?: number;
  readonly createRevision?: number;
  readonly value?: string;
}

export interface Transaction {
  readonly compare: readonly Comparison[];
  readonly puts: readonly (readonly [key: string, value: string])[];
  /** Read when the comparison fails. */
  readonly otherwise?: readonly string[];
}

export interface TransactionResult {
  readonly revision: number;
  readonly succeeded: boolean;
  /** What `otherwise` found, in its order; empty after success. */
  readonly seen: readonly (KeyValue | null)[];
}

type Json = Record<string, unknown>;

export async function transact(api: HttpApi, wish: Transaction): Promise<TransactionResult> {
  const reply = await api.call('/v3/kv/txn', {
    compare: wish.compare.map(toCompare),
    success: wish.puts.map(([key, value]) => ({
      request_put: { key: toBase64(key), value: toBase64(value) },
    })),
    failure: (wish.otherwise ?? []).map((key) => ({ request_range: { key: toBase64(key) } })),
  });
  const succeeded = reply['succeeded'] === true;
  const responses = (reply['responses'] ?? []) as Json[];
  const seen = responses.map((response) => {
    const kvs = ((response['response_range'] as Json | undefined)?.['kvs'] ?? []) as unknown[];
    return kvs.length === 0 ? null : toKeyValue(kvs[0]);
  });
  const header = (reply['header'] ?? {}) as Json;
  return { revision: Number(header['revision'] ?? 0), succeeded, seen: succeeded ? [] : seen };
}

function toCompare({ key, modRevision, createRevision, value }: Comparison): Json {
  const target = { key: toBase64(key), result: 'EQUAL' };
  if (value !== undefined) return { ...target, target: 'VALUE', value: toBase64(value) };
  if (createRevision !== undefined) {
    return { ...target, target: 'CREATE', create_revision: String(createRevision) };
  }
  return { ...target, target: 'MOD', mod_revision: String(modRevision ?? 0) };
}

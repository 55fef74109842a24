/**
 * The streams of the API, each on one endpoint: bound to it, and over when it is. Below watcher.ts and
 * observer.ts, which make of them what outlives endpoints.
 */
import type { Decoded, Encodable, MessageName } from '../rpc/api/schema.js';
import type { Caller } from './caller.js';
import type { Endpoint } from './endpoints.js';
import type { KeyValue } from './key-value.js';
import type { BytesInput } from './messages.js';
import { OBSERVE, type Rpc, SNAPSHOT, WATCH } from './rpc-table.js';
import * as wire from './wire-messages.js';

export interface StreamOptions {
  readonly signal?: AbortSignal | undefined;
  readonly endpoint: Endpoint;
}

/** One watch, as the server sends it. */
export function watchStream(
  caller: Caller,
  request: Encodable<'WatchCreateRequest'>,
  options: StreamOptions,
): AsyncGenerator<wire.WatchMessage> {
  return stream(caller, WATCH, { createRequest: request }, wire.watchMessageIn, options);
}

/** The pair of each leader of an election as it comes. */
export function observeStream(
  caller: Caller,
  name: BytesInput,
  options: StreamOptions,
): AsyncGenerator<KeyValue> {
  return stream(caller, OBSERVE, { name: wire.keyText(name) }, wire.leaderPairIn, options);
}

/** A backup of the member, as the server sends it. One that knows no leader answers, too. */
export function snapshotStream(caller: Caller, options: StreamOptions): AsyncGenerator<Uint8Array> {
  const anyway = { ...options, requireLeader: false };
  return stream(caller, SNAPSHOT, {}, ({ blob }) => blob, anyway);
}

function stream<Q extends MessageName, A extends MessageName, T>(
  caller: Caller,
  { method }: Rpc<Q, A>,
  request: Encodable<Q>,
  read: (answer: Decoded<A>) => T,
  options: StreamOptions & { readonly requireLeader?: boolean },
): AsyncGenerator<T> {
  return caller.stream(method, request, read as (answer: object) => T, options);
}

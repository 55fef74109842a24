/**
 * Who leads an election, for as long as somebody wants to know: the pair of each leader as it comes,
 * across connections and members.
 *
 * Invariant: no pair is handed out twice in a row, although each new connection begins by telling the
 * leader of now.
 */
import type { Caller } from './caller.js';
import { ClientError } from './client-error.js';
import type { KeyValue } from './key-value.js';
import { pauseMs, sleep } from './limit.js';
import type { BytesInput } from './messages.js';
import { observeStream } from './streams.js';

export interface ObserveOptions {
  readonly signal?: AbortSignal | undefined;
  /** Fail when no endpoint can be reached for the first time, instead of trying for ever. */
  readonly failFast?: boolean | undefined;
  /** Told, once, when the server is lost; others are tried. */
  readonly onLost?: ((error: ClientError) => void) | undefined;
  /** Told when another one, or the same again, has a leader to tell. */
  readonly onRegained?: ((endpoint: string) => void) | undefined;
}

export async function* observe(
  caller: Caller,
  name: BytesInput,
  options: ObserveOptions,
): AsyncGenerator<KeyValue> {
  const { ring } = caller;
  const { signal } = options;
  let told = '';
  let isLost = false;
  let failures = 0;
  const isStopped = (): boolean => signal?.aborted === true;
  while (!isStopped()) {
    const endpoint = ring.current;
    try {
      for await (const kv of observeStream(caller, name, { endpoint, signal })) {
        failures = 0;
        if (isLost) options.onRegained?.(endpoint.name);
        isLost = false;
        const version = `${kv.createRevision}.${kv.modRevision}`;
        if (version !== told) yield kv;
        told = version;
      }
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      if (isStopped() || error.code === 'CLOSED') return;
      const isFirst = told === '' && failures + 1 >= ring.all.length;
      if (!error.retryable || (isFirst && options.failFast === true)) throw error;
      if (!isLost) options.onLost?.(error);
      isLost = true;
    }
    ring.failed(endpoint);
    failures += 1;
    await sleep(pauseMs(failures), signal);
  }
}

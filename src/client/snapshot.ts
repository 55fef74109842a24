/**
 * A backup of a member as a program takes it: the bytes of a file, one part after the other, and at the end
 * the proof that they are all there.
 *
 * The server ends a snapshot with the SHA-256 of everything in front of it. It is among the bytes, because
 * the file must hold it, and it is compared before the loop ends; a loop that is left early has no backup.
 *
 * The endpoints are asked in turn until one sends something; from then on it is that one's snapshot, and it
 * cannot go on elsewhere. A server that sends nothing for a while loses the call; a slow loop only holds
 * the connection back.
 */
import { createHash } from 'node:crypto';
import { copyBytes, equalBytes } from '../bytes.js';
import type { Caller } from './caller.js';
import { ClientError } from './client-error.js';
import type { Endpoint } from './endpoints.js';
import { snapshotStream } from './streams.js';

const DIGEST_BYTES = 32;
const SILENCE_MS = 60_000;

export interface SnapshotOptions {
  readonly signal?: AbortSignal | undefined;
  /** Only this endpoint. */
  readonly endpoint?: string | undefined;
  /** How long the server may send nothing. Default 60 s. */
  readonly silenceMs?: number | undefined;
}

export async function* snapshot(
  caller: Caller,
  options: SnapshotOptions,
): AsyncGenerator<Uint8Array> {
  const { ring } = caller;
  const tries = options.endpoint === undefined ? ring.all.length : 1;
  for (let attempt = 1; ; attempt += 1) {
    const endpoint = options.endpoint === undefined ? ring.current : ring.named(options.endpoint);
    let hasBegun = false;
    try {
      for await (const part of fromOne(caller, endpoint, options)) {
        hasBegun = true;
        yield part;
      }
      return;
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      if (hasBegun || attempt >= tries || !error.retryable) throw error;
      ring.failed(endpoint);
    }
  }
}

async function* fromOne(
  caller: Caller,
  endpoint: Endpoint,
  { signal, silenceMs = SILENCE_MS }: SnapshotOptions,
): AsyncGenerator<Uint8Array> {
  const silence = new AbortController();
  const both = signal === undefined ? silence.signal : AbortSignal.any([signal, silence.signal]);
  const parts = snapshotStream(caller, { endpoint, signal: both });
  const check = new DigestCheck();
  try {
    for (;;) {
      const timer = setTimeout(() => silence.abort(), silenceMs);
      let next: IteratorResult<Uint8Array>;
      try {
        next = await parts.next();
      } finally {
        clearTimeout(timer);
      }
      if (next.done === true) break;
      check.add(next.value);
      yield next.value;
    }
  } catch (error) {
    if (!silence.signal.aborted || signal?.aborted === true) throw error;
    throw new ClientError('TIMEOUT', `${endpoint.name} sent nothing for ${silenceMs} ms`, {
      outcome: 'not-applied',
      retryable: true,
      endpoint: endpoint.name,
      cause: error,
    });
  } finally {
    await parts.return(undefined);
  }
  if (check.isWhole()) return;
  throw new ClientError(
    'UNEXPECTED_ANSWER',
    `the snapshot of ${endpoint.name} is damaged or cut short: its SHA-256 does not match`,
    { outcome: 'not-applied', endpoint: endpoint.name },
  );
}

/** Hashes all but the last bytes, which must be the hash. */
class DigestCheck {
  private readonly hash = createHash('sha256');
  private tail: Uint8Array = new Uint8Array(0);

  add(part: Uint8Array): void {
    if (part.length >= DIGEST_BYTES) {
      const cut = part.length - DIGEST_BYTES;
      this.hash.update(this.tail).update(part.subarray(0, cut));
      this.tail = copyBytes(part.subarray(cut));
      return;
    }
    const joined = Buffer.concat([this.tail, part]);
    const cut = Math.max(0, joined.length - DIGEST_BYTES);
    this.hash.update(joined.subarray(0, cut));
    this.tail = joined.subarray(cut);
  }

  isWhole(): boolean {
    return equalBytes(this.hash.digest(), this.tail);
  }
}

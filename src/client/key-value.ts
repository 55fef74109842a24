/**
 * One key with its value, as answers and events show it, with the two readings that most programs want.
 */
import { toUtf8 } from '../bytes.js';
import type { Int64 } from '../int64.js';

export interface KeyValueFields {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly createRevision: number;
  readonly modRevision: number;
  readonly version: number;
  readonly lease: Int64;
}

export class KeyValue implements KeyValueFields {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  /** Revision at which the key came into being, the last time it did. */
  readonly createRevision: number;
  /** Revision of its last change. */
  readonly modRevision: number;
  /** Number of changes since it came into being, that one included. */
  readonly version: number;
  /** 0 = no lease. */
  readonly lease: Int64;

  constructor(fields: KeyValueFields) {
    this.key = fields.key;
    this.value = fields.value;
    this.createRevision = fields.createRevision;
    this.modRevision = fields.modRevision;
    this.version = fields.version;
    this.lease = fields.lease;
  }

  /** The key as UTF-8 text. */
  get name(): string {
    return toUtf8(this.key);
  }

  /** The value as UTF-8 text. */
  text(): string {
    return toUtf8(this.value);
  }

  /** The value as JSON. Throws SyntaxError if it is none. */
  json<T = unknown>(): T {
    return JSON.parse(this.text()) as T;
  }
}

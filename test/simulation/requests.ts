/**
 * Requests as the services of a member take them, for the clients of the simulator and for the calls
 * that a run makes itself. Every field is spelled out, since nothing fills in what is missing on this
 * side of the wire.
 */
/** One way between a client and a member, in us. */
export const WIRE_US = 200;
export const LIMITS = { maxRequestBytes: 2 ** 20, maxTxnOps: 128 };

const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text));

export function putRequest(key: string, value: string, lease = 0) {
  return { key, value: bytes(value), lease, prevKv: true, ignoreValue: false, ignoreLease: false };
}

export function rangeRequest(key: string, rangeEnd = '', serializable = false, revision = 0) {
  return {
    ...{ key, rangeEnd, limit: 0, revision, sortOrder: 0, sortTarget: 0, serializable },
    ...{ keysOnly: false, countOnly: false, minModRevision: 0, maxModRevision: 0 },
    ...{ minCreateRevision: 0, maxCreateRevision: 0 },
  };
}

export function deleteRequest(key: string, rangeEnd = '') {
  return { key, rangeEnd, prevKv: true };
}

export const NO_OP = {
  requestRange: null,
  requestPut: null,
  requestDeleteRange: null,
  requestTxn: null,
};

export function compareMod(key: string, modRevision: number) {
  return {
    ...{ result: 0, target: 2, key, rangeEnd: '', modRevision },
    ...{ version: null, createRevision: null, value: null, lease: null },
  };
}

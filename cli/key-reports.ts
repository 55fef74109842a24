/**
 * What answers about keys look like, shared by get, put, del, txn and watch.
 */
import type { KeyValue } from '../src/client/key-value.js';
import type {
  DeleteResponse,
  PutResponse,
  RangeResponse,
  ResponseOp,
  TxnResponse,
  WatchEvent,
} from '../src/client/messages.js';
import type { JsonFields, Report, Table } from './output.js';
import { inlineBytes, jsonHeader, jsonKeyValue, leaseText, shownBytes } from './output.js';

export interface ShowOptions {
  readonly hex: boolean;
  readonly keysOnly?: boolean | undefined;
  readonly countOnly?: boolean | undefined;
  readonly printValueOnly?: boolean | undefined;
}

type Lines = (string | Uint8Array)[];

export function rangeReport(response: RangeResponse, show: ShowOptions): Report {
  return {
    simple: () => rangeLines(response, show),
    json: () => rangeJson(response),
    table: () => keyTable(response.kvs, show.hex),
  };
}

function rangeLines(response: RangeResponse, show: ShowOptions): Lines {
  if (show.countOnly === true) return [String(response.count)];
  return response.kvs.flatMap((kv) => {
    if (show.keysOnly === true) return [shownBytes(kv.key, show.hex)];
    const value = shownBytes(kv.value, show.hex);
    return show.printValueOnly === true ? [value] : [shownBytes(kv.key, show.hex), value];
  });
}

function rangeJson(response: RangeResponse): JsonFields {
  return {
    header: jsonHeader(response.header),
    kvs: response.kvs.map(jsonKeyValue),
    more: response.more,
    count: response.count,
  };
}

function keyTable(kvs: readonly KeyValue[], hex: boolean): Table {
  return {
    head: ['KEY', 'VALUE', 'CREATED', 'MODIFIED', 'VERSION', 'LEASE'],
    rows: kvs.map((kv) => [
      inlineBytes(kv.key, hex),
      inlineBytes(kv.value, hex),
      String(kv.createRevision),
      String(kv.modRevision),
      String(kv.version),
      kv.lease === 0 ? '' : leaseText(kv.lease),
    ]),
  };
}

function pairLines(kv: KeyValue | null, hex: boolean): Lines {
  return kv === null ? [] : [shownBytes(kv.key, hex), shownBytes(kv.value, hex)];
}

export function putReport(response: PutResponse, hex: boolean): Report {
  return {
    simple: () => ['OK', ...pairLines(response.prevKv, hex)],
    json: () => putJson(response),
    table: () => ({ head: ['REVISION'], rows: [[String(response.header.revision)]] }),
  };
}

function putJson(response: PutResponse): JsonFields {
  return {
    header: jsonHeader(response.header),
    prev_kv: response.prevKv === null ? undefined : jsonKeyValue(response.prevKv),
  };
}

export function deleteReport(response: DeleteResponse, hex: boolean): Report {
  return {
    simple: () => deleteLines(response, hex),
    json: () => deleteJson(response),
    table: () => ({ head: ['DELETED'], rows: [[String(response.deleted)]] }),
  };
}

function deleteLines(response: DeleteResponse, hex: boolean): Lines {
  return [String(response.deleted), ...response.prevKvs.flatMap((kv) => pairLines(kv, hex))];
}

function deleteJson(response: DeleteResponse): JsonFields {
  const prevKvs = response.prevKvs.map(jsonKeyValue);
  return {
    header: jsonHeader(response.header),
    deleted: response.deleted,
    prev_kvs: prevKvs.length === 0 ? undefined : prevKvs,
  };
}

export function txnReport(response: TxnResponse, hex: boolean): Report {
  return {
    simple: () => txnLines(response, hex),
    json: () => txnJson(response),
  };
}

function txnLines(response: TxnResponse, hex: boolean): Lines {
  const verdict = response.succeeded ? 'SUCCESS' : 'FAILURE';
  return [verdict, ...response.responses.flatMap((op) => ['', ...opLines(op, hex)])];
}

function opLines(op: ResponseOp, hex: boolean): Lines {
  switch (op.type) {
    case 'range':
      return rangeLines(op.range, { hex });
    case 'put':
      return ['OK', ...pairLines(op.put.prevKv, hex)];
    case 'delete':
      return deleteLines(op.delete, hex);
    case 'txn':
      return txnLines(op.txn, hex);
  }
}

function txnJson(response: TxnResponse): JsonFields {
  return {
    header: jsonHeader(response.header),
    succeeded: response.succeeded,
    responses: response.responses.map(opJson),
  };
}

function opJson(op: ResponseOp): JsonFields {
  switch (op.type) {
    case 'range':
      return { response_range: rangeJson(op.range) };
    case 'put':
      return { response_put: putJson(op.put) };
    case 'delete':
      return { response_delete_range: deleteJson(op.delete) };
    case 'txn':
      return { response_txn: txnJson(op.txn) };
  }
}

/** One event of a watch. A deletion has no value, and an empty line says so. */
export function eventReport(event: WatchEvent, hex: boolean): Report {
  return {
    simple: () => [event.type, ...pairLines(event.prevKv, hex), ...pairLines(event.kv, hex)],
    json: () => ({
      type: event.type,
      kv: jsonKeyValue(event.kv),
      prev_kv: event.prevKv === null ? undefined : jsonKeyValue(event.prevKv),
    }),
  };
}

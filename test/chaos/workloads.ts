/**
 * What the clients of a run do with keys. Every value that is written is written once in the whole
 * run under its key, so what is seen anywhere tells which call it comes from.
 *
 *     register  put, get, delete and swap of a few shared keys, through all members
 *     bank      transfers between accounts in one transaction: the total never changes
 *     append    lists that only grow, by a guarded write; also read all at once
 *     counter   each client counts its own key up, repeating a count until it is told it happened
 *     probe     writes through every member at a fixed rate, however many are open: shows when
 *               writes are accepted, and at what latency
 *
 * Keys of registers and lists change every few seconds, so that their histories stay short enough to
 * be searched.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { ApiError, HttpApi } from '../support/http-api.js';
import { type Client, type Door, isTold, toSeen } from './client.js';
import type { SeenPair } from './records.js';
import { transact } from './transaction.js';

export const BANK_TOTAL = 500;
export const BANK_ACCOUNTS = 5;
const REGISTER_KEYS = 3;
const REGISTER_PHASE_MS = 8_000;
const LISTS = 2;
const APPEND_PHASE_MS = 8_000;

/** A client and what it does in a loop. */
export interface Worker {
  readonly client: Client;
  readonly run: () => Promise<void>;
}

export function registerWorker(client: Client): Worker {
  const lastSeen = new Map<string, number>();
  let writes = 0;
  const turn = async (): Promise<void> => {
    const { prng } = client;
    const phase = Math.floor(client.recorder.now() / REGISTER_PHASE_MS);
    const key = `r/${phase}/${prng.below(REGISTER_KEYS)}`;
    const dice = prng.below(100);
    writes += 1;
    const value = `${client.number}.${writes}`;
    if (dice < 35) {
      const serializable = dice < 8;
      const told = await client.attempt({ op: 'get', key, serializable }, async (api) => {
        const { header, kvs } = await api.range(key, { serializable });
        return { revision: header.revision, reads: [toSeen(key, kvs[0])] };
      });
      if (isTold(told)) lastSeen.set(key, told.reads?.[0]?.[2] ?? 0);
    } else if (dice < 65) {
      const told = await client.attempt({ op: 'put', key, writes: [[key, value]] }, async (api) => {
        const { revision } = await api.put(key, value);
        return { revision, applied: true };
      });
      if (isTold(told)) lastSeen.set(key, told.revision ?? 0);
    } else if (dice < 73) {
      await client.attempt({ op: 'delete', key, writes: [[key, null]] }, async (api) => {
        const { header, deleted, previous } = await api.delete(key);
        const reads = [toSeen(key, previous[0])];
        return { revision: header.revision, applied: deleted > 0, reads };
      });
      lastSeen.set(key, 0);
    } else {
      const expected = lastSeen.get(key) ?? 0;
      const wish = { op: 'cas', key, expected, writes: [[key, value]] as const };
      const told = await client.attempt(wish, async (api) => {
        const { header, succeeded, seen } = await api.compareAndSwap(key, expected, value);
        const found = succeeded ? {} : { reads: [toSeen(key, seen)] };
        return { revision: header.revision, applied: succeeded, ...found };
      });
      if (isTold(told)) {
        lastSeen.set(key, (told.applied ? told.revision : told.reads?.[0]?.[2]) ?? 0);
      }
    }
  };
  return { client, run: () => client.run(turn, 20) };
}

export async function openBank(client: Client): Promise<void> {
  const share = BANK_TOTAL / BANK_ACCOUNTS;
  const puts = Array.from({ length: BANK_ACCOUNTS }, (_, account) => {
    return [`bank/${account}`, `${share} open`] as const;
  });
  for (let tries = 0; tries < 20; tries += 1) {
    const told = await client.attempt({ op: 'open', key: 'bank/', writes: puts }, async (api) => {
      const compare = [{ key: 'bank/0', createRevision: 0 }];
      const { revision, succeeded } = await transact(api, { compare, puts });
      return { revision, applied: succeeded };
    });
    if (isTold(told)) return;
  }
  throw new Error('the bank could not be opened');
}

export function bankWorker(client: Client): Worker {
  let transfers = 0;
  const turn = async (): Promise<void> => {
    const { prng } = client;
    const serializable = prng.chance(0.3);
    const wish = { op: 'read all', key: 'bank/', prefix: 'bank/', serializable };
    const told = await client.attempt(wish, async (api) => {
      const { header, kvs } = await api.range('bank/', { rangeEnd: 'bank0', serializable });
      return { revision: header.revision, reads: kvs.map((kv) => toSeen(kv.key, kv)) };
    });
    if (!isTold(told) || prng.chance(0.3)) return;
    const reads = told.reads ?? [];
    const from = reads[prng.below(reads.length)];
    const to = reads[prng.below(reads.length)];
    if (from === undefined || to === undefined || from === to) return;
    transfers += 1;
    await transfer(client, from, to, `${client.number}.${transfers}`);
  };
  return { client, run: () => client.run(turn, 40) };
}

export function balanceOf(value: string | null): number {
  return Number(value?.split(' ')[0] ?? Number.NaN);
}

async function transfer(client: Client, from: SeenPair, to: SeenPair, id: string): Promise<void> {
  const amount = 1 + client.prng.below(10);
  if (balanceOf(from[1]) < amount) return;
  const puts = [
    [from[0], `${balanceOf(from[1]) - amount} ${id}`],
    [to[0], `${balanceOf(to[1]) + amount} ${id}`],
  ] as const;
  const compare = [from, to].map(([key, , modRevision]) => ({ key, modRevision }));
  const wish = { op: 'transfer', key: `${from[0]} ${to[0]}`, writes: puts };
  await client.attempt(wish, async (api) => {
    const otherwise = [from[0], to[0]];
    const { revision, succeeded, seen } = await transact(api, { compare, puts, otherwise });
    const found = succeeded ? [from, to] : otherwise.map((key, at) => toSeen(key, seen[at]));
    return { revision, applied: succeeded, reads: found };
  });
}

export function appendWorker(client: Client): Worker {
  let elements = 0;
  const turn = async (): Promise<void> => {
    const { prng } = client;
    const prefix = `append/${Math.floor(client.recorder.now() / APPEND_PHASE_MS)}/`;
    const wish = { op: 'read all', key: prefix, prefix };
    const told = await client.attempt(wish, async (api) => {
      const { header, kvs } = await api.range(prefix, { rangeEnd: `${prefix.slice(0, -1)}0` });
      return { revision: header.revision, reads: kvs.map((kv) => toSeen(kv.key, kv)) };
    });
    if (!isTold(told)) return;
    elements += 1;
    const places = prng.chance(0.3) ? [0, 1] : [prng.below(LISTS)];
    const lists = places.map((place) => {
      const key = `${prefix}${place}`;
      return (told.reads ?? []).find(([each]) => each === key) ?? ([key, null, 0] as const);
    });
    const element = `${client.number}.${elements}`;
    const puts = lists.map(([key, value]) => {
      return [key, value === null ? element : `${value},${element}`] as const;
    });
    const compare = lists.map(([key, , modRevision]) => ({ key, modRevision }));
    const keys = lists.map(([key]) => key);
    const append = { op: 'append', key: keys.join(' '), writes: puts };
    await client.attempt(append, async (api) => {
      const { revision, succeeded, seen } = await transact(api, { compare, puts, otherwise: keys });
      const found = succeeded ? lists : keys.map((key, at) => toSeen(key, seen[at]));
      return { revision, applied: succeeded, reads: found };
    });
  };
  return { client, run: () => client.run(turn, 80) };
}

export function counterWorker(client: Client): Worker {
  const key = `counter/${client.number}`;
  let next = 1;
  const turn = async (): Promise<void> => {
    const value = String(next);
    const wish = { op: 'increment', key, writes: [[key, value]] as const };
    const told = await client.attempt(wish, async (api) => {
      const before = next === 1 ? { key, createRevision: 0 } : { key, value: String(next - 1) };
      const { revision, succeeded, seen } = await transact(api, {
        compare: [before],
        puts: [[key, value]],
        otherwise: [key],
      });
      const found = succeeded ? {} : { reads: [toSeen(key, seen[0])] };
      return { revision, applied: succeeded, ...found };
    });
    // Without a reply the same count is asked for again: it must not happen twice.
    if (isTold(told)) next += 1;
  };
  return { client, run: () => client.run(turn, 50) };
}

const PROBE_EVERY_MS = 50;
const PROBES_OPEN_MAX = 20;
const PROBE_KEYS = 20;
const PROBE_TIMEOUT_MS = 1_500;

/** Writes through one member, open loop: a slow reply does not hold the next write back. */
export function probeWorker(client: Client, door: Door): Worker {
  const api = new HttpApi(door.url, { timeoutMs: PROBE_TIMEOUT_MS, sockets: PROBES_OPEN_MAX });
  const open = new Set<Promise<void>>();
  let count = 0;
  const write = async (number: number): Promise<void> => {
    const key = `probe/${door.member}/${number % PROBE_KEYS}`;
    const value = `${door.member}.${number}`;
    const { recorder, workload, number: clientNumber } = client;
    const invoke = recorder.now();
    const { member } = door;
    const writes = [[key, value]] as const;
    const line = { workload, client: clientNumber, member, op: 'put', key, invoke, writes };
    try {
      const { revision } = await api.put(key, value);
      recorder.operation({
        ...line,
        return: recorder.now(),
        outcome: 'ok',
        revision,
        applied: true,
      });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const { outcome } = error;
      const returned = outcome === 'failed' ? recorder.now() : null;
      recorder.operation({ ...line, return: returned, outcome, error: error.message.slice(-80) });
    }
  };
  const run = async (): Promise<void> => {
    while (!client.stopped) {
      if (open.size < PROBES_OPEN_MAX) {
        count += 1;
        const running: Promise<void> = write(count).finally(() => open.delete(running));
        open.add(running);
      }
      await pause(PROBE_EVERY_MS);
    }
    await Promise.all(open);
    api.close();
  };
  return { client, run };
}

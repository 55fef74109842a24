/**
 * Clients that call as users with few rights, started by clients.ts: they put, read, delete, run nested
 * transactions, hang keys on leases and end leases of others, as far as they may and often farther. They
 * change the way in which they say who they are: certificate, token, signed token, nothing.
 */
import type { Prng } from '../../src/prng.js';
import { type Asker, calling, type Identity } from './askers.js';
import { drawRange, LETTERS, USERS } from './auth-administrator.js';
import type { Need } from './auth-model.js';
import type { Call, Clients, Run } from './clients.js';
import { compareMod, NO_OP, putRequest, rangeRequest } from './requests.js';
import { MS } from './world.js';

const LEASES_KNOWN = 3;

export class User {
  private readonly clients: Clients;
  private readonly number: number;
  private readonly random: Prng;
  private readonly name: string;
  private token: string | null = null;
  /** What a signed token says; it is never renewed while it works. */
  private signed: (Identity & { readonly kind: 'signed' }) | null = null;
  private revision = 1;

  constructor(clients: Clients, number: number, random: Prng) {
    this.clients = clients;
    this.number = number;
    this.random = random;
    this.name = USERS[number % USERS.length] as string;
    clients.later(random.below(100 * MS), () => this.turn());
  }

  private turn(): void {
    const { clients, random } = this;
    if (clients.stopped) return;
    const who = this.drawIdentity();
    if (who === null) return;
    if (who.kind === 'signed') this.onKeys(who, random.below(80));
    else this.onKeys(who, random.below(100));
  }

  /** Null: something must be asked for first. */
  private drawIdentity(): Identity | null {
    const { random, name } = this;
    const dice = random.below(100);
    if (dice < 55) return { kind: 'certificate', user: name };
    if (dice < 80) {
      const isKnown = this.token !== null && random.chance(0.7);
      if (isKnown) return { kind: 'token', user: name, token: this.token ?? '' };
      this.logIn();
      return null;
    }
    if (dice < 93) {
      if (this.signed !== null) return this.signed;
      this.sign();
      return null;
    }
    return { kind: 'nobody' };
  }

  private onKeys(who: Identity, dice: number): void {
    if (dice < 22) this.put(who);
    else if (dice < 36) this.read(who);
    else if (dice < 44) this.delete(who);
    else if (dice < 64) this.txn(who);
    else if (dice < 75) this.readTxn(who);
    else if (dice < 80) this.read(who);
    else if (dice < 86) this.grant(who);
    else if (dice < 91) this.revoke(who);
    else if (dice < 97) this.timeToLive(who);
    else this.administer(who);
  }

  private ask(
    name: string,
    method: string,
    request: unknown,
    asker: Asker,
    then: (call: Call) => void = () => {},
    run: Run = calling(method, request, asker.who),
  ): void {
    const { clients, random } = this;
    const member = clients.pick(random);
    clients.callAs(asker, this.number, member, name, request, run, (call) => {
      if (call.outcome === 'ok') then(call);
      if (call.code === 'INVALID_AUTH_TOKEN') {
        clients.world.mark('token refused');
        this.token = null;
      }
      if (call.code === 'AUTH_OLD_REVISION' && random.chance(0.3)) this.signed = null;
      clients.later(random.below(2 * clients.plan.thinkUs), () => this.turn());
    });
  }

  private logIn(): void {
    const { clients, name } = this;
    const password = clients.passwords.get(name) ?? '';
    const asker: Asker = { who: { kind: 'nobody' }, needs: null };
    this.ask('login', 'Auth/Authenticate', { name, password }, asker, (call) => {
      this.token = (call.answer as { token: string }).token;
      clients.world.mark('user logged in');
    });
  }

  private sign(): void {
    const asker: Asker = { who: { kind: 'nobody' }, needs: null };
    this.ask('auth-status', 'Auth/AuthStatus', {}, asker, (call) => {
      const { authRevision } = call.answer as { authRevision: number };
      this.signed = { kind: 'signed', user: this.name, authRevision };
    });
  }

  private letter(): string {
    return LETTERS[this.random.below(LETTERS.length)] as string;
  }

  private value(key: string, lease = 0) {
    const prevKv = this.random.chance(0.4);
    return { ...putRequest(key, this.clients.value(this.number), lease), prevKv };
  }

  private knownLease(): number {
    const { leases } = this.clients.shared;
    return leases[this.random.below(Math.max(1, leases.length))] ?? 0;
  }

  private put(who: Identity): void {
    const lease = this.random.chance(0.6) ? this.knownLease() : 0;
    const request = this.value(this.letter(), lease);
    this.ask('put', 'KV/Put', request, { who, needs: needsOfPut(request) });
  }

  private read(who: Identity): void {
    const { random } = this;
    const { key, rangeEnd } = drawRange(random);
    const isStale = random.chance(0.3);
    const past = !isStale && random.chance(0.2) ? 1 + random.below(this.revision) : 0;
    const request = rangeRequest(key, rangeEnd, isStale, past);
    const name = isStale ? 'stale' : past > 0 ? 'old' : 'list';
    const needs: Need[] = [{ access: 'read', key, rangeEnd }];
    this.ask(name, 'KV/Range', request, { who, needs }, (call) => {
      const { header } = call.answer as { header: { revision: number } };
      this.revision = Math.max(this.revision, header.revision);
    });
  }

  private delete(who: Identity): void {
    const { key, rangeEnd } = drawRange(this.random);
    // What lies behind the letters is of other clients.
    const end = rangeEnd === '\0' ? 'i' : rangeEnd;
    const request = { key, rangeEnd: end, prevKv: this.random.chance(0.5) };
    this.ask('delete', 'KV/DeleteRange', request, { who, needs: needsOfDelete(request) });
  }

  /** Operations that need a right stand on both branches, at the top and inside. */
  private txn(who: Identity): void {
    const [first, second, third, fourth] = this.letters();
    const isNested = this.random.chance(0.7);
    const inside = {
      compare: this.random.chance(0.5) ? [compareMod(third, 0)] : [],
      success: [this.operation(third)],
      failure: this.random.chance(0.5) ? [this.operation(fourth)] : [],
    };
    const request = {
      compare: this.random.chance(0.6) ? [compareMod(first, 0)] : [],
      success: [
        { ...NO_OP, requestPut: this.value(first) },
        isNested ? { ...NO_OP, requestTxn: inside } : this.operation(second),
      ],
      failure: this.random.chance(0.7) ? [this.operation(second)] : [],
    };
    const needs = needsOfTxn(request);
    this.ask('txn', 'KV/Txn', request, { who, needs }, undefined);
  }

  private letters(): [string, string, string, string] {
    const at = this.random.below(LETTERS.length);
    const step = [1, 3, 5][this.random.below(3)] as number;
    const place = (count: number) => LETTERS[(at + count * step) % LETTERS.length] as string;
    return [place(0), place(1), place(2), place(3)];
  }

  private operation(key: string) {
    const dice = this.random.below(3);
    if (dice === 0) return { ...NO_OP, requestPut: this.value(key) };
    if (dice === 1) return { ...NO_OP, requestRange: rangeRequest(key) };
    const request = { key, rangeEnd: '', prevKv: this.random.chance(0.5) };
    return { ...NO_OP, requestDeleteRange: request };
  }

  private readTxn(who: Identity): void {
    const { random } = this;
    const range = () => {
      const { key, rangeEnd } = drawRange(random);
      return { ...NO_OP, requestRange: rangeRequest(key, rangeEnd) };
    };
    const request = {
      compare: random.chance(0.5) ? [compareMod(this.letter(), 0)] : [],
      success: [range()],
      failure: random.chance(0.5) ? [range()] : [],
    };
    this.ask('read-txn', 'KV/Txn', request, { who, needs: needsOfTxn(request) });
  }

  private grant(who: Identity): void {
    const { leases } = this.clients.shared;
    const request = { ID: 0, TTL: 4 + this.random.below(8) };
    this.ask('grant', 'Lease/LeaseGrant', request, { who, needs: [] }, (call) => {
      leases.push((call.answer as { ID: number }).ID);
      if (leases.length > LEASES_KNOWN) leases.shift();
    });
  }

  private revoke(who: Identity): void {
    const request = { ID: this.knownLease() };
    this.ask('revoke', 'Lease/LeaseRevoke', request, { who, needs: null });
  }

  private timeToLive(who: Identity): void {
    const request = { ID: this.knownLease(), keys: true };
    this.ask('ttl', 'Lease/LeaseTimeToLive', request, { who, needs: null });
  }

  /** What nobody but root may. */
  private administer(who: Identity): void {
    const asker: Asker = { who, needs: 'admin' };
    const { name, random } = this;
    if (random.chance(0.3)) {
      const request = { revision: Math.max(1, this.revision - 10), physical: false };
      this.ask('compact', 'KV/Compact', request, asker);
      return;
    }
    const changes: readonly [string, object][] = [
      ['UserGrantRole', { user: name, role: 'root' }],
      ['RoleGrantPermission', { name: 'r0', perm: { permType: 2, key: 'a', rangeEnd: '\0' } }],
      ['AuthDisable', {}],
      ['UserDelete', { name: 'root' }],
    ];
    const [method, request] = changes[random.below(changes.length)] as [string, object];
    const named = { method, ...request };
    this.ask('auth', '', named, asker, undefined, calling(`Auth/${method}`, request, who));
  }
}

interface WirePut {
  readonly key: string;
  readonly lease: number;
  readonly prevKv: boolean;
}

interface WireRange {
  readonly key: string;
  readonly rangeEnd: string;
}

interface WireTxn {
  readonly compare: readonly WireRange[];
  readonly success: readonly WireOp[];
  readonly failure: readonly WireOp[];
}

interface WireOp {
  readonly requestRange: WireRange | null;
  readonly requestPut: WirePut | null;
  readonly requestDeleteRange: (WireRange & { readonly prevKv: boolean }) | null;
  readonly requestTxn: unknown;
}

/** Null: the keys that hang on the lease count too. */
function needsOfPut({ key, lease, prevKv }: WirePut): Need[] | null {
  if (lease !== 0) return null;
  const written: Need = { access: 'write', key, rangeEnd: '' };
  return prevKv ? [written, previous(key, '')] : [written];
}

function needsOfDelete(range: WireRange & { readonly prevKv: boolean }): Need[] {
  const { key, rangeEnd, prevKv } = range;
  const written: Need = { access: 'write', key, rangeEnd };
  return prevKv ? [written, previous(key, rangeEnd)] : [written];
}

function previous(key: string, rangeEnd: string): Need {
  return { access: 'read', key, rangeEnd, part: 'previous' };
}

function needsOfTxn({ compare, success, failure }: WireTxn): Need[] {
  const read = ({ key, rangeEnd }: WireRange): Need => ({ access: 'read', key, rangeEnd });
  const inside = [...success, ...failure].flatMap((op): Need[] => {
    if (op.requestRange !== null) return [read(op.requestRange)];
    if (op.requestPut !== null) return needsOfPut(op.requestPut) ?? [];
    if (op.requestDeleteRange !== null) return needsOfDelete(op.requestDeleteRange);
    const nested = needsOfTxn(op.requestTxn as WireTxn);
    return nested.map((need): Need => ({ ...need, part: 'nested' }));
  });
  return [...compare.map(read), ...inside];
}

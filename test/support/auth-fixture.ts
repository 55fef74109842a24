/** Members of one process behind both faces, with users, and calls in the name of one of them. */
import { once } from 'node:events';
import type { ClusterNode } from '../../src/cluster-node.js';
import { encodeJson } from '../../src/rpc/api/json.js';
import { METHODS, type Method, methodKey } from '../../src/rpc/api/methods.js';
import { decodeProtobuf, encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import type { Decoded, Encodable, MessageName } from '../../src/rpc/api/schema.js';
import { type Answer, exchange, type ServedGateway, serveGateway } from './gateway-client.js';
import { GrpcClient, type GrpcExchange, type ServedGrpc, serveGrpc } from './grpc-client.js';
import { InProcessCluster } from './in-process-cluster.js';
import { waitFor } from './wait.js';

export const ROOT_PASSWORD = 'the word of root';
export const ANN_PASSWORD = 'the word of ann';

/** What came of a call: `ok`, or the text of the failure. */
export interface CallOutcome<Name extends MessageName = MessageName> {
  readonly text: string;
  readonly response: Decoded<Name> | null;
}

export function methodOf(key: string): Method {
  const method = METHODS.find((each) => methodKey(each) === key);
  if (method === undefined) throw new Error(`there is no method ${key}`);
  return method;
}

export class Door {
  readonly node: ClusterNode;
  readonly client: GrpcClient;
  readonly gateway: ServedGateway;
  private readonly grpc: ServedGrpc;

  constructor(node: ClusterNode, grpc: ServedGrpc, gateway: ServedGateway) {
    this.node = node;
    this.grpc = grpc;
    this.gateway = gateway;
    this.client = new GrpcClient(grpc.port);
  }

  /** Where gRPC is served. */
  get port(): number {
    return this.grpc.port;
  }

  open(key: string, token: string | null, headers: Record<string, string> = {}): GrpcExchange {
    return this.client.open(`/${key}`, { ...(token === null ? {} : { token }), ...headers });
  }

  /** A call over gRPC with one message. A stream that is open when the time is over went well. */
  async call<Name extends MessageName = MessageName>(
    key: string,
    message: object = {},
    token: string | null = null,
  ): Promise<CallOutcome<Name>> {
    const method = methodOf(key);
    const mayLast = method.responseStream || method.waits;
    const call = this.open(key, token, mayLast ? { 'grpc-timeout': '500m' } : {});
    call.send(encodeProtobuf(method.request, message as Encodable<MessageName>));
    call.end();
    const { status, text, messages } = await call.outcome;
    const [first] = messages;
    const response = first === undefined ? null : decodeProtobuf(method.response, first, 65_536);
    const isOpen = status === 4 && mayLast;
    if (status !== 0 && !isOpen) return { text, response: null };
    return { text: 'ok', response: response as Decoded<Name> | null };
  }

  /** The same over JSON. */
  json(key: string, message: object, token: string | null, path?: string): Promise<Answer> {
    const method = methodOf(key);
    const body = encodeJson(method.request, message as Encodable<MessageName>);
    const headers: Record<string, string> = token === null ? {} : { authorization: token };
    return exchange(this.gateway.port, `/v3${path ?? method.paths[0]}`, body, { headers });
  }

  async login(name: string, password: string): Promise<string> {
    const { text, response } = await this.call<'AuthenticateResponse'>(
      'etcdserverpb.Auth/Authenticate',
      { name, password },
    );
    if (response === null) throw new Error(`no login: ${text}`);
    return response.token;
  }

  async stop(): Promise<void> {
    this.client.close();
    await this.grpc.stop();
    await this.gateway.stop();
  }
}

export class AuthCluster {
  readonly cluster: InProcessCluster;
  readonly doors: Door[] = [];

  constructor(options: Readonly<Record<string, string>> = {}, size = 1) {
    this.cluster = new InProcessCluster(options, size);
  }

  get door(): Door {
    return this.doors[0] as Door;
  }

  async start(): Promise<void> {
    await this.cluster.start();
    await this.cluster.leader();
    for (const { node } of this.cluster.members) {
      if (node === null) throw new Error('a member did not start');
      this.doors.push(new Door(node, await serveGrpc(node), await serveGateway(node)));
    }
  }

  /** As a user with the rights of root would, while authentication is off. */
  async auth(method: string, message: object = {}, token: string | null = null): Promise<string> {
    return (await this.door.call(`etcdserverpb.Auth/${method}`, message, token)).text;
  }

  /** `root`, and `ann`, who may read and write from `a` to `b` and write `w`. */
  async addUsers(): Promise<void> {
    const steps: [string, object][] = [
      ['UserAdd', { name: 'root', password: ROOT_PASSWORD }],
      ['UserGrantRole', { user: 'root', role: 'root' }],
      ['UserAdd', { name: 'ann', password: ANN_PASSWORD }],
      ['RoleAdd', { name: 'limited' }],
      ['UserGrantRole', { user: 'ann', role: 'limited' }],
      ['RoleGrantPermission', grant('limited', 2, 'a', 'b')],
      ['RoleGrantPermission', grant('limited', 1, 'w', '')],
    ];
    for (const [method, message] of steps) {
      const text = await this.auth(method, message);
      if (text !== 'ok') throw new Error(`${method}: ${text}`);
    }
  }

  async enable(): Promise<{ root: string; ann: string }> {
    await this.addUsers();
    const text = await this.auth('AuthEnable');
    if (text !== 'ok') throw new Error(`AuthEnable: ${text}`);
    return {
      root: await this.door.login('root', ROOT_PASSWORD),
      ann: await this.door.login('ann', ANN_PASSWORD),
    };
  }

  async stop(): Promise<void> {
    for (const door of this.doors) await door.stop();
    await this.cluster.stop();
  }
}

export function grant(name: string, permType: number, key: string, rangeEnd: string): object {
  return { name, perm: { permType, key, rangeEnd } };
}

/** A watch over gRPC that is fed requests and keeps what comes. */
export class WatchCall {
  readonly exchange: GrpcExchange;

  constructor(door: Door, token: string | null) {
    this.exchange = door.open('etcdserverpb.Watch/Watch', token);
  }

  get responses(): readonly Decoded<'WatchResponse'>[] {
    return this.exchange.messages.map((bytes) => decodeProtobuf('WatchResponse', bytes, 65_536));
  }

  create(key: string, rangeEnd = ''): void {
    const message = { createRequest: { key, rangeEnd } };
    this.exchange.send(encodeProtobuf('WatchRequest', message as Encodable<'WatchRequest'>));
  }

  async next(count: number): Promise<Decoded<'WatchResponse'>> {
    await waitFor(`answer ${count} of a watch`, 10_000, () => this.responses.length >= count);
    return this.responses[count - 1] as Decoded<'WatchResponse'>;
  }

  async close(): Promise<void> {
    this.exchange.cancel();
    if (!this.exchange.stream.closed) await once(this.exchange.stream, 'close');
  }
}

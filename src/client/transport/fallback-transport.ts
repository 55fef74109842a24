/**
 * gRPC where the endpoint speaks HTTP/2, the JSON gateway where it does not: for a command line that is
 * to work through whatever stands in between. Which of the two it is, is found out once per endpoint.
 */
import type { Endpoint } from '../endpoints.js';
import { GatewayTransport } from './gateway-transport.js';
import { GrpcTransport } from './grpc-transport.js';
import {
  type Exchange,
  type Transport,
  type TransportOptions,
  WrongProtocolError,
} from './transport.js';

export class FallbackTransport implements Transport {
  private readonly grpc: Transport;
  private readonly gateway: Transport;
  /** Names of endpoints that do not speak HTTP/2. */
  private readonly old = new Set<string>();

  constructor(options: TransportOptions) {
    this.grpc = new GrpcTransport(options);
    this.gateway = new GatewayTransport(options);
  }

  close(): void {
    this.grpc.close();
    this.gateway.close();
  }

  async ask(exchange: Exchange): Promise<object> {
    if (this.old.has(exchange.endpoint.name)) return await this.gateway.ask(exchange);
    try {
      return await this.grpc.ask(exchange);
    } catch (error) {
      this.learn(exchange.endpoint, error);
      return await this.gateway.ask(exchange);
    }
  }

  async *stream(exchange: Exchange): AsyncGenerator<object> {
    if (!this.old.has(exchange.endpoint.name)) {
      try {
        yield* this.grpc.stream(exchange);
        return;
      } catch (error) {
        this.learn(exchange.endpoint, error);
      }
    }
    yield* this.gateway.stream(exchange);
  }

  /** Returns if the other transport is to be tried, and throws the failure if not. */
  private learn(endpoint: Endpoint, error: unknown): void {
    if (!(error instanceof WrongProtocolError)) throw error;
    this.old.add(endpoint.name);
  }
}

/**
 * `--cors` and `--host-whitelist`: whose pages see answers of the gateway, and by which names it is called.
 */
import { afterEach, describe, expect, it } from 'vitest';
import type { GatewayOptions } from '../../src/rpc/gateway/gateway.js';
import {
  type Answer,
  exchange,
  type ServedGateway,
  serveGateway,
} from '../support/gateway-client.js';
import { LocalNode } from '../support/local-node.js';

let served: ServedGateway;
let node: LocalNode;

async function serve(options: Partial<GatewayOptions>): Promise<void> {
  node = new LocalNode();
  served = await serveGateway(node, options);
}

function ask(headers: Record<string, string>, method = 'POST'): Promise<Answer> {
  return exchange(served.port, '/v3/kv/range', '{"key":"YQ=="}', { method, headers });
}

afterEach(async () => {
  await served.stop();
  node.stop();
});

describe('the gateway', () => {
  it('names the origin of a page that may call, and no other', async () => {
    await serve({ corsOrigins: ['https://a.example', 'http://b.example:81'] });

    for (const origin of ['https://a.example', 'http://b.example:81']) {
      for (const method of ['POST', 'OPTIONS']) {
        const { status, headers } = await ask({ origin }, method);
        expect(status).toBe(200);
        expect(headers['access-control-allow-origin']).toBe(origin);
        expect(headers['access-control-allow-methods']).toBe('POST, GET, OPTIONS, PUT, DELETE');
        expect(headers['vary']).toBe('origin');
      }
    }
    for (const headers of [{ origin: 'https://evil.example' }, {}]) {
      const answer = await ask(headers);
      expect(answer.status).toBe(200);
      expect(answer.headers['access-control-allow-origin']).toBeUndefined();
      expect(answer.headers['vary']).toBe('origin');
    }
  });

  it('serves the hosts that are listed, with any port, and no other', async () => {
    await serve({ hosts: ['a.example', '127.0.0.1', '::1'] });

    for (const host of ['a.example', 'a.example:2379', '127.0.0.1:1', '[::1]:2379']) {
      expect((await ask({ host })).status, host).toBe(200);
    }
    for (const host of ['evil.example', 'a.example.evil', 'A.example', 'a.example:1:2', '[::1']) {
      const { status, text } = await ask({ host });
      expect(status, host).toBe(421);
      expect(text).toContain(`does not go by the name "${host.split(':2379')[0]}"`);
    }
  });

  it('refuses other hosts also on paths for people and probes', async () => {
    await serve({ hosts: ['a.example'] });

    for (const path of ['/health', '/metrics', '/nothing']) {
      const { status } = await exchange(served.port, path, '', { method: 'GET' });
      expect(status, path).toBe(421);
    }
  });

  it('serves every host and origin without these options', async () => {
    await serve({ corsOrigins: [], hosts: [] });

    const { status, headers } = await ask({ host: 'evil.example', origin: 'https://evil.example' });
    expect(status).toBe(200);
    expect(headers['access-control-allow-origin']).toBe('*');
    expect(headers['vary']).toBeUndefined();
  });
});

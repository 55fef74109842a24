/**
 * The fault proxy does to a connection what each rule says, and nothing without a rule.
 */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FaultProxy } from '../support/fault-proxy.js';
import { staysFalse, waitFor } from '../support/wait.js';

/** A server that sends back what it gets. */
async function echoServer(): Promise<{ server: Server; port: number; sockets: Set<Socket> }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => sockets.delete(socket));
    socket.pipe(socket);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', () => done()));
  return { server, port: (server.address() as AddressInfo).port, sockets };
}

class Caller {
  readonly socket: Socket;
  received = '';
  error: string | null = null;
  closed = false;

  constructor(port: number) {
    this.socket = connect(port, '127.0.0.1');
    this.socket.on('data', (bytes: Buffer) => {
      this.received += bytes.toString();
    });
    this.socket.on('error', (error) => {
      this.error = (error as NodeJS.ErrnoException).code ?? error.message;
    });
    this.socket.on('close', () => {
      this.closed = true;
    });
  }
}

let echo: Awaited<ReturnType<typeof echoServer>>;
let proxy: FaultProxy;
let callers: Caller[] = [];

function call(): Caller {
  const caller = new Caller(proxy.port);
  callers.push(caller);
  return caller;
}

beforeEach(async () => {
  echo = await echoServer();
  proxy = await FaultProxy.listen(echo.port);
});

afterEach(async () => {
  for (const caller of callers) caller.socket.destroy();
  callers = [];
  await proxy.close();
  for (const socket of echo.sockets) socket.destroy();
  await new Promise((done) => echo.server.close(done));
});

describe('the fault proxy', () => {
  it('delivers everything in order without a rule', async () => {
    const caller = call();
    const text = 'x'.repeat(3_000_000);

    caller.socket.write(text);

    await waitFor('the echo', 5_000, () => caller.received.length === text.length);
  });

  it('delivers nothing through a cut and everything after the heal', async () => {
    const caller = call();
    caller.socket.write('one');
    await waitFor('the echo', 2_000, () => caller.received === 'one');

    proxy.cut();
    caller.socket.write('two');
    await staysFalse('an echo through the cut', 200, () => caller.received !== 'one');
    proxy.heal();

    await waitFor('the rest', 2_000, () => caller.received === 'onetwo');
    expect(caller.closed).toBe(false);
  });

  it('cuts one direction only', async () => {
    const caller = call();
    let arrived = '';
    await waitFor('the connection', 2_000, () => echo.sockets.size === 1);
    for (const socket of echo.sockets) socket.on('data', (bytes) => (arrived += String(bytes)));

    proxy.set('backward', { blackHole: true });
    caller.socket.write('one');

    await waitFor('the bytes at the target', 2_000, () => arrived === 'one');
    await staysFalse('an echo', 200, () => caller.received !== '');
  });

  it('accepts connections during a cut and lets them hang', async () => {
    proxy.cut();

    const caller = call();
    caller.socket.write('one');

    await staysFalse('an answer or an end', 200, () => caller.received !== '' || caller.closed);
  });

  it('refuses', async () => {
    const running = call();
    running.socket.write('one');
    await waitFor('the echo', 2_000, () => running.received === 'one');

    proxy.refuse();
    const fresh = call();

    await waitFor('both ends', 2_000, () => running.closed && fresh.closed);
    expect(fresh.received).toBe('');
  });

  it('delays each direction', async () => {
    const caller = call();
    proxy.set('forward', { delayMs: 100 });
    proxy.set('backward', { delayMs: 100 });
    const start = performance.now();

    caller.socket.write('one');

    await waitFor('the echo', 2_000, () => caller.received === 'one');
    expect(performance.now() - start).toBeGreaterThanOrEqual(195);
  });

  it('limits the rate', async () => {
    const caller = call();
    proxy.set('forward', { bytesPerSecond: 50_000 });
    const start = performance.now();

    caller.socket.write('x'.repeat(20_000));

    await waitFor('the echo', 5_000, () => caller.received.length === 20_000);
    expect(performance.now() - start).toBeGreaterThanOrEqual(300);
  });

  it('resets connections', async () => {
    const caller = call();
    caller.socket.write('one');
    await waitFor('the echo', 2_000, () => caller.received === 'one');

    proxy.reset();

    await waitFor('the reset', 2_000, () => caller.closed);
    expect(caller.error).toBe('ECONNRESET');
  });

  it('resets in the middle of a stream', async () => {
    const caller = call();
    proxy.resetAfter(100_000);

    caller.socket.write('x'.repeat(2_000_000));

    await waitFor('the reset', 2_000, () => caller.closed);
    expect(caller.received.length).toBeLessThan(2_000_000);
  });

  it('holds a rule for one dialer only', async () => {
    let accepted = 0;
    const identify = (): string => {
      accepted += 1;
      return `m${accepted}`;
    };
    await proxy.close();
    proxy = await FaultProxy.listen(echo.port, { identify });
    const first = call();
    await waitFor('the first', 2_000, () => proxy.connections === 1);
    const second = call();
    await waitFor('the second', 2_000, () => proxy.connections === 2);

    proxy.cut('m1');
    first.socket.write('one');
    second.socket.write('two');

    await waitFor('the echo', 2_000, () => second.received === 'two');
    await staysFalse('an echo through the cut', 100, () => first.received !== '');
  });

  it('reads no more than its bound for a receiver that does not read', async () => {
    for (const socket of echo.sockets) socket.pause();
    proxy.cut();
    const caller = call();
    let accepted = 0;
    const chunk = Buffer.alloc(65_536);
    const more = (): void => {
      while (accepted < 64_000_000 && caller.socket.write(chunk)) accepted += chunk.length;
    };
    caller.socket.on('drain', more);
    more();

    let before = -1;
    await waitFor('the sender to be held', 5_000, () => {
      const same = before === accepted;
      before = accepted;
      return same && accepted > 0;
    });

    expect(accepted).toBeLessThan(32_000_000);
  });
});

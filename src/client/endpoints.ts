/**
 * The addresses of a cluster and which of them is in use.
 *
 * One address stays in use until a call on it fails; then the next one has its turn. Spreading
 * every call over all members would cost a hop for most writes and gain nothing for a client that
 * sends little; a client that wants to spread starts with a shuffled list.
 */

export interface Endpoint {
  /** As the user wrote it, for messages. */
  readonly name: string;
  readonly secure: boolean;
  readonly host: string;
  readonly port: number;
  /** File of a Unix socket, which is asked instead of host and port; null for TCP. */
  readonly socketPath: string | null;
}

/**
 * Parses `host`, `host:port`, `[::1]:port`, `http://host:port`, `https://host:port` or
 * `unix:///path`. Throws TypeError for anything else. `isSecure`: without a scheme, `https` is meant.
 */
export function parseEndpoint(text: string, isSecure = false): Endpoint {
  // Programs in JavaScript hear of it from nobody else.
  if (typeof text !== 'string') throw new TypeError(`an endpoint is text, not ${String(text)}`);
  const trimmed = text.trim();
  const socketPath = /^unix:\/\/(.+)$/i.exec(trimmed)?.[1];
  if (socketPath !== undefined) {
    return { name: trimmed, secure: false, host: 'localhost', port: 0, socketPath };
  }
  const scheme = isSecure ? 'https' : 'http';
  const withScheme = /^[a-z][a-z0-9+.-]*:\/\//i.test(trimmed) ? trimmed : `${scheme}://${trimmed}`;
  let url: URL;
  try {
    url = new URL(withScheme);
  } catch (error) {
    throw new TypeError(`"${text}" is not an endpoint: write host:port`, {
      cause: error,
    });
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new TypeError(`"${text}": only http://, https:// and unix:// endpoints are known`);
  }
  if (url.hostname === '' || (url.pathname !== '/' && url.pathname !== '')) {
    throw new TypeError(`"${text}" is not an endpoint: write host:port`);
  }
  const explicitPort = /:(\d+)\/?$/.exec(withScheme)?.[1];
  return {
    name: trimmed,
    secure: url.protocol === 'https:',
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: explicitPort === undefined ? 2379 : Number(explicitPort),
    socketPath: null,
  };
}

/** Parses a comma-separated list; empty parts are skipped, an empty list is an error. */
export function parseEndpoints(text: string): Endpoint[] {
  const parts = text.split(',').filter((part) => part.trim() !== '');
  if (parts.length === 0) throw new TypeError('no endpoint given: write host:port,...');
  return parts.map((part) => parseEndpoint(part));
}

export class EndpointRing {
  readonly all: readonly Endpoint[];
  private readonly isSecure: boolean;
  private at = 0;

  /** `isSecure`: what is meant without a scheme. */
  constructor(all: readonly Endpoint[], isSecure = false) {
    if (all.length === 0) throw new TypeError('a client needs at least one endpoint');
    this.all = all;
    this.isSecure = isSecure;
  }

  /** One that somebody names, of this cluster. */
  named(text: string): Endpoint {
    return parseEndpoint(text, this.isSecure);
  }

  get current(): Endpoint {
    return this.all[this.at % this.all.length] as Endpoint;
  }

  /** Moves on, unless another call has moved on from `endpoint` already. */
  failed(endpoint: Endpoint): void {
    if (this.current === endpoint) this.at = (this.at + 1) % this.all.length;
  }
}

/**
 * Which browsers and which names of this server the gateway serves: `--cors` and `--host-whitelist`.
 *
 * A page that somebody else wrote can make a browser send requests to a port that its author cannot reach. A
 * browser says in `Origin` whose page it is, and lets that page see an answer only if the answer names
 * the origin; and it says in `Host` by which name it found the server, which gives away a name of the author
 * that was made to lead here (DNS rebinding, CVE-2018-5702). A certificate settles the second, so connections
 * with TLS are not asked.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';

const ANY = '*';
const METHODS = 'POST, GET, OPTIONS, PUT, DELETE';
const HEADERS = 'accept, content-type, authorization';

export class GatewayAccess {
  /** Of every answer, as a flat list of names and values. */
  readonly headers: readonly string[];
  /** Null: all. */
  private readonly origins: ReadonlySet<string> | null;
  private readonly hosts: ReadonlySet<string> | null;

  constructor(origins: readonly string[] = [], hosts: readonly string[] = []) {
    this.origins = setOf(origins);
    this.hosts = setOf(hosts);
    this.headers = this.origins === null ? originHeaders(ANY) : [];
  }

  /** Marks the answer for its origin. False: the request is not for this server. */
  admit(request: IncomingMessage, response: ServerResponse): boolean {
    const { origin } = request.headers;
    if (this.origins !== null) {
      // A cache must not give the answer for one origin to another.
      response.setHeader('vary', 'origin');
      if (origin !== undefined && this.origins.has(origin)) {
        const headers = originHeaders(origin);
        for (let at = 0; at < headers.length; at += 2) {
          response.setHeader(headers[at] as string, headers[at + 1] as string);
        }
      }
    }
    if (this.hosts === null || 'encrypted' in request.socket) return true;
    return this.hosts.has(hostOf(request));
  }
}

/** What is said to a request that is not for this server. */
export function misdirectedText(request: IncomingMessage): string {
  const host = JSON.stringify(hostOf(request)).replaceAll(/[^\x20-\x7e]/g, '?');
  return `this server does not go by the name ${host}: add it to --host-whitelist, or use TLS\n`;
}

function setOf(names: readonly string[]): ReadonlySet<string> | null {
  return names.length === 0 || names.includes(ANY) ? null : new Set(names);
}

/** Without the port. */
function hostOf({ headers }: IncomingMessage): string {
  const host = headers.host ?? '';
  return /^\[([^\]]*)\]:[^:]*$|^([^:]*):[^:]*$/.exec(host)?.slice(1).find(Boolean) ?? host;
}

function originHeaders(origin: string): string[] {
  return [
    'access-control-allow-origin',
    origin,
    'access-control-allow-methods',
    METHODS,
    'access-control-allow-headers',
    HEADERS,
  ];
}

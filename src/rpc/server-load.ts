/**
 * What all connections of the server hold together: answers that nobody has read, and requests that are
 * not complete. Each connection has bounds of its own, which are wide, because one client may rightly ask
 * for much; a thousand clients at their bounds would be the end of the process.
 *
 * When the whole is too much, connections with more than a small share are refused more; who reads its
 * answers has none. Bounds: `TOTAL_BYTES_MAX` of each kind, a share for each connection, and what is under
 * way in one turn.
 */

const TOTAL_BYTES_MAX = 512 * 1024 * 1024;
export const SHARE_BYTES = 1024 * 1024;

export class ServerLoad {
  private readonly totalMax: number;
  private total = 0;

  constructor(totalMax = TOTAL_BYTES_MAX) {
    this.totalMax = totalMax;
  }

  get bytes(): number {
    return this.total;
  }

  /** A connection holds so much more, or less. */
  add(bytes: number): void {
    this.total += bytes;
  }

  /** Whether a connection that holds so much may hold more. */
  hasRoom(own: number): boolean {
    return own <= SHARE_BYTES || this.total <= this.totalMax;
  }
}

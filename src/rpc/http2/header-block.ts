/**
 * The header block that is being received (RFC 9113, 4.3): a HEADERS frame and its continuations, put
 * together again. Nothing else may come between them (6.10).
 *
 * Bounds: `MAX_BLOCK_BYTES` as it comes, in `MAX_BLOCK_PARTS`.
 */

const MAX_BLOCK_BYTES = 128 * 1024;
/** What has to be cut is cut into frames of 16 KiB at least. */
const MAX_BLOCK_PARTS = 64;

export class HeaderBlock {
  /** The stream whose block is under way; 0 = none. */
  streamId = 0;
  /** The stream ends with it. */
  isEnd = false;
  private readonly parts: Buffer[] = [];
  private bytes = 0;

  begin(streamId: number, isEnd: boolean): void {
    this.streamId = streamId;
    this.isEnd = isEnd;
  }

  /** False: it is too large. */
  add(part: Buffer, isLast: boolean): boolean {
    this.bytes += part.length;
    if (this.bytes > MAX_BLOCK_BYTES || this.parts.length >= MAX_BLOCK_PARTS) return false;
    // What waits must not hold all that came with it.
    this.parts.push(isLast ? part : Buffer.from(part));
    return true;
  }

  /** The whole of it, behind the last part. */
  take(): Buffer {
    const { parts } = this;
    const whole = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
    parts.length = 0;
    this.bytes = 0;
    this.streamId = 0;
    return whole;
  }
}

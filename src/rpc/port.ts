/**
 * One port for two protocols: the first bytes of a connection decide (design: clients are given one URL).
 * `PRI` begins HTTP/2 (RFC 9113, 3.4) and no method of HTTP/1.1.
 *
 * Bound: a connection that says nothing for `FIRST_BYTES_MS` is closed.
 */
import type { Socket } from 'node:net';

export interface Faces {
  readonly http1: (socket: Socket, firstBytes: Buffer) => void;
  readonly http2: (socket: Socket, firstBytes: Buffer) => void;
}

const MAGIC = Buffer.from('PRI', 'latin1');
const FIRST_BYTES_MS = 10_000;

/** Reads until it is clear who serves the connection, and hands it over with what was read. */
export function chooseFace(socket: Socket, faces: Faces, firstBytesMs = FIRST_BYTES_MS): void {
  let read: Buffer = Buffer.alloc(0);
  const destroy = (): void => {
    socket.destroy();
  };
  const timer = setTimeout(destroy, firstBytesMs);
  const release = (): void => {
    clearTimeout(timer);
    socket.off('data', onData);
    socket.off('error', destroy);
    socket.off('close', release);
  };
  const onData = (bytes: Buffer): void => {
    read = read.length === 0 ? bytes : Buffer.concat([read, bytes]);
    const length = Math.min(read.length, MAGIC.length);
    const isMagic = read.compare(MAGIC, 0, length, 0, length) === 0;
    if (isMagic && length < MAGIC.length) return;
    release();
    if (isMagic) faces.http2(socket, read);
    else {
      // Its server reads on its own terms.
      socket.pause();
      faces.http1(socket, read);
    }
  };
  socket.on('data', onData);
  socket.on('error', destroy);
  socket.on('close', release);
}

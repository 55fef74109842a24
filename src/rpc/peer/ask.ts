/**
 * One question to a member over its peer port, asked by somebody who is no member yet: a process that
 * wants to join learns here who is in the cluster. No greeting goes before it, and nothing but the one
 * answer comes back.
 */
import { encodeFrame, FrameKind, FrameReader } from './frame.js';
import { PROTOCOL_VERSION } from './lane.js';
import { type HostPort, PLAIN_SOCKETS } from './peer-sockets.js';

const MAX_ANSWER_BYTES = 2 ** 20;

/** Rejects with the reason when there is no answer within `ms`. */
export function askPeer(
  address: HostPort,
  question: string,
  ms: number,
  sockets = PLAIN_SOCKETS,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket = sockets.dial(address, () => {
      for (const part of encodeFrame([FrameKind.Ask, PROTOCOL_VERSION, question])) {
        socket.write(part);
      }
    });
    const reader = new FrameReader(MAX_ANSWER_BYTES);
    const fail = (error: Error): void => {
      socket.destroy();
      reject(error);
    };
    socket.setTimeout(ms, () => fail(new Error(`no answer within ${ms} ms`)));
    socket.on('data', (chunk: Buffer) => {
      try {
        reader.push(chunk, ({ head }) => {
          if (head[0] !== FrameKind.Answer) {
            fail(new Error(`refused: ${String(head[1])}`));
            return;
          }
          resolve(head[1]);
          socket.destroy();
        });
      } catch (error) {
        fail(error as Error);
      }
    });
    socket.on('error', fail);
    socket.on('close', () => fail(new Error('the connection was closed')));
  });
}

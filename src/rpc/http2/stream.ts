/**
 * One stream of a connection: a request and its answer. Data, changed by the connection alone; whoever
 * serves or asks keeps its own state in `owner`.
 *
 *             one side ends                 the other ends, or one side resets
 *   open  ----------------> half closed  -------------------------------------> closed, forgotten
 *     |                                                                            ^
 *     +----------------------------------------------------------------------------+
 */

export class Http2Stream<Owner = unknown> {
  readonly id: number;
  /** The turn in which the peer opened it (turn.ts); -1 = it did not. */
  bornIn = -1;
  owner: Owner | null = null;
  /** The peer sends nothing more. */
  isRemoteEnded = false;
  /** This side has sent its last frame. */
  isLocalEnded = false;
  /** Gone from its connection: what is sent on it is dropped. */
  isClosed = false;
  /** The head of the answer has been sent, or received. */
  hasAnswer = false;
  /** Bytes that the peer takes; negative after it made its windows smaller. */
  sendWindow: number;
  /** Bytes that the peer may send. */
  receiveWindow: number;
  /** The window is not made larger: the reader has enough for now. */
  isHeld = false;
  /** Bytes of data that are promised by content-length and have not come; -1 = nothing was promised. */
  owed = -1;
  /** Bytes of data so far; of what was sent only those that had to wait for windows. */
  received = 0;
  sentLate = 0;
  /** What waits for the windows, and how much of the first piece has gone. */
  readonly waiting: Buffer[] = [];
  offset = 0;
  waitingBytes = 0;
  /** What waits may do so for as long as the peer likes: nothing else is to wait for that. */
  isPatient = false;
  /** Header block that goes out behind what waits; with it the stream ends. */
  trailers: Buffer | null = null;
  /** The stream ends behind what waits. */
  endsAfterData = false;
  /** `write` said false; `onDrained` is owed. */
  isFull = false;

  constructor(id: number, sendWindow: number, receiveWindow: number) {
    this.id = id;
    this.sendWindow = sendWindow;
    this.receiveWindow = receiveWindow;
  }
}

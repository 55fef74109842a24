/**
 * What a core has to say until the next takeReady: messages by the gate they wait at, answers to
 * reads, events. Filled by raft.ts and the roles, emptied by Raft.takeReady.
 *
 *   sendNow              leaves with the next Ready
 *   heldForWriteInFlight rests on the write in flight; moves to sendNow when that is durable
 *   heldForNextWrite     rests on something unwritten; leaves with the next Ready.persist, behind it
 */
import type { LogIndex, NodeId } from './entry.js';
import { type Message, MessageKind } from './message.js';
import type { RaftEvent, ReadState } from './ready.js';

/** Bound of the events between two takeReady calls; a flood of bad messages beyond is not told. */
const MAX_EVENTS = 1024;

export class Outbox {
  sendNow: Message[] = [];
  heldForNextWrite: Message[] = [];
  reads: ReadState[] = [];
  readsFailed: number[] = [];
  snapshotsWanted: NodeId[] = [];
  events: RaftEvent[] = [];
  private heldForWriteInFlight: Message[] = [];

  get isEmpty(): boolean {
    return (
      this.sendNow.length === 0 &&
      this.events.length === 0 &&
      this.reads.length === 0 &&
      this.readsFailed.length === 0 &&
      this.snapshotsWanted.length === 0
    );
  }

  now(message: Message): void {
    addAnswer(this.sendNow, message);
  }

  afterNextWrite(message: Message): void {
    addAnswer(this.heldForNextWrite, message);
  }

  afterWriteInFlight(message: Message): void {
    addAnswer(this.heldForWriteInFlight, message);
  }

  releaseWriteInFlight(): void {
    if (this.heldForWriteInFlight.length === 0) return;
    for (const message of this.heldForWriteInFlight) this.sendNow.push(message);
    this.heldForWriteInFlight = [];
  }

  takeHeldForNextWrite(): readonly Message[] {
    const held = this.heldForNextWrite;
    this.heldForNextWrite = [];
    return held;
  }

  /**
   * Entries above `last` went away before they were written: what was to acknowledge them behind the
   * next write would be a lie, since that write does not hold them.
   *
   * Counter-example: the disk is slow. Entry 9 of leader A in term 1 waits for its turn when leader B
   * of term 2 replaces it. The write that comes holds the 9 of B; the acknowledgement to A, which leads
   * a minority and does not know it, would commit the 9 of A as well.
   */
  withdrawAcknowledgementsAbove(last: LogIndex): void {
    this.heldForNextWrite = this.heldForNextWrite.filter(
      ({ kind, reject, index }) => kind !== MessageKind.AppendResponse || reject || index <= last,
    );
  }

  answerRead(requestId: number, index: LogIndex): void {
    this.reads.push({ requestId, index });
  }

  failReads(requestIds: readonly number[]): void {
    for (const requestId of requestIds) this.readsFailed.push(requestId);
  }

  tell(event: RaftEvent): void {
    if (this.events.length < MAX_EVENTS) this.events.push(event);
  }

  clear(): void {
    this.sendNow = [];
    this.reads = [];
    this.readsFailed = [];
    this.snapshotsWanted = [];
    this.events = [];
  }
}

/**
 * Of two neighbouring acknowledgements of one turn to the same life of the same leader only the newer
 * one is needed: both are true, and it says more.
 */
function addAnswer(messages: Message[], message: Message): void {
  const last = messages[messages.length - 1];
  if (
    last !== undefined &&
    message.kind === MessageKind.AppendResponse &&
    last.kind === MessageKind.AppendResponse &&
    last.to === message.to &&
    last.term === message.term &&
    last.toBoot === message.toBoot &&
    !last.reject &&
    !message.reject &&
    message.index >= last.index &&
    message.round >= last.round
  ) {
    messages[messages.length - 1] = message;
    return;
  }
  messages.push(message);
}

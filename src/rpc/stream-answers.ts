/**
 * The answers of one stream, in order, of both faces (gateway, gRPC).
 *
 * One that is too long for a turn of the event loop is made in pieces (long-answers.ts). Until it is out, what
 * follows it waits here, and the service is told to bring no more; what it brings all the same (the other parts of a
 * revision whose watcher wants fragments) goes out as the client takes it. The end of the stream overtakes them.
 */
import type { MessageName } from './api/schema.js';
import type { LongAnswers } from './long-answers.js';

/** The stream, as its answers see it. */
export interface AnswerOutlet<Piece> {
  /** False: wait for `drained`. */
  write(response: object): boolean;
  inPieces(response: object): Generator<number, Piece[]>;
  writePieces(pieces: readonly Piece[]): boolean;
  readonly isOver: boolean;
  /** The service may bring more. */
  takeMore(): void;
  fail(error: unknown): void;
}

export class StreamAnswers<Piece> {
  private readonly name: MessageName;
  private readonly longAnswers: LongAnswers;
  private readonly outlet: AnswerOutlet<Piece>;
  private queue: object[] = [];
  private isAtWork = false;

  constructor(name: MessageName, longAnswers: LongAnswers, outlet: AnswerOutlet<Piece>) {
    this.name = name;
    this.longAnswers = longAnswers;
    this.outlet = outlet;
  }

  /** False: bring no other before `takeMore`. */
  send(response: object): boolean {
    const mustWait = this.isAtWork || this.queue.length > 0;
    if (!mustWait && !this.isLong(response)) return this.outlet.write(response);
    this.queue.push(response);
    if (!mustWait) void this.work();
    return false;
  }

  /** The client has taken what waited. */
  drained(): void {
    if (this.isAtWork) return;
    if (this.queue.length > 0) void this.work();
    else this.outlet.takeMore();
  }

  private isLong(response: object): boolean {
    return this.longAnswers.isLong(this.name, response);
  }

  private async work(): Promise<void> {
    this.isAtWork = true;
    let isTaken = false;
    try {
      isTaken = await this.writeQueue();
    } catch (error) {
      this.outlet.fail(error);
    }
    // Before more is asked for: that may begin the next one.
    this.isAtWork = false;
    if (isTaken && !this.outlet.isOver) this.outlet.takeMore();
  }

  /** False: the reader has to read first, or there is none any more. */
  private async writeQueue(): Promise<boolean> {
    const { outlet } = this;
    let isTaken = true;
    while (this.queue.length > 0 && isTaken && !outlet.isOver) {
      const response = this.queue.shift() as object;
      if (!this.isLong(response)) isTaken = outlet.write(response);
      else {
        const work = outlet.inPieces(response);
        const pieces = await this.longAnswers.make(work, () => !outlet.isOver);
        if (pieces === null) return false;
        isTaken = outlet.writePieces(pieces);
      }
    }
    return isTaken;
  }
}

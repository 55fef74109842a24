/**
 * Answers that are so long that nobody should wait while they are encoded: 100,000 pairs in one turn of the event
 * loop held it for 200 ms over gRPC and for 650 ms as JSON. One object for all connections of a server, of
 * both faces (gateway, gRPC).
 *
 * They are made in pieces (api/pieces.ts). All answers under way take turns: one piece in each turn of the loop,
 * whoever it is for.
 */
import { PIECE_WEIGHT, type WeighedPair, weightOf, weightOfPairs } from './api/pieces.js';
import type { MessageName } from './api/schema.js';

/** Of the events of a watch answer, which are more often made than all other long answers: some milliseconds of work
 *  over gRPC, some twenty as JSON. */
const EVENTS_WEIGHT = 4 * PIECE_WEIGHT;
/** So many are never weighed: no request is large enough to make them long. */
const FEW_EVENTS = 128;

/** All others are short, or so rarely asked for that their length does not matter. */
const MAY_BE_LONG: ReadonlySet<MessageName> = new Set<MessageName>([
  'RangeResponse',
  'TxnResponse',
  'DeleteRangeResponse',
]);

export class LongAnswers {
  /** The turn of whoever asked last. */
  private last: Promise<void> = Promise.resolve();

  /** Takes a walk over what is in the answer, of one piece at most. */
  isLong(name: MessageName, response: object): boolean {
    // Asked for each of ten thousand watchers of a key.
    if (name === 'WatchResponse') {
      const { events } = response as { readonly events?: readonly object[] };
      if (events === undefined || events.length <= FEW_EVENTS) return false;
      return weightOf(events, EVENTS_WEIGHT) > EVENTS_WEIGHT;
    }
    if (!MAY_BE_LONG.has(name)) return false;
    const { kvs } = response as { readonly kvs?: readonly WeighedPair[] };
    // A get, the most frequent call of all. One pair is never cut.
    if (kvs !== undefined && kvs.length <= 1) return false;
    if (kvs !== undefined) return weightOfPairs(kvs) > PIECE_WEIGHT;
    return weightOf(response) > PIECE_WEIGHT;
  }

  /** What `pieces` returns. `goOn` is asked in front of each, with the bytes of the one before; null: it said no. */
  async make<Result>(
    pieces: Generator<number, Result>,
    goOn: (bytes: number) => boolean,
  ): Promise<Result | null> {
    for (let bytes = 0; ; ) {
      await this.turn();
      if (!goOn(bytes)) return null;
      const step = pieces.next();
      if (step.done === true) return step.value;
      bytes = step.value;
    }
  }

  private turn(): Promise<void> {
    this.last = this.last.then(() => new Promise((resolve) => setImmediate(resolve)));
    return this.last;
  }
}

/**
 * Work on one entry that may take longer than a turn of the event loop should: the deletion of many keys, a range
 * inside a transaction.
 *
 * It is a generator that stops between two keys, at places that Pace chooses. Whoever runs it may let others have
 * their turn there; nobody may change the state meanwhile, and nobody may begin to read it: some keys of the entry
 * are changed already and others are not (state-machine.ts says who sees to that). Where it stops changes nothing
 * about what is done, so members need not agree on it.
 */

export type Steps<T> = Generator<undefined, T, undefined>;

/** Keys of one step. Deleting one costs 3 to 10 us. */
export const STEP_KEYS = 1000;
const BYTES_OF_A_KEY = 1024;
/** Keys that are only looked at in the index, in the time that it takes to read or delete one. */
export const PASSED_PER_KEY = 8;

/** Counts work and says when a step is over. */
export class Pace {
  readonly keys: number;
  private done = 0;

  /** So many in one step. */
  constructor(keys: number) {
    this.keys = keys;
  }

  /** True when it is time to stop; the next step begins to count anew. Values that are read count like so many more
   *  keys. */
  spend(keys: number, bytes: number): boolean {
    this.done += keys + bytes / BYTES_OF_A_KEY;
    if (this.done < this.keys) return false;
    this.done = 0;
    return true;
  }
}

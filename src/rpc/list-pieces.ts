/**
 * The bytes of lists that many answers share, for lists that are encoded in pieces (long-answers.ts): each is encoded
 * once, by whoever has a turn, and its pieces are kept until the list is dropped. Used by both faces (gateway, gRPC)
 * for the events of watches.
 */
interface Encoding {
  work: Generator<number, Buffer[]> | null;
  pieces: readonly Buffer[];
}

export class ListPieces<List extends object> {
  private readonly known = new WeakMap<List, Encoding>();
  private readonly encode: (list: List) => Generator<number, Buffer[]>;

  constructor(encode: (list: List) => Generator<number, Buffer[]>) {
    this.encode = encode;
  }

  /** Yields the bytes made in each step; returns the pieces, which all users of the list share. */
  *of(list: List): Generator<number, readonly Buffer[]> {
    let encoding = this.known.get(list);
    if (encoding === undefined) {
      encoding = { work: this.encode(list), pieces: [] };
      this.known.set(list, encoding);
    }
    // Others have a hand in it between the turns of this one.
    while (encoding.work !== null) {
      const step = encoding.work.next();
      if (step.done === true) {
        encoding.work = null;
        encoding.pieces = step.value;
      } else yield step.value;
    }
    return encoding.pieces;
  }
}

/**
 * Where a message is cut that is too long to be encoded in one turn of the event loop. Used by both encodings
 * (json.ts, protobuf.ts), whose `...InPieces` yield the bytes of each piece behind it, and by whoever decides
 * whether an answer is so long (long-answers.ts).
 *
 * Lists of messages are what makes answers long, so they are cut between their elements, however deep they lie:
 * in a transaction stand ranges, and in those stand pairs.
 */

/** Of one piece, in bytes: a millisecond of work or two. */
export const PIECE_WEIGHT = 1024 * 1024;
/** What a message costs besides what it holds: two thousand small pairs are a piece as well, and a thousand of
 *  some hundred bytes are no more than one. */
const MESSAGE_WEIGHT = 512;

/** About what it costs to encode it. Beyond `most` it only says that it is more. */
export function weightOf(value: unknown, most = PIECE_WEIGHT): number {
  if (typeof value === 'string') return value.length;
  if (typeof value !== 'object' || value === null) return 0;
  if (value instanceof Uint8Array) return value.length;
  let weight = 0;
  if (Array.isArray(value)) {
    for (let at = 0; at < value.length && weight <= most; at += 1) {
      weight += weightOf(value[at], most);
    }
    return weight;
  }
  weight = MESSAGE_WEIGHT;
  // A pair, as most of all messages in long answers are: a walk over its fields took a tenth of the encoding.
  const { key, value: bytes } = value as { readonly key?: unknown; readonly value?: unknown };
  if (typeof key === 'string' && bytes instanceof Uint8Array) {
    return weightOfPair(key, bytes);
  }
  for (const name in value) {
    weight += weightOf((value as Readonly<Record<string, unknown>>)[name], most);
    if (weight > most) break;
  }
  return weight;
}

export interface WeighedPair {
  readonly key: string;
  readonly value: Uint8Array;
}

/** What weightOf says of a list of pairs, in a tenth of the time: in a range of a thousand it took as long as their
 *  values took to be copied. */
export function weightOfPairs(pairs: readonly WeighedPair[], most = PIECE_WEIGHT): number {
  let weight = 0;
  for (let at = 0; at < pairs.length && weight <= most; at += 1) {
    const { key, value } = pairs[at] as WeighedPair;
    weight += weightOfPair(key, value);
  }
  return weight;
}

function weightOfPair(key: string, value: Uint8Array): number {
  return MESSAGE_WEIGHT + key.length + value.length;
}

/** The end of the piece that begins with the element `from`; `from` itself when that is more than a piece. */
export function endOfPiece(list: readonly unknown[], from: number, most = PIECE_WEIGHT): number {
  let weight = 0;
  for (let at = from; at < list.length; at += 1) {
    weight += weightOf(list[at], most);
    if (weight > most) return at;
  }
  return list.length;
}

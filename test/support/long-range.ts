/** Answers to ranges that are too long for one turn of the event loop. */
export function longRange(pairs = 20_500, valueBytes = 100) {
  const value = Buffer.alloc(valueBytes, 'v');
  const kvs = Array.from({ length: pairs }, (_, at) => ({
    key: `k${at}`,
    modRevision: at + 1,
    value,
  }));
  return { header: { revision: 7 }, kvs, more: true, count: 2 * pairs };
}

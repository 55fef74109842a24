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

/** One that nobody sees the end of, and how often somebody looked at its pairs so far. */
export function endlessRange() {
  const pair = { key: 'k', value: new Uint8Array(0) };
  const range = {
    looks: 0,
    kvs: new Proxy([] as (typeof pair)[], {
      get: (_target, property) => {
        range.looks += 1;
        if (property === 'length') return 1_000_000_000;
        if (property !== 'slice') return pair;
        return (from: number, to: number) => Array.from({ length: to - from }, () => pair);
      },
    }),
  };
  return range;
}

/** Gets of one key, and ranges. */
import { closedLoop, type Request } from './load.js';
import { endOf } from './site.js';
import { message } from './wire.js';
import {
  connectionsFor,
  fill,
  get,
  HEADS,
  KeySpace,
  STORED_KEYS,
  VALUE_BYTES,
  type Workload,
} from './workload.js';

function gets(inFlight: number, serializable: boolean): Workload {
  const kind = serializable ? 'serializable' : 'linearizable';
  return {
    id: `get-${kind}-${inFlight}`,
    family: 'reads',
    title: `${kind} get, ${inFlight} in flight${serializable ? ', over three members' : ''}`,
    unit: 'gets',
    prepare: async (site) => {
      const keys = new KeySpace('get');
      await fill(site, keys, STORED_KEYS);
      const count = connectionsFor(inFlight) + (serializable ? 2 : 0);
      const wires = await site.connect(count, serializable ? 'all' : 'leader');
      await site.assertEqual();
      let at = 0;
      const next = (): Request => {
        at += 7919;
        return get(keys.at(at % STORED_KEYS), serializable);
      };
      return { run: (ms) => closedLoop({ wires, next }, inFlight, ms) };
    },
  };
}

const RANGE_KEYS = 1000;

const ranges: Workload = {
  id: 'range-1000',
  family: 'reads',
  title: `range of ${RANGE_KEYS} keys, 10 in flight`,
  unit: 'ranges',
  prepare: async (site) => {
    const keys = new KeySpace('range');
    await fill(site, keys, RANGE_KEYS);
    const wires = await site.connect(10, 'leader');
    const { prefix } = keys;
    const body = message('RangeRequest', { key: prefix, rangeEnd: endOf(prefix) });
    const check = (answer: Buffer): string | null =>
      answer.length > RANGE_KEYS * VALUE_BYTES ? null : 'keys are missing';
    const next = (): Request => ({ head: HEADS.range, body, check });
    return { run: (ms) => closedLoop({ wires, next }, 10, ms) };
  },
};

export const READ_WORKLOADS: readonly Workload[] = [
  gets(1, false),
  gets(100, false),
  gets(1000, true),
  ranges,
];

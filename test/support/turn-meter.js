/**
 * Preloaded into a process (`node --import`): how long its main thread ran in one turn of the event loop, by the
 * kernel's account. A delay of the loop would also count the time that a busy machine gave to others. Linux.
 *
 * Adds a line for each turn of more than 10 ms to the file that KVD_TURNS names: Unix ms at its end, then the
 * ms that it took, of these the ms that the thread ran, and the ms that it waited for a CPU.
 */
import { appendFileSync, readFileSync } from 'node:fs';

const LOOK_MS = 5;
const WORTH_A_LINE_MS = 10;

/** Milliseconds on a CPU, and in line for one. */
const account = () =>
  readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'latin1')
    .split(' ')
    .map((text) => Number(text) / 1e6);

let before = [performance.now(), ...account()];
setInterval(() => {
  const now = [performance.now(), ...account()];
  const [took, ran, waited] = now.map((value, at) => (value - before[at]).toFixed(1));
  before = now;
  if (Number(took) < WORTH_A_LINE_MS) return;
  appendFileSync(process.env['KVD_TURNS'], `${Date.now()} ${took} ${ran} ${waited}\n`);
}, LOOK_MS).unref();

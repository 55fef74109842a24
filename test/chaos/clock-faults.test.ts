/**
 * The shim that shifts clocks, on a real process: the wall clock and the monotonic clock move each by
 * itself, at once, and timers go on.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { expect, it } from 'vitest';
import { within } from '../support/wait.js';
import { FaultyClock } from './clock-faults.js';

const PROGRAM = `
  process.stdin.on('data', () => {
    setTimeout(() => console.log(Date.now() + ' ' + performance.now()), 5);
  });
  process.stdin.on('end', () => process.exit());
`;

it('shifts each clock of a running process by itself', async () => {
  const clock = new FaultyClock();
  const env = { ...process.env, ...clock.environment, LD_PRELOAD: clock.library };
  const child = spawn(process.execPath, ['-e', PROGRAM], {
    env,
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const read = async (): Promise<{ wall: number; monotonic: number }> => {
    child.stdin.write('now\n');
    const { value } = await within('an answer', 10_000, lines.next());
    const [wall, monotonic] = (value as string).split(' ').map(Number);
    return { wall: (wall as number) - Date.now(), monotonic: monotonic as number };
  };
  try {
    const before = await read();
    clock.setWall(-3_600_000);
    const back = await read();
    clock.setWall(0);
    clock.advanceMonotonic(20_000);
    const ahead = await read();

    expect(Math.abs(before.wall)).toBeLessThan(1_000);
    expect(Math.abs(back.wall + 3_600_000)).toBeLessThan(1_000);
    expect(back.monotonic - before.monotonic).toBeLessThan(5_000);
    expect(Math.abs(ahead.wall)).toBeLessThan(1_000);
    expect(ahead.monotonic - back.monotonic).toBeGreaterThanOrEqual(20_000);
    expect(() => clock.advanceMonotonic(-1)).toThrow('does not go back');
  } finally {
    child.kill('SIGKILL');
  }
});

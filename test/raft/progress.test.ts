/**
 * What a leader believes of one follower: probe, replicate, snapshot.
 */
import { describe, expect, it } from 'vitest';
import { Inflights } from '../../src/raft/inflights.js';
import { Progress, ProgressState } from '../../src/raft/progress.js';

function makeProgress(state: ProgressState, match: number, next: number): Progress {
  const progress = new Progress(2, next, 0, new Inflights(4, 1000));
  progress.matchIndex = match;
  progress.state = state;
  return progress;
}

describe('Progress', () => {
  it('never moves its match backwards when acknowledgements are reordered', () => {
    const progress = makeProgress(ProgressState.Replicate, 0, 1);
    for (const index of [3, 7, 5, 7, 2]) progress.matchTo(index);
    expect(progress.matchIndex).toBe(7);
    expect(progress.nextIndex).toBe(8);
  });

  it('sends ahead in the replicate state', () => {
    const progress = makeProgress(ProgressState.Replicate, 4, 5);
    progress.sent(9, 100, 4);
    expect(progress.nextIndex).toBe(10);
    expect(progress.inflights.lastIndex).toBe(9);
  });

  it('waits after one append in the probe state', () => {
    const progress = makeProgress(ProgressState.Probe, 4, 5);
    progress.sent(9, 100, 4);
    expect(progress.nextIndex).toBe(5);
    expect(progress.probeSent).toBe(true);
  });

  it('ignores a rejection that an acknowledgement has overtaken', () => {
    const progress = makeProgress(ProgressState.Replicate, 5, 10);
    expect(progress.rejectTo(5, 3)).toBe(false);
    expect(progress.rejectTo(4, 3)).toBe(false);
    expect(progress.state).toBe(ProgressState.Replicate);
  });

  it('probes behind its match after a rejection in the replicate state', () => {
    const progress = makeProgress(ProgressState.Replicate, 5, 10);
    progress.inflights.add(9, 10);
    expect(progress.rejectTo(9, 9)).toBe(true);
    expect(progress.state).toBe(ProgressState.Probe);
    expect(progress.nextIndex).toBe(6);
    expect(progress.inflights.count).toBe(0);
  });

  it('ignores a rejection of anything but the outstanding probe', () => {
    const progress = makeProgress(ProgressState.Probe, 0, 10);
    expect(progress.rejectTo(7, 3)).toBe(false);
    expect(progress.nextIndex).toBe(10);
    expect(progress.rejectTo(9, 3)).toBe(true);
    expect(progress.nextIndex).toBe(4);
    expect(progress.rejectTo(9, 3)).toBe(false);
  });

  it('never probes at or below its match', () => {
    const progress = makeProgress(ProgressState.Probe, 5, 10);
    expect(progress.rejectTo(9, 0)).toBe(true);
    expect(progress.nextIndex).toBe(6);
  });

  it('never probes above the rejected index, whatever the hint says', () => {
    const progress = makeProgress(ProgressState.Probe, 0, 10);
    progress.rejectTo(9, 500);
    expect(progress.nextIndex).toBe(9);
  });

  it('forgets its window when it waits for a snapshot', () => {
    const progress = makeProgress(ProgressState.Replicate, 5, 6);
    progress.sent(9, 10, 0);
    progress.becomeSnapshot(3);
    expect(progress.inflights.count).toBe(0);
    expect(progress.rejectTo(9, 3)).toBe(false);
  });
});

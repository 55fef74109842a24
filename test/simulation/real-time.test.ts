/**
 * Shows the order of answers in real time red by histories that break it, and green by those that only
 * look as if they did: calls that overlap, and reads that may be stale.
 */
import { describe, expect, it } from 'vitest';
import { checkRealTime, type Shown } from './real-time.js';

function shown(invokedAt: number, returnedAt: number, revision: number, isStale = false): Shown {
  return { name: `read at ${invokedAt}`, invokedAt, returnedAt, revision, isStale };
}

describe('answers in real time', () => {
  it('may show later states later', () => {
    expect(() =>
      checkRealTime([shown(0, 10, 5), shown(20, 30, 5), shown(40, 50, 9)]),
    ).not.toThrow();
  });

  it('may come in any order while calls overlap', () => {
    expect(() => checkRealTime([shown(0, 100, 9), shown(20, 30, 5)])).not.toThrow();
  });

  it('may be old where staleness was asked for', () => {
    expect(() => checkRealTime([shown(0, 10, 9), shown(20, 30, 5, true)])).not.toThrow();
  });

  it('never go back', () => {
    expect(() => checkRealTime([shown(0, 10, 9), shown(20, 30, 8)])).toThrow('K11');
  });

  it('never go back behind what a stale read has shown', () => {
    expect(() => checkRealTime([shown(0, 10, 9, true), shown(20, 30, 8)])).toThrow('K11');
  });

  it('never go back behind the newest of several', () => {
    const calls = [shown(0, 10, 9), shown(11, 15, 9), shown(12, 14, 12), shown(20, 30, 10)];
    expect(() => checkRealTime(calls)).toThrow('had shown 12');
  });
});

/**
 * Shows each rule about a member's log red by a state that breaks it, and a good state green: a check
 * that nothing can fail would keep the simulator silent.
 */
import { describe, expect, it } from 'vitest';
import { checkLogRules, type LogState } from './log-rules.js';

const good: LogState = {
  ...{ name: 'm1', isLeader: true, term: 3, before: 2, applied: 4, committed: 5 },
  ...{ persisted: 6, last: 8, durable: 6 },
  termAt: (index) => (index < 5 ? 2 : 3),
  isChange: (index) => index === 7,
};

describe('the rules of a log', () => {
  it('accept a leader with one change on its way', () => {
    expect(() => checkLogRules(good)).not.toThrow();
  });

  const bad: readonly (readonly [string, string, Partial<LogState>])[] = [
    ['applied beyond committed', 'S11', { applied: 6 }],
    ['committed beyond the end', 'S11', { committed: 9 }],
    ['cut above what is committed', 'S11', { before: 6 }],
    ['persisted beyond the disk', 'S11', { durable: 5 }],
    ['two open changes', 'S14', { isChange: (index) => index > 6 }],
    ['a change before an own commit', 'S14', { termAt: (index) => (index < 6 ? 2 : 3) }],
  ];
  for (const [title, property, change] of bad) {
    it(`name ${property} for ${title}`, () => {
      expect(() => checkLogRules({ ...good, ...change })).toThrow(property);
    });
  }

  it('allow a follower the changes of earlier leaders', () => {
    expect(() =>
      checkLogRules({ ...good, isLeader: false, isChange: (index) => index > 6 }),
    ).not.toThrow();
  });
});

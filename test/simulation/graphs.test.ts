/**
 * The family of graphs: that it is all of them, and that what a graph allows is worked out rightly.
 */
import { describe, expect, it } from 'vitest';
import { edgesOf, electable, GRAPHS, nameOf, PAIRS } from './graphs.js';
import { drawPlan } from './plan.js';

const EQUAL = PAIRS.slice(0, 5).map(() => ({ term: 1, index: 7 }));

describe('the graphs of five members', () => {
  it('are 34, from no link to all, no two alike', () => {
    expect(GRAPHS).toHaveLength(34);
    expect(new Set(GRAPHS).size).toBe(34);
    expect([nameOf(GRAPHS[0]!), edgesOf(GRAPHS[33]!).length]).toEqual(['none', 10]);
    const counts = Array.from({ length: 11 }, (_, edges) => {
      return GRAPHS.filter((graph) => edgesOf(graph).length === edges).length;
    });
    // Known numbers of graphs with 5 vertices by edges (OEIS A008406).
    expect(counts).toEqual([1, 1, 2, 4, 6, 6, 6, 4, 2, 1, 1]);
  });

  it('are all there in 34 seeds in a row, with other members in other places', () => {
    const plans = GRAPHS.map((_, at) => drawPlan(100 + at, { family: 'graphs' }));
    expect(new Set(plans.map(({ graph }) => graph?.graph)).size).toBe(34);
    expect(new Set(plans.map(({ graph }) => graph?.places.join())).size).toBeGreaterThan(10);
    expect(plans.every(({ faults, size }) => faults.size === 0 && size === 5)).toBe(true);
  });

  it('that nobody can serve are the three in which nobody reaches two others', () => {
    const dead = GRAPHS.filter((graph) => electable(edgesOf(graph), EQUAL).length === 0);
    expect(dead.map(nameOf)).toEqual(['none', '1-2', '1-2 3-4'].map(anyNameOf));
  });
});

describe('who can be elected', () => {
  const star = [1, 2, 3, 4].map((leaf) => [0, leaf] as const);

  it('reaches a majority, itself included', () => {
    expect(electable(star, EQUAL)).toEqual([0]);
    expect(electable(star.slice(0, 2), EQUAL)).toEqual([0]);
    expect(electable(star.slice(0, 1), EQUAL)).toEqual([]);
  });

  it('has no shorter log than those whom it needs', () => {
    const behind = (...longer: number[]) =>
      EQUAL.map((end, at) => (longer.includes(at) ? { term: 1, index: 8 } : end));
    expect(electable(star, behind(1, 2))).toEqual([0]);
    expect(electable(star, behind(1, 2, 3))).toEqual([]);
    const newer = EQUAL.map((end, at) => (at > 0 && at < 4 ? { term: 2, index: 1 } : end));
    expect(electable(star, newer)).toEqual([]);
  });
});

/** The name by which GRAPHS knows a graph that is written with other vertices. */
function anyNameOf(name: string): string {
  const wanted = degreesOf(name === 'none' ? [] : name.split(' '));
  const found = GRAPHS.find((graph) => {
    return degreesOf(nameOf(graph) === 'none' ? [] : nameOf(graph).split(' ')) === wanted;
  });
  return nameOf(found as number);
}

function degreesOf(edges: readonly string[]): string {
  const degrees = [1, 2, 3, 4, 5].map((vertex) => {
    return edges.filter((edge) => edge.includes(String(vertex))).length;
  });
  return degrees.sort().join();
}

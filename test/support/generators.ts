/** Generators as a whole. */

/** What it returns in the end. */
export function returned<Result>(generator: Generator<unknown, Result>): Result {
  for (;;) {
    const step = generator.next();
    if (step.done === true) return step.value;
  }
}

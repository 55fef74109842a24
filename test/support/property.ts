/**
 * Runs a property of fast-check so that a failure can be repeated: the seed comes from the environment
 * variable SEED, or is new each time, and a failure begins with the command that repeats it.
 */
import fc from 'fast-check';

export function checkProperty<T>(
  property: fc.IProperty<T> | fc.IAsyncProperty<T>,
  options: { readonly file: string; readonly runs: number },
): void | Promise<void> {
  const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  const scale = Number(process.env['RUNS_SCALE'] ?? 1);
  const explain = (error: unknown): never => {
    const command = `SEED=${seed} npx vitest run --project unit ${options.file}`;
    const { message, cause } = error as Error;
    throw new Error(`repeat with: ${command}\n${message}`, { cause });
  };
  try {
    const outcome = fc.assert(property as fc.IAsyncProperty<T>, {
      seed,
      numRuns: Math.ceil(options.runs * scale),
    }) as unknown;
    if (outcome instanceof Promise) return outcome.catch(explain) as Promise<void>;
  } catch (error) {
    explain(error);
  }
}

/**
 * A short name for a large value, the same in a run and when it is checked again.
 */
import { createHash } from 'node:crypto';

export function digest(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 32);
}

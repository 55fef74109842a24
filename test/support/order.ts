/** Order of keys and values for models: the plain meaning, not the code under test. */

export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  return Buffer.compare(a, b);
}

export function isBetween(
  candidate: string,
  range: { readonly key: string; readonly rangeEnd: string },
): boolean {
  if (range.rangeEnd === '') return candidate === range.key;
  if (candidate < range.key) return false;
  return range.rangeEnd === '\0' || candidate < range.rangeEnd;
}

/**
 * Serial numbers of certificates, to be compared: Node writes them in whole bytes, others without zeros in
 * front.
 */
export function serialKey(hexadecimal: string): string {
  return BigInt(`0x${hexadecimal}`).toString(16);
}

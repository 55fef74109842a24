/**
 * IP addresses as bytes: for certificates, which hold them so, and to tell which addresses are one client.
 */
import { isIP } from 'node:net';

/** The 4 or 16 bytes of an address that has been checked. */
export function addressBytes(address: string): number[] {
  if (isIP(address) === 4) return address.split('.').map(Number);
  const [plain = ''] = address.split('%');
  const [head = '', tail] = plain.split('::');
  const front = groupsOf(head);
  const back = tail === undefined ? [] : groupsOf(tail);
  const missing = new Array<number>(16 - front.length - back.length).fill(0);
  return [...front, ...missing, ...back];
}

function groupsOf(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (group.includes('.')) return group.split('.').map(Number);
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}

/**
 * What stands for one client when many addresses are counted: an IPv4 address, or the /64 of an IPv6
 * address, since whoever has one of these has all of them.
 */
export function clientKey(address: string): string {
  if (isIP(address) !== 6) return address;
  const bytes = addressBytes(address);
  const isMapped = bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 255;
  return isMapped ? bytes.slice(12).join('.') : Buffer.from(bytes.slice(0, 8)).toString('hex');
}

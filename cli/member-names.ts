/**
 * Which member is meant: commands take a name or a hexadecimal id.
 */
import type { Member } from '../src/client/messages.js';
import type { Int64 } from '../src/int64.js';
import { CommandError, EXIT } from './exit.js';
import { parseMemberId } from './values.js';

/** By name first: a name may look like an id. */
export function findMember(members: readonly Member[], target: string): Member {
  const named = members.find(({ name }) => name === target);
  if (named !== undefined) return named;
  let id: Int64 | null = null;
  try {
    id = parseMemberId(target);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
  }
  const found = members.find((member) => member.id === id);
  if (found !== undefined) return found;
  throw new CommandError(EXIT.notFound, `no member "${target}": see "kvctl member list"`);
}

/**
 * Passwords of people: asked for on the terminal without an echo, or the first line of standard input when
 * that is no terminal. Never an argument of a command, unless somebody insists: arguments are seen by all
 * users of the machine.
 */
import { usageError } from './exit.js';
import { type Io, readStdin } from './io.js';

/** Asks once. */
export async function readPassword(io: Io, prompt: string): Promise<string> {
  if (io.askHidden !== null) return await io.askHidden(prompt);
  const text = Buffer.from(await readStdin(io)).toString('utf8');
  return (text.split('\n')[0] as string).replace(/\r$/, '');
}

/** Asks on the terminal twice, because nobody sees what is typed. */
export async function readNewPassword(io: Io, user: string): Promise<string> {
  const first = await readPassword(io, `New password of ${user}: `);
  if (first === '')
    throw usageError('the password is empty; --no-password makes a user without one');
  if (io.askHidden === null) return first;
  const second = await io.askHidden(`The same again: `);
  if (first !== second) throw usageError('these were two different passwords; nothing was changed');
  return first;
}

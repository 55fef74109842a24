/** What is wrong with a backup file or with the place that it is to be restored to: one line that names it
 *  and says what to do. No bug and no failed surroundings: the caller shows it to the operator. */
export class BackupError extends Error {
  override readonly name = 'BackupError';
}

/**
 * The run could not be made, or stressed too little to count. Not a violation: exit code 3.
 */
export class CannotRun extends Error {}

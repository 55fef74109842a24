/**
 * The peer broke a rule of the whole connection, which ends: connection.ts tells it so and is over.
 */
import type { Http2Code } from './frame.js';

export class ConnectionError extends Error {
  override readonly name = 'ConnectionError';
  readonly code: Http2Code;

  constructor(code: Http2Code, message: string) {
    super(message);
    this.code = code;
  }
}

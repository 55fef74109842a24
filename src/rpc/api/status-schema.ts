/**
 * The messages of google.rpc in which a failed gRPC call may say more than a code and a text. Part of
 * schema.ts. A map is a list of entries on the wire.
 */
import { bytes, message, repeated, text, uint32 } from './field.js';

export const status = {
  Status: { code: uint32(1), message: text(2), details: repeated(message(3, 'Any')) },
  Any: { type_url: text(1), value: bytes(2) },
  ErrorInfo: {
    reason: text(1),
    domain: text(2),
    metadata: repeated(message(3, 'ErrorInfoEntry')),
  },
  ErrorInfoEntry: { key: text(1), value: text(2) },
};

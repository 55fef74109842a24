/**
 * The words in which the API's messages are written down (schema.ts), and the TypeScript types that
 * follow from such a table.
 *
 * Codecs read the tables at run time (json.ts by the names, protobuf.ts by the numbers), services use
 * the types. A message in memory is a plain object whose property names are the
 * proto names with `_x` turned into `X`; names without an underscore (`ID`, `grantedTTL`) stay.
 *
 *   bytes that are keys or names   latin1 string     other bytes     Uint8Array
 *   64-bit integers                Int64             enums           number
 *   absent message or oneof field  null              repeated        array, empty when absent
 */
import type { Int64 } from '../../int64.js';

/** How a value looks on the wire. `latin1` is proto `bytes`, held as a string. */
export type Scalar =
  | 'bytes'
  | 'latin1'
  | 'string'
  | 'bool'
  | 'int64'
  | 'uint64'
  | 'int32'
  | 'uint32';

export interface Field {
  readonly number: number;
  readonly type: Scalar | 'enum' | 'message';
  readonly repeated: boolean;
  /** Name of the union that this field belongs to: at most one of its fields is set. */
  readonly oneof: string | null;
  /** Name of the enum or of the message. */
  readonly of: string | null;
}

/** One message: its fields by proto name. */
export type Fields = Readonly<Record<string, Field>>;

export interface Single<T, O extends string | null = null> extends Field {
  readonly type: T & Field['type'];
  readonly repeated: false;
  readonly oneof: null;
  readonly of: O;
}

function scalar<T extends Scalar>(type: T): (number: number) => Single<T> {
  return (number) => ({ number, type, repeated: false, oneof: null, of: null }) as Single<T>;
}

export const bytes = scalar('bytes');
export const latin1 = scalar('latin1');
export const text = scalar('string');
export const bool = scalar('bool');
export const int64 = scalar('int64');
export const uint64 = scalar('uint64');
export const uint32 = scalar('uint32');

export function enumeration<O extends string>(number: number, of: O): Single<'enum', O> {
  return { number, type: 'enum', repeated: false, oneof: null, of };
}

export function message<O extends string>(number: number, of: O): Single<'message', O> {
  return { number, type: 'message', repeated: false, oneof: null, of };
}

type Repeated<F extends Field> = Omit<F, 'repeated'> & { readonly repeated: true };
type OneOf<F extends Field> = Omit<F, 'oneof'> & { readonly oneof: string };

export function repeated<F extends Field>(field: F): Repeated<F> {
  return { ...field, repeated: true };
}

export function oneof<F extends Field>(union: string, field: F): OneOf<F> {
  return { ...field, oneof: union };
}

/** `range_end` -> `rangeEnd`. */
export type PropertyName<Name extends string> = Name extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<PropertyName<Tail>>}`
  : Name;

export function propertyName(protoName: string): string {
  return protoName.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
}

/** The list that nothing was added to, shared by all messages. */
export const NO_ELEMENTS: readonly never[] = Object.freeze([]);
const NO_BYTES = new Uint8Array(0);

/** What a property is when its field was not on the wire. */
export function zeroValue(field: Field): unknown {
  if (field.repeated) return NO_ELEMENTS;
  if (field.oneof !== null) return null;
  switch (field.type) {
    case 'message':
      return null;
    case 'bytes':
      return NO_BYTES;
    case 'latin1':
    case 'string':
      return '';
    case 'bool':
      return false;
    default:
      return 0;
  }
}

type ScalarValue<T> = T extends 'bytes'
  ? Uint8Array
  : T extends 'latin1' | 'string'
    ? string
    : T extends 'bool'
      ? boolean
      : T extends 'int64' | 'uint64'
        ? Int64
        : number;

type Tables = Readonly<Record<string, Fields>>;

type ElementIn<S extends Tables, F> = F extends { type: 'message'; of: infer O extends keyof S }
  ? DecodedIn<S, O>
  : F extends { type: infer T }
    ? ScalarValue<T>
    : never;

type ValueIn<S extends Tables, F> = F extends { repeated: true }
  ? readonly ElementIn<S, F>[]
  : F extends { type: 'message' } | { oneof: string }
    ? ElementIn<S, F> | null
    : ElementIn<S, F>;

/** What a decoder builds of a message: every property is there. */
export type DecodedIn<S extends Tables, N extends keyof S> = {
  readonly [K in keyof S[N] & string as PropertyName<K>]: ValueIn<S, S[N][K]>;
};

type PartIn<S extends Tables, F> = F extends { type: 'message'; of: infer O extends keyof S }
  ? EncodableIn<S, O>
  : F extends { type: infer T }
    ? ScalarValue<T>
    : never;

/** What an encoder takes for a message: any property may be missing. */
export type EncodableIn<S extends Tables, N extends keyof S> = {
  readonly [K in keyof S[N] & string as PropertyName<K>]?:
    | (S[N][K] extends { repeated: true } ? readonly PartIn<S, S[N][K]>[] : PartIn<S, S[N][K]>)
    | null
    | undefined;
};

/** Types of index.js, which scripts run as it is. */
export interface Mutant {
  readonly name: string;
  /** The rule that is broken, as one sentence. */
  readonly rule: string;
  readonly area: 'consensus' | 'storage' | 'service' | 'access';
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** Options of the simulator under which the states in which the bug shows come often. */
  readonly options?: readonly string[];
}

export declare const mutants: readonly Mutant[];

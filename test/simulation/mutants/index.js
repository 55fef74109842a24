/**
 * All planted bugs, for scripts/mutants.js and scripts/simulate.js. What none of them plants, with the
 * reason: kvd serves no reads under a leader lease and keeps no client sessions, so there is nothing
 * to break in them; clocks of the wall decide nothing.
 */
import { accessMutants } from './access.js';
import { consensusMutants } from './consensus.js';
import { serviceMutants } from './service.js';
import { storageMutants } from './storage.js';

export const mutants = [
  ...consensusMutants.map((mutant) => ({ ...mutant, area: 'consensus' })),
  ...storageMutants.map((mutant) => ({ ...mutant, area: 'storage' })),
  ...serviceMutants.map((mutant) => ({ ...mutant, area: 'service' })),
  ...accessMutants.map((mutant) => ({ ...mutant, area: 'access' })),
];

/** Types of simulator-build.js, which scripts run as it is. */
import type { Mutant } from '../test/simulation/mutants/index.js';

export declare class PlantError extends Error {}
export declare function buildSimulator(): string;
export declare function freeze(clean: string): string;
export declare function plantedText(mutant: Mutant): string;
export declare function plant(clean: string, mutant: Mutant, text?: string): string;
export declare function mainOf(folder: string): string;

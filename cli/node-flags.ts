/**
 * What Node should be started with to run a member; dev.ts and the tests do, and operations.md says so. A process
 * cannot set it for itself: V8 reads it once, before any code runs.
 *
 * The semi-space, where V8 keeps what was made last: what a member makes for a request lives until the answer, and
 * with the default of 16 MiB each collection finds much of it alive and copies it, to throw it away soon
 * after. 32 MiB took 13 to 17 % of the processor time of a put away, for 30 MB of memory; 64 MiB no more.
 *
 * The initial old space, below which V8 makes no full collection. It counts buffers outside of the heap that are no
 * garbage yet together with a heap of 20 MB, and without this collects all of it whenever 30 MB of values have come:
 * five times a second with puts of 64 KiB, which was a quarter of their processor time. Of these buffers 32 to 64 MiB
 * are entries of the log, so that a member with half a million keys came near 96 MB whatever it had collected, and
 * did it again each second or two: with 160 a load of 16,000 keys a second took 67 instead of 74 us of processor
 * time per key, and its event loop was 16 instead of 29 ms late at 99.9 % (six members each, in turns), for 20 to
 * 65 MB more memory of all three together. 256 gained no more.
 *
 * The threads that help the collector, four by default. Where members share two processors each of them is one more that
 * the main thread waits behind: with two of them the event loop was 41 instead of 52 ms late at 99.9 % while a million
 * keys came in as fast as they were taken (nine members each, in turns; with one, 38), for the same processor time.
 */
export const NODE_FLAGS: readonly string[] = [
  '--max-semi-space-size=32',
  '--initial-old-space-size=160',
  '--v8-pool-size=2',
];

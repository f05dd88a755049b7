/** Who runs the bundle: the program, or a thread of the pool. Each needs other functions of it. */
export type Role = 'program' | 'thread';

/** By this name threads learn from their process that it makes code caches (`worker_threads.getEnvironmentData`). */
export const REHEARSAL = 'volseal makes code caches';

/** Who runs the bundle: the program, or a thread of the pool. Each needs other functions of it. */
export type Role = 'program' | 'thread';

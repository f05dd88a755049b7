/**
 * All of volseal as one file, with the packages it is made of: what the command line and the threads of the pool run. A
 * start is mostly loading, and one file that V8 has compiled before loads in a third of the time that some three
 * hundred take. scripts/bundle.mjs makes it, load.ts runs it; libraries that embed volseal load the modules themselves,
 * and share the threads' side.
 */
import * as z from 'zod';
import type { Order } from '../workers/tasks.js';

// Each schema checks a value or two in a command's life: compiling a function for it first would take longer.
z.config({ jitless: true });

/** The program `volseal` (src/cli/main.ts). */
export const main = async (): Promise<never> => (await import('../cli/main.js')).main();

/** A task of the pool (src/workers/tasks.ts). */
export const runTask = async (order: Order): Promise<unknown> => (await import('../workers/tasks.js')).default(order);

/** What the code caches are made from (rehearsal.ts). */
export const rehearse = async (): Promise<void> => (await import('./rehearsal.js')).rehearse();

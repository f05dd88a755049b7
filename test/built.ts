/** What only exists built: vitest's global set-up (global-setup.ts) builds it before the first test. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The project's root. */
export const ROOT = fileURLToPath(new URL('../', import.meta.url));

/** A compiled script, for a process of its own. @param source the path of its source, relative to the root */
export const built = (source: string): string => join(ROOT, 'dist', source.replace(/\.ts$/, '.js'));

/** The program `volseal`, as it is installed. */
export const MAIN = join(ROOT, 'dist/program/main.js');

/** Files of the package that code looks for beside itself. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/**
 * The package's root, above this module: it is in dist/src, within the bundle in dist/program, and as a source in src (when tests run it).
 */
const ROOT = existsSync(new URL('../package.json', import.meta.url)) ? '../' : '../../';

const packageFile = (path: string): string => fileURLToPath(new URL(ROOT + path, import.meta.url));

/** The native addon, where cmake-js builds it (src/native.ts loads it). */
export const ADDON_FILE = packageFile('build/Release/volseal.node');

/** The package's own package.json. */
export const PACKAGE_FILE = packageFile('package.json');

/** What threads of the pool load: the bundle's tasks (src/program/tasks.ts). */
export const TASKS_FILE = packageFile('dist/program/tasks.js');

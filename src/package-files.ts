/** Files of the package that code looks for beside itself. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** A bundler that makes CommonJS leaves no URL: then no file of the package is found, and native.ts says what to do. */
const HERE = import.meta.url ?? 'file:///bundled/volseal/index.js';

/**
 * The package's root, above this module: it is in dist/src, within the bundle in dist/program, and as a source in src
 * (when tests run it).
 */
const ROOT = existsSync(new URL('../package.json', HERE)) ? '../' : '../../';

const packageFile = (path: string): string => fileURLToPath(new URL(ROOT + path, HERE));

const COMPILED_ADDON = packageFile('build/Release/volseal.node');
const PREBUILT_ADDON = packageFile(`prebuilds/${process.platform}-${process.arch}/volseal.node`);

/**
 * Whether the package's own addon is in use. One that was compiled here comes first: somebody wanted it, or the
 * package's did not fit.
 */
export const ADDON_IS_PREBUILT = !existsSync(COMPILED_ADDON) && existsSync(PREBUILT_ADDON);

/** The native addon (src/native.ts loads it). */
export const ADDON_FILE = ADDON_IS_PREBUILT ? PREBUILT_ADDON : COMPILED_ADDON;

/** The package's own package.json. */
export const PACKAGE_FILE = packageFile('package.json');

/** What threads of the pool load: the bundle's tasks (src/program/tasks.ts). */
export const TASKS_FILE = packageFile('dist/program/tasks.js');

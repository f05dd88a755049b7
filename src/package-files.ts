/** Files of the package that code looks for beside itself. */
import { closeSync, existsSync, openSync, readSync } from 'node:fs';
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

/**
 * Whether the C library of this Node is musl: its executable names the loader near its beginning. As in
 * scripts/prebuilt-name.mjs, which works without dist/. `process.report` would say it too, and takes milliseconds.
 */
function isMusl(): boolean {
  try {
    const beginning = Buffer.alloc(4096);
    const executable = openSync(process.execPath, 'r');
    readSync(executable, beginning);
    closeSync(executable);
    return beginning.includes('/ld-musl-');
  } catch {
    return false; // an executable that nobody may read, or that was replaced meanwhile
  }
}

function prebuiltAddon(): string | undefined {
  const file = packageFile(`prebuilds/${process.platform}-${process.arch}${isMusl() ? '-musl' : ''}/volseal.node`);
  return existsSync(file) ? file : undefined;
}

/**
 * The native addon (src/native.ts loads it). One that was compiled here comes first: somebody wanted it, or the
 * package's did not fit.
 */
export const ADDON_FILE = existsSync(COMPILED_ADDON) ? COMPILED_ADDON : (prebuiltAddon() ?? COMPILED_ADDON);

/** Whether the package's own addon is in use. */
export const ADDON_IS_PREBUILT = ADDON_FILE !== COMPILED_ADDON;

/** The package's own package.json. */
export const PACKAGE_FILE = packageFile('package.json');

/** What threads of the pool load: the bundle's tasks (src/program/tasks.ts). */
export const TASKS_FILE = packageFile('dist/program/tasks.js');

/**
 * Files of the package that code looks for beside itself. This module is in dist/src, and within the bundle in dist/program: one is as
 * deep as the other, so that what is said here holds in both.
 */
import { fileURLToPath } from 'node:url';

const placeOf = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** The native addon, where cmake-js builds it (src/native.ts loads it). */
export const ADDON_FILE = placeOf('../../build/Release/volseal.node');

/** The package's own package.json. */
export const PACKAGE_FILE = placeOf('../../package.json');

/** What threads of the pool load: the bundle's tasks (src/program/tasks.ts). */
export const TASKS_FILE = placeOf('../program/tasks.js');

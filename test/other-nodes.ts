/**
 * Other versions of Node that tests run volseal with: scripts/setup.sh --test installs them (test/nodes/package.json).
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './built.js';

/** Names in test/nodes/package.json. `node-20` is the oldest version that volseal runs on. */
export type NodeName = 'node-20' | 'node-22' | 'node-24' | 'node-26';

/** The executable of another Node. */
export const nodeExecutable = (name: NodeName): string => join(ROOT, 'test/nodes/node_modules', name, 'bin/node');

/** Why a test cannot run another Node (requirements.ts), or false. npm has such packages for x86-64 only. */
export const lacksNode = (name: NodeName): string | false =>
  !existsSync(nodeExecutable(name)) && `${name} is not installed: npm ci --prefix test/nodes`;

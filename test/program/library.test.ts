/** What is packed needs only packages that an installation brings: the others are in it. */
import { readdirSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '../built.js';

const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Record<
  'dependencies' | 'peerDependencies',
  Record<string, string>
>;

/** Static imports as esbuild writes them, one a line; dynamic ones; and those of declarations. */
const IMPORTS = [
  /^(?:import|export|\})(?:[^\n"]* from)? "([^"]+)";$/gm,
  /\b(?:import|require)\(\s*"([^"]+)"\s*\)/g,
  /(?:\bfrom |\bimport\()'([^']+)'/g,
];

/** Packages that the files of a directory of dist/ import. */
function packagesOf(directory: string): string[] {
  const files = readdirSync(join(ROOT, directory), { recursive: true, encoding: 'utf8' }).filter((name) => /\.(js|d\.ts)$/.test(name));
  const names = files.flatMap((name) => {
    const text = readFileSync(join(ROOT, directory, name), 'utf8');
    const patterns = name.endsWith('.d.ts') ? IMPORTS.slice(2) : IMPORTS.slice(0, 2);
    return patterns.flatMap((pattern) => [...text.matchAll(pattern)].map((match) => match[1]!));
  });
  const bare = names.filter((name) => !name.startsWith('.') && !isBuiltin(name));
  return [...new Set(bare.map((name) => /^(?:@[^/]+\/)?[^/]+/.exec(name)![0]))].sort();
}

const brought = Object.keys({ ...dependencies, ...peerDependencies });

test('the library and its declarations', () => {
  const packages = packagesOf('dist/lib');
  expect(packages).toContain('piscina');
  expect(packages).toContain('lmdb');
  expect(packages.filter((name) => !brought.includes(name))).toEqual([]);
});

test('the program', () => {
  // Algorithms of the SDK that volseal does not use: it looks whether the user has installed them.
  const optional = ['@aws-sdk/signature-v4-crt', '@aws-sdk/crc64-nvme-crt'];
  expect(packagesOf('dist/program').filter((name) => !brought.includes(name) && !optional.includes(name))).toEqual([]);
});

// Makes dist/lib: what `import 'volseal'` loads, with the packages that an installation does not bring (decision 60),
// and the declarations that its users' compilers read.
import { copyFileSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';

const require = createRequire(import.meta.url);

const TARGET = 'dist/lib';
/** What a program may import: package.json's `exports`. */
const ENTRIES = ['index', 'testing'];

/** @returns the files of which it was made, as esbuild names them */
export async function bundleLibrary() {
  rmSync(TARGET, { recursive: true, force: true });
  const { dependencies, peerDependencies } = JSON.parse(readFileSync('package.json', 'utf8'));
  const { metafile } = await build({
    entryPoints: ENTRIES.map((name) => `src/${name}.ts`),
    outdir: TARGET,
    bundle: true,
    // What is imported later stays a file of its own.
    splitting: true,
    platform: 'node',
    target: 'node20.17',
    format: 'esm',
    external: Object.keys({ ...dependencies, ...peerDependencies }),
    plugins: [{ name: 'the SDK for stores', setup: sdkFromProgram }],
    mainFields: ['module', 'main'],
    conditions: ['module'],
    logLevel: 'warning',
    metafile: true,
  });
  copyDeclarations();
  return Object.keys(metafile.inputs);
}

/**
 * The program has it as a file (scripts/bundle.mjs), a CommonJS module. To import one, Node looks through it for the
 * names of its exports, which takes twice as long as to run it.
 */
function sdkFromProgram({ onLoad }) {
  const names = Object.keys(require('../dist/program/stores-sdk.js'));
  onLoad({ filter: /\/src\/stores\/aws-sdk\.ts$/ }, () => ({
    contents: `import { createRequire } from 'node:module';
export const { ${names.join(', ')} } = createRequire(import.meta.url)('../program/stores-sdk.js');`,
  }));
}

/** Those that the entries lead to; the others are of no use to anybody. */
function copyDeclarations() {
  const found = new Set();
  const visit = (path) => {
    // The addon's contract stays where it is: as far from there as from dist/src.
    if (found.has(path) || !path.startsWith('dist/src/')) return;
    found.add(path);
    for (const [, , imported] of readFileSync(path, 'utf8').matchAll(/\b(from|import)\s*\(?\s*'(\.[^']*)\.js'/g)) {
      visit(join(dirname(path), `${imported}.d.ts`));
    }
  };
  for (const name of ENTRIES) visit(`dist/src/${name}.d.ts`);
  for (const path of found) {
    const copy = path.replace('dist/src', TARGET);
    mkdirSync(dirname(copy), { recursive: true });
    copyFileSync(path, copy);
  }
}

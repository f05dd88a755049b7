// Makes dist/program: the bundle (src/program/bundle.ts), the SDK for stores, and the small files that load them. And
// dist/lib, and copies what tsc leaves out of dist/.
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename } from 'node:path';
import { build, transform } from 'esbuild';
import { bundleLibrary } from './bundle-library.mjs';
import { licences } from './licences.mjs';

const require = createRequire(import.meta.url);
const SOURCE = 'src/program';
const TARGET = 'dist/program';

rmSync(TARGET, { recursive: true, force: true });

/** How lmdb makes a URL of its file, which fails where a directory's name holds a # or a %; and the right way. */
const URL_OF_FILE = ["new (require('u' + 'rl').URL)('file:' + __filename).href", "require('node:url').pathToFileURL(__filename).href"];

const common = {
  outdir: TARGET,
  bundle: true,
  platform: 'node',
  target: 'node20.17',
  format: 'cjs',
  define: { 'import.meta.url': '__url' },
  // As ASCII, one byte a character: V8 need not decode it.
  charset: 'ascii',
  logLevel: 'warning',
};
/** The packages' ES modules: of those only what is used comes along. */
const modules = { mainFields: ['module', 'main'], conditions: ['module'], metafile: true };
const URL_LINE = "const __url = require('node:url').pathToFileURL(__filename).href;";

await build({ ...common, entryPoints: ['main', 'tasks', 'code-cache'].map((name) => `${SOURCE}/${name}.ts`), banner: { js: URL_LINE } });
// In chunks: what is always loaded together is one. V8 makes the functions of a chunk when it is loaded; without them a
// start would make all of the bundle, and read all of them from the code cache.
const program = await build({
  ...common,
  ...modules,
  entryPoints: [`${SOURCE}/bundle.ts`],
  format: 'esm',
  splitting: true,
  plugins: [{ name: 'in their own places', setup: keepPlaces }],
  // Loaded by the first command that needs them: the queue of a fleet.
  external: ['bullmq', 'ioredis', 'pg', 'pino', '@opentelemetry/api'],
  write: false,
});
const first = chunksOfInfo(program.metafile.outputs);
writeFileSync(`${TARGET}/bundle.js`, await partOf(program.outputFiles.filter(({ path }) => first.has(basename(path)))));
writeFileSync(`${TARGET}/bundle-rest.js`, await partOf(program.outputFiles.filter(({ path }) => !first.has(basename(path)))));
// Loaded by the first command that names an object or a snapshot, and by the library (bundle-library.mjs).
const stores = await build({
  ...common,
  ...modules,
  entryPoints: [{ in: 'src/stores/aws-sdk.ts', out: 'stores-sdk' }],
  // V8 imports nothing for a text that is no module to it (load.ts).
  supported: { 'dynamic-import': false },
  // Not minified: Node shows the line of an error that nobody catches.
  banner: { js: URL_LINE },
});
// The package around them is one of ES modules.
writeFileSync(`${TARGET}/package.json`, `${JSON.stringify({ type: 'commonjs' })}\n`);
// The types of dist/src/native.d.ts import it; tsc copies no declarations.
copyFileSync('binding.d.ts', 'dist/binding.d.ts');
const inputs = [program, stores].flatMap(({ metafile }) => Object.keys(metafile.inputs));
writeFileSync(`${TARGET}/LICENSES`, licences([...inputs, ...(await bundleLibrary())]));

/** The chunks that `volseal info` loads, by name. The others have a text of their own, which takes 8 ms to read. */
function chunksOfInfo(outputs) {
  const modules = ['program/bundle', 'cli/main', 'cli/commands/info', 'volume/any-info'].map((name) => `src/${name}.ts`);
  const found = new Set();
  const find = (path) => {
    if (found.has(path)) return;
    found.add(path);
    for (const { path: imported, kind, external } of outputs[path].imports) if (kind === 'import-statement' && !external) find(imported);
  };
  for (const [path, { entryPoint }] of Object.entries(outputs)) if (modules.includes(entryPoint)) find(path);
  return new Set([...found].map((path) => basename(path)));
}

/** Chunks, which are ES modules, as a function of what a CommonJS module is given; it gives them by name (load.ts). */
async function partOf(chunks) {
  const options = { format: 'cjs', platform: 'node', target: common.target, charset: 'ascii', supported: { 'dynamic-import': false } };
  const functions = chunks.map(async ({ path, text }) => {
    return `${JSON.stringify(`./${basename(path)}`)}(exports, module, require) {\n${(await transform(text, options)).code}}`;
  });
  return `(function (require, __filename) {
const fileOf = require.resolve;
${URL_LINE}
return {
${(await Promise.all(functions)).join(',\n')}
}; })
`;
}

/**
 * Packages that look for files in their own directory (a native library, the code of a thread): the bundle tells them
 * where that is.
 */
function keepPlaces({ onLoad, onResolve }) {
  onResolve({ filter: /\/aws-sdk\.js$/ }, () => ({ path: './stores-sdk.js', external: true }));
  onResolve({ filter: /^lmdb$/ }, () => ({ path: require.resolve('lmdb') }));
  // A thread marks what it moves with symbols of the piscina that runs it, which is the package's own.
  onResolve({ filter: /^piscina$/ }, ({ importer }) => (importer.endsWith('/workers/tasks.ts') ? { external: true } : undefined));
  // A native library that makes MessagePack faster; the stores' records are JSON.
  onResolve({ filter: /^msgpackr-extract$/ }, ({ path }) => ({ path, namespace: 'left out' }));
  onLoad({ filter: /.*/, namespace: 'left out' }, () => ({ contents: 'module.exports = undefined;' }));
  // 2 to 6 ms each, and many commands need neither.
  onResolve({ filter: /^node:(crypto|child_process)$/ }, ({ path, importer }) =>
    /\/src\/[^.]*\.ts$|\/commander\//.test(importer) ? { path, namespace: 'on demand' } : undefined,
  );
  onLoad({ filter: /.*/, namespace: 'on demand' }, ({ path }) => ({ contents: onDemand(path) }));
  onLoad({ filter: /node_modules\/(lmdb\/dist\/index\.cjs|piscina\/dist\/index\.js)$/ }, ({ path }) => {
    const [, name] = /node_modules\/(\w+)/.exec(path);
    const place = `const __filename = fileOf(${JSON.stringify(name)}), __dirname = require('node:path').dirname(__filename);`;
    return { contents: `${place}${readFileSync(path, 'utf8').replaceAll(...URL_OF_FILE)}`, loader: 'js' };
  });
}

/** A module with the members of one of Node's, which it loads at the first use of any. */
function onDemand(name) {
  const members = JSON.stringify(Object.keys(require(name)).filter((member) => member !== 'default'));
  const get = `get: () => (loaded ??= require('${name}'))[member]`;
  return `let loaded; for (const member of ${members}) Object.defineProperty(exports, member, { enumerable: true, ${get} });`;
}

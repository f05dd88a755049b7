/**
 * Who may import whom (docs/ARCHITECTURE.md), as functions from files to complaints, so that a test can plant a
 * violation.
 */
import { posix } from 'node:path';
import { codeOnly, linesWith, type SourceFile } from './sources.js';

/** Each layer may import itself and the layers above its line; layers of one line do not know each other. */
const SOURCE_LAYERS: readonly (readonly string[])[] = [
  ['async-dispose', 'errors', 'limits', 'package-files', 'context-keys'],
  ['native', 'directories', 'own-files', 'logging', 'size-text', 'strict-json', 'tracing'],
  ['directory-entry'],
  ['audit', 'lmdb'],
  ['bench', 'kernels', 'kms'],
  ['luks2'],
  ['workers'],
  ['metrics-server', 'output', 'stores'],
  ['nbd'],
  ['volume'],
  ['transfer'],
  ['headers', 'resume'],
  ['jobs'],
  ['in-place', 'fleet'],
  ['workspaces'],
  ['attached'],
  ['index', 'testing'],
  ['cli'],
  ['program'],
];

const NATIVE_LAYERS = ['base', 'xts', 'vault', 'engine', 'nbd', 'addon'];

interface Import {
  from: string;
  to: string;
}

/** `src/kms/client.ts` -> `kms`, `src/errors.ts` -> `errors`. */
const layerOf = (path: string): string => posix.basename(path.split('/')[1] ?? '', '.ts');

const rankOf = (layer: string): number => SOURCE_LAYERS.findIndex((layers) => layers.includes(layer));

/** Every import of another file of the project: static, of types, re-export and dynamic. */
function importsOf(file: SourceFile): Import[] {
  const pattern = /(?:\bfrom\s*|\bimport\s*\(\s*|\bimport\s+)(['"])(\.[^'"]*)\1/g;
  return [...file.text.matchAll(pattern)].map((match) => ({
    from: file.path,
    to: posix.join(posix.dirname(file.path), match[2]!).replace(/\.js$/, '.ts'),
  }));
}

const isSource = ({ path }: SourceFile): boolean => path.startsWith('src/') && path.endsWith('.ts');
const isNative = ({ path }: SourceFile): boolean => /^native\/.*\.(cc|h)$/.test(path);

/** Imports between the directories of src/ that go the wrong way, and files that belong to no layer. */
export function wrongLayers(files: SourceFile[]): string[] {
  return files.filter(isSource).flatMap((file) => {
    const layer = layerOf(file.path);
    if (rankOf(layer) === -1) return [`${file.path}: belongs to no layer: name it in SOURCE_LAYERS of test/structure/import-rules.ts`];
    return importsOf(file)
      .filter(({ to }) => to.startsWith('src/') && layerOf(to) !== layer && rankOf(layerOf(to)) >= rankOf(layer))
      .map(({ from, to }) => `${from}: ${layer} must not import ${to}`);
  });
}

/** Circles of files in src/ that import each other. */
export function importCycles(files: SourceFile[]): string[] {
  const edges = new Map(files.filter(isSource).map((file) => [file.path, importsOf(file).map(({ to }) => to)]));
  const finished = new Set<string>();
  const cycles: string[] = [];
  const visit = (path: string, trail: string[]): void => {
    const start = trail.indexOf(path);
    if (start !== -1) cycles.push([...trail.slice(start), path].join(' -> '));
    if (start !== -1 || finished.has(path)) return;
    for (const next of edges.get(path) ?? []) visit(next, [...trail, path]);
    finished.add(path);
  };
  for (const path of edges.keys()) visit(path, []);
  return cycles;
}

/** What code outside the embedded KMS may import of it. */
const EMBEDDED_KMS_ENTRIES = ['administration', 'http/server', 'service'].map((name) => `src/kms/embedded/${name}.ts`);

/** The KMS client and the embedded KMS share `src/kms/shared`, which imports neither, and nothing else. */
export function kmsSidesMixed(files: SourceFile[]): string[] {
  const sideOf = (path: string): string | undefined => /^src\/kms\/(client|shared|embedded)\//.exec(path)?.[1];
  return files.filter(isSource).flatMap((file) =>
    importsOf(file).flatMap(({ from, to }) => {
      const [side, other] = [sideOf(from), sideOf(to)];
      if (other === 'embedded' && side !== 'embedded' && !EMBEDDED_KMS_ENTRIES.includes(to)) {
        return [`${from}: imports an inner file of the embedded KMS: ${to}`];
      }
      if (other === 'client' && side === 'embedded') return [`${from}: the embedded KMS must not import the client: ${to}`];
      return side === 'shared' && other !== 'shared' && other !== undefined ? [`${from}: shared code must not import a side: ${to}`] : [];
    }),
  );
}

/**
 * `src/package-files.ts` says where the addon is and `src/native.ts` loads it; `src/program/load.ts` loads the bundle.
 */
const LOADERS = ['src/package-files.ts', 'src/native.ts', 'src/program/load.ts'];

/** Only src/native.ts loads the addon; others take its types and functions from there. */
export function otherLoaders(files: SourceFile[]): string[] {
  return files
    .filter((file) => isSource(file) && !LOADERS.includes(file.path))
    .flatMap((file) => [
      ...linesWith(file, /\bcreateRequire\b|\.node['"`]|process\.dlopen/, 'only src/native.ts loads the addon'),
      ...linesWith(file, /from\s+['"][./]*\/binding(\.js)?['"]/, 'take the contract from src/native.ts'),
    ]);
}

/**
 * Reads `VOLSEAL_HOME` and `VOLSEAL_KMS` for the command line and the library, and tells whether the environment has
 * changed.
 */
const ENVIRONMENT = 'src/kms/shared/environment.ts';

/** Only cli/ and program/, which starts it, read the environment, write to the terminal or exit. */
export function terminalOutsideCli(files: SourceFile[]): string[] {
  const pattern = /\bprocess\.(env|exit|exitCode|stdout|stderr|stdin|argv)\b|\bconsole\.|from 'node:process'/;
  return files
    .filter((file) => isSource(file) && !/^src\/(cli|program)\//.test(file.path))
    .flatMap((file) => {
      const code = codeOnly(file.text);
      const judged =
        file.path === ENVIRONMENT ? code.replaceAll(/process\.env\.VOLSEAL_(HOME|KMS)\b|JSON\.stringify\(process\.env\)/g, '') : code;
      return linesWith(file, pattern, 'only src/cli does this', judged);
    });
}

/** Where it is asked whether a value is an error. */
const ERRORS = 'src/errors.ts';

/** Under Jest, errors of Node's own modules and of the addon are of another realm: `isError` knows them too. */
export function errorsOfOneRealm(files: SourceFile[]): string[] {
  const pattern = /\binstanceof\s+(Error|AggregateError|DOMException|EvalError|RangeError|ReferenceError|SyntaxError|TypeError|URIError)\b/;
  return files
    .filter((file) => isSource(file) && file.path !== ERRORS)
    .flatMap((file) => linesWith(file, pattern, 'use isError of src/errors.ts', codeOnly(file.text)));
}

/** scripts/bundle.mjs makes a file of it, which alone brings those packages: other code would bring them again. */
const STORES_SDK = 'src/stores/aws-sdk.ts';

/** Only that module imports the SDK for stores; others its types. */
export function storesSdkElsewhere(files: SourceFile[]): string[] {
  const pattern = /^(?!import type ).*'@aws-sdk\/client-(s3|ebs)\b/;
  return files
    .filter((file) => isSource(file) && file.path !== STORES_SDK)
    .flatMap((file) => linesWith(file, pattern, `import it through ${STORES_SDK}`));
}

/** Includes between the directories of native/ that go the wrong way. */
export function wrongIncludes(files: SourceFile[]): string[] {
  return files.filter(isNative).flatMap((file) => {
    const rank = NATIVE_LAYERS.indexOf(file.path.split('/')[1]!);
    if (rank === -1) return [`${file.path}: belongs to no layer: name it in NATIVE_LAYERS of test/structure/import-rules.ts`];
    return [...file.text.matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)].flatMap((match) => {
      const included = match[1]!;
      if (!included.includes('/') || included.includes('..')) return [`${file.path}: include "${included}" by its path below native/`];
      const other = NATIVE_LAYERS.indexOf(included.split('/')[0]!);
      return other > rank || other === -1 ? [`${file.path}: must not include "${included}"`] : [];
    });
  });
}

/** Only addon/ sees Node's interface; only one file per instruction set sees its intrinsics. */
export function foreignHeaders(files: SourceFile[]): string[] {
  return files
    .filter(isNative)
    .flatMap((file) => [
      ...(file.path.startsWith('native/addon/')
        ? []
        : linesWith(file, /^\s*#\s*include\s*[<"](napi|node_api|js_native_api|node|v8|uv)\b[^>"]*[>"]/, 'only native/addon sees Node')),
      ...(/^native\/xts\/xts_[a-z0-9]+\.cc$/.test(file.path)
        ? []
        : linesWith(
            file,
            /^\s*#\s*include\s*[<"]([a-z0-9]*intrin|arm_neon|arm_acle)\.h[>"]/,
            'only native/xts/xts_<isa>.cc sees intrinsics',
          )),
    ]);
}

// Makes prebuilds/: the addon, compiled for machines that are to need no compiler, and a list that says how each file
// was made.
//
//   node scripts/prebuild.mjs [x64] [arm64] [x64-musl] [arm64-musl]
//
// All by default. For glibc it takes Debian's compilers, for musl Zig's, which it fetches (zig.mjs). The same sources
// and the same compiler give the same bytes, so anybody can check a release: the list names both.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sha256, sourcesDigest } from './native-sources.mjs';
import { muslSymbols, zigFor } from './zig.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const require = createRequire(import.meta.url);
/** By Node's names of processors: GNU's, which compilers and tools carry in theirs. */
const PROCESSORS = { x64: 'x86_64', arm64: 'aarch64' };
const TARGETS = Object.keys(PROCESSORS).flatMap((arch) => [arch, `${arch}-musl`]);
/** What a machine needs at most: Debian 12, Ubuntu 22.04, Red Hat Enterprise Linux 9, Amazon Linux 2023 have it. */
const GLIBC_MAX = '2.34';
/** What an addon takes from the Node that loads it: Node-API, and OpenSSL. */
const OF_NODE = /^(napi_|uv_err_name$|CRYPTO_gcm128_|ERR_|EVP_|OPENSSL_sk_|SHA\d|SSL_|TLS_|X509_)/;

/** The dynamic symbols of a file that others must have: lines such as "0000 DF *UND* 0000 (GLIBC_2.14) memcpy". */
function undefinedSymbols(file, processor) {
  const output = execFileSync(`${processor}-linux-gnu-objdump`, ['-T', file], { encoding: 'utf8', maxBuffer: 2 ** 26 });
  return output.split('\n').filter((line) => line.includes('*UND*'));
}

/** The newest version of glibc that symbols ask for, as "2.34". */
function glibcOf(symbols) {
  const versions = [...symbols.join('\n').matchAll(/\bGLIBC_(\d+)\.(\d+)/g)].map(([, major, minor]) => [Number(major), Number(minor)]);
  return (
    versions
      .sort(([a, b], [c, d]) => a - c || b - d)
      .at(-1)
      ?.join('.') ?? '0'
  );
}

function isNewer(version, other) {
  const [[a, b], [c, d]] = [version, other].map((text) => text.split('.').map(Number));
  return a > c || (a === c && b > d);
}

/** What the addon needs of the C library, for the list. @throws {Error} where machines do not have it */
function libraryOf(name, file, processor, isMusl) {
  const symbols = undefinedSymbols(file, processor);
  if (!isMusl) {
    const glibc = glibcOf(symbols);
    if (isNewer(glibc, GLIBC_MAX)) throw new Error(`${name}: needs glibc ${glibc}, which is newer than ${GLIBC_MAX}`);
    return { glibc };
  }
  // musl has no versions of symbols: it has one, or the addon does not load. Weak ones need not be there.
  const has = muslSymbols();
  const needed = symbols.filter((line) => !/^\w+ +w/.test(line)).map((line) => line.split(/\s+/).at(-1));
  const missing = needed.filter((symbol) => !has.names.has(symbol) && !OF_NODE.test(symbol));
  if (missing.length > 0) throw new Error(`${name}: musl ${has.version} and Node have no ${missing.join(', ')}`);
  return { musl: has.version };
}

function compilerFor(processor, isMusl) {
  if (isMusl) return zigFor(processor);
  const program = `${processor}-linux-gnu-g++`;
  const [name] = execFileSync(program, ['--version'], { encoding: 'utf8' }).split('\n');
  return { command: [program], environment: {}, name };
}

function prebuild(target) {
  if (!TARGETS.includes(target)) throw new Error(`${target}: no target that addons are prebuilt for: ${TARGETS.join(', ')}`);
  const [arch, library] = target.split('-');
  const isMusl = library === 'musl';
  const processor = PROCESSORS[arch];
  const compiler = compilerFor(processor, isMusl);
  const work = join(ROOT, 'build', `prebuilt-${target}`);
  const definitions = {
    VOLSEAL_PREBUILT: 'ON',
    CMAKE_CXX_COMPILER: compiler.command.join(';'),
    // Only where it is another system than this one: CMake takes a named system for a foreign one.
    ...(arch === process.arch && !isMusl ? {} : { CMAKE_SYSTEM_NAME: 'Linux', CMAKE_SYSTEM_PROCESSOR: processor }),
  };
  const words = ['--target', 'volseal', ...Object.entries(definitions).map(([name, value]) => `--CD${name}=${value}`)];
  const cmakeJs = join(dirname(require.resolve('cmake-js/package.json')), 'bin/cmake-js');
  const env = { ...process.env, ...compiler.environment };
  execFileSync(process.execPath, [cmakeJs, 'compile', '--out', work, '--arch', arch, ...words], { cwd: ROOT, stdio: 'inherit', env });

  const name = `linux-${target}/volseal.node`;
  const file = join(ROOT, 'prebuilds', name);
  mkdirSync(dirname(file), { recursive: true });
  copyFileSync(join(work, 'Release/volseal.node'), file);
  const needs = libraryOf(name, file, processor, isMusl);
  const bytes = readFileSync(file);
  return { name, bytes: bytes.length, sha256: sha256(bytes), ...needs, compiler: compiler.name };
}

const asked = process.argv.slice(2);
rmSync(join(ROOT, 'prebuilds'), { recursive: true, force: true });
const addons = (asked.length > 0 ? asked : TARGETS).map(prebuild);
const list = { sources: sourcesDigest(), addons };
writeFileSync(join(ROOT, 'prebuilds/list.json'), `${JSON.stringify(list, undefined, 2)}\n`);
for (const { name, bytes, glibc, musl } of addons) {
  const library = glibc === undefined ? `musl ${musl}` : `glibc ${glibc}`;
  process.stdout.write(`prebuilds/${name}: ${bytes} bytes, ${library} or later\n`);
}

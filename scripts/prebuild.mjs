// Makes prebuilds/: the addon, compiled for machines that are to need no compiler, and a list that says how each file
// was made.
//
//   node scripts/prebuild.mjs [x64] [arm64]
//
// Both by default. For another processor than this one's it takes Debian's cross compiler. The same sources and the
// same compiler give the same bytes, so anybody can check a release: the list names both.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sha256, sourcesDigest } from './native-sources.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const require = createRequire(import.meta.url);
/** By Node's names of processors: GNU's, which Debian's compilers and tools carry in theirs. */
const PROCESSORS = { x64: 'x86_64', arm64: 'aarch64' };
/** What a machine needs at most: Debian 12, Ubuntu 22.04, Red Hat Enterprise Linux 9, Amazon Linux 2023 have it. */
const GLIBC_MAX = '2.34';

/** The newest version of the C library that a file asks for, as "2.34". */
function glibcOf(file, processor) {
  const symbols = execFileSync(`${processor}-linux-gnu-objdump`, ['-T', file], { encoding: 'utf8', maxBuffer: 2 ** 26 });
  const versions = [...symbols.matchAll(/\bGLIBC_(\d+)\.(\d+)/g)].map(([, major, minor]) => [Number(major), Number(minor)]);
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

function prebuild(arch) {
  const processor = PROCESSORS[arch];
  if (processor === undefined) throw new Error(`${arch}: no processor that addons are prebuilt for: ${Object.keys(PROCESSORS).join(', ')}`);
  const compiler = `${processor}-linux-gnu-g++`;
  const work = join(ROOT, 'build', `prebuilt-${arch}`);
  const definitions = {
    VOLSEAL_PREBUILT: 'ON',
    CMAKE_CXX_COMPILER: compiler,
    // Only where it is another processor than this one's: CMake takes a named system for a foreign one.
    ...(arch === process.arch ? {} : { CMAKE_SYSTEM_NAME: 'Linux', CMAKE_SYSTEM_PROCESSOR: processor }),
  };
  const words = Object.entries(definitions).map(([name, value]) => `--CD${name}=${value}`);
  const cmakeJs = join(dirname(require.resolve('cmake-js/package.json')), 'bin/cmake-js');
  execFileSync(process.execPath, [cmakeJs, 'compile', '--out', work, '--arch', arch, ...words], { cwd: ROOT, stdio: 'inherit' });

  const name = `linux-${arch}/volseal.node`;
  const file = join(ROOT, 'prebuilds', name);
  mkdirSync(dirname(file), { recursive: true });
  copyFileSync(join(work, 'Release/volseal.node'), file);
  const glibc = glibcOf(file, processor);
  if (isNewer(glibc, GLIBC_MAX)) throw new Error(`${name}: needs glibc ${glibc}, which is newer than ${GLIBC_MAX}`);
  const bytes = readFileSync(file);
  const [compilerVersion] = execFileSync(compiler, ['--version'], { encoding: 'utf8' }).split('\n');
  return { name, bytes: bytes.length, sha256: sha256(bytes), glibc, compiler: compilerVersion };
}

const asked = process.argv.slice(2);
rmSync(join(ROOT, 'prebuilds'), { recursive: true, force: true });
const addons = (asked.length > 0 ? asked : Object.keys(PROCESSORS)).map(prebuild);
const list = { sources: sourcesDigest(), addons };
writeFileSync(join(ROOT, 'prebuilds/list.json'), `${JSON.stringify(list, undefined, 2)}\n`);
for (const { name, bytes, glibc } of addons) process.stdout.write(`prebuilds/${name}: ${bytes} bytes, glibc ${glibc} or later\n`);

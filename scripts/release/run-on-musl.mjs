// Runs an unpacked npm package on musl: encrypts and decrypts with its addon for musl. npm has no Node for musl, so it
// is this Node, made for glibc, with musl's loader (Debian's package musl): what it asks of glibc and musl has not is
// glibc-names.c. The addon itself takes from musl all that it needs, and OpenSSL from Node, as on Alpine.
//
//   node scripts/release/run-on-musl.mjs DIRECTORY
import { chmodSync, copyFileSync, cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { ROOT, run } from './tools.mjs';

/** By Node's names of processors: glibc's loader, and musl's, whose path is no longer. */
const LOADERS = {
  x64: ['/lib64/ld-linux-x86-64.so.2', '/lib/ld-musl-x86_64.so.1'],
  arm64: ['/lib/ld-linux-aarch64.so.1', '/lib/ld-musl-aarch64.so.1'],
};
const LIBRARIES = ['libstdc++.so.6', 'libgcc_s.so.1', 'libatomic.so.1'];

/** Makes a Node for musl in `directory`. @returns its path, and the environment that it needs */
function nodeOnMusl(directory) {
  const [glibc, musl] = LOADERS[process.arch] ?? [];
  if (musl === undefined || !existsSync(musl)) throw new Error(`${musl ?? process.arch}: is not there; apt-get install musl`);
  const executable = readFileSync(process.execPath);
  const place = executable.indexOf(`${glibc}\0`);
  if (place < 0) throw new Error(`${process.execPath}: names no ${glibc}`);
  executable.fill(0, place, place + glibc.length);
  executable.write(musl, place);
  const node = join(directory, 'node');
  writeFileSync(node, executable);
  chmodSync(node, 0o755);
  const name = glibc.split('/').at(-1);
  const options = ['-std=c17', '-O1', '-fPIC', '-shared', '-nostdlib', '-fno-builtin', `-Wl,-soname,${name}`];
  run('gcc', [...options, '-o', join(directory, name), join(ROOT, 'scripts/release/glibc-names.c')]);
  for (const library of LIBRARIES) {
    const path = run('gcc', [`-print-file-name=${library}`]).trim();
    if (path !== library) copyFileSync(path, join(directory, library));
  }
  return { node, environment: { LD_LIBRARY_PATH: directory, LIBC: 'musl' } };
}

/** @param packed the unpacked npm package @returns what it says of itself @throws {Error} where it does not work */
export function runOnMusl(packed) {
  const work = mkdtempSync(join(tmpdir(), 'volseal-musl-'));
  try {
    const { node, environment } = nodeOnMusl(work);
    const home = join(work, 'package');
    cpSync(packed, home, { recursive: true });
    symlinkSync(join(ROOT, 'node_modules'), join(home, 'node_modules'));
    const volseal = (...words) =>
      run(node, [join(home, 'dist/program/main.js'), ...words], {
        cwd: work,
        environment: { ...environment, VOLSEAL_HOME: join(work, 'home') },
      });
    const image = Buffer.alloc(3 * 2 ** 20 + 512, 'an image');
    writeFileSync(join(work, 'disk.raw'), image);
    const facts = JSON.parse(volseal('--version', '--json'));
    if (facts.addon !== 'prebuilt') throw new Error(`the addon on musl is ${facts.addon}`);
    volseal('encrypt', 'disk.raw', 'disk.vol');
    volseal('verify', 'disk.vol');
    volseal('decrypt', 'disk.vol', 'copy.raw');
    if (!readFileSync(join(work, 'copy.raw')).equals(image)) throw new Error('what was decrypted on musl is not what was encrypted');
    return facts;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

if (process.argv[1] === import.meta.filename) {
  process.stdout.write(`${JSON.stringify(runOnMusl(resolve(process.argv[2])))}\n`);
}

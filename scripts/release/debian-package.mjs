// Makes a Debian package of an unpacked npm package: the program, the addon, manual pages and completions, for people
// who have Node but no npm. The same files and the same $SOURCE_DATE_EPOCH give the same bytes.
//
//   node scripts/release/debian-package.mjs DIRECTORY x64|arm64 OUTPUT-DIRECTORY
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { filesBelow, ROOT, readJson, run } from './tools.mjs';

/** By Node's names of processors: Debian's. */
const ARCHITECTURES = { x64: 'amd64', arm64: 'arm64' };
const HOME = 'usr/lib/volseal';
/** Which package of Debian has a shared library that native code asks for. */
const LIBRARIES = { 'libc.so.6': 'libc6 (>= 2.34)', 'libgcc_s.so.1': 'libgcc-s1', 'libstdc++.so.6': 'libstdc++6' };
/** Parts of glibc, since 2.34 within libc.so.6. */
const WITHIN_LIBC = /^(libm|libpthread|libdl|librt|ld-linux-[\w-]+)\.so\.\d$/;
/** What the bundle takes from its own directory (scripts/bundle.mjs), and nothing else of those packages. */
const PACKAGES = { lmdb: ['package.json', 'LICENSE', 'dist/index.cjs'], piscina: ['package.json', 'LICENSE', 'dist'] };

/** @param packed the unpacked npm package @returns the path of the .deb */
export function makeDebianPackage(packed, arch, target) {
  const architecture = ARCHITECTURES[arch];
  if (architecture === undefined) throw new Error(`${arch}: there are Debian packages for ${Object.keys(ARCHITECTURES).join(' and ')}`);
  const { version, description } = readJson(join(packed, 'package.json'));
  const work = mkdtempSync(join(tmpdir(), 'volseal-deb-'));
  try {
    const tree = join(work, 'tree');
    const put = (path, contents) => {
      mkdirSync(dirname(join(tree, path)), { recursive: true });
      writeFileSync(join(tree, path), contents);
    };
    placeProgram(packed, arch, join(tree, HOME), work);
    mkdirSync(join(tree, 'usr/bin'), { recursive: true });
    symlinkSync(`../../${HOME}/dist/program/main.js`, join(tree, 'usr/bin/volseal'));
    for (const page of readdirSync(join(packed, 'dist/man'))) {
      put(`usr/share/man/man1/${page}.gz`, gzipSync(readFileSync(join(packed, 'dist/man', page)), { level: 9 }));
    }
    for (const [path, script] of completions(packed)) put(path, script);
    const document = (name) => readFileSync(join(packed, name), 'utf8');
    put('usr/share/doc/volseal/copyright', `${document('LICENSE')}\n\nOther people's code:\n\n${document('dist/program/LICENSES')}`);
    put('usr/share/doc/volseal/changelog.gz', gzipSync(document('CHANGELOG.md'), { level: 9 }));
    put('usr/share/doc/volseal/README.md', document('README.md'));
    setModes(tree);

    const files = filesBelow(tree);
    const kibibytes = files.reduce((sum, path) => sum + Math.ceil(readFileSync(join(tree, path)).length / 1024), 0);
    const control = {
      Package: 'volseal',
      Version: version,
      Architecture: architecture,
      Maintainer: 'volseal developers <volseal@example.invalid>',
      'Installed-Size': kibibytes,
      Depends: ['nodejs (>= 20.17)', ...librariesOf(files.filter((path) => path.endsWith('.node')).map((path) => join(tree, path)))].join(
        ', ',
      ),
      Section: 'utils',
      Priority: 'optional',
      Description: description,
    };
    put(
      'DEBIAN/control',
      `${Object.entries(control)
        .map(([name, value]) => `${name}: ${value}`)
        .join('\n')}\n`,
    );
    // Node's compile cache fits only the Node that made it, so it is made here and again when Node is replaced.
    put('DEBIAN/triggers', 'interest-noawait /usr/bin/node\n');
    put('DEBIAN/postinst', POSTINST);
    put('DEBIAN/prerm', PRERM);
    setModes(join(tree, 'DEBIAN'), /^(postinst|prerm)$/);
    const file = join(target, `volseal_${version}_${architecture}.deb`);
    mkdirSync(target, { recursive: true });
    run('dpkg-deb', ['--root-owner-group', '-Zxz', '--threads-max=1', '--build', tree, file]);
    return file;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const CACHE = `"$DPKG_ROOT/${HOME}/dist/program/code-cache.js"`;
// Without a cache volseal works, and starts more slowly.
const POSTINST = `#!/bin/sh
set -e
if [ -x /usr/bin/node ]; then VOLSEAL_KERNEL= /usr/bin/node ${CACHE} || true; fi
`;
const PRERM = `#!/bin/sh
set -e
rm -f "$DPKG_ROOT/${HOME}/dist/program/"bundle.cache*
`;

/** The program as the npm package has it, and the native parts for one processor. */
function placeProgram(packed, arch, home, work) {
  const take = (from, path) => cpSync(join(from, path), join(home, path), { recursive: true });
  take(packed, 'package.json');
  for (const name of readdirSync(join(packed, 'dist/program'))) {
    if (!name.startsWith('bundle.cache')) take(packed, `dist/program/${name}`);
  }
  take(packed, `prebuilds/linux-${arch}/volseal.node`);
  const main = join(home, 'dist/program/main.js');
  // Debian's own Node: the one that the package depends on.
  writeFileSync(main, readFileSync(main, 'utf8').replace(/^#!.*/, '#!/usr/bin/node'));
  for (const [name, paths] of Object.entries(PACKAGES)) {
    for (const path of paths) {
      cpSync(join(ROOT, 'node_modules', name, path), join(home, 'node_modules', name, path), {
        recursive: true,
        filter: (source) => !/\.(map|d\.c?ts)$/.test(source),
      });
    }
  }
  const native = `@lmdb/lmdb-linux-${arch}`;
  for (const name of ['package.json', 'index.js', 'node.napi.glibc.node']) {
    cpSync(join(placeOfPackage(native, work), name), join(home, 'node_modules', native, name));
  }
}

/** A package of package-lock.json: what npm has installed here, or for another processor what it fetches now. */
function placeOfPackage(name, work) {
  const installed = join(ROOT, 'node_modules', name);
  if (existsSync(installed)) return installed;
  const fetched = join(work, 'fetched');
  if (existsSync(fetched)) return join(fetched, 'package');
  mkdirSync(fetched);
  const { version, integrity } = readJson(join(ROOT, 'package-lock.json')).packages[`node_modules/${name}`];
  const [found] = JSON.parse(run('npm', ['pack', '--json', '--prefer-offline', '--pack-destination', fetched, `${name}@${version}`]));
  if (found.integrity !== integrity) throw new Error(`${name}@${version}: ${found.integrity} is not what package-lock.json names`);
  run('tar', ['-xzf', join(fetched, found.filename), '-C', fetched]);
  return join(fetched, 'package');
}

/** The scripts that the program itself prints, where each shell looks for those of packages. */
function completions(packed) {
  const script = (shell) => run(process.execPath, [join(packed, 'dist/program/main.js'), 'completion', shell]);
  return [
    ['usr/share/bash-completion/completions/volseal', script('bash')],
    // zsh runs the file when it is first asked, as the function that is to answer.
    ['usr/share/zsh/vendor-completions/_volseal', `#compdef volseal\n${script('zsh')}_bash_complete -o default -F _volseal\n`],
    ['usr/share/fish/vendor_completions.d/volseal.fish', script('fish')],
  ];
}

/** The packages that have the shared libraries of these files. */
function librariesOf(files) {
  const names = files.flatMap((file) => [...run('objdump', ['-p', file]).matchAll(/NEEDED +(\S+)/g)].map(([, name]) => name));
  const needed = [...new Set(['libc.so.6', ...names.filter((name) => !WITHIN_LIBC.test(name))])];
  const unknown = needed.filter((name) => LIBRARIES[name] === undefined);
  if (unknown.length > 0) throw new Error(`no Debian package is known for ${unknown.join(', ')}`);
  return needed.map((name) => LIBRARIES[name]).sort();
}

/** Whatever the umask and the modes of the npm package: everybody reads, and runs what is a program. */
function setModes(tree, programs = /\/program\/main\.js$/) {
  chmodSync(tree, 0o755);
  for (const entry of readdirSync(tree, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) chmodSync(path, 0o755);
    else if (entry.isFile()) chmodSync(path, programs.test(path) || programs.test(entry.name) ? 0o755 : 0o644);
  }
}

if (process.argv[1] === import.meta.filename) {
  const [packed, arch, target] = process.argv.slice(2);
  process.stdout.write(`${makeDebianPackage(resolve(packed), arch, resolve(target))}\n`);
}

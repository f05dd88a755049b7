/** The package as npm packs it, for projects that install it. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ROOT } from '../built.js';

/** Packs the package; dist/ is there, because the global set-up has built it. @returns the tarball's path */
export function pack(target: string): string {
  const words = ['pack', '--ignore-scripts', '--pack-destination', target, '--json'];
  const [{ filename }] = JSON.parse(execFileSync('npm', words, { cwd: ROOT, encoding: 'utf8' })) as [{ filename: string }];
  return join(target, filename);
}

/**
 * The package unpacked, with an addon for this machine, as a release has it (scripts/prebuild.mjs); the one of this
 * clone stands for it. @returns the directory of its package.json, in `target`
 */
export function unpackWithAddon(target: string): string {
  const packed = pack(target);
  execFileSync('tar', ['-xzf', packed, '-C', target]);
  rmSync(packed);
  const prebuilt = join(target, `package/prebuilds/linux-${process.arch}/volseal.node`);
  mkdirSync(dirname(prebuilt), { recursive: true });
  copyFileSync(join(ROOT, 'build/Release/volseal.node'), prebuilt);
  return join(target, 'package');
}

/** The same, packed again. @returns the tarball's path */
export function packWithAddon(target: string): string {
  const work = mkdtempSync(join(target, 'packing-'));
  unpackWithAddon(work);
  const tarball = join(target, 'volseal.tgz');
  execFileSync('tar', ['-czf', tarball, '-C', work, 'package']);
  rmSync(work, { recursive: true });
  return tarball;
}

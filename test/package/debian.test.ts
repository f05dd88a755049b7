/** The Debian package, installed into a root of its own by dpkg, and the program run from there. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { ROOT } from '../built.js';
import { skipWithout } from '../interop/tools.js';
import { testUnless } from '../requirements.js';
import { unpackWithAddon } from './tarball.js';

const needs = skipWithout('dpkg', 'dpkg-deb', 'objdump') || (process.getuid?.() !== 0 && 'dpkg installs as root only');

testUnless(needs)('the Debian package needs no npm: a round trip, manual pages, and nothing left when it is removed', () => {
  const directory = mkdtempSync(join(tmpdir(), 'volseal deb '));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const packed = unpackWithAddon(directory);
  const make = join(ROOT, 'scripts/release/debian-package.mjs');
  const deb = execFileSync(process.execPath, [make, packed, process.arch, directory], { encoding: 'utf8' }).trim();

  const root = join(directory, 'root');
  for (const path of ['info', 'updates']) mkdirSync(join(root, 'var/lib/dpkg', path), { recursive: true });
  writeFileSync(join(root, 'var/lib/dpkg/status'), '');
  // Its dependencies (nodejs, libc6) are this machine's; its scripts get the root in $DPKG_ROOT.
  const dpkg = (...words: string[]): void =>
    void execFileSync('dpkg', [`--root=${root}`, '--force-depends,script-chrootless', ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
  dpkg('--install', deb);

  const main = join(root, 'usr/lib/volseal/dist/program/main.js');
  const env = { PATH: '/usr/bin:/bin', VOLSEAL_HOME: join(directory, 'home'), AWS_ACCESS_KEY_ID: 'AKID', AWS_SECRET_ACCESS_KEY: 'x' };
  const run = (...words: string[]) => spawnSync(process.execPath, [main, ...words], { cwd: directory, env, encoding: 'utf8' });
  const volseal = (...words: string[]): string => {
    const { status, stdout, stderr } = run(...words);
    expect(status, stderr).toBe(0);
    return stdout;
  };
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  expect(JSON.parse(volseal('--version', '--json'))).toMatchObject({ version, addon: 'prebuilt' });
  writeFileSync(join(directory, 'disk.raw'), Buffer.alloc(8192, 7));
  volseal('encrypt', 'disk.raw', 'disk.vol');
  volseal('decrypt', 'disk.vol', 'copy.raw');
  expect(readFileSync(join(directory, 'copy.raw')).equals(Buffer.alloc(8192, 7))).toBe(true);
  expect(existsSync(join(root, 'usr/share/man/man1/volseal-encrypt.1.gz'))).toBe(true);
  // The SDK for stores is in the package too; nobody listens there.
  for (const name of ['s3://bucket/disk.vol', 'ebs:snap-0123456789abcdef0']) {
    expect(run('info', name, '--endpoint-url', 'http://127.0.0.1:1').stderr).toMatch(/ECONNREFUSED/);
  }

  dpkg('--remove', 'volseal');
  expect(existsSync(join(root, 'usr/lib/volseal'))).toBe(false);
});

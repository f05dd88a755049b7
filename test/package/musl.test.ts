/** Which addon a Node on musl takes. Whether it works there is tried by a release (scripts/release/run-on-musl.mjs). */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { ROOT } from '../built.js';
import { skipFor, skipWithout } from '../interop/tools.js';
import { testUnless } from '../requirements.js';
import { unpackWithAddon } from './tarball.js';

const LOADER = '/lib/ld-musl-x86_64.so.1';
const needs =
  (process.arch !== 'x64' && 'not an x86-64 machine') ||
  skipWithout('gcc') ||
  (!existsSync(LOADER) && skipFor(`no ${LOADER} (run scripts/setup.sh --test)`));

testUnless(needs)('Node on musl takes the addon for musl, and says so where it cannot be loaded', () => {
  const directory = mkdtempSync(join(tmpdir(), 'volseal-musl-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const packed = unpackWithAddon(directory);
  const addon = join(packed, 'prebuilds/linux-x64-musl/volseal.node');
  mkdirSync(dirname(addon), { recursive: true });
  writeFileSync(addon, 'no addon');
  const script = join(ROOT, 'scripts/release/run-on-musl.mjs');
  const { status, stderr } = spawnSync(process.execPath, [script, packed], { encoding: 'utf8' });
  expect(status).toBe(1);
  expect(stderr).toMatch(/prebuilds\/linux-x64-musl\/volseal\.node: the native addon cannot be loaded/);
});

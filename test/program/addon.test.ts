/** Without its native addon volseal says what is missing and what to do, as a program and as a library. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildSync } from 'esbuild';
import { expect, onTestFinished, test } from 'vitest';
import { addonFault } from '../../src/native.js';
import { ROOT } from '../built.js';

/** The package without build/. */
function notCompiled(): string {
  const directory = mkdtempSync(join(tmpdir(), 'volseal-addon-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  for (const name of ['dist/lib', 'dist/program', 'package.json']) cpSync(join(ROOT, name), join(directory, name), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'));
  return directory;
}

test('the program: one line, no stack', () => {
  const { status, stderr } = spawnSync(process.execPath, [join(notCompiled(), 'dist/program/main.js'), 'info', 'x'], { encoding: 'utf8' });
  expect(status).toBe(4);
  expect(stderr).toMatch(/^volseal: \S+volseal\.node: the native addon is not there; .*npm rebuild volseal.*\n$/);
});

const PRINT_CODE = '.catch((error) => console.log(error.name, error.code, error.message))';

test('the library: the import fails with a VolsealError', () => {
  const program = `import(${JSON.stringify(join(notCompiled(), 'dist/lib/index.js'))})${PRINT_CODE}`;
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '--eval', program], { encoding: 'utf8' });
  expect(stdout).toMatch(/^VolsealError ERR_ADDON .*pnpm approve-builds/);
});

for (const format of ['cjs', 'esm'] as const) {
  test(`bundled into ${format}: says to leave it out of the bundle`, () => {
    const directory = notCompiled();
    const [source, bundle] = ['in.mjs', format === 'cjs' ? 'out.cjs' : 'out.mjs'].map((name) => join(directory, name)) as [string, string];
    writeFileSync(source, `import('./dist/lib/index.js')${PRINT_CODE};`);
    const external = ['lmdb', 'piscina', '@opentelemetry/api'];
    buildSync({ entryPoints: [source], outfile: bundle, bundle: true, platform: 'node', format, external, logLevel: 'error' });
    rmSync(join(directory, 'dist'), { recursive: true });
    const { stdout } = spawnSync(process.execPath, [bundle], { encoding: 'utf8' });
    expect(stdout).toMatch(/^VolsealError ERR_ADDON .*esbuild: --external:volseal/);
  });
}

test('another runtime is named', () => {
  const undefinedSymbol = new Error('undefined symbol: EVP_EncryptInit_ex');
  expect(addonFault(undefinedSymbol, { node: '22.0.0', bun: '1.3.0' })).toMatch(/which Bun has not; run this program with Node/);
  expect(addonFault(undefinedSymbol, { node: '22.0.0', electron: '40.0.0' })).toMatch(/Electron/);
  expect(addonFault(undefinedSymbol, { node: '22.0.0' })).toMatch(/undefined symbol: EVP_EncryptInit_ex; compile it .*npm rebuild volseal/);
});

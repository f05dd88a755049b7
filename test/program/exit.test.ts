/** A command ends with its own status, whatever the threads of the pool are doing. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { MAIN, ROOT } from '../built.js';
import { testUnless } from '../requirements.js';

const LMDB = join(ROOT, 'node_modules/@lmdb');

/** The main thread, about to exit, waits until a thread begins to load lmdb. strace makes that loading slow. */
const GATE = `
const { isMainThread } = require('node:worker_threads');
const { existsSync, writeFileSync } = require('node:fs');
const loading = process.env.LOADING_FILE;
if (isMainThread) process.on('exit', () => { while (!existsSync(loading)); });
else {
  const { dlopen } = process;
  process.dlopen = (module, file, ...rest) => {
    if (file.includes('lmdb')) writeFileSync(loading, '');
    return dlopen.call(process, module, file, ...rest);
  };
}`;

const lacks = spawnSync('strace', ['-V']).error !== undefined && 'no strace';

testUnless(lacks)('a command that fails while a thread loads a native module', () => {
  const directory = mkdtempSync(join(tmpdir(), 'volseal-exit-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const path = (name: string): string => join(directory, name);
  writeFileSync(path('gate.cjs'), GATE);
  const modules = readdirSync(LMDB, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.node'));
  const slowly = [
    '-f',
    '-o',
    '/dev/null',
    '-e',
    'inject=openat,mmap:delay_exit=200000',
    ...modules.flatMap((name) => ['-P', join(LMDB, name)]),
  ];
  const wrong = ['create', path('disk.vol'), '--size', '1M', '--context', 'a=1', '--context', 'A=2'];
  const environment = { LOADING_FILE: path('loading'), NODE_OPTIONS: `--require ${path('gate.cjs')}`, VOLSEAL_HOME: path('home') };
  // Without the mend, two of three end with SIGABRT.
  for (let time = 0; time < 5; time += 1) {
    rmSync(path('loading'), { force: true });
    const { status, stderr } = spawnSync('strace', [...slowly, process.execPath, MAIN, ...wrong], {
      encoding: 'utf8',
      env: { ...process.env, ...environment },
    });
    expect(status, stderr).toBe(1);
  }
});

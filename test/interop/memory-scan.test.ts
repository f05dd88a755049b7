import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createCipheriv, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'vitest';
import { built } from '../built.js';
import { testUnless } from '../requirements.js';
import { keyForms, roundKeys } from './key-forms.js';
import { describeCopies, type MemoryScan, parseSmaps, scanMemory } from './memory-scan.js';
import { requireTool, skipWithout } from './tools.js';

const PLANT = built('test/interop/plant-key.ts');

/** Runs a command that starts plant-key.js, scans that process, and ends it. */
async function scanPlanted(form: string, key: Buffer, command: string[] = [], file = ''): Promise<MemoryScan> {
  const [program, ...args] = [...command, process.execPath, PLANT, form, file];
  const child = spawn(program!, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    child.stdin.end(Buffer.from(key.map((byte) => byte ^ 0xa5)));
    const [said] = (await once(child.stdout, 'data')) as [Buffer];
    const pid = Number(said);
    assert.ok(pid > 1, said.toString());
    const scan = scanMemory(pid, [key]);
    process.kill(pid, 'SIGKILL');
    return scan;
  } finally {
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }
}

/** A process that has the key in the vault, prepared and used by every kernel; `command` goes before node. */
async function scanVault(command: string[] = []): Promise<MemoryScan> {
  const directory = mkdtempSync(join(tmpdir(), 'volseal-scan-'));
  try {
    const key = testKey();
    writeFileSync(join(directory, 'key'), key, { mode: 0o600 });
    return await scanPlanted('vault', key, command, join(directory, 'key'));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** A key whose base64 has characters that differ in the URL alphabet. */
function testKey(): Buffer {
  for (;;) {
    const key = randomBytes(64);
    if (/[+/].*[+/]/.test(key.toString('base64'))) return key;
  }
}

describe('the memory scan', () => {
  test('finds nothing where nothing is', async () => {
    const scan = await scanPlanted('none', testKey());
    assert.equal(describeCopies(scan.outside), '');
    assert.equal(scan.locked.length, 0);
    assert.ok(scan.scannedBytes > 20_000_000, `only ${scan.scannedBytes} bytes were scanned`);
  });

  for (const [planted, form] of [
    ['buffer', 'raw'],
    ['small array', 'raw'],
    ['piece', 'raw'],
    ['base64', 'base64'],
    ['base64url', 'base64url'],
    ['hex', 'hex'],
    ['utf16 base64', 'base64/utf16'],
    ['shifted base64', 'base64'],
    ['cipher', 'round key'],
  ] as const) {
    test(`finds a planted copy: ${planted}`, async () => {
      const scan = await scanPlanted(planted, testKey());
      const forms = scan.outside.flatMap((copy) => copy.forms);
      assert.ok(forms.includes(form), `found: ${describeCopies(scan.outside) || 'nothing'}`);
    });
  }

  testUnless(skipWithout('strace'))('finds a key of the vault in locked memory only, where the kernel lacks memfd_secret', async () => {
    const faults = ['-e', 'trace=memfd_secret', '-e', 'inject=memfd_secret:error=ENOSYS'];
    const scan = await scanVault([requireTool('strace'), '-f', '-qq', '-o', '/dev/null', ...faults]);
    assert.equal(describeCopies(scan.outside), '');
    const forms = scan.locked.flatMap((copy) => copy.forms);
    for (const form of ['raw', 'round key', 'inverse round key']) assert.ok(forms.includes(form), `found: ${describeCopies(scan.locked)}`);
  });

  test('finds no copy of a key of the vault, as the kernel is', async () => {
    const scan = await scanVault();
    assert.equal(describeCopies(scan.outside), '');
    assert.ok(scan.locked.length > 0 || scan.unreadable.some(({ name }) => name.includes('secretmem')));
  });

  test('leaves the process running', async () => {
    const child = spawn(process.execPath, ['-e', 'process.stdin.pipe(process.stdout)'], { stdio: ['pipe', 'pipe', 'inherit'] });
    child.stdin.write('before');
    await once(child.stdout, 'data');
    scanMemory(child.pid!, [randomBytes(32)]);
    child.stdin.end('after');
    const [said] = (await once(child.stdout, 'data')) as [Buffer];
    assert.equal(said.toString(), 'after');
    await once(child, 'exit');
  });

  test('a process that is gone is an error', async () => {
    const child = spawn(process.execPath, ['-e', '']);
    await once(child, 'exit');
    assert.throws(() => scanMemory(child.pid!, [randomBytes(64)]), /ESRCH/);
  });

  test('tells locked mappings from others', () => {
    const entry = (range: string, name: string, flags: string): string =>
      `${range} rw-p 00000000 00:00 0     ${name}\nSize:  8 kB\nRss:   8 kB\nSwap:  0 kB\nVmFlags: ${flags} \n`;
    const mappings = parseSmaps(
      entry('7f0000000000-7f0000002000', '', 'rd wr mr mw me ac lo dd wf') +
        entry('7f0000003000-7f0000005000', '[heap]', 'rd wr mr mw me ac lo') +
        entry('ffffffffff600000-ffffffffff601000', '[vsyscall]', 'ex'),
    );
    assert.deepEqual(
      mappings.map(({ name, locked, populated }) => ({ name, locked, populated })),
      [
        { name: 'anonymous', locked: true, populated: true },
        { name: '[heap]', locked: false, populated: true },
      ],
    );
    assert.equal(mappings[0]!.endByte - mappings[0]!.startByte, 8192);
  });
});

describe('the forms of a key', () => {
  test('round keys are those of FIPS 197, appendix A', () => {
    const aes128 = roundKeys(Buffer.from('2b7e151628aed2a6abf7158809cf4f3c', 'hex'));
    assert.equal(aes128.length, 11);
    assert.equal(aes128[10]!.toString('hex'), 'd014f9a8c9ee2589e13f0cc8b6630ca6');
    const aes256 = roundKeys(Buffer.from('603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4', 'hex'));
    assert.equal(aes256.length, 15);
    assert.equal(aes256[14]!.toString('hex'), 'fe4890d1e6188d0b046df344706c631e');
  });

  test('none is found in a ciphertext, and all are distinct pieces of 16 bytes', () => {
    const key = testKey();
    const forms = keyForms(key);
    assert.ok(forms.every(({ bytes }) => bytes.length === 16));
    assert.equal(new Set(forms.map(({ bytes }) => bytes.toString('hex'))).size, forms.length);
    const ciphertext = createCipheriv('aes-256-xts', key, Buffer.alloc(16)).update(Buffer.alloc(65536));
    assert.ok(forms.every(({ bytes }) => !ciphertext.includes(bytes)));
  });
});

/** `volseal info` on what is no whole volume of volseal's: stock cryptsetup makes the others. */
import assert from 'node:assert/strict';
import { truncateSync, writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { runTool, skipWithout } from '../interop/tools.js';
import { describeUnless } from '../requirements.js';
import { lab, parsed } from './program.js';

const MIB = 1024 * 1024;

describe('info on a header without its data', () => {
  test('a backup: what it says, and that there is no data', () => {
    const at = lab();
    at.image('a.raw', 8 * MIB);
    at.ok(['encrypt', 'a.raw', 'a.vol']);
    at.ok(['header', 'backup', 'a.vol', 'a.backup']);
    const { volumeId, sizeBytes, keyId } = parsed(at.ok(['info', 'a.vol', '--json']).text);
    const info = parsed(at.ok(['info', 'a.backup', '--json']).text);
    assert.deepEqual([info.volumeId, info.sizeBytes, info.keyId, info.headerOnly], [volumeId, sizeBytes, keyId, true]);
    assert.deepEqual([info.allocatedBytes, info.hasHoles], [null, null]);
    assert.match(at.ok(['info', 'a.backup']).text, /^header +a\.backup\n(?:.*\n)*\nThe file has a header and no data/);
    assert.doesNotMatch(at.ok(['info', 'a.vol']).text, /no data/);
  });

  test('a detached header, whose data is away; a volume that was cut off in its data is an error as before', () => {
    const at = lab();
    at.image('a.raw', 8 * MIB);
    at.ok(['encrypt', 'a.raw', 'a.vol', '--header', 'a.header']);
    assert.equal(parsed(at.ok(['info', 'a.header', '--json']).text).sizeBytes, 8 * MIB);
    at.ok(['encrypt', 'a.raw', 'b.vol']);
    truncateSync(at.path('b.vol'), 2 * MIB);
    assert.match(at.run(['info', 'b.vol']).stderr, /the file was cut off/);
  });
});

describeUnless(skipWithout('cryptsetup'))('info on volumes of cryptsetup', () => {
  const format = (path: string, ...options: string[]): string => {
    writeFileSync(path, '');
    truncateSync(path, 32 * MIB);
    const fast = ['--batch-mode', '--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000'];
    return runTool('cryptsetup', ['luksFormat', ...fast, ...options, path, '--key-file', '-'], { input: 'passphrase' });
  };

  test('shows cipher, key, sectors and keyslots, and why it is not attached', () => {
    const at = lab();
    const keyslot = ['--keyslot-cipher', 'aes-xts-plain64', '--keyslot-key-size', '512'];
    const data = ['--cipher', 'aes-cbc-essiv:sha256', '--key-size', '256', '--sector-size', '4096'];
    format(at.path('a.luks'), ...keyslot, ...data, '--label', 'an\u001b[2Jother');
    const text = at.ok(['info', 'a.luks']).text;
    assert.match(text, /\nsegment 0 +aes-cbc-essiv:sha256, 4096-byte sectors, data from byte 16777216\n/);
    assert.match(text, /\nkeyslot 0 +luks2, a key of 32 bytes, pbkdf2\n/);
    assert.match(text, /\n\nvolseal does not attach it: the cipher "aes-cbc-essiv:sha256" is not/);
    assert.ok(!text.includes('\u001b'));
    const info = parsed(at.ok(['info', 'a.luks', '--json']).text);
    assert.deepEqual(info.segments, [
      {
        segment: '0',
        type: 'crypt',
        cipher: 'aes-cbc-essiv:sha256',
        sectorBytes: 4096,
        offsetBytes: '16777216',
        sizeBytes: 'dynamic',
        integrity: false,
      },
    ]);
    assert.deepEqual(info.keyslots, [{ keyslot: '0', type: 'luks2', keyBytes: 32, kdf: 'pbkdf2' }]);
  });

  test('of AES-XTS but without our token, and their backups; LUKS1 is refused with what can be done', () => {
    const at = lab();
    format(at.path('a.luks'), '--cipher', 'aes-xts-plain64', '--key-size', '256');
    const info = parsed(at.ok(['info', 'a.luks', '--json']).text);
    assert.match(String(info.notAttached), /^the LUKS2 header has no aws-kms token/);
    assert.deepEqual(info.keyslots, [{ keyslot: '0', type: 'luks2', keyBytes: 32, kdf: 'pbkdf2' }]);
    runTool('cryptsetup', ['luksHeaderBackup', '--batch-mode', '--header-backup-file', at.path('a.backup'), at.path('a.luks')]);
    assert.equal(parsed(at.ok(['info', 'a.backup', '--json']).text).uuid, info.uuid);
    format(at.path('b.luks'), '--type', 'luks1');
    assert.match(at.run(['info', 'b.luks']).stderr, /b\.luks: .*LUKS1/);
  });
});

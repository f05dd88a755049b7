import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'vitest';
import { hintFor } from '../../src/cli/hints/hints.js';
import { STANDARD_OUTPUT } from '../../src/cli/terminal/standard-streams.js';
import { quoted } from '../../src/cli/terminal/text.js';

const ioHint = (command: string, errno: string, path: string): string =>
  hintFor({ code: 'ERR_IO', details: { errno, syscall: 'write', path }, command }) ?? '';

describe('hints', () => {
  test('standard output that fails, in whatever way, is no target that was not made', () => {
    for (const errno of ['ENOSPC', 'EDQUOT', 'EFBIG', 'EIO', 'EINVAL', 'EACCES', 'EISDIR']) {
      for (const command of ['encrypt', 'kms create-key', 'read', '']) {
        const hint = ioHint(command, errno, STANDARD_OUTPUT);
        assert.match(hint, /^Only the output could not be written: .* stays done\./);
        assert.doesNotMatch(hint, /incomplete|target|disk/);
      }
    }
    assert.match(ioHint('encrypt', 'EFBIG', 'a.vol'), /choose another target/);
  });

  test('only commands that make a file say that none was left behind', () => {
    for (const command of ['encrypt', 'decrypt', 'create'])
      assert.match(ioHint(command, 'EINVAL', 'a.vol'), /^No incomplete file was left behind/);
    for (const command of ['write', 'read', 'kms serve']) assert.match(ioHint(command, 'EINVAL', 'a.vol'), /^Remove the cause, then run/);
  });

  test('a job in place that lacks room makes no target, and can have its journal elsewhere', () => {
    const full = { errno: 'ENOSPC', syscall: 'fallocate', path: 'disk.raw' };
    const before = hintFor({ code: 'ERR_IO', details: { ...full, room: 'in place' }, command: 'encrypt' }) ?? '';
    assert.match(before, /^Nothing was changed\. .*--journal FILE/);
    const inside = hintFor({ code: 'ERR_IO', details: { ...full, room: 'in place', inPlace: true }, command: 'decrypt' }) ?? '';
    assert.match(inside, /same command again; or with --undo/);
    for (const text of [before, inside]) assert.doesNotMatch(text, /target|size of the image/);
  });

  const hint = (code: Parameters<typeof hintFor>[0]['code'], details: Parameters<typeof hintFor>[0]['details'], command: string): string =>
    hintFor({ code, details, command }) ?? '';

  test('an image that is not raw is converted or unpacked, not padded', () => {
    const at = (details: Record<string, string>): string => hint('ERR_ARGUMENT', { path: 'a disk', ...details }, 'encrypt');
    assert.match(
      at({ format: 'a Zstandard file', conversion: 'decompress', program: 'zstd' }),
      /zstd -dc 'a disk' \| volseal encrypt - VOLUME --size/,
    );
    assert.match(
      at({ format: 'a qcow2 image', conversion: 'qemu-img', program: '' }),
      /qemu-img convert -p -O raw 'a disk' RAW, a new file/,
    );
    assert.match(at({ format: 'a LUKS volume', conversion: 'luks', program: '' }), /volseal info 'a disk'.*--raw/);
    assert.match(at({ format: 'a ZIP archive', conversion: 'decompress', program: '' }), /^Unpack it first\..*--raw/);
  });

  test('a pipe is sent to the right end of the command', () => {
    assert.match(hint('ERR_ARGUMENT', { kind: 'a pipe', path: 'p' }, 'decrypt'), /volseal decrypt VOLUME - > PIPE/);
    assert.match(hint('ERR_ARGUMENT', { kind: 'a pipe', path: 'p' }, 'encrypt'), /\| volseal encrypt - VOLUME/);
    assert.doesNotMatch(hint('ERR_ARGUMENT', { kind: 'a pipe', path: 'p' }, 'info'), /encrypt/);
  });

  test('nobody is told to put an older header over a volume that cryptsetup has re-encrypted', () => {
    const reencrypted = hint('ERR_KEY_DIGEST', { path: 'a.vol', keyslots: 1 }, 'decrypt');
    assert.match(reencrypted, /Do not restore an older header/);
    assert.match(reencrypted, /cryptsetup open/);
    for (const code of ['ERR_KEY_DIGEST', 'ERR_HEADER_MAC'] as const)
      assert.match(hint(code, { path: 'a.vol', keyslots: 0 }, 'decrypt'), /Keep a copy of the header as it is/);
  });

  test('an interrupted rebuild is not undone by removing the user volume', () => {
    const at = (state: string): string => hint('ERR_WORKSPACE_STATE', { workspaceId: 'ws-abcdefghi', state }, 'workspace attach');
    assert.equal(at('rebuilding'), 'To complete it: volseal workspace rebuild ws-abcdefghi');
    assert.doesNotMatch(at('ready'), /terminate/);
    assert.match(at('creating'), /terminate ws-abcdefghi/);
  });

  test('no hint names an option that its command lacks, or another KMS', () => {
    assert.doesNotMatch(hint('ERR_TARGET_EXISTS', { path: 'b' }, 'kms backup'), /--force/);
    const keyId = 'arn:aws:kms:eu-west-1:111122223333:key/1';
    assert.match(hint('ERR_KMS_DENIED', { name: 'AccessDeniedException', keyId }, 'decrypt'), /--kms aws:eu-west-1$/);
    assert.match(hint('ERR_KMS_KEY_STATE', { keyId }, 'decrypt'), /enable-key --key-id \S+ --region eu-west-1/);
    assert.doesNotMatch(hint('ERR_KMS_UNREACHABLE', {}, 'decrypt'), /embedded/);
    assert.doesNotMatch(hint('ERR_KMS_STORE', {}, 'kms init'), /backup/);
  });

  test('what a sandbox forbids is not a limit that is too low', () => {
    assert.match(hint('ERR_MEMORY_LOCK', { errno: 'EPERM', syscall: 'mlock' }, 'create'), /sandbox/);
    assert.match(hint('ERR_MEMORY_LOCK', { errno: 'ENOMEM', syscall: 'mlock' }, 'create'), /ulimit -l 8192/);
    assert.match(hint('ERR_IO', { errno: 'EPERM', syscall: 'prctl(PR_SET_DUMPABLE)' }, ''), /allow prctl and prlimit64/);
  });

  test('a path in a command is the same path for a shell, whatever it holds', () => {
    for (const path of ["it's", 'two words', 'line\nend', 'esc\u001b[2J', 'über\u200b', '$(x)`y`', 'back\\slash\n']) {
      const { stdout } = spawnSync('bash', ['-c', `printf %s ${quoted(path)}`], { encoding: 'utf8', env: { LC_ALL: 'C.UTF-8' } });
      assert.equal(stdout, path);
      assert.ok(hint('ERR_RESUME', { path }, 'encrypt').includes(` rm ${quoted(path)} `));
      assert.doesNotMatch(quoted(path), /[\p{Cc}\p{Cf}]/u);
    }
  });
});

import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { hintFor } from '../../src/cli/hints.js';
import { STANDARD_OUTPUT } from '../../src/cli/standard-streams.js';

const ioHint = (command: string, errno: string, path: string): string =>
  hintFor({ code: 'ERR_IO', details: { errno, syscall: 'write', path }, command }) ?? '';

describe('hints', () => {
  test('standard output that fails, in whatever way, is no target that was not made', () => {
    for (const errno of ['ENOSPC', 'EDQUOT', 'EFBIG', 'EIO', 'EINVAL', 'EACCES', 'EISDIR']) {
      for (const command of ['encrypt', 'kms create-key', 'read', '']) {
        const hint = ioHint(command, errno, STANDARD_OUTPUT);
        assert.match(hint, /^Only the output could not be written: .* stays done\./);
        assert.doesNotMatch(hint, /half-made|target|disk/);
      }
    }
    assert.match(ioHint('encrypt', 'EFBIG', 'a.vol'), /choose another target/);
  });

  test('only commands that make a file say that none was left behind', () => {
    for (const command of ['encrypt', 'decrypt', 'create']) assert.match(ioHint(command, 'EINVAL', 'a.vol'), /^Nothing half-made/);
    for (const command of ['write', 'read', 'kms serve']) assert.match(ioHint(command, 'EINVAL', 'a.vol'), /^Mend the cause, then run/);
  });
});

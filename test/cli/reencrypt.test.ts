import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { failureOf, type Lab, lab } from './program.js';

describe('volseal reencrypt of several volumes', () => {
  const uuidOf = (at: Lab, name: string): string => JSON.parse(at.ok(['info', name, '--json']).text).encryptedDataKey;

  for (const out of [[], ['--out', 'new']])
    test(`one that fails keeps no other away, and is reported: ${out.join(' ') || 'in place'}`, () => {
      const at = lab();
      at.image('a.raw', 4096);
      for (const name of ['a.vol', 'b.vol']) at.ok(['encrypt', 'a.raw', name]);
      if (out.length > 0) at.shell('mkdir new');
      const before = ['a.vol', 'b.vol'].map((name) => uuidOf(at, name));
      for (const more of [['--dry-run'], []]) {
        const outcome = at.run(['reencrypt', 'a.vol', 'none.vol', 'b.vol', ...out, ...more, '--json']);
        const failure = failureOf(outcome);
        assert.deepEqual([outcome.status, failure.code], [4, 'ERR_IO']);
        assert.match(failure.message, /1 of 3 volumes were not reencrypted; the first: none\.vol/);
        const { volumes, dryRun } = JSON.parse(outcome.text);
        assert.deepEqual([dryRun, volumes.length, volumes[1].error.code], [more.length > 0, 3, 'ERR_IO']);
      }
      for (const [index, name] of ['a.vol', 'b.vol'].entries()) {
        const done = out.length > 0 ? `new/${name}` : name;
        assert.notEqual(uuidOf(at, done), before[index]);
        at.ok(['verify', done, '--against', 'a.raw']);
      }
    });

  test('--dry-run takes nothing back', () => {
    const at = lab();
    const outcome = at.run(['reencrypt', 'a.vol', '--dry-run', '--undo', '--json']);
    assert.deepEqual([outcome.status, failureOf(outcome).code], [1, 'ERR_ARGUMENT']);
  });
});

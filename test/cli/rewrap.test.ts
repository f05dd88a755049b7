import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { type Lab, lab } from './program.js';

describe('volseal rewrap', () => {
  const prepared = (at: Lab): string => {
    at.image('a.raw', 4096);
    for (const name of ['a.vol', 'b.vol']) at.ok(['encrypt', 'a.raw', name]);
    return at.ok(['kms', 'create-key']).text.trim();
  };
  const keyOf = (at: Lab, name: string): string => JSON.parse(at.ok(['info', name, '--json']).text).keyId;

  test('many volumes at once; a dry run changes none', () => {
    const at = lab();
    const keyArn = prepared(at);
    const before = keyOf(at, 'a.vol');
    const dry = JSON.parse(at.ok(['rewrap', 'a.vol', 'b.vol', '--key', keyArn, '--dry-run', '--json']).text);
    assert.deepEqual([dry.rewrapped, dry.volumes.length], [0, 2]);
    assert.equal(keyOf(at, 'a.vol'), before);
    const { text } = at.ok(['rewrap', 'a.vol', 'b.vol', '--key', keyArn]);
    assert.equal(text.trim().split('\n').length, 2);
    for (const name of ['a.vol', 'b.vol']) assert.equal(keyOf(at, name), keyArn);
    at.ok(['decrypt', 'b.vol', 'b.raw']);
    assert.deepEqual(at.contents('b.raw'), at.contents('a.raw'));
  });

  test('one that cannot be rewrapped does not stop the others, and is reported', () => {
    const at = lab();
    const keyArn = prepared(at);
    const { status, stderr, text } = at.run(['rewrap', 'a.vol', 'none.vol', 'b.vol', '--key', keyArn, '--json']);
    assert.equal(status, 4);
    const { error } = JSON.parse(stderr);
    assert.equal(error.code, 'ERR_IO');
    assert.match(error.message, /1 of 3 volumes were not rewrapped; the first: none\.vol/);
    const { volumes, rewrapped } = JSON.parse(text);
    assert.equal(rewrapped, 2);
    assert.equal(volumes[1].error.code, 'ERR_IO');
    for (const name of ['a.vol', 'b.vol']) assert.equal(keyOf(at, name), keyArn);
  });

  test('--header with several volumes: status 1', () => {
    const at = lab();
    assert.equal(at.run(['rewrap', 'a.vol', 'b.vol', '--key', 'alias/aws/ebs', '--header', 'h']).status, 1);
  });
});

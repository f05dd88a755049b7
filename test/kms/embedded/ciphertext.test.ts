import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, describe, test } from 'vitest';
import { KmsFault } from '../../../src/kms/embedded/faults.js';
import { openCiphertext, parseCiphertext, sealCiphertext } from '../../../src/kms/embedded/keys/ciphertext.js';
import { native } from '../../../src/native.js';
import { revealed, spent, withoutLeak } from '../harness.js';

const invalid = (error: unknown) => error instanceof KmsFault && error.name === 'InvalidCiphertextException' && error.message === '';

describe('the ciphertext blob', () => {
  const master = native.keyGenerate(32);
  afterAll(() => native.keyWipe(master));
  const names = { keyId: randomUUID(), materialId: 'ab'.repeat(32) };
  const context = { 'aws:ebs:id': 'vol-1' };

  test('is 78 bytes longer than what it holds, and says which key and material made it', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4096 }), fc.uuid(), fc.stringMatching(/^[0-9a-f]{64}$/), (length, keyId, materialId) => {
        const key = native.keyGenerate(length);
        const blob = sealCiphertext(master, { keyId, materialId }, key, context);
        assert.equal(blob.length, 78 + length);
        const parsed = parseCiphertext(blob);
        assert.deepEqual({ keyId: parsed.keyId, materialId: parsed.materialId }, { keyId, materialId });
        const opened = openCiphertext(master, parsed, context);
        assert.equal(revealed(opened), revealed(key));
        native.keyWipe(opened);
        native.keyWipe(key);
      }),
    );
  });

  test('opens under no other byte, context or master key', async () => {
    const key = native.keyGenerate(64);
    const blob = sealCiphertext(master, names, key, context);
    const text = spent(key);
    assert.equal(spent(openCiphertext(master, parseCiphertext(blob), context)), text);
    await withoutLeak(() => {
      for (let bit = 0; bit < blob.length * 8; bit++) {
        const changed = Buffer.from(blob);
        changed[bit >> 3]! ^= 1 << (bit & 7);
        assert.throws(() => openCiphertext(master, parseCiphertext(changed), context), invalid, `bit ${bit}`);
      }
      for (const other of [{}, { 'aws:ebs:id': 'vol-2' }, { ...context, more: '' }]) {
        assert.throws(() => openCiphertext(master, parseCiphertext(blob), other), invalid);
      }
      const stranger = native.keyGenerate(32);
      assert.throws(() => openCiphertext(stranger, parseCiphertext(blob), context), invalid);
      native.keyWipe(stranger);
    });
  });

  test('of any other bytes is refused, never an accident', () => {
    const key = native.keyGenerate(1);
    const blob = sealCiphertext(master, names, key, context);
    native.keyWipe(key);
    for (let length = 0; length < blob.length; length++) assert.throws(() => parseCiphertext(blob.subarray(0, length)), invalid);
    assert.throws(() => parseCiphertext(Buffer.concat([blob, Buffer.alloc(6145)])), invalid);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        assert.throws(() => openCiphertext(master, parseCiphertext(Buffer.from(bytes)), context), invalid);
      }),
    );
  });
});

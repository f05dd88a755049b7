/**
 * The expected KMS key: whoever may use a KMS key can make a volume with any context, so the context does not say whose
 * volume it is.
 */
import assert from 'node:assert/strict';
import { describe, expect, test } from 'vitest';
import { attach, createVolume, decryptImage, densifyVolume, rewrapVolume, VolsealError, verifyVolume } from '../../src/index.js';
import { EmbeddedKms } from '../../src/kms/embedded/service.js';
import { parseKeyArn } from '../../src/kms/shared/arn.js';
import { lab } from '../cli/program.js';
import { done } from '../kms/harness.js';
import { sandbox } from './sandbox.js';

const mismatch = (error: unknown) => {
  assert.ok(error instanceof VolsealError, String(error));
  assert.equal(error.code, 'ERR_KMS_KEY_MISMATCH', error.message);
  return true;
};

describe('expectedKey', () => {
  async function twoVolumes() {
    const box = sandbox();
    const home = box.path('home');
    const kms = EmbeddedKms.open(home);
    const [bob, anna] = [1, 2].map(() => done(kms, 'CreateKey').KeyMetadata.Arn as string) as [string, string];
    await kms.close();
    const context = { encryptionContext: { user: 'bob' } };
    for (const [name, key] of [
      ['bob.vol', bob],
      ['forged.vol', anna],
    ] as const) {
      await createVolume(box.path(name), { sizeBytes: 4096, home, key, ...context });
    }
    return { box, home, bob, anna, context };
  }

  test('a volume under another key is refused, though its context is right; by every call that opens one', async () => {
    const { box, home, bob, anna, context } = await twoVolumes();
    const path = box.path('forged.vol');
    const options = { home, expectedKey: bob, ...context };
    const calls = [
      () => attach(path, options),
      () => attach(path, { ...options, readOnly: true }),
      () => decryptImage(path, box.path('out.raw'), options),
      () => verifyVolume(path, options),
      () => densifyVolume(path, options),
      () => rewrapVolume(path, { ...options, key: bob }),
      () => rewrapVolume(path, { ...options, key: bob, dryRun: true }),
    ];
    for (const call of calls) await assert.rejects(call(), mismatch);
    await (await attach(path, { home, expectedKey: anna, ...context })).detach();
  });

  test('it is checked before KMS is asked', async () => {
    const { box, bob } = await twoVolumes();
    await assert.rejects(attach(box.path('forged.vol'), { home: box.path('no-kms-here'), expectedKey: bob }), mismatch);
  });

  test('an ARN or an id names a key; an alias does not', async () => {
    const { box, home, bob } = await twoVolumes();
    for (const expectedKey of [bob, parseKeyArn(bob)!.keyId]) await verifyVolume(box.path('bob.vol'), { home, expectedKey });
    for (const expectedKey of ['alias/aws/ebs', 'arn:aws:kms:local:000000000000:alias/x', '']) {
      await assert.rejects(verifyVolume(box.path('bob.vol'), { home, expectedKey }), { code: 'ERR_ARGUMENT' });
    }
  });

  test('rewrap checks the key that the volume has, not the one it gets', async () => {
    const { box, home, bob, anna } = await twoVolumes();
    await rewrapVolume(box.path('bob.vol'), { home, key: anna, expectedKey: bob });
    await verifyVolume(box.path('bob.vol'), { home, expectedKey: anna });
  });
});

test('--expect-key of read, write, decrypt and verify', () => {
  const at = lab();
  const [mine, other] = [1, 2].map(() => at.ok(['kms', 'create-key']).text.trim()) as [string, string];
  at.ok(['create', 'a.vol', '--size', '4096', '--key', mine]);
  for (const words of [
    ['read', 'a.vol'],
    ['write', 'a.vol'],
    ['decrypt', 'a.vol', 'a.raw'],
    ['verify', 'a.vol'],
  ]) {
    const { status, stderr } = at.run([...words, '--expect-key', other], { input: Buffer.alloc(512) });
    expect(status, stderr).toBe(2);
    expect(stderr).toContain(`is under the KMS key ${mine}; expected was ${other}`);
    expect(stderr).toContain('volseal info a.vol');
    at.ok([...words, '--expect-key', mine], { input: Buffer.alloc(512) });
  }
});

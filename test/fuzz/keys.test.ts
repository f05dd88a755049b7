/** Replies and texts from which the addon imports keys, and calls of the addon with arguments of every kind. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'vitest';
import { native } from '../../src/native.js';
import { built } from '../built.js';
import { SEED } from '../seed.js';
import { revealKey } from '../vault/test-keys.js';
import { type Draw, forEachCase, mutated } from './cases.js';

const MEMBER = 'Plaintext';

/** `bytes` in one to four pieces, some of which may be empty. */
function pieces(draw: Draw, bytes: Buffer): Buffer[] {
  const cuts = Array.from({ length: draw.below(4) }, () => draw.below(bytes.length + 1)).sort((a, b) => a - b);
  return [0, ...cuts].map((from, index) => Buffer.from(bytes.subarray(from, cuts[index] ?? bytes.length)));
}

/** The member as JSON.parse sees it; undefined where this is no object, or has no such string. */
function parsedMember(text: string): string | undefined {
  try {
    const value = (JSON.parse(text) as Record<string, unknown> | null)?.[MEMBER];
    return typeof value === 'string' ? value : undefined;
  } catch {
    return undefined;
  }
}

test('mutated replies of KMS: the bytes are wiped, no key is left, and a key that is taken is the one that JSON.parse reads', () => {
  const { liveKeys } = native.vaultInfo();
  let taken = 0;
  forEachCase(60_000, (draw) => {
    const member = `"${MEMBER}":"${draw.bytes(1 + draw.below(80)).toString('base64')}"`;
    const others = ['"KeyId":"a\\"b"', '"n":[1,{"Plaintext":"bm8="}]', '"x":null', '"Plaintext2":"AAAA"'].slice(draw.below(4));
    const json = Buffer.from(
      `{${draw
        .oneOf([
          [member, ...others],
          [...others, member],
        ])
        .join(',')}}`,
    );
    const message = draw.below(8) === 0 ? json : mutated(draw, json);
    const chunks = pieces(draw, message);
    try {
      const { key } = native.keyImportJson(chunks, MEMBER);
      if (key !== undefined) {
        const bytes = revealKey(key);
        native.keyWipe(key);
        const expected = parsedMember(message.toString());
        // The scan does not read what cannot change the member: text that JSON.parse refuses may hold a key.
        if (expected !== undefined) assert.ok(bytes.equals(Buffer.from(expected, 'base64')), message.toString());
        taken += 1;
      }
    } catch (error) {
      if ((error as { code?: string }).code !== 'ERR_ARGUMENT') throw error;
    }
    assert.ok(
      chunks.every((chunk) => chunk.every((byte) => byte === 0)),
      'a chunk is not wiped',
    );
    assert.equal(native.vaultInfo().liveKeys, liveKeys);
  });
  assert.ok(taken > 0);
});

test('mutated base64: overwritten, and decoded as it was or refused', () => {
  const { liveKeys } = native.vaultInfo();
  forEachCase(60_000, (draw) => {
    const text = mutated(draw, Buffer.from(draw.bytes(1 + draw.below(80)).toString('base64')));
    const given = Buffer.from(text);
    try {
      const key = native.keyImportBase64(given);
      const bytes = revealKey(key);
      native.keyWipe(key);
      assert.equal(bytes.toString('base64'), text.toString('latin1'));
    } catch (error) {
      if ((error as { code?: string }).code !== 'ERR_ARGUMENT') throw error;
    }
    assert.ok(given.every((byte) => byte === 0x41 || byte === 0x3d) || given.every((byte) => byte === 0x41), 'the text is still there');
    assert.equal(native.vaultInfo().liveKeys, liveKeys);
  });
});

/** A call that never returns: the test's own deadline cannot end a program that it waits for. */
const HANGS_MS = 500_000;

test('calls of the addon with arguments of every kind end with a result or an error with a code', () => {
  const script = built('test/fuzz/hostile-calls.ts');
  const times = Number(process.env.VOLSEAL_FUZZ_TIMES ?? 1);
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [script, String(SEED), String(Math.ceil(40_000 * times))], {
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    timeout: HANGS_MS,
  });
  assert.deepEqual([status, signal], [0, null], `VOLSEAL_TEST_SEED=${SEED} repeats it\n${stdout}${stderr}`);
  const { calls, refused, unexpected } = JSON.parse(stdout) as { calls: number; refused: number; unexpected: string[] };
  assert.deepEqual(unexpected, []);
  assert.ok(refused > 0 && calls > refused);
});

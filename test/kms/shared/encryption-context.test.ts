import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import { VolsealError } from '../../../src/errors.js';
import { canonicalBytes, checkContext, describeContext, workspaceContext } from '../../../src/kms/shared/encryption-context.js';

const argument = (pattern: RegExp) => (error: unknown) =>
  error instanceof VolsealError && error.code === 'ERR_ARGUMENT' && pattern.test(error.message);

/** Contexts as fast-check makes them, with keys that collide often. */
const contexts = fc
  .dictionary(
    fc.oneof(fc.string({ minLength: 1, maxLength: 3 }), fc.constantFrom('a', 'ab', '__proto__', 'aws:ebs:id')),
    fc.string({ maxLength: 4 }),
    {
      maxKeys: 4,
      noNullPrototype: true,
    },
  )
  .filter((context) => new Set(Object.keys(context).map((key) => key.toLowerCase())).size === Object.keys(context).length);

describe('canonicalBytes', () => {
  test('has the documented layout', () => {
    assert.equal(canonicalBytes({}).toString('hex'), '00000000');
    assert.equal(
      canonicalBytes({ b: '', a: 'xy' }).toString('hex'),
      '00000002' + '00000001' + '61' + '00000002' + '7879' + '00000001' + '62' + '00000000',
    );
  });

  test('is equal for equal contexts in any order and different for all others', () => {
    fc.assert(
      fc.property(contexts, contexts, (one, other) => {
        const same = JSON.stringify(Object.entries(one).sort()) === JSON.stringify(Object.entries(other).sort());
        assert.equal(canonicalBytes(one).equals(canonicalBytes(other)), same);
        assert.deepEqual(canonicalBytes(Object.fromEntries(Object.entries(one).reverse())), canonicalBytes(one));
      }),
    );
  });

  test('moves no byte between key and value, nor between pairs', () => {
    const seen = [{ a: 'bc' }, { ab: 'c' }, { a: 'b', c: '' }, { abc: '' }, { A: 'bc' }].map((context) =>
      canonicalBytes(context).toString('hex'),
    );
    assert.equal(new Set(seen).size, seen.length);
  });

  test('keeps a pair named __proto__', () => {
    const context = JSON.parse('{"__proto__":"x"}') as Record<string, string>;
    assert.notDeepEqual(canonicalBytes(context), canonicalBytes({}));
  });
});

describe('checkContext', () => {
  test('refuses what is not an object of strings', () => {
    for (const value of [null, undefined, 'a', 1, ['a']]) assert.throws(() => checkContext(value), argument(/object of string pairs/));
    for (const value of [1, null, true, {}, ['x']])
      assert.throws(() => checkContext({ volume: value }), argument(/"volume".*not a string/));
  });

  test('refuses empty keys, keys that differ in case, lone surrogates', () => {
    assert.throws(() => checkContext({ '': 'x' }), argument(/""/));
    assert.throws(() => checkContext({ Id: 'x', iD: 'y' }), argument(/"iD"/));
    assert.throws(() => checkContext({ id: '\ud800' }), argument(/well-formed/));
    assert.throws(() => canonicalBytes({ '\udfff': '' }), argument(/well-formed/));
    assert.doesNotThrow(() => checkContext({ id: '\u{1F511}' }));
  });

  test('counts bytes, not characters, to its limit', () => {
    assert.doesNotThrow(() => checkContext({ ab: 'é'.repeat(2047) }));
    assert.throws(() => checkContext({ abc: 'é'.repeat(2047) }), argument(/4097 bytes.*4096/));
  });
});

test('describeContext sorts pairs and escapes what a terminal would act on', () => {
  assert.equal(describeContext({ b: '\u001b[2J', a: '1' }), '{"a":"1","b":"\\u001b[2J"}');
  assert.equal(describeContext({}), '{}');
});

test('a WorkSpace is named by user, directory and volume', () => {
  assert.deepEqual(workspaceContext({ sid: 'S-1-5', directoryId: 'd-9' }), { 'aws:workspaces:sid-directoryid': '[S-1-5]@[d-9]' });
});

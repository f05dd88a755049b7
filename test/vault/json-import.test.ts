import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import { native } from '../../src/native.js';
import { importKey, revealKey, wrong } from './test-keys.js';

const MEMBER = 'Plaintext';
const MESSAGE_BYTES_MAX = 1 << 20;

/** Cuts a message into chunks at the given places. */
function chunksOf(message: Buffer, cuts: number[]): Buffer[] {
  const places = [...new Set([0, ...cuts, message.length])].sort((a, b) => a - b);
  return places.slice(1).map((end, index) => Buffer.from(message.subarray(places[index], end)));
}

interface Imported {
  key: Buffer | undefined;
  body: Buffer;
}

/** Imports, checks that the chunks were zeroed, and takes the key out again. */
function importJson(text: string, cuts: number[] = []): Imported {
  const chunks = chunksOf(Buffer.from(text), cuts);
  const { key, body } = native.keyImportJson(chunks, MEMBER);
  assert.ok(
    chunks.every((chunk) => chunk.every((byte) => byte === 0)),
    'the chunks are zeroed',
  );
  if (key === undefined) return { key, body };
  const bytes = revealKey(key);
  native.keyWipe(key);
  return { key: bytes, body };
}

/** A refusal zeroes the chunks as well, and leaves no key behind. */
function assertRefused(text: string): void {
  const chunk = Buffer.from(text);
  const { liveKeys } = native.vaultInfo();
  assert.throws(() => native.keyImportJson([chunk], MEMBER), { code: 'ERR_ARGUMENT' }, text.slice(0, 80));
  assert.ok(
    chunk.every((byte) => byte === 0),
    `zeroed: ${text.slice(0, 80)}`,
  );
  assert.equal(native.vaultInfo().liveKeys, liveKeys);
}

const key = randomBytes(64);
const text = key.toString('base64');

describe('keyImportJson finds the member of the outermost object', () => {
  const messages: Record<string, string> = {
    alone: `{"Plaintext":"${text}"}`,
    'with space everywhere': ` \r\n\t{ "KeyId" : "x" ,\n "Plaintext" \t:\n "${text}" } \n`,
    'behind nested objects': `{"a":{"Plaintext":"bm8="},"b":[{"Plaintext":"bm8="},["Plaintext"]],"Plaintext":"${text}"}`,
    'before nested objects': `{"Plaintext":"${text}","a":{"Plaintext":"bm8=","b":{}},"c":[]}`,
    'behind strings that look like it': `{"a":"\\"Plaintext\\":\\"bm8=\\"","b":"Plaintext","\\"Plaintext\\"":1,"Plaintext":"${text}"}`,
    'behind a string that ends in a backslash': `{"a":"\\\\","b":"\\\\\\"","Plaintext":"${text}"}`,
    'behind braces in strings': `{"a":"{[","b":"}]}","Plaintext":"${text}"}`,
    'beside names that begin or end alike': `{"Plaintext2":"bm8=","xPlaintext":"bm8=","plaintexts":"bm8=","Plaintext":"${text}"}`,
    'beside other scalars': `{"a":-1.5e9,"b":true,"c":null,"Plaintext":"${text}","d":false}`,
    'beside characters beyond ASCII': `{"käse":"\u{1f9c0} \\u007b","Plaintext":"${text}"}`,
  };
  for (const [where, message] of Object.entries(messages)) {
    test(where, () => {
      const imported = importJson(message);
      assert.ok(imported.key?.equals(key));
      const before = JSON.parse(message) as Record<string, unknown>;
      const after = JSON.parse(imported.body.toString()) as Record<string, unknown>;
      assert.deepEqual({ ...after, Plaintext: '' }, { ...before, Plaintext: '' });
      assert.equal(Buffer.from(after.Plaintext as string, 'base64').length, 64);
      assert.match(after.Plaintext as string, /^A+=*$/);
      assert.ok(!imported.body.includes(text.slice(0, 8)));
    });
  }

  test('whichever way the chunks are cut, empty ones included', () => {
    const message = `{"KeyId":"k","a":{"Plaintext":"bm8="},"Plaintext":"${text}","z":"\\""}`;
    const { body } = importJson(message);
    for (let cut = 1; cut < message.length; cut++) {
      const imported = importJson(message, [cut]);
      assert.ok(imported.key?.equals(key), `cut at ${cut}`);
      assert.ok(imported.body.equals(body), `cut at ${cut}`);
    }
    const bytewise = importJson(
      message,
      Array.from({ length: message.length }, (_, at) => at),
    );
    assert.ok(bytewise.key?.equals(key) && bytewise.body.equals(body));
    const withEmpty = native.keyImportJson([Buffer.alloc(0), Buffer.from(message), Buffer.alloc(0)], MEMBER);
    assert.ok(revealKey(withEmpty.key!).equals(key));
    native.keyWipe(withEmpty.key!);
  });

  test('of any length, and writes any object around it back unchanged', () => {
    const json = fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 3 }), { maxKeys: 5 });
    const cuts = fc.array(fc.nat(400), { maxLength: 6 });
    fc.assert(
      fc.property(json, json, fc.uint8Array({ minLength: 1, maxLength: 200 }), cuts, (before, after, bytes, places) => {
        const value = Buffer.from(bytes).toString('base64');
        const around = { ...before, ...after };
        // JSON.stringify escapes neither the member's name nor its value.
        const message = JSON.stringify({ ...before, [MEMBER]: value, ...after, ...(MEMBER in after ? { [MEMBER]: value } : {}) });
        const imported = importJson(
          message,
          places.filter((place) => place < Buffer.byteLength(message)),
        );
        assert.deepEqual(imported.key, Buffer.from(bytes));
        const parsed = JSON.parse(imported.body.toString()) as Record<string, unknown>;
        assert.equal(Buffer.from(parsed[MEMBER] as string, 'base64').length, bytes.length);
        assert.deepEqual({ ...parsed, [MEMBER]: 0 }, JSON.parse(JSON.stringify({ ...around, [MEMBER]: 0 })));
      }),
    );
  });

  test('with "/" written as "\\/"', () => {
    const slashes = Buffer.alloc(48, 0xff);
    const imported = importJson(`{"Plaintext":"${slashes.toString('base64').replaceAll('/', '\\/')}"}`);
    assert.ok(imported.key?.equals(slashes));
    assert.equal(Buffer.from((JSON.parse(imported.body.toString()) as { Plaintext: string }).Plaintext, 'base64').length, 48);
  });

  test('of 4096 bytes, in a message of 1 MiB', () => {
    const large = randomBytes(4096);
    const head = `{"Plaintext":"${large.toString('base64')}","pad":"`;
    const imported = importJson(`${head}${'x'.repeat(MESSAGE_BYTES_MAX - head.length - 2)}"}`);
    assert.ok(imported.key?.equals(large));
    assert.equal(imported.body.length, MESSAGE_BYTES_MAX);
  });
});

describe('keyImportJson that redacts inner objects', () => {
  const redacted = (message: string): string => {
    const { key, body } = native.keyImportJson([Buffer.from(message)], MEMBER, true);
    if (key !== undefined) native.keyWipe(key);
    return body.toString();
  };

  test('overwrites the text of each member of that name, and nothing else', () => {
    for (const [message, expected] of [
      ['{"a":{"Plaintext":"bm8="}}', '{"a":{"Plaintext":"AAA="}}'],
      ['{"a":[{"Plaintext" : "b\\/8="},{"Pl\\u0061intext":""}]}', '{"a":[{"Plaintext" : "AAA="},{"Pl\\u0061intext":""}]}'],
      [
        '{"a":{"Plaintext":"x"},"Plaintext":"bm8=","b":{"Plaintext":"y"}}',
        '{"a":{"Plaintext":"A"},"Plaintext":"AAA=","b":{"Plaintext":"A"}}',
      ],
      ['{"a":["Plaintext","bm8="],"b":{"c":"Plaintext","d":"bm8="}}', '{"a":["Plaintext","bm8="],"b":{"c":"Plaintext","d":"bm8="}}'],
      ['{"a":{"Plaintext":1,"Plaintext":{"Plaintext":"x"}}}', '{"a":{"Plaintext":1,"Plaintext":{"Plaintext":"A"}}}'],
    ] as const) {
      assert.equal(redacted(message), expected);
    }
  });

  test('a text that breaks off is refused', () => {
    assert.throws(() => redacted('{"a":{"Plaintext":"bm8'), { code: 'ERR_ARGUMENT' });
  });
});

describe('keyImportJson without the member', () => {
  for (const message of ['{}', '{"a":1}', '{"a":{"Plaintext":"bm8="}}', '{"a":"Plaintext"}', '{"a":["Plaintext","bm8="]}']) {
    test(`gives the bytes as they were: ${message}`, () => {
      const imported = importJson(message);
      assert.equal(imported.key, undefined);
      assert.equal(imported.body.toString(), message);
    });
  }
});

describe('keyImportJson with a name that differs in case alone', () => {
  test('overwrites the text, which is none the less secret, and imports nothing', () => {
    for (const [message, expected] of [
      ['{"plaintext":"bm8=","PLAINTEXT":"x","b":1}', '{"plaintext":"AAA=","PLAINTEXT":"A","b":1}'],
      ['{"pl\\u0041inText":"\\u0051\\"b"}', '{"pl\\u0041inText":"AAAAAAAAA"}'],
      ['{"plaintext":7,"a":{"plaintext":"bm8="}}', '{"plaintext":7,"a":{"plaintext":"bm8="}}'],
      ['{"plaintexts":"bm8=","laintext":"bm8=","a":"plaintext"}', '{"plaintexts":"bm8=","laintext":"bm8=","a":"plaintext"}'],
    ] as const) {
      const { key, body } = importJson(message);
      assert.equal(key, undefined);
      assert.equal(body.toString(), expected);
    }
  });

  test('beside the member itself', () => {
    const { key, body } = importJson('{"plaintext":"bm8=","Plaintext":"bm8="}');
    assert.equal(key?.toString(), 'no');
    assert.equal(body.toString(), '{"plaintext":"AAA=","Plaintext":"AAA="}');
  });
});

describe('keyImportJson refuses', () => {
  const messages: Record<string, string> = {
    nothing: '',
    space: '  ',
    'an array': '["Plaintext"]',
    text: `"Plaintext"`,
    'a truncated object': `{"Plaintext":"${text}"`,
    'a truncated text': `{"Plaintext":"${text}`,
    'a truncated escape': '{"a":"\\',
    'the name without a colon': `{"Plaintext" "${text}"}`,
    'something after the object': `{"Plaintext":"${text}"} x`,
    'a second object': `{"Plaintext":"${text}"}{}`,
    'the member twice': `{"Plaintext":"${text}","Plaintext":"${text}"}`,
    'the member twice, once nested between': `{"Plaintext":"${text}","a":{},"Plaintext":null}`,
    'a number': '{"Plaintext":1}',
    null: '{"Plaintext":null}',
    'an object': `{"Plaintext":{"Plaintext":"${text}"}}`,
    'empty text': '{"Plaintext":""}',
    'one character': '{"Plaintext":"A"}',
    'no padding': '{"Plaintext":"QQ"}',
    'too much padding': '{"Plaintext":"QUI=="}',
    'padding in the middle': '{"Plaintext":"QQ==QQ=="}',
    'padding alone': '{"Plaintext":"===="}',
    'bits that carry nothing': '{"Plaintext":"QR=="}',
    'the URL alphabet': '{"Plaintext":"-_-_"}',
    'a space inside': '{"Plaintext":"QUJD QUJD"}',
    'an escape inside': '{"Plaintext":"\\u0051UJD"}',
    '4097 bytes': `{"Plaintext":"${randomBytes(4097).toString('base64')}"}`,
    'more than 1 MiB': `{"a":"${'x'.repeat(MESSAGE_BYTES_MAX)}"}`,
  };
  for (const [what, message] of Object.entries(messages)) test(what, () => assertRefused(message));

  test('arguments that are no chunks', () => {
    for (const chunks of [undefined, null, 'text', Buffer.from('{}'), ['{}'], [null], [{}]]) {
      assert.throws(() => native.keyImportJson(wrong(chunks), MEMBER), { code: 'ERR_ARGUMENT' });
    }
    assert.throws(() => native.keyImportJson([Buffer.from('{}')], wrong(7)), { code: 'ERR_ARGUMENT' });
  });

  test('zeroes the good chunks even where another one is none', () => {
    const good = Buffer.from(`{"Plaintext":"${text}"`);
    assert.throws(() => native.keyImportJson([good, wrong('}')], MEMBER), { code: 'ERR_ARGUMENT' });
    assert.ok(good.every((byte) => byte === 0));
  });

  test('never lets the key through under a name written with escapes', () => {
    for (const name of ['Pl\\u0061intext', '\\u0050laintext', 'Plaintex\\u0074']) {
      const message = `{"${name}":"${text}"}`;
      assert.equal(Object.keys(JSON.parse(message) as object)[0], MEMBER);
      let body = '';
      try {
        body = importJson(message).body.toString();
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'ERR_ARGUMENT');
      }
      assert.ok(!body.includes(text), `the reply's reader would see the key under ${name}`);
    }
  });
});

describe('keyImportBase64', () => {
  test('takes the bytes and overwrites the text', () => {
    const source = Buffer.from(text);
    const handle = native.keyImportBase64(source);
    assert.ok(revealKey(handle).equals(key));
    assert.match(source.toString(), /^A+=*$/);
    native.keyWipe(handle);
  });

  test('every length from 1 to 200', () => {
    for (let length = 1; length <= 200; length++) {
      const bytes = randomBytes(length);
      const handle = importKey(bytes);
      assert.equal(native.keyByteLength(handle), length);
      assert.ok(revealKey(handle).equals(bytes));
      native.keyWipe(handle);
    }
  });

  for (const bad of [
    '',
    'A',
    'QQ',
    'QQ=',
    'QUI',
    '====',
    'QQ==QQ==',
    'QR==',
    'QUJ\n',
    '-_-_',
    'QUJDé',
    randomBytes(4097).toString('base64'),
  ]) {
    test(`refuses ${JSON.stringify(bad.slice(0, 20))} and overwrites it all the same`, () => {
      const source = Buffer.from(bad);
      assert.throws(() => native.keyImportBase64(source), { code: 'ERR_ARGUMENT' });
      assert.match(source.toString(), /^[A=]*$/);
    });
  }
});

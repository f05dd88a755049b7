import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { describe, test } from 'vitest';
import { VolsealError } from '../../../src/errors.js';
import { REPLY_MEMORY_BYTES } from '../../../src/kms/client/reply-parser.js';
import { type ReadSocket, ReplyReader, type WaitingCall } from '../../../src/kms/client/reply-reader.js';
import { KMS_REPLY_BYTES_MAX } from '../../../src/limits.js';
import { type KeyHandle, native } from '../../../src/native.js';
import { spent, withoutLeak } from '../harness.js';

const TEXT = randomBytes(64).toString('base64');
const BODY = JSON.stringify({ KeyId: 'arn', Plaintext: TEXT, EncryptionAlgorithm: 'SYMMETRIC_DEFAULT' });
const HEAD = `HTTP/1.1 200 OK\r\nServer: a\r\nContent-Type: application/x-amz-json-1.1\r\nx-amzn-RequestId: 7\r\n`;
const REPLY = `${HEAD}Content-Length: ${BODY.length}\r\n\r\n${BODY}`;
const ZEROS = Buffer.alloc(REPLY_MEMORY_BYTES);
const CHUNKED = `${HEAD}Transfer-Encoding: chunked\r\n\r\n`;

/** A reader over a socket of which only the wire is there. */
class Wire extends EventEmitter implements WaitingCall {
  readonly reader = new ReplyReader();
  readonly keys: KeyHandle[] = [];
  pushed = '';
  error: Error | undefined;
  ended = false;

  constructor(readonly expectsKey = true) {
    super();
    const socket = {
      once: (event: string, listener: () => void) => this.once(event, listener),
      push: (bytes: Buffer) => {
        this.pushed += bytes.toString('latin1');
        return true;
      },
      destroy: (error?: Error) => {
        this.error = error;
        this.emit('close');
      },
      destroySoon: () => {
        this.ended = true;
        this.emit('close');
      },
    };
    this.reader.follow(socket as unknown as ReadSocket);
    this.reader.expectFor(this);
  }

  deliver(key: KeyHandle): void {
    this.keys.push(key);
  }

  /** Bytes arrive, as much of them as there is room for at a time. */
  arrive(text: string): void {
    for (let rest = Buffer.from(text, 'latin1'); rest.length > 0 && this.error === undefined && !this.ended; ) {
      const byteCount = rest.copy(this.reader.onread.buffer());
      this.reader.onread.callback(byteCount);
      rest = rest.subarray(byteCount);
    }
  }

  /** The status and the body that were handed on. */
  get reply(): { status: number; head: string; body: string } {
    const end = this.pushed.indexOf('\r\n\r\n');
    return { status: Number(this.pushed.slice(9, 12)), head: this.pushed.slice(0, end), body: this.pushed.slice(end + 4) };
  }

  /** Asserts that nothing of a reply is left in the memory. */
  assertWiped(what = ''): void {
    const memory = this.reader.onread.buffer();
    assert.ok(ZEROS.subarray(0, memory.length).equals(memory), `zeroed: ${what}`);
  }
}

/** What arrives after `text` is an error without a byte of the key, and the memory is zero. */
async function refused(text: string, what = text): Promise<void> {
  await withoutLeak(() => {
    const wire = new Wire();
    wire.arrive(text);
    const { error } = wire;
    assert.ok(error instanceof VolsealError && error.code === 'ERR_KMS_REPLY', `${what}: ${error}`);
    assert.ok(!JSON.stringify([error.message, error.details, String(error.cause)]).includes(TEXT.slice(0, 8)), what);
    assert.equal(wire.pushed, '', what);
    wire.assertWiped(what);
  });
}

describe('a reply with a key', () => {
  for (const [coding, reply] of [
    ['with a length', REPLY],
    ['in one chunk', `${CHUNKED}${BODY.length.toString(16)}\r\n${BODY}\r\n0\r\n\r\n`],
    ['in chunks, with an extension and trailers', `${CHUNKED}${[...BODY].map((c) => `1;a=b\r\n${c}\r\n`).join('')}0\r\nX: y\r\n\r\n`],
    ['after an interim reply', `HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n${REPLY}`],
    ['of HTTP/1.0', REPLY.replace('1.1', '1.0')],
  ] as const) {
    test(`${coding}, wherever it is cut`, async () => {
      await withoutLeak(() => {
        for (let cut = 1; cut <= reply.length; cut += reply.length > 1000 ? 97 : 1) {
          const wire = new Wire();
          wire.arrive(reply.slice(0, cut));
          wire.arrive(reply.slice(cut));
          assert.equal(wire.error, undefined, `cut at ${cut}`);
          assert.equal(spent(wire.keys.pop()), TEXT);
          wire.assertWiped(`cut at ${cut}`);
          assert.equal(wire.reply.body.length, BODY.length);
          assert.deepEqual(JSON.parse(wire.reply.body), { ...JSON.parse(BODY), Plaintext: `${'A'.repeat(86)}==` });
        }
      });
    });
  }

  test('byte by byte', () => {
    const wire = new Wire();
    for (const byte of REPLY) wire.arrive(byte);
    assert.equal(spent(wire.keys.pop()), TEXT);
  });

  test('several on one connection, each asked for', () => {
    const wire = new Wire();
    for (let round = 0; round < 3; round++) {
      wire.reader.expectFor(wire);
      wire.arrive(REPLY);
      assert.equal(spent(wire.keys.pop()), TEXT);
    }
  });

  test('without its key leaves the call without one', () => {
    const wire = new Wire();
    const body = '{"KeyId":"arn"}';
    wire.arrive(`${HEAD}Content-Length: ${body.length}\r\n\r\n${body}`);
    assert.deepEqual([wire.keys, wire.reply.body, wire.error], [[], body, undefined]);
  });

  test('passes on the headers that the SDK reads, and no others', () => {
    const wire = new Wire();
    wire.arrive(REPLY);
    native.keyWipe(wire.keys.pop()!);
    assert.deepEqual(wire.reply.head.split('\r\n'), [
      'HTTP/1.1 200 ',
      'content-type: application/x-amz-json-1.1',
      'x-amzn-requestid: 7',
      `content-length: ${BODY.length}`,
    ]);
  });
});

describe('a key where none is expected is wiped and never seen', () => {
  const replyOf = (status: number, body: string): string => `HTTP/1.1 ${status} X\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

  test('in the reply to another operation', async () => {
    await withoutLeak(() => {
      const wire = new Wire(false);
      wire.arrive(REPLY);
      assert.deepEqual(wire.keys, []);
      assert.match(JSON.parse(wire.reply.body).Plaintext, /^A+==$/);
    });
  });

  test('in an error, whatever its form', async () => {
    await withoutLeak(() => {
      for (const status of [300, 302, 400, 403, 429, 500, 503]) {
        for (const body of [
          BODY,
          `{"Output":${BODY}}`,
          `{"a":[{"Plain\\u0074ext" : "${TEXT.replaceAll('/', '\\/')}"}]}`,
          `<html>${BODY}</html>`,
          BODY + BODY,
          BODY.slice(1),
          `{"Plaintext":["${TEXT}"]}`,
        ]) {
          const wire = new Wire();
          wire.arrive(replyOf(status, body));
          assert.equal(wire.error, undefined);
          assert.equal(wire.reply.status, status);
          assert.deepEqual(wire.keys, []);
          assert.ok(!wire.pushed.includes(TEXT.slice(0, 8)), body);
          wire.assertWiped(body);
        }
      }
    });
  });

  test('an error of KMS is passed on as it is', () => {
    const wire = new Wire();
    const body = '{"__type":"DisabledException","message":"arn is disabled."}';
    wire.arrive(replyOf(400, body));
    assert.deepEqual([wire.reply.status, wire.reply.body], [400, body]);
  });

  test('a pair of an encryption context that is called Plaintext stays', () => {
    const wire = new Wire(false);
    const body = '{"Grants":[{"Constraints":{"EncryptionContextEquals":{"Plaintext":"bm8="}}}]}';
    wire.arrive(replyOf(200, body));
    assert.equal(wire.reply.body, body);
  });

  test('an error whose body cannot be taken in is passed on without it, and ends the connection', () => {
    const page = 'x'.repeat(2 * KMS_REPLY_BYTES_MAX);
    for (const reply of [
      `HTTP/1.1 503 X\r\nContent-Length: ${page.length}\r\n\r\n${page}`,
      `HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\n${page.length.toString(16)}\r\n${page}`,
      `HTTP/1.1 503 X\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc`,
      `HTTP/1.1 503 X\r\nRetry-After: 1\r\n\r\n${BODY}`,
    ]) {
      const wire = new Wire();
      wire.arrive(reply);
      assert.deepEqual([wire.reply.status, wire.reply.body, wire.ended], [503, '', true], reply.slice(0, 60));
      assert.match(wire.reply.head, /content-length: 0\r\nconnection: close$/);
      wire.assertWiped(reply.slice(0, 60));
    }
  });
});

describe('what is no reply of KMS is refused, and zeroed', () => {
  test('the body of a success', async () => {
    for (const body of [
      `{"Plaintext":"${TEXT}`,
      `{"Plaintext":"${TEXT}","Plaintext":"${TEXT}"}`,
      '{"Plaintext":"*"}',
      '{"Plaintext":7}',
      '<html>',
      '',
    ]) {
      await refused(`${HEAD}Content-Length: ${body.length}\r\n\r\n${body}`);
    }
  });

  test('its headers', async () => {
    const rest = `\r\n\r\n${BODY}`;
    await refused(BODY);
    await refused(`HTTP/2 200 OK${rest}`);
    await refused(`HTTP/1.1 999 OK${rest}`);
    await refused(`HTTP/1.1 101 Switching Protocols${rest}`);
    await refused(HEAD + rest);
    await refused(`${HEAD}Content-Length: 3\r\nContent-Length: 4${rest}`);
    await refused(`${HEAD}Content-Length: 3\r\nTransfer-Encoding: chunked${rest}`);
    await refused(`${HEAD}Content-Length: -3${rest}`);
    await refused(`${HEAD}Transfer-Encoding: gzip, chunked${rest}`);
    await refused(`${HEAD}Content-Encoding: gzip\r\nContent-Length: ${BODY.length}${rest}`);
    await refused(`${HEAD}no colon\r\nContent-Length: ${BODY.length}${rest}`);
    await refused(`${HEAD} folded: a\r\nContent-Length: ${BODY.length}${rest}`);
    await refused(`${HEAD}X: ${'y'.repeat(20_000)}`, 'headers without end');
  });

  test('its chunks', async () => {
    await refused(`${CHUNKED}x\r\n${BODY}`);
    await refused(`${CHUNKED}-1\r\n${BODY}`);
    await refused(`${CHUNKED}5\r\n${BODY}`);
    await refused(`${CHUNKED}${'0'.repeat(500)}`, 'a line without end');
    await refused(`${CHUNKED}${'1\r\nx\r\n'.repeat(KMS_REPLY_BYTES_MAX)}`, 'more chunks than the memory holds');
  });

  test('two at once, and one that nobody asked for', async () => {
    await refused(REPLY + REPLY);
    await refused(`${REPLY}x`);
    await withoutLeak(() => {
      const wire = new Wire();
      wire.arrive(REPLY);
      native.keyWipe(wire.keys.pop()!);
      wire.arrive(REPLY);
      assert.match(String(wire.error), /no request asked for it/);
      assert.deepEqual(wire.keys, []);
      wire.assertWiped();
    });
  });

  test('more than a reply of KMS may have, as soon as that is known', async () => {
    await refused(`${HEAD}Content-Length: ${KMS_REPLY_BYTES_MAX + 1}\r\n\r\n`, 'a length');
    await refused(`${CHUNKED}${(KMS_REPLY_BYTES_MAX + 1).toString(16)}\r\n`, 'a chunk');
    await refused(`HTTP/1.1 103 A\r\n\r\n`.repeat(REPLY_MEMORY_BYTES / 16), 'interim replies without end');
  });

  test('the longest reply is taken', () => {
    const wire = new Wire(false);
    const body = `{"a":"${'x'.repeat(KMS_REPLY_BYTES_MAX - 8)}"}`;
    wire.arrive(`${HEAD}Content-Length: ${body.length}\r\n\r\n${body}`);
    assert.equal(wire.reply.body, body);
  });

  test('a reply that breaks off is zeroed when the connection closes', () => {
    for (const reply of [REPLY, `${CHUNKED}${BODY.length.toString(16)}\r\n${BODY}\r\n`]) {
      const wire = new Wire();
      wire.arrive(reply.slice(0, -30));
      wire.emit('close');
      const { buffer } = wire.reader.onread.buffer();
      assert.ok(ZEROS.equals(new Uint8Array(buffer)));
      assert.equal(wire.pushed, '');
    }
  });
});

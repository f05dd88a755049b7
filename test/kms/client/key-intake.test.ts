import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { PassThrough, Readable } from 'node:stream';
import { promisify } from 'node:util';
import { HttpRequest, HttpResponse } from '@smithy/core/protocols';
import { describe, onTestFinished, test } from 'vitest';
import { VolsealError } from '../../../src/errors.js';
import { httpKeyIntake, keyIntake, type RequestHandler } from '../../../src/kms/client/key-intake.js';
import { KeySlot, type SlotOptions } from '../../../src/kms/client/key-slot.js';
import { native } from '../../../src/native.js';
import { built } from '../../built.js';
import { spent, temporaryHome, withoutLeak } from '../harness.js';
import { selfSigned, serveFake } from './fake-server.js';

const TEXT = randomBytes(64).toString('base64');
const REPLY = JSON.stringify({ KeyId: 'arn', Plaintext: TEXT, EncryptionAlgorithm: 'SYMMETRIC_DEFAULT' });

const requestOf = (operation: string, url = 'http://127.0.0.1'): HttpRequest => {
  const { protocol, hostname, port } = new URL(url);
  return new HttpRequest({
    protocol,
    hostname,
    port: Number(port),
    method: 'POST',
    path: '/',
    headers: { 'x-amz-target': `TrentService.${operation}` },
    body: '{}',
  });
};

/** An inner handler whose reply is `body`. */
function replying(body: Readable, statusCode = 200): RequestHandler {
  return {
    metadata: { handlerProtocol: 'test' },
    handle: async () => ({ response: new HttpResponse({ statusCode, headers: {}, body }) }),
    updateHttpClientConfig() {},
    httpHandlerConfigs: () => ({}),
    destroy() {},
  };
}

async function take(handler: RequestHandler, operation = 'Decrypt', url?: string): Promise<{ slot: KeySlot; body: Buffer }> {
  const slot = new KeySlot();
  const options: SlotOptions = { keySlot: slot };
  const { response } = await handler.handle(requestOf(operation, url), options);
  return { slot, body: response.body as Buffer };
}

describe('keyIntake', () => {
  test('takes the key out wherever the chunks are cut, and zeroes them', async () => {
    await withoutLeak(async () => {
      for (let cut = 0; cut <= REPLY.length; cut++) {
        const chunks = [Buffer.from(REPLY.slice(0, cut)), Buffer.from(REPLY.slice(cut))].filter((chunk) => chunk.length > 0);
        const { slot, body } = await take(keyIntake(replying(Readable.from(chunks, { objectMode: false }))));
        assert.equal(spent(slot.take()), TEXT);
        assert.ok(
          chunks.every((chunk) => chunk.every((byte) => byte === 0)),
          `cut at ${cut}`,
        );
        assert.equal(body.length, REPLY.length);
        assert.ok(!body.includes(TEXT.slice(0, 8)));
        assert.match(JSON.parse(body.toString()).Plaintext, /^A+=*$/);
      }
    });
  });

  test('byte by byte', async () => {
    const chunks = [...REPLY].map((character) => Buffer.from(character));
    const { slot } = await take(keyIntake(replying(Readable.from(chunks, { objectMode: false }))), 'GenerateDataKey');
    assert.equal(spent(slot.take()), TEXT);
  });

  test('leaves other operations and refusals as they are', async () => {
    const listing = Readable.from([Buffer.from(REPLY)]);
    assert.equal((await take(keyIntake(replying(listing)), 'ListKeys')).body as unknown, listing);
    const refusal = Readable.from([Buffer.from('{}')]);
    assert.equal((await take(keyIntake(replying(refusal, 400)))).body as unknown, refusal);
  });

  test('a reply without a key leaves the slot empty', async () => {
    const { slot, body } = await take(keyIntake(replying(Readable.from([Buffer.from('{"KeyId":"arn"}')]))));
    assert.equal(slot.take(), undefined);
    assert.equal(body.toString(), '{"KeyId":"arn"}');
  });

  test('what is no reply of KMS is a typed error without a byte of it', async () => {
    await withoutLeak(async () => {
      for (const text of [
        `{"Plaintext":"${TEXT}`,
        `{"Plaintext":"${TEXT}","Plaintext":"${TEXT}"}`,
        '{"Plaintext":"*"}',
        '{"Plaintext":7}',
        '<html>',
        '',
      ]) {
        const chunk = Buffer.from(text);
        await assert.rejects(take(keyIntake(replying(Readable.from(text === '' ? [] : [chunk], { objectMode: false })))), (error) => {
          assert.ok(error instanceof VolsealError && error.code === 'ERR_KMS_REPLY', String(error));
          assert.ok(!JSON.stringify([error.message, error.details, String(error.cause)]).includes(TEXT.slice(0, 8)));
          return true;
        });
        assert.ok(
          chunk.every((byte) => byte === 0),
          text,
        );
      }
    });
  });

  test('a reply that is too long is dropped and zeroed', async () => {
    const chunks = [Buffer.from(REPLY), Buffer.alloc(40_000, 'x'), Buffer.alloc(40_000, 'x'), Buffer.alloc(40_000, 'x')];
    await assert.rejects(take(keyIntake(replying(Readable.from(chunks, { objectMode: false })))), { code: 'ERR_KMS_REPLY' });
    assert.ok(chunks.slice(0, 3).every((chunk) => chunk.every((byte) => byte === 0)));
  });

  test('a reply that breaks off, or never ends, is transient and zeroed', async () => {
    for (const end of [(body: PassThrough) => body.destroy(new Error('cut')), (body: PassThrough) => body.destroy(), () => {}]) {
      const body = new PassThrough();
      const chunk = Buffer.from(REPLY.slice(0, 60));
      body.write(chunk);
      setTimeout(() => end(body), 10);
      await assert.rejects(take(keyIntake(replying(body), 60)), { name: 'TimeoutError' });
      assert.ok(chunk.every((byte) => byte === 0));
      assert.ok(body.destroyed);
    }
  });

  test('a key that no call waits for is wiped', async () => {
    await withoutLeak(() => keyIntake(replying(Readable.from([Buffer.from(REPLY)]))).handle(requestOf('Decrypt')));
  });
});

test('a slot holds one key: the last', async () => {
  await withoutLeak(() => {
    const slot = new KeySlot();
    const [first, second] = [native.keyGenerate(32), native.keyGenerate(64)];
    slot.put(first);
    slot.put(second);
    assert.equal(native.keyWipe(first), false);
    assert.equal(slot.take(), second);
    assert.equal(slot.take(), undefined);
    native.keyWipe(second);
  });
});

describe('over sockets', () => {
  async function overSocket(tls?: { key: Buffer; cert: Buffer }): Promise<void> {
    const url = await serveFake((response, attempt) => {
      // In two pieces, so that the second arrives in a read of its own; and again over the same connection.
      const half = 20 * attempt;
      response.writeHead(200, { 'content-length': REPLY.length });
      response.write(REPLY.slice(0, half));
      setTimeout(() => response.end(REPLY.slice(half)), 15);
    }, tls);
    const handler = httpKeyIntake();
    onTestFinished(() => handler.destroy());
    for (let round = 0; round < 3; round++) assert.equal(spent((await take(handler, 'Decrypt', url)).slot.take()), TEXT);
  }

  test('over HTTP', () => overSocket());

  test('no reply, or half of one, within the time allowed', async () => {
    for (const answer of [() => {}, (response: ServerResponse) => response.writeHead(200).write(REPLY.slice(0, 30))]) {
      const url = await serveFake(answer);
      const handler = httpKeyIntake({ connectTimeoutMs: 1000, requestTimeoutMs: 80 });
      onTestFinished(() => handler.destroy());
      await assert.rejects(take(handler, 'Decrypt', url), { name: 'TimeoutError', code: 'ETIMEDOUT' });
    }
  });

  test('a certificate that nobody vouches for is refused', async () => {
    const url = await serveFake((response) => response.end(REPLY), selfSigned(temporaryHome()));
    const handler = httpKeyIntake();
    onTestFinished(() => handler.destroy());
    await assert.rejects(take(handler, 'Decrypt', url), { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' });
  });

  test('over HTTPS, with the certificate in NODE_EXTRA_CA_CERTS', async () => {
    // The variable counts only when a process starts.
    const { key, cert, certPath } = selfSigned(temporaryHome());
    const url = await serveFake((response) => response.end(REPLY), { key, cert });
    const client = built('test/kms/client/https-client.ts');
    const { stdout } = await promisify(execFile)(process.execPath, [client, url], {
      env: { ...process.env, NODE_EXTRA_CA_CERTS: certPath },
    });
    assert.equal(stdout, TEXT);
  });
});

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { promisify } from 'node:util';
import { HttpRequest } from '@smithy/core/protocols';
import { describe, onTestFinished, test } from 'vitest';
import { httpKeyIntake, type RequestHandler } from '../../../src/kms/client/key-intake.js';
import { KeySlot, type SlotOptions } from '../../../src/kms/client/key-slot.js';
import { native } from '../../../src/native.js';
import { built } from '../../built.js';
import { spent, temporaryHome, withoutLeak } from '../harness.js';
import { selfSigned, serveFake } from './fake-server.js';

const TEXT = randomBytes(64).toString('base64');
const REPLY = JSON.stringify({ KeyId: 'arn', Plaintext: TEXT, EncryptionAlgorithm: 'SYMMETRIC_DEFAULT' });

function requestOf(operation: string, url: string): HttpRequest {
  const { protocol, hostname, port } = new URL(url);
  const headers = { 'x-amz-target': `TrentService.${operation}` };
  return new HttpRequest({ protocol, hostname, port: Number(port), method: 'POST', path: '/', headers, body: '{}' });
}

async function take(handler: RequestHandler, url: string): Promise<KeySlot> {
  const slot = new KeySlot();
  const options: SlotOptions = { keySlot: slot };
  await handler.handle(requestOf('Decrypt', url), options);
  return slot;
}

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
    for (let round = 0; round < 3; round++) assert.equal(spent((await take(handler, url)).take()), TEXT);
  }

  test('over HTTP', () => overSocket());

  test('no reply, or half of one, within the time allowed', async () => {
    for (const answer of [() => {}, (response: ServerResponse) => response.writeHead(200).write(REPLY.slice(0, 30))]) {
      const url = await serveFake(answer);
      const handler = httpKeyIntake({ connectTimeoutMs: 1000, requestTimeoutMs: 80 });
      onTestFinished(() => handler.destroy());
      await assert.rejects(take(handler, url), { name: 'TimeoutError', code: 'ETIMEDOUT' });
    }
  });

  test('a reply that breaks off is transient: the SDK tries again', async () => {
    const url = await serveFake((response) => response.writeHead(200).write(REPLY.slice(0, 60), () => response.destroy()));
    const handler = httpKeyIntake();
    onTestFinished(() => handler.destroy());
    await assert.rejects(take(handler, url), { name: 'TimeoutError', code: 'ECONNRESET' });
  });

  test('a key that no call waits for is wiped', async () => {
    const url = await serveFake((response) => response.end(REPLY));
    const handler = httpKeyIntake();
    onTestFinished(() => handler.destroy());
    await withoutLeak(() => handler.handle(requestOf('Decrypt', url)));
  });

  test('calls that run at once get their own keys', async () => {
    // Each reply tells the number of its request, the later ones first.
    const url = await serveFake((response, attempt) => {
      const Plaintext = Buffer.alloc(64, attempt).toString('base64');
      setTimeout(() => response.end(JSON.stringify({ Plaintext, Attempt: attempt })), 60 - attempt * 5);
    });
    const handler = httpKeyIntake();
    onTestFinished(() => handler.destroy());
    const round = async (): Promise<void> => {
      const slot = new KeySlot();
      const options: SlotOptions = { keySlot: slot };
      const { response } = await handler.handle(requestOf('Decrypt', url), options);
      let body = '';
      for await (const piece of response.body) body += piece;
      assert.equal(spent(slot.take()), Buffer.alloc(64, JSON.parse(body).Attempt).toString('base64'));
    };
    for (let rounds = 0; rounds < 2; rounds++) await Promise.all(Array.from({ length: 5 }, round));
  });

  test('a reply without end is cut off, whatever its status and coding', async () => {
    const sent: number[] = [];
    const url = await serveFake(async (response, attempt) => {
      const status = attempt % 2 === 0 ? 200 : 500;
      const coding = attempt > 2 ? { 'content-encoding': 'gzip' } : {};
      response.writeHead(status, { ...coding, ...(attempt === 1 ? { 'content-length': 1_500_000_000 } : {}) });
      const piece = Buffer.alloc(1024 * 1024, 'x');
      let pieces = 0;
      for (const closed = once(response, 'close'); !response.destroyed && pieces < 200; pieces++) {
        if (!response.write(piece)) await Promise.race([closed, once(response, 'drain')]);
      }
      sent.push(pieces);
      response.destroy();
    });
    const handler = httpKeyIntake();
    onTestFinished(() => handler.destroy());
    for (let attempt = 1; attempt <= 4; attempt++) {
      const outcome = await handler.handle(requestOf('ListKeys', url)).then(
        ({ response }) => response.statusCode,
        (error: { code?: string }) => error.code,
      );
      assert.equal(outcome, attempt % 2 === 0 ? 'ERR_KMS_REPLY' : 500);
    }
    while (sent.length < 4) await new Promise(setImmediate);
    assert.ok(Math.max(...sent) < 100, `sent: ${sent} MiB`);
  });

  test('a certificate that no authority signed is refused', async () => {
    const url = await serveFake((response) => response.end(REPLY), selfSigned(temporaryHome()));
    const handler = httpKeyIntake();
    onTestFinished(() => handler.destroy());
    await assert.rejects(take(handler, url), { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' });
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

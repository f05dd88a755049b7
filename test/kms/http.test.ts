import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import { DecryptCommand, EncryptCommand, GenerateDataKeyCommand, KMSClient } from '@aws-sdk/client-kms';
import { VolsealError } from '../../src/errors.js';
import { type KmsServer, serveKms } from '../../src/kms/embedded/http.js';
import { temporaryHome, withoutLeak } from './harness.js';

async function served(t: TestContext): Promise<KmsServer> {
  const server = await serveKms({ home: temporaryHome(t), host: '127.0.0.1', port: 0 });
  t.after(() => server.close());
  return server;
}

const SIGNED = {
  'content-type': 'application/x-amz-json-1.1',
  'x-amz-target': 'TrentService.ListKeys',
  authorization: `AWS4-HMAC-SHA256 Credential=AK/20260101/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=${'0'.repeat(64)}`,
};

async function send(
  url: string,
  changes: { method?: string; path?: string; headers?: Record<string, string | undefined>; body?: string | Buffer } = {},
) {
  const { hostname, port } = new URL(url);
  const { method = 'POST', path = '/', body = '{}' } = changes;
  const headers = Object.fromEntries(
    Object.entries({ ...SIGNED, ...changes.headers }).filter((pair): pair is [string, string] => pair[1] !== undefined),
  );
  const request = httpRequest({ hostname, port, method, path, headers, agent: false });
  request.end(body);
  const [response] = await once(request, 'response');
  let text = '';
  for await (const part of response) text += part;
  return { status: response.statusCode as number, body: JSON.parse(text), headers: response.headers };
}

describe('the HTTP front', () => {
  test("serves the AWS SDK's own client, key material included", async (t) => {
    const { url } = await served(t);
    const client = new KMSClient({ endpoint: url, region: 'eu-west-1', credentials: { accessKeyId: 'a', secretAccessKey: 'b' } });
    t.after(() => client.destroy());
    await withoutLeak(async () => {
      const EncryptionContext = { 'aws:ebs:id': 'vol-1' };
      const made = await client.send(new GenerateDataKeyCommand({ KeyId: 'alias/aws/ebs', NumberOfBytes: 64, EncryptionContext }));
      assert.equal(made.Plaintext?.length, 64);
      assert.ok(made.Plaintext.some((byte) => byte !== 0));
      const opened = await client.send(new DecryptCommand({ CiphertextBlob: made.CiphertextBlob!, EncryptionContext }));
      assert.deepEqual(opened.Plaintext, made.Plaintext);
      for (const length of [1, 4096]) {
        const Plaintext = Buffer.alloc(length, 'p');
        const { CiphertextBlob } = await client.send(new EncryptCommand({ KeyId: 'alias/aws/ebs', Plaintext }));
        const { Plaintext: back } = await client.send(new DecryptCommand({ CiphertextBlob: CiphertextBlob! }));
        assert.ok(Buffer.from(back!).equals(Plaintext));
      }
      await assert.rejects(client.send(new DecryptCommand({ CiphertextBlob: made.CiphertextBlob! })), {
        name: 'InvalidCiphertextException',
      });
      await assert.rejects(client.send(new EncryptCommand({ KeyId: 'alias/aws/ebs', Plaintext: Buffer.alloc(4097) })), {
        name: 'SerializationException',
      });
    });
  });

  test('answers what is signed in form, and nothing else', async (t) => {
    const { url } = await served(t);
    const good = await send(url);
    assert.deepEqual([good.status, good.body.Keys], [200, []]);
    assert.equal(good.headers['content-type'], 'application/x-amz-json-1.1');
    assert.match(String(good.headers['x-amzn-requestid']), /^[0-9a-f-]{36}$/);
    const cases: [Parameters<typeof send>[1], number, string][] = [
      [{ method: 'GET', body: '' }, 404, 'UnknownOperationException'],
      [{ path: '/keys' }, 404, 'UnknownOperationException'],
      [{ headers: { host: 'kms.example:80' } }, 403, 'AccessDeniedException'],
      [{ headers: { host: 'localhost.example' } }, 403, 'AccessDeniedException'],
      [{ headers: { 'content-type': 'text/plain' } }, 400, 'SerializationException'],
      [{ headers: { 'x-amz-target': undefined } }, 400, 'UnknownOperationException'],
      [{ headers: { 'x-amz-target': 'DynamoDB.ListKeys' } }, 400, 'UnknownOperationException'],
      [{ headers: { 'x-amz-target': 'TrentService.Nonsense' } }, 400, 'UnknownOperationException'],
      [{ headers: { authorization: undefined } }, 400, 'MissingAuthenticationTokenException'],
      [{ headers: { authorization: 'Basic YTpi' } }, 400, 'IncompleteSignatureException'],
      [{ headers: { authorization: SIGNED.authorization.replace('/kms/', '/s3/') } }, 400, 'IncompleteSignatureException'],
      [{ body: '{' }, 400, 'SerializationException'],
      [{ body: Buffer.alloc(256 * 1024 + 1, ' ') }, 413, 'RequestEntityTooLargeException'],
      [
        { headers: { 'x-amz-target': 'TrentService.Encrypt' }, body: '{"KeyId":"alias/aws/ebs","Plaintext":"*"}' },
        400,
        'SerializationException',
      ],
    ];
    for (const [changes, status, name] of cases) {
      const { status: got, body } = await send(url, changes);
      assert.deepEqual([got, body.__type], [status, name], JSON.stringify(changes?.headers ?? name));
    }
    for (const host of ['localhost', 'localhost:1', '127.0.0.1', '[::1]:80'])
      assert.equal((await send(url, { headers: { host } })).status, 200, host);
  });

  test('goes on after clients that leave in the middle', async (t) => {
    const { url } = await served(t);
    await withoutLeak(async () => {
      for (const text of ['POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{', 'garbage\r\n\r\n', '']) {
        const socket = connect(Number(new URL(url).port), '127.0.0.1');
        socket.on('error', () => {});
        await once(socket, 'connect');
        socket.write(text);
        setTimeout(() => socket.destroy(), 5);
        await once(socket, 'close');
      }
      assert.equal((await send(url)).status, 200);
    });
  });

  test('listens on loopback unless told otherwise', async (t) => {
    const home = temporaryHome(t);
    for (const host of ['0.0.0.0', '::', '192.0.2.1', 'example.org', '']) {
      await assert.rejects(
        serveKms({ home, host, port: 0 }),
        (error) => error instanceof VolsealError && error.code === 'ERR_ARGUMENT',
        host,
      );
    }
    const open = await serveKms({ home, host: '0.0.0.0', port: 0, allowRemote: true });
    assert.match(open.url, /^http:\/\/0\.0\.0\.0:\d+$/);
    await open.close();
  });

  test('an address in use is an error that names it, and leaves no key', async (t) => {
    const { url } = await served(t);
    const port = Number(new URL(url).port);
    const home = temporaryHome(t);
    await withoutLeak(() =>
      assert.rejects(
        serveKms({ home, host: '127.0.0.1', port }),
        (error) => error instanceof VolsealError && error.code === 'ERR_IO' && error.message.includes(`127.0.0.1:${port}`),
      ),
    );
  });

  test('closing ends it and its store', async (t) => {
    await withoutLeak(async () => {
      const server = await serveKms({ home: temporaryHome(t), host: 'localhost', port: 0 });
      assert.equal((await send(server.url)).status, 200);
      await server.close();
      await assert.rejects(send(server.url), { code: 'ECONNREFUSED' });
    });
  });
});

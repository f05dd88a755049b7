import assert from 'node:assert/strict';
import { once } from 'node:events';
import { statSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { DecryptCommand, EncryptCommand, GenerateDataKeyCommand, KMSClient } from '@aws-sdk/client-kms';
import { HttpRequest } from '@smithy/core/protocols';
import { Hash } from '@smithy/core/serde';
import { SignatureV4 } from '@smithy/signature-v4';
import { describe, onTestFinished, test } from 'vitest';
import { VolsealError } from '../../../src/errors.js';
import { administerKms } from '../../../src/kms/embedded/administration.js';
import { type KmsServer, serveKms } from '../../../src/kms/embedded/http/server.js';
import { signAs, temporaryHome, withoutLeak } from '../harness.js';

interface Served extends KmsServer {
  readonly home: string;
  /** Of root. */
  readonly credentials: { accessKeyId: string; secretAccessKey: string };
}

async function served(): Promise<Served> {
  const home = temporaryHome();
  const credentials = await signAs(home);
  const server = await serveKms({ home, host: '127.0.0.1', port: 0 });
  onTestFinished(() => server.close());
  return { ...server, home, credentials };
}

interface Changes {
  method?: string;
  path?: string;
  /** That the request is signed for. */
  service?: string;
  /** Of the request that is signed; undefined takes one away. */
  headers?: Record<string, string | undefined>;
  body?: string | Buffer;
  /** What happens to the headers after they are signed. */
  forged?: Record<string, string | undefined>;
  signedAt?: Date;
  credentials?: { accessKeyId: string; secretAccessKey: string; sessionToken?: string };
}

const present = (headers: Record<string, string | undefined>): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).filter((pair): pair is [string, string] => pair[1] !== undefined));

/** Sends a request that is signed as a client's would be, with `changes`. */
async function send({ url, credentials }: Pick<Served, 'url' | 'credentials'>, changes: Changes = {}) {
  const { hostname, port, host } = new URL(url);
  const { method = 'POST', path = '/', body = '{}' } = changes;
  const unsigned = present({
    host,
    'content-type': 'application/x-amz-json-1.1',
    'x-amz-target': 'TrentService.ListKeys',
    ...changes.headers,
  });
  const signer = new SignatureV4({
    credentials: changes.credentials ?? credentials,
    region: 'eu-west-1',
    service: changes.service ?? 'kms',
    sha256: Hash.bind(null, 'sha256'),
  });
  const { headers } = await signer.sign(new HttpRequest({ method, path, headers: unsigned, body }), {
    signingDate: changes.signedAt ?? new Date(),
  });
  const request = httpRequest({ hostname, port, method, path, headers: present({ ...headers, ...changes.forged }), agent: false });
  request.end(body);
  const [response] = await once(request, 'response');
  let text = '';
  for await (const part of response) text += part;
  const json = text.startsWith('<') ? undefined : JSON.parse(text);
  return { status: response.statusCode as number, body: json, text, headers: response.headers };
}

describe('the HTTP front', () => {
  test("serves the AWS SDK's own client, key material included", async () => {
    const { url, credentials } = await served();
    const client = new KMSClient({ endpoint: url, region: 'eu-west-1', credentials });
    onTestFinished(() => client.destroy());
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
        name: 'ValidationException',
      });
    });
  });

  test('answers what is signed in form, and nothing else', async () => {
    const server = await served();
    const good = await send(server);
    assert.deepEqual([good.status, good.body.Keys], [200, []]);
    assert.equal(good.headers['content-type'], 'application/x-amz-json-1.1');
    assert.match(String(good.headers['x-amzn-requestid']), /^[0-9a-f-]{36}$/);
    const cases: [Changes, number, string][] = [
      [{ method: 'GET', body: '' }, 404, 'UnknownOperationException'],
      [{ path: '/keys' }, 404, 'UnknownOperationException'],
      [{ headers: { host: 'kms.example:80' } }, 403, 'AccessDeniedException'],
      [{ headers: { host: 'localhost.example' } }, 403, 'AccessDeniedException'],
      [{ headers: { 'content-type': 'text/plain' } }, 400, 'SerializationException'],
      [{ headers: { 'x-amz-target': undefined } }, 400, 'UnknownOperationException'],
      [{ headers: { 'x-amz-target': 'DynamoDB.ListKeys' } }, 400, 'UnknownOperationException'],
      [{ headers: { 'x-amz-target': 'TrentService.Nonsense' } }, 400, 'UnknownOperationException'],
      [{ body: '{' }, 400, 'SerializationException'],
      [{ body: Buffer.alloc(256 * 1024 + 1, ' ') }, 413, 'RequestEntityTooLargeException'],
      [
        { headers: { 'x-amz-target': 'TrentService.Encrypt' }, body: '{"KeyId":"alias/aws/ebs","Plaintext":"*"}' },
        400,
        'SerializationException',
      ],
    ];
    for (const [changes, status, name] of cases) {
      const { status: got, body } = await send(server, changes);
      assert.deepEqual([got, body.__type], [status, name], JSON.stringify(changes.headers ?? name));
    }
    for (const host of ['localhost', 'localhost:1', '127.0.0.1', '[::1]:80'])
      assert.equal((await send(server, { headers: { host } })).status, 200, host);
  });

  test('knows who signed, and refuses what nobody signed', async () => {
    const server = await served();
    const { accessKeyId } = server.credentials;
    const authorization = (change: (text: string) => string) => async () => {
      const kept: { authorization?: string } = {};
      const signer = new SignatureV4({
        credentials: server.credentials,
        region: 'eu-west-1',
        service: 'kms',
        sha256: Hash.bind(null, 'sha256'),
      });
      const headers = {
        host: new URL(server.url).host,
        'content-type': 'application/x-amz-json-1.1',
        'x-amz-target': 'TrentService.ListKeys',
      };
      const { headers: signed } = await signer.sign(new HttpRequest({ method: 'POST', path: '/', headers, body: '{}' }));
      kept.authorization = change(signed.authorization!);
      return kept;
    };
    const cases: [string, Changes, string][] = [
      ['no signature', { forged: { authorization: undefined } }, 'MissingAuthenticationTokenException'],
      ['another scheme', { forged: { authorization: 'Basic YTpi' } }, 'IncompleteSignatureException'],
      ['another service', { forged: await authorization((text) => text.replace('/kms/', '/s3/'))() }, 'IncompleteSignatureException'],
      [
        'no target among what is signed',
        { forged: await authorization((text) => text.replace(';x-amz-target', ''))() },
        'IncompleteSignatureException',
      ],
      [
        'an access key of nobody',
        { credentials: { accessKeyId: 'VSIAAAAAAAAAAAAAAAAA', secretAccessKey: 'x' } },
        'UnrecognizedClientException',
      ],
      ['another secret', { credentials: { accessKeyId, secretAccessKey: 'x' } }, 'InvalidSignatureException'],
      ['a session token', { credentials: { ...server.credentials, sessionToken: 'x' } }, 'UnrecognizedClientException'],
      ['another operation', { forged: { 'x-amz-target': 'TrentService.CreateKey' } }, 'InvalidSignatureException'],
      [
        'another hash of the body',
        { forged: { 'x-amz-content-sha256': '0'.repeat(64) }, headers: { 'x-amz-content-sha256': '0'.repeat(64) } },
        'InvalidSignatureException',
      ],
      ['a date that is none', { forged: { 'x-amz-date': 'today' } }, 'IncompleteSignatureException'],
      ['six minutes ago', { signedAt: new Date(Date.now() - 6 * 60_000) }, 'InvalidSignatureException'],
      ['in six minutes', { signedAt: new Date(Date.now() + 6 * 60_000) }, 'InvalidSignatureException'],
    ];
    for (const [what, changes, name] of cases) {
      const { status, body } = await send(server, changes);
      assert.deepEqual([status, body.__type], [400, name], what);
    }
    assert.equal((await send(server, { signedAt: new Date(Date.now() - 4 * 60_000) })).status, 200);
    const anna = await signAs(server.home, 'user/anna');
    const denied = await send(server, { credentials: anna });
    assert.match(denied.body.message, /^User: arn:aws:iam::000000000000:user\/anna is not authorized to perform: kms:ListKeys/);
    const kms = administerKms(server.home);
    const policy = {
      Statement: { Effect: 'Allow', Action: 'kms:List*', Resource: '*', Condition: { IpAddress: { 'aws:SourceIp': '127.0.0.1' } } },
    };
    kms.putPrincipal('user/anna', [JSON.stringify(policy)]);
    assert.equal((await send(server, { credentials: anna })).status, 200);
    kms.removeAccessKey(anna.accessKeyId);
    assert.equal((await send(server, { credentials: anna })).body.__type, 'UnrecognizedClientException');
    kms.removePrincipal('user/anna');
    assert.throws(() => kms.removePrincipal('user/anna'), { code: 'ERR_ARGUMENT' });
    assert.throws(() => kms.createAccessKey('user/anna'), { code: 'ERR_ARGUMENT' });
    assert.throws(() => kms.putPrincipal('user/anna', ['{']), { code: 'ERR_ARGUMENT' });
    assert.throws(() => kms.putPrincipal('anna', []), { code: 'ERR_ARGUMENT' });
    await kms.close();
  });

  test('keeps serving after clients that disconnect in the middle of a request', async () => {
    const server = await served();
    await withoutLeak(async () => {
      for (const text of ['POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{', 'garbage\r\n\r\n', '']) {
        const socket = connect(Number(new URL(server.url).port), '127.0.0.1');
        socket.on('error', () => {});
        await once(socket, 'connect');
        socket.write(text);
        setTimeout(() => socket.destroy(), 5);
        await once(socket, 'close');
      }
      assert.equal((await send(server)).status, 200);
    });
  });

  test('answers while clients without credentials hold all its connections', async () => {
    const server = await served();
    const port = Number(new URL(server.url).port);
    const silent = Array.from({ length: 300 }, (_, index) => {
      const socket = connect(port, '127.0.0.1').on('error', () => {});
      onTestFinished(() => void socket.destroy());
      // Some send nothing, some a part of a head, some a part of a body.
      if (index % 3 > 0) socket.write('POST / HTTP/1.1\r\nHost: localhost\r\n');
      if (index % 3 > 1) socket.write('Content-Length: 100\r\n\r\n{');
      return socket;
    });
    await Promise.all(silent.map((socket) => once(socket, 'connect')));
    for (let turn = 0; turn < 3; turn++) assert.equal((await send(server)).status, 200);
  });

  test('ends a head that does not come', async () => {
    const server = await served();
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1').on('error', () => {});
    socket.resume().write('POST / HTTP/1.1\r\nHost: localhost\r\n');
    await once(socket, 'close');
  });

  test('closes whatever its clients do', async () => {
    const home = temporaryHome();
    const credentials = await signAs(home);
    const server = await serveKms({ home, host: '127.0.0.1', port: 0 });
    const open = ['', 'POST / HTTP/1.1\r\n', 'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{'].map(async (text) => {
      const socket = connect(Number(new URL(server.url).port), '127.0.0.1').on('error', () => {});
      await once(socket.resume(), 'connect');
      if (text !== '') socket.write(text);
      return socket;
    });
    const sockets = await Promise.all(open);
    assert.equal((await send({ url: server.url, credentials })).status, 200);
    const closed = Promise.all(sockets.map((socket) => once(socket, 'close')));
    await server.close();
    await closed;
  });

  test('names that the operator gives it are answered, others are not', async () => {
    const home = temporaryHome();
    const credentials = await signAs(home);
    const server = await serveKms({ home, host: '127.0.0.1', port: 0, hostNames: ['kms'] });
    onTestFinished(() => server.close());
    for (const [host, status] of [
      ['kms', 200],
      ['KMS:4599', 200],
      ['localhost', 200],
      ['evil.example', 403],
      ['kms.evil.example', 403],
    ] as const) {
      assert.equal((await send({ url: server.url, credentials }, { headers: { host } })).status, status, host);
    }
  });

  test('a body nested deep is a bad request, and is recorded as one', async () => {
    const server = await served();
    const { status, body } = await send(server, { body: `${'{"a":'.repeat(40_000)}1${'}'.repeat(40_000)}` });
    assert.deepEqual([status, body.__type, body.message], [400, 'SerializationException', 'The body is nested deeper than 64 levels.']);
  });

  test('a refused request takes little room in the audit log', async () => {
    const server = await served();
    const log = join(server.home, 'audit', 'embedded', 'audit.jsonl');
    const grow = async (changes: Changes) => {
      const before = statSync(log, { throwIfNoEntry: false })?.size ?? 0;
      const { status } = await send(server, changes);
      return { status, grown: statSync(log).size - before };
    };
    const long = 'x'.repeat(200_000);
    const pairs = Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`key${index}`, 'x']));
    const bodies = [
      { KeyId: long },
      { [long]: 1 },
      { KeyId: 'alias/none', EncryptionContext: pairs, NumberOfBytes: 64 },
      { Tags: Array.from({ length: 80_000 }, () => ({})) },
      { Policy: long },
      { Description: long },
      Object.fromEntries(Array.from({ length: 20_000 }, (_, index) => [`m${index}`, 1])),
    ];
    for (const target of ['CreateKey', 'GenerateDataKey', 'Sign', `X${'y'.repeat(5000)}`]) {
      for (const body of bodies) {
        const headers = { 'x-amz-target': `TrentService.${target}`, 'user-agent': 'u'.repeat(4000) };
        const { status, grown } = await grow({ body: JSON.stringify(body), headers });
        assert.equal(status, 400, target);
        assert.ok(grown > 0 && grown < 12_000, `${target} ${Object.keys(body)[0]?.slice(0, 20)}: ${grown}`);
      }
    }
  });

  test('a fault of the KMS itself is reported with the id of its request', async () => {
    const home = temporaryHome();
    const credentials = await signAs(home);
    const faults: [string, unknown][] = [];
    const server = await serveKms({ home, host: '127.0.0.1', port: 0, onInternalError: (...fault) => faults.push(fault) });
    onTestFinished(() => server.close());
    const log = join(home, 'audit', 'embedded', 'audit.jsonl');
    assert.equal((await send({ url: server.url, credentials })).status, 200);
    writeFileSync(log, '');
    const { status, body, headers } = await send({ url: server.url, credentials });
    assert.deepEqual([status, body.__type], [500, 'KMSInternalException']);
    const [[requestId, error] = []] = faults;
    assert.equal(requestId, headers['x-amzn-requestid']);
    assert.ok(body.message.includes(requestId));
    assert.ok(error instanceof VolsealError && error.code === 'ERR_AUDIT');
  });

  test.each([
    ['', 'ValidationException', /'plaintext'.*length greater than or equal to 1$/],
    [Buffer.alloc(4097).toString('base64'), 'ValidationException', /'plaintext'.*length less than or equal to 4096$/],
    [Buffer.alloc(60_000).toString('base64'), 'ValidationException', /'plaintext'.*length less than or equal to 4096$/],
    [null, 'ValidationException', /Value null at 'plaintext'/],
    ['A', 'SerializationException', /base64/],
    [7, 'SerializationException', /base64/],
  ] as const)('Encrypt refuses a plaintext that does not fit', async (Plaintext, name, message) => {
    const server = await served();
    const headers = { 'x-amz-target': 'TrentService.Encrypt' };
    await withoutLeak(async () => {
      const { status, body } = await send(server, { headers, body: JSON.stringify({ KeyId: 'alias/aws/ebs', Plaintext }, undefined, 1) });
      assert.deepEqual([status, body.__type], [400, name]);
      assert.match(body.message, message);
    });
  });

  test('tells callers who they are, as AWS STS does', async () => {
    const server = await served();
    const anna = await signAs(server.home, 'user/anna');
    const identify = async (changes: Changes, action = 'GetCallerIdentity') => {
      const headers = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8', 'x-amz-target': undefined };
      const { status, text } = await send(server, { service: 'sts', headers, body: `Action=${action}&Version=2011-06-15`, ...changes });
      const tag = (name: string) => new RegExp(`<${name}>(.*)</${name}>`).exec(text)?.[1];
      return { status, arn: tag('Arn'), account: tag('Account'), userId: tag('UserId'), code: tag('Code') };
    };
    const { userId, ...asAnna } = await identify({ credentials: anna });
    assert.deepEqual(asAnna, { status: 200, arn: 'arn:aws:iam::000000000000:user/anna', account: '000000000000', code: undefined });
    assert.match(userId ?? '', /^AIDA[A-Z2-7]{17}$/);
    assert.equal((await identify({})).userId, '000000000000');
    assert.equal((await identify({ credentials: { ...anna, secretAccessKey: 'wrong' } })).code, 'InvalidSignatureException');
    assert.equal((await identify({ service: 'kms' })).code, 'IncompleteSignatureException');
    assert.equal((await identify({ forged: { authorization: undefined } })).code, 'MissingAuthenticationTokenException');
    assert.equal((await identify({}, 'GetSessionToken')).code, 'InvalidAction');
  });

  test('listens on loopback unless told otherwise', async () => {
    const home = temporaryHome();
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

  test('an address in use is an error that names it, and leaves no key', async () => {
    const { url } = await served();
    const port = Number(new URL(url).port);
    const home = temporaryHome();
    await withoutLeak(() =>
      assert.rejects(
        serveKms({ home, host: '127.0.0.1', port }),
        (error) => error instanceof VolsealError && error.code === 'ERR_IO' && error.message.includes(`127.0.0.1:${port}`),
      ),
    );
  });

  test('closing ends it and its store', async () => {
    const home = temporaryHome();
    const credentials = await signAs(home);
    await withoutLeak(async () => {
      const server = await serveKms({ home, host: 'localhost', port: 0 });
      const { url } = server;
      assert.equal((await send({ url, credentials })).status, 200);
      await server.close();
      await assert.rejects(send({ url, credentials }), { code: 'ECONNREFUSED' });
    });
  });
});

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { type AddressInfo, createServer } from 'node:net';
import { describe, onTestFinished, test } from 'vitest';
import { VolsealError } from '../../../src/errors.js';
import { type Kms, openKms } from '../../../src/kms/client/calls.js';
import type { WrappedKey } from '../../../src/kms/client/data-key-calls.js';
import { serveKms } from '../../../src/kms/embedded/http/server.js';
import { EmbeddedKms } from '../../../src/kms/embedded/service.js';
import type { KmsEndpoint } from '../../../src/kms/shared/endpoint.js';
import { native } from '../../../src/native.js';
import { ask, signAs, spent, temporaryHome, withoutLeak } from '../harness.js';
import { type Answerer, sendJson, serveFake } from './fake-server.js';

const ARN = `arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-4000-8000-000000000000`;
const context = { 'aws:ebs:id': 'vol-1' };
const wrapped: WrappedKey = { keyArn: ARN, encryptedDataKey: Buffer.alloc(100) };

/** Runs `done` when the test has ended. */
const atTestEnd = (done: () => unknown): void =>
  onTestFinished(async () => {
    await done();
  });

function opened(endpoint: KmsEndpoint, atEnd = atTestEnd): Kms {
  const kms = openKms(endpoint);
  atEnd(() => kms.close());
  return kms;
}

const failing = (code: string, pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof VolsealError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, pattern);
  return true;
};

/** The same, of the KMS in this process and over HTTP: one set of tests for both. */
for (const kind of ['embedded', 'url'] as const) {
  describe(`a client of the embedded KMS (${kind})`, () => {
    async function both(atEnd: (done: () => unknown) => void = atTestEnd): Promise<{ kms: Kms; home: string }> {
      const home = temporaryHome();
      if (kind === 'embedded') return { kms: opened({ kind, home, create: true }, atEnd), home };
      const server = await serveKms({ home, host: '127.0.0.1', port: 0 });
      await signAs(home);
      const kms = openKms({ kind, url: server.url, auditHome: home });
      atEnd(async () => {
        kms.close();
        await server.close();
      });
      return { kms, home };
    }

    test('wraps, unwraps, and gives the same key each time', async () => {
      const { kms } = await both();
      const made = await kms.generateWrappedKey({ keyId: 'alias/aws/ebs', context });
      assert.match(made.keyArn, /^arn:aws:kms:local:000000000000:key\//);
      const [one, two] = [await kms.unwrapKey({ ...made, context }), await kms.unwrapKey({ ...made, context })];
      assert.equal(native.keyByteLength(one), 64);
      assert.notEqual(one, two);
      assert.equal(spent(one), spent(two));
    });

    test('many calls at once get each their own key', async () => {
      const { kms } = await both();
      const made = await Promise.all(
        Array.from({ length: 12 }, (_, index) => kms.generateWrappedKey({ keyId: 'alias/aws/ebs', context: { volume: `${index}` } })),
      );
      const once = await Promise.all(made.map((key, index) => kms.unwrapKey({ ...key, context: { volume: `${index}` } })));
      const again = await Promise.all(made.map((key, index) => kms.unwrapKey({ ...key, context: { volume: `${index}` } })));
      const texts = once.map(spent);
      assert.deepEqual(again.map(spent), texts);
      assert.equal(new Set(texts).size, 12);
    });

    test('keys and aliases, through all pages', async () => {
      const { kms, home } = await both();
      const { keyId, keyArn, state, manager, description, createdAt } = await kms.createKey({ description: 'd' });
      assert.deepEqual({ state, manager, description }, { state: 'Enabled', manager: 'CUSTOMER', description: 'd' });
      assert.ok(Math.abs(Date.parse(createdAt!) - Date.now()) < 60_000);
      await kms.createAlias({ aliasName: 'alias/x', keyId });
      assert.equal((await kms.describeKey({ keyId: 'alias/x' })).keyArn, keyArn);
      assert.deepEqual(await kms.listAliases({ keyId }), [
        { aliasName: 'alias/x', aliasArn: 'arn:aws:kms:local:000000000000:alias/x', keyId },
      ]);
      const beside = EmbeddedKms.open(home);
      for (let index = 0; index < 130; index++) ask(beside, 'CreateKey');
      await beside.close();
      const keys = await kms.listKeys();
      assert.equal(new Set(keys.map((key) => key.keyArn)).size, 131);
      assert.equal((await kms.listAliases()).length, 1);
    });

    test('a dry run returns where KMS would do it, and throws where it would not; nothing is done', async () => {
      const { kms } = await both();
      const { keyId, keyArn } = await kms.createKey();
      const made = await kms.generateWrappedKey({ keyId, context });
      const grant = { keyId, granteePrincipal: 'arn:aws:iam::000000000000:user/anna', operations: ['Decrypt'] };
      const { grantId } = await kms.createGrant(grant);
      await kms.tryGenerateWrappedKey({ keyId, context });
      await kms.tryUnwrapKey({ ...made, context });
      await kms.tryRewrapKey({ ...made, context, toKeyId: keyId });
      await kms.tryCreateGrant({ ...grant, operations: ['Encrypt'] });
      await kms.tryRetireGrant({ keyArn, grantId });
      assert.deepEqual(
        (await kms.listGrants({ keyId })).map((entry) => entry.grantId),
        [grantId],
      );
      await assert.rejects(kms.tryUnwrapKey({ ...made, context: {} }), failing('ERR_CONTEXT_MISMATCH', /Decrypt/));
      await assert.rejects(kms.tryRetireGrant({ keyArn, grantId: '0'.repeat(64) }), failing('ERR_KMS_NOT_FOUND', /RetireGrant/));
    });

    test('refusals name key and context', async () => {
      await withoutLeak(async () => {
        const after: (() => unknown)[] = [];
        const { kms, home } = await both((done) => after.push(done));
        const made = await kms.generateWrappedKey({ keyId: 'alias/aws/ebs', context });
        await assert.rejects(kms.unwrapKey({ ...made, context: { 'aws:ebs:id': 'vol-2' } }), failing('ERR_CONTEXT_MISMATCH', /vol-2/));
        await assert.rejects(kms.unwrapKey({ ...made, context, grantTokens: ['token'] }), failing('ERR_KMS_DENIED', /grant token/));
        const { keyId, keyArn } = await kms.createKey();
        await assert.rejects(kms.unwrapKey({ ...made, keyArn, context }), failing('ERR_CONTEXT_MISMATCH', /IncorrectKey/));
        await assert.rejects(kms.describeKey({ keyId: 'alias/none' }), failing('ERR_KMS_NOT_FOUND', /alias\/none/));
        await assert.rejects(kms.createAlias({ aliasName: 'none', keyId }), failing('ERR_KMS_REQUEST', /must start with the prefix/));
        await assert.rejects(kms.generateWrappedKey({ keyId, context: { '': '' } }), failing('ERR_ARGUMENT', /empty/));
        const mine = await kms.generateWrappedKey({ keyId, context });
        const beside = EmbeddedKms.open(home);
        ask(beside, 'DisableKey', { KeyId: keyId });
        await beside.close();
        await assert.rejects(kms.unwrapKey({ ...mine, context }), failing('ERR_KMS_KEY_STATE', new RegExp(`${keyId} is disabled`)));
        for (const done of after.reverse()) await done();
      });
    });
  });
}

describe('replies that KMS must not give', () => {
  const cases: [string, object | string, RegExp][] = [
    ['the key of another ARN', { KeyId: `${ARN}1`, Plaintext: randomBytes(64).toString('base64') }, /another key/],
    ['no ARN', { Plaintext: randomBytes(64).toString('base64') }, /another key, undefined/],
    ['no plaintext', { KeyId: ARN }, /no key/],
    ['a key of 63 bytes', { KeyId: ARN, Plaintext: randomBytes(63).toString('base64') }, /63 bytes.*64 or 32/],
    ['a key that is no base64', { KeyId: ARN, Plaintext: '???' }, /base64/],
    ['no JSON', '<html>sign in</html>', /JSON/],
    ['too much', { KeyId: ARN, Plaintext: randomBytes(64).toString('base64'), more: 'x'.repeat(1_100_000) }, /longer than 1048576/],
  ];
  for (const [name, body, message] of cases) {
    test(name, async () => {
      let attempts = 0;
      const url = await serveFake((response) => {
        attempts++;
        sendJson(response, body);
      });
      await withoutLeak(() =>
        assert.rejects(
          opened({ kind: 'url', url, auditHome: temporaryHome() }).unwrapKey({ ...wrapped, context }),
          failing('ERR_KMS_REPLY', message),
        ),
      );
      assert.equal(attempts, 1, 'not worth a retry');
    });
  }

  test('a wrapped key without ARN or blob, or of another key than asked for', async () => {
    for (const body of [
      { KeyId: 'x', CiphertextBlob: 'AAAA' },
      { KeyId: ARN },
      { KeyId: ARN, CiphertextBlob: '' },
      { KeyId: `${ARN}1`, CiphertextBlob: 'AAAA' },
    ]) {
      const url = await serveFake((response) => sendJson(response, body));
      await assert.rejects(
        opened({ kind: 'url', url, auditHome: temporaryHome() }).generateWrappedKey({ keyId: ARN, context }),
        failing('ERR_KMS_REPLY', /reply/),
      );
    }
  });
});

test('a KMS that does not know DryRun and makes the grant is reported', async () => {
  const url = await serveFake((response) => sendJson(response, { GrantId: '1', GrantToken: 't' }));
  const kms = opened({ kind: 'url', url, auditHome: temporaryHome() });
  const grant = { keyId: ARN, granteePrincipal: 'arn:aws:iam::111122223333:user/anna', operations: ['Decrypt'] };
  await assert.rejects(kms.tryCreateGrant(grant), failing('ERR_KMS_REPLY', /carried it out.*does not know DryRun/));
});

describe('an unwilling network', () => {
  const good = JSON.stringify({ KeyId: ARN, Plaintext: randomBytes(64).toString('base64') });
  const unwrap = async (answer: Answerer) =>
    opened({ kind: 'url', url: await serveFake(answer), auditHome: temporaryHome() }).unwrapKey({ ...wrapped, context });

  test('a reply cut short is asked for again', async () => {
    const key = await unwrap((response, attempt) => {
      if (attempt > 2) return sendJson(response, good);
      response.writeHead(200, { 'content-length': good.length }).write(good.slice(0, 50 * attempt), () => response.socket?.destroy());
    });
    native.keyWipe(key);
  });

  test('a server fault is asked again, three times in all', async () => {
    let attempts = 0;
    await withoutLeak(() =>
      assert.rejects(
        unwrap((response, attempt) => {
          attempts = attempt;
          sendJson(response, { __type: 'KMSInternalException', message: 'oops' }, 500);
        }),
        failing('ERR_KMS_UNREACHABLE', /KMSInternalException: oops/),
      ),
    );
    assert.equal(attempts, 3);
  });

  test('a load balancer’s page instead of KMS’s JSON counts by its status', async () => {
    const page = (status: number, headers = {}) => {
      let attempts = 0;
      const call = unwrap((response, attempt) => {
        attempts = attempt;
        response.writeHead(status, { 'content-type': 'text/html', ...headers }).end('<html>no</html>');
      });
      return { call, attempts: () => attempts };
    };
    for (const status of [500, 502, 503, 504]) {
      const { call, attempts } = page(status);
      await assert.rejects(call, failing('ERR_KMS_UNREACHABLE', new RegExp(`failed: HTTP status ${status}; no usable answer`)));
      assert.equal(attempts(), 3);
    }
    await assert.rejects(page(429).call, failing('ERR_KMS_UNREACHABLE', /HTTP status 429/));
    await assert.rejects(page(403).call, failing('ERR_KMS_REPLY', /failed: HTTP status 403; the reply is not one of KMS/));
    for (const status of [301, 302, 307, 308]) {
      const { call, attempts } = page(status, { location: 'https://elsewhere.example/' });
      await assert.rejects(call, failing('ERR_KMS_REQUEST', /HTTP status 30\d, to "https:\/\/elsewhere.example\/"; the server redirects/));
      assert.equal(attempts(), 1);
    }
  });

  test('a refusal is not', async () => {
    let attempts = 0;
    await assert.rejects(
      unwrap((response, attempt) => {
        attempts = attempt;
        sendJson(response, { __type: 'InvalidCiphertextException', message: '' }, 400);
      }),
      failing('ERR_CONTEXT_MISMATCH', /InvalidCiphertextException; /),
    );
    assert.equal(attempts, 1);
  });

  test('nobody listens', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    const kms = opened({ kind: 'url', url: `http://127.0.0.1:${port}`, auditHome: temporaryHome() });
    await assert.rejects(kms.unwrapKey({ ...wrapped, context }), (error: VolsealError) => {
      failing('ERR_KMS_UNREACHABLE', /ECONNREFUSED/)(error);
      for (const part of [ARN, 'vol-1', `http://127.0.0.1:${port}`]) assert.ok(error.message.includes(part), part);
      return error.retryable;
    });
  });

  test('a closed client says so', async () => {
    const kms = openKms({ kind: 'embedded', home: temporaryHome(), create: true });
    kms.close();
    await assert.rejects(kms.listKeys(), failing('ERR_ARGUMENT', /closed/));
  });

  test('an embedded KMS that does not open is reported as what it is', async () => {
    await assert.rejects(
      opened({ kind: 'embedded', home: '/dev/null/home', create: true }).listKeys(),
      failing('ERR_IO', /\/dev\/null\/home/),
    );
  });
});

/** Whose signature a KMS at a URL gets, and that no proxy is bypassed. */
import assert from 'node:assert/strict';
import { describe, onTestFinished, test } from 'vitest';
import { VolsealError } from '../../../src/errors.js';
import { openKms } from '../../../src/kms/client/calls.js';
import type { RequestHandler } from '../../../src/kms/client/key-intake.js';
import { withoutProxy } from '../../../src/kms/client/proxy.js';
import { temporaryHome } from '../harness.js';
import { sendJson, serveFake } from './fake-server.js';

/** The environment of this process until the test ends; undefined removes a variable. */
function withEnvironment(variables: Record<string, string | undefined>): void {
  for (const [name, value] of Object.entries(variables)) {
    const before = process.env[name];
    const set = (text: string | undefined): void => {
      if (text === undefined) delete process.env[name];
      else process.env[name] = text;
    };
    set(value);
    onTestFinished(() => set(before));
  }
}

const NO_AWS = {
  AWS_ACCESS_KEY_ID: undefined,
  AWS_SECRET_ACCESS_KEY: undefined,
  AWS_PROFILE: undefined,
  AWS_CONFIG_FILE: '/dev/null',
  AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
};

describe('a KMS at a URL', () => {
  async function refusing() {
    const requests: (string | undefined)[] = [];
    const url = await serveFake((response, _, request) => {
      requests.push(request.headers.authorization);
      sendJson(response, { __type: 'UnrecognizedClientException', message: 'The security token included in the request is invalid.' }, 400);
    });
    const kms = openKms({ kind: 'url', url, auditHome: temporaryHome() });
    onTestFinished(() => kms.close());
    return { kms, requests };
  }

  test('without credentials: the refusal says that there were none', async () => {
    withEnvironment(NO_AWS);
    const { kms, requests } = await refusing();
    await assert.rejects(kms.listKeys(), (error: VolsealError) => {
      assert.equal(error.code, 'ERR_KMS_DENIED');
      assert.match(error.message, /no AWS credentials were found.*placeholder.*AWS_ACCESS_KEY_ID/);
      return true;
    });
    assert.match(requests[0] ?? '', /Credential=volseal\//);
  });

  test('with credentials that the server does not know: it does not', async () => {
    withEnvironment({ ...NO_AWS, AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'secret' });
    const { kms } = await refusing();
    await assert.rejects(
      kms.listKeys(),
      (error: VolsealError) => error.code === 'ERR_KMS_DENIED' && !error.message.includes('placeholder'),
    );
  });

  test('a profile that does not exist is named, and nothing is sent', async () => {
    withEnvironment({ ...NO_AWS, AWS_PROFILE: 'no-such-profile' });
    const { kms, requests } = await refusing();
    await assert.rejects(
      kms.listKeys(),
      (error: VolsealError) => error.code === 'ERR_KMS_DENIED' && error.message.includes('no-such-profile'),
    );
    assert.deepEqual(requests, []);
  });
});

describe('a proxy in the environment', () => {
  const NO_PROXY = { HTTPS_PROXY: undefined, HTTP_PROXY: undefined, ALL_PROXY: undefined, NO_PROXY: undefined };
  const LOWER = Object.fromEntries(Object.keys(NO_PROXY).map((name) => [name.toLowerCase(), undefined]));
  const sent: string[] = [];
  const handler = withoutProxy({
    handle: async ({ hostname }: { hostname: string }) => {
      sent.push(hostname);
      return {};
    },
  } as unknown as RequestHandler);
  const send = async (origin: string): Promise<void> => {
    const { protocol, hostname, port } = new URL(origin);
    await handler.handle({ protocol, hostname, ...(port === '' ? {} : { port: Number(port) }) } as never);
  };

  test('is refused by name, except for hosts in NO_PROXY and for this machine', async () => {
    withEnvironment({ ...NO_PROXY, ...LOWER, HTTPS_PROXY: 'http://proxy.example:3128', NO_PROXY: '.internal.example' });
    await assert.rejects(send('https://kms.eu-west-1.amazonaws.com'), (error) => {
      assert.ok(error instanceof VolsealError);
      assert.equal(error.code, 'ERR_ARGUMENT');
      assert.match(error.message, /https:\/\/kms\.eu-west-1\.amazonaws\.com: HTTPS_PROXY .* add it to NO_PROXY/);
      return true;
    });
    for (const origin of ['https://kms.internal.example', 'http://127.0.0.1:4599', 'https://[::1]:4599', 'http://kms.example'])
      await send(origin);
    assert.equal(sent.length, 4);
  });

  test('each variable counts', async () => {
    for (const [name, origin] of [
      ['https_proxy', 'https://kms.example'],
      ['ALL_PROXY', 'https://kms.example'],
      ['HTTP_PROXY', 'http://kms.example:8080'],
    ] as const) {
      withEnvironment({ ...NO_PROXY, ...LOWER, [name]: 'http://proxy.example:3128' });
      await assert.rejects(send(origin), { code: 'ERR_ARGUMENT' }, name);
    }
  });
});

/** What programs that embed volseal bring: credentials, a client of the AWS SDK, a logger; and a fake KMS. */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { Writable } from 'node:stream';
import { CreateKeyCommand, KMSClient } from '@aws-sdk/client-kms';
import { pino } from 'pino';
import { describe, onTestFinished, test } from 'vitest';
import { auditDirectory } from '../../src/audit/log.js';
import { readAudit } from '../../src/audit/read.js';
import {
  attach,
  decryptImage,
  encryptImage,
  fromKmsClient,
  type KmsCredentials,
  kmsKeys,
  type Logger,
  VolsealError,
} from '../../src/index.js';
import { type FakeKms, fakeKms } from '../../src/testing.js';
import { sandbox } from '../volume/sandbox.js';

const SIZE = 1024 * 1024;

async function fake(): Promise<FakeKms> {
  const kms = await fakeKms();
  onTestFinished(() => kms.close());
  return kms;
}

/** A volume under the fake KMS, and what opens it. */
async function volumeUnder(kms: FakeKms) {
  const { path, image, contents } = sandbox();
  const bytes = image('disk.raw', SIZE);
  await encryptImage(path('disk.raw'), path('disk.vol'), { ...kms.options, encryptionContext: { user: 'anna' } });
  return { path, contents, bytes, volume: path('disk.vol') };
}

const failsWith = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof VolsealError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

describe('a fake KMS', () => {
  test('wraps and unwraps, says what it was asked, and is gone when it is closed', async () => {
    const kms = await fakeKms();
    const { path, contents, bytes, volume } = await volumeUnder(kms);
    await decryptImage(volume, path('copy.raw'), kms.options);
    assert.ok(contents('copy.raw').equals(bytes));
    assert.deepEqual(
      kms.calls.map(({ operation }) => operation),
      ['GenerateDataKeyWithoutPlaintext', 'Decrypt', 'Decrypt'],
    );
    const { EncryptionContext } = kms.calls[2]!.request as { EncryptionContext: Record<string, string> };
    assert.equal(EncryptionContext.user, 'anna');
    await kms.close();
    assert.equal(existsSync(kms.options.home), false);
    await assert.rejects(attach(volume, kms.options), failsWith('ERR_KMS_UNREACHABLE', /Decrypt/));
  });

  test('fails as it is told until that is taken back', async () => {
    const kms = await fake();
    const { volume } = await volumeUnder(kms);
    for (const [failure, code] of [
      ['AccessDeniedException', 'ERR_KMS_DENIED'],
      ['DisabledException', 'ERR_KMS_KEY_STATE'],
      ['unreachable', 'ERR_KMS_UNREACHABLE'],
      ['ThrottlingException', 'ERR_KMS_UNREACHABLE'],
    ] as const) {
      const mend = kms.fail('Decrypt', failure);
      await assert.rejects(attach(volume, kms.options), failsWith(code, /Decrypt/));
      mend();
    }
    await (await attach(volume, kms.options)).detach();
  });

  test('is real behind its socket: keys have states, and the program has a client of its own', async () => {
    const kms = await fake();
    const { path, image } = sandbox();
    image('disk.raw', SIZE);
    const client = new KMSClient({ region: 'eu-central-1', endpoint: kms.url, credentials: kms.credentials });
    onTestFinished(() => client.destroy());
    const { KeyMetadata } = await client.send(new CreateKeyCommand({}));
    const keyId = KeyMetadata!.KeyId!;
    await encryptImage(path('disk.raw'), path('disk.vol'), { ...kms.options, key: keyId });
    await kmsKeys(kms.options).disableKey({ keyId });
    await assert.rejects(attach(path('disk.vol'), kms.options), failsWith('ERR_KMS_KEY_STATE', /disabled/));
  });
});

describe("the caller's credentials", () => {
  const withCredentials = (kms: FakeKms, credentials: unknown, signal?: AbortSignal) =>
    ({ ...kms.options, kmsAccess: { credentials: credentials as KmsCredentials }, signal }) as const;

  test('sign every call; a provider is asked before each', async () => {
    const kms = await fake();
    const { volume } = await volumeUnder(kms);
    let asked = 0;
    const provider = async (): Promise<KmsCredentials> => {
      asked += 1;
      return kms.credentials;
    };
    for (let round = 0; round < 3; round += 1) await (await attach(volume, withCredentials(kms, provider))).detach();
    assert.equal(asked, 3);
    const wrong = { ...kms.credentials, secretAccessKey: 'not-the-secret' };
    await assert.rejects(attach(volume, withCredentials(kms, wrong)), (error) => {
      failsWith('ERR_KMS_DENIED', /InvalidSignature/)(error);
      assert.ok(!JSON.stringify({ ...(error as VolsealError), message: (error as Error).message }).includes('not-the-secret'));
      return true;
    });
    // Nothing of the wrong ones is left for the next call.
    await (await attach(volume, kms.options)).detach();
  });

  test('that are none, that cannot be had, or never come, end the call with a reason', async () => {
    const kms = await fake();
    const { volume } = await volumeUnder(kms);
    const cause = new Error('the session is over');
    const fails = async (): Promise<never> => {
      throw cause;
    };
    const denied = attach(volume, withCredentials(kms, fails));
    await assert.rejects(
      denied,
      (error) => failsWith('ERR_KMS_DENIED', /the session is over/)(error) && ((error as Error).cause as Error).cause === cause,
    );
    for (const none of [{ accessKeyId: 'a' }, { accessKeyId: 'a', secretAccessKey: 'b\nc' }, async () => undefined]) {
      await assert.rejects(attach(volume, withCredentials(kms, none)), failsWith('ERR_ARGUMENT', /accessKeyId and secretAccessKey/));
    }
    const stop = new AbortController();
    const never = async (): Promise<never> => {
      stop.abort();
      return new Promise(() => {});
    };
    await assert.rejects(attach(volume, withCredentials(kms, never, stop.signal)), failsWith('ERR_ABORTED', /Fetching credentials/));
    const embedded = { kms: `embedded:${kms.options.home}`, kmsAccess: { credentials: kms.credentials } };
    await assert.rejects(attach(volume, embedded), failsWith('ERR_ARGUMENT', /embedded KMS takes no credentials/));
  });

  test('are in the audit log by their id, and with no secret', async () => {
    const kms = await fake();
    await volumeUnder(kms);
    const texts: string[] = [];
    for await (const record of readAudit([auditDirectory(kms.options.home, 'calls')], {})) texts.push(JSON.stringify(record));
    assert.equal(texts.length, 2);
    for (const text of texts) {
      assert.ok(text.includes(kms.credentials.accessKeyId), text);
      assert.ok(!text.includes(kms.credentials.secretAccessKey), text);
    }
  });
});

describe('a client of the AWS SDK', () => {
  test('says which KMS, which region and which credentials', async () => {
    const kms = await fake();
    const { volume } = await volumeUnder(kms);
    const { credentials } = kms;
    const own = await fromKmsClient(new KMSClient({ region: 'eu-central-1', endpoint: kms.url, credentials }));
    assert.deepEqual([own.kms, own.kmsAccess.signingRegion], [kms.url, 'eu-central-1']);
    await (await attach(volume, { ...own, home: kms.options.home })).detach();

    const aws = await fromKmsClient(new KMSClient({ region: 'eu-west-1', credentials }));
    assert.deepEqual([aws.kms, aws.kmsAccess.signingRegion], ['aws:eu-west-1', undefined]);
    const { accessKeyId } = await aws.kmsAccess.credentials();
    assert.equal(accessKeyId, credentials.accessKeyId);

    const fips = new KMSClient({ region: 'us-east-1', credentials, useFipsEndpoint: true });
    await assert.rejects(fromKmsClient(fips), failsWith('ERR_ARGUMENT', /AWS_USE_FIPS_ENDPOINT/));
    const path = new KMSClient({ region: 'us-east-1', credentials, endpoint: `${kms.url}/kms` });
    await assert.rejects(attach(volume, await fromKmsClient(path)), failsWith('ERR_ARGUMENT', /path/));
  });
});

describe('a logger', () => {
  interface Line {
    readonly level: number;
    readonly msg: string;
    readonly [name: string]: unknown;
  }

  /** pino, and the lines that it has written. */
  function recording() {
    const lines: Line[] = [];
    const target = new Writable({
      write(chunk, _, done) {
        for (const line of String(chunk).trim().split('\n')) lines.push(JSON.parse(line));
        done();
      },
    });
    return { logger: pino({ level: 'debug', base: null, timestamp: false }, target), lines };
  }

  test('of pino gets what was done, calls to KMS, and failures with their error', async () => {
    const kms = await fake();
    const { path, image } = sandbox();
    image('disk.raw', SIZE);
    const { logger, lines } = recording();
    const options = { ...kms.options, logger };
    const { volumeId } = await encryptImage(path('disk.raw'), path('disk.vol'), options);
    await (await attach(path('disk.vol'), options)).detach();
    const { debug, info, error } = pino.levels.values as { debug: number; info: number; error: number };
    assert.deepEqual(
      lines.map(({ level, msg, call, operation }) => [level, msg, call ?? operation]),
      [
        [debug, 'call to KMS: done', 'newKey'],
        [info, 'encrypt: done', 'encrypt'],
        [debug, 'call to KMS: done', 'unlock'],
        [info, 'attach: done', 'attach'],
        [info, 'detach: done', 'detach'],
      ],
    );
    assert.equal(lines[1]!.volumeId, volumeId);
    assert.equal(lines[1]!.target, path('disk.vol'));
    lines.length = 0;

    kms.fail('Decrypt', 'AccessDeniedException');
    await assert.rejects(attach(path('disk.vol'), options));
    assert.deepEqual(
      lines.map(({ level, msg }) => [level, msg]),
      [
        [debug, 'call to KMS: failed'],
        [error, 'attach: failed'],
      ],
    );
    assert.equal((lines[1]!.err as { code: string }).code, 'ERR_KMS_DENIED');
    const stop = AbortSignal.abort();
    await assert.rejects(decryptImage(path('disk.vol'), path('copy.raw'), { ...options, signal: stop }));
    assert.deepEqual([lines.at(-1)!.level, lines.at(-1)!.msg], [info, 'decrypt: stopped']);
    assert.ok(!JSON.stringify(lines).includes(kms.credentials.secretAccessKey));
  });

  test('gets warnings beside the callback, and may fail without harm', async () => {
    const { kms, path, image } = sandbox();
    const bytes = image('disk.raw', SIZE);
    // The partition table of a disk with sectors of 4096 bytes.
    bytes.write('EFI PART', 4096, 'latin1');
    writeFileSync(path('disk.raw'), bytes);
    const { logger, lines } = recording();
    const warnings: string[] = [];
    await encryptImage(path('disk.raw'), path('disk.vol'), { kms, logger, onWarning: (text) => warnings.push(text) });
    assert.equal(warnings.length, 1);
    assert.deepEqual(
      lines.filter(({ level }) => level === pino.levels.values.warn).map(({ msg }) => msg),
      warnings,
    );

    const said: Error[] = [];
    const onWarning = (warning: Error): void => void said.push(warning);
    process.on('warning', onWarning);
    onTestFinished(() => void process.off('warning', onWarning));
    const fails = (): never => {
      throw new Error('no room for lines');
    };
    const broken: Logger = { debug: fails, info: fails, warn: fails, error: fails };
    await (await attach(path('disk.vol'), { kms, logger: broken })).detach();
    await new Promise((resolve) => setImmediate(resolve));
    assert.ok(said.some(({ message }) => /the logger failed: no room for lines; its line was: attach: done/.test(message)));
  });
});

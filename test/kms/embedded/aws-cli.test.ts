/** The command line of AWS, as Debian ships it, against the HTTP front. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { serveKms } from '../../../src/kms/embedded/http/server.js';
import { requireTool, skipWithout } from '../../interop/tools.js';
import { testUnless } from '../../requirements.js';
import { signAs, temporaryHome } from '../harness.js';

interface Run {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: replies have as many shapes as there are operations
  readonly json: any;
  readonly stderr: string;
}

async function commandLine(): Promise<(...parameters: string[]) => Promise<Run>> {
  const home = temporaryHome();
  const server = await serveKms({ home, host: '127.0.0.1', port: 0 });
  onTestFinished(() => server.close());
  const key = await signAs(home);
  const env = {
    PATH: process.env.PATH,
    HOME: home,
    AWS_ACCESS_KEY_ID: key.accessKeyId,
    AWS_SECRET_ACCESS_KEY: key.secretAccessKey,
    AWS_DEFAULT_REGION: 'eu-west-1',
    AWS_MAX_ATTEMPTS: '1',
  };
  return (...parameters) =>
    new Promise((resolve) => {
      const service = parameters[0] === 'sts' ? [] : ['kms'];
      execFile(
        requireTool('aws'),
        ['--endpoint-url', server.url, '--output', 'json', ...service, ...parameters],
        { env },
        (error, stdout, stderr) => {
          resolve({ status: error === null ? 0 : Number(error.code), json: stdout === '' ? undefined : JSON.parse(stdout), stderr });
        },
      );
    });
}

testUnless(skipWithout('aws'))('aws kms', async () => {
  const aws = await commandLine();
  const directory = temporaryHome();
  const ok = async (...parameters: string[]) => {
    const { status, json, stderr } = await aws(...parameters);
    assert.equal(status, 0, stderr);
    return json;
  };
  assert.equal((await ok('sts', 'get-caller-identity')).Arn, 'arn:aws:iam::000000000000:root');
  const keyId: string = (await ok('create-key', '--description', 'from the command line')).KeyMetadata.KeyId;
  assert.deepEqual(
    (await ok('list-keys')).Keys.map((key: { KeyId: string }) => key.KeyId),
    [keyId],
  );
  await ok('create-alias', '--alias-name', 'alias/cli', '--target-key-id', keyId);
  assert.equal((await ok('list-aliases')).Aliases[0].AliasName, 'alias/cli');

  const context = ['--encryption-context', 'aws:ebs:id=vol-1,user=me'];
  const made = await ok('generate-data-key', '--key-id', 'alias/cli', '--number-of-bytes', '64', ...context);
  assert.equal(Buffer.from(made.Plaintext, 'base64').length, 64);
  const blobFile = join(directory, 'blob');
  writeFileSync(blobFile, Buffer.from(made.CiphertextBlob, 'base64'));
  const opened = await ok('decrypt', '--ciphertext-blob', `fileb://${blobFile}`, '--encryption-context', 'user=me,aws:ebs:id=vol-1');
  assert.equal(opened.Plaintext, made.Plaintext);
  assert.equal(opened.KeyId, `arn:aws:kms:local:000000000000:key/${keyId}`);

  const wrong = await aws('decrypt', '--ciphertext-blob', `fileb://${blobFile}`, '--encryption-context', 'aws:ebs:id=vol-2,user=me');
  assert.notEqual(wrong.status, 0);
  assert.match(wrong.stderr, /\(InvalidCiphertextException\) when calling the Decrypt operation/);

  const plainFile = join(directory, 'plain');
  writeFileSync(plainFile, 'hello');
  const sealed = await ok('encrypt', '--key-id', keyId, '--plaintext', `fileb://${plainFile}`);
  writeFileSync(blobFile, Buffer.from(sealed.CiphertextBlob, 'base64'));
  assert.equal(Buffer.from((await ok('decrypt', '--ciphertext-blob', `fileb://${blobFile}`)).Plaintext, 'base64').toString(), 'hello');

  assert.equal((await ok('describe-key', '--key-id', 'alias/aws/ebs')).KeyMetadata.KeyManager, 'AWS');
  await ok('disable-key', '--key-id', keyId);
  const disabled = await aws('encrypt', '--key-id', keyId, '--plaintext', `fileb://${plainFile}`);
  assert.match(disabled.stderr, /\(DisabledException\).*is disabled\./);
  await ok('enable-key', '--key-id', keyId);

  await ok('update-key-description', '--key-id', keyId, '--description', 'changed');
  await ok('update-alias', '--alias-name', 'alias/cli', '--target-key-id', keyId);
  await ok('delete-alias', '--alias-name', 'alias/cli');
  await ok('generate-data-key-without-plaintext', '--key-id', keyId, '--key-spec', 'AES_256');
  assert.equal(Buffer.from((await ok('generate-random', '--number-of-bytes', '5')).Plaintext, 'base64').length, 5);
  const moved = await ok('re-encrypt', '--ciphertext-blob', `fileb://${blobFile}`, '--destination-key-id', 'alias/aws/ebs');
  assert.ok(moved.SourceKeyId.endsWith(keyId));

  const anna = 'arn:aws:iam::000000000000:user/anna';
  const grant = ['create-grant', '--key-id', keyId, '--grantee-principal', anna, '--retiring-principal', anna, '--operations', 'Decrypt'];
  const made1 = await ok(...grant, '--constraints', 'EncryptionContextSubset={user=me}', '--name', 'one');
  assert.equal((await ok('list-grants', '--key-id', keyId)).Grants[0].GrantId, made1.GrantId);
  assert.equal((await ok('list-retirable-grants', '--retiring-principal', anna)).Grants.length, 1);
  await ok('retire-grant', '--grant-token', made1.GrantToken);
  await ok('revoke-grant', '--key-id', keyId, '--grant-id', (await ok(...grant)).GrantId);

  const policy = (await ok('get-key-policy', '--key-id', keyId, '--policy-name', 'default')).Policy;
  await ok('put-key-policy', '--key-id', keyId, '--policy-name', 'default', '--policy', policy);
  assert.deepEqual((await ok('list-key-policies', '--key-id', keyId)).PolicyNames, ['default']);
  await ok('tag-resource', '--key-id', keyId, '--tags', 'TagKey=a,TagValue=1');
  assert.equal((await ok('list-resource-tags', '--key-id', keyId)).Tags.length, 1);
  await ok('untag-resource', '--key-id', keyId, '--tag-keys', 'a');
  await ok('enable-key-rotation', '--key-id', keyId);
  assert.equal((await ok('get-key-rotation-status', '--key-id', keyId)).KeyRotationEnabled, true);
  await ok('disable-key-rotation', '--key-id', keyId);
  await ok('schedule-key-deletion', '--key-id', keyId, '--pending-window-in-days', '7');
  assert.match((await aws('enable-key', '--key-id', keyId)).stderr, /\(KMSInvalidStateException\).*is pending deletion\./);
  await ok('cancel-key-deletion', '--key-id', keyId);
});

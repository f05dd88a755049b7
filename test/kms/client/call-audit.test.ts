import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, onTestFinished, test } from 'vitest';
import { auditDirectory, fileOwner } from '../../../src/audit/log.js';
import { readAudit } from '../../../src/audit/read.js';
import type { AuditRecord } from '../../../src/audit/record.js';
import { verifyAudit } from '../../../src/audit/verify.js';
import { VolsealError } from '../../../src/errors.js';
import { openKms } from '../../../src/kms/client/calls.js';
import { serveKms } from '../../../src/kms/embedded/http/server.js';
import { native } from '../../../src/native.js';
import { ask, done, openEmbedded, revealed, signAs, temporaryHome } from '../harness.js';

const CONTEXT = { 'aws:ebs:id': 'vol-1', user: 'anna' };
const ANNA = 'arn:aws:iam::000000000000:user/anna';

async function records(directory: string): Promise<AuditRecord[]> {
  const found: AuditRecord[] = [];
  for await (const record of readAudit([directory], {})) found.push(record);
  return found;
}

describe('the embedded KMS records', () => {
  test('who asked what, and what came of it; refusals too', async () => {
    const home = temporaryHome();
    const kms = openEmbedded(home);
    const { KeyId, Arn } = done(kms, 'CreateKey', { Description: 'audited' }).KeyMetadata;
    const { CiphertextBlob } = done(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId, NumberOfBytes: 64, EncryptionContext: CONTEXT });
    ask(kms, 'Decrypt', { CiphertextBlob, EncryptionContext: {} });
    ask(kms, 'Decrypt', { CiphertextBlob, EncryptionContext: CONTEXT }, ANNA);
    const { GrantId } = done(kms, 'CreateGrant', { KeyId, GranteePrincipal: ANNA, Operations: ['Decrypt'] });
    done(kms, 'Decrypt', { CiphertextBlob, EncryptionContext: CONTEXT }, ANNA);
    ask(kms, 'Nonsense');
    ask(kms, 'ListKeys', '{');
    const found = await records(auditDirectory(home, 'embedded'));
    assert.deepEqual(
      found.map(({ eventName, errorCode, readOnly }) => [eventName, errorCode, readOnly]),
      [
        ['CreateKey', undefined, false],
        ['GenerateDataKeyWithoutPlaintext', undefined, true],
        ['Decrypt', 'InvalidCiphertextException', true],
        ['Decrypt', 'AccessDeniedException', true],
        ['CreateGrant', undefined, false],
        ['Decrypt', undefined, true],
        ['Nonsense', 'UnknownOperationException', true],
        ['ListKeys', 'SerializationException', true],
      ],
    );
    const [created, wrapped, , denied, , allowed, , unreadable] = found as [
      AuditRecord,
      AuditRecord,
      AuditRecord,
      AuditRecord,
      AuditRecord,
      AuditRecord,
      AuditRecord,
      AuditRecord,
    ];
    assert.equal((created.responseElements as { keyMetadata: { arn: string } }).keyMetadata.arn, Arn);
    assert.deepEqual(wrapped.requestParameters, { keyId: KeyId, numberOfBytes: 64, encryptionContext: CONTEXT });
    for (const record of [wrapped, denied, allowed])
      assert.deepEqual(record.resources, [{ accountId: '000000000000', type: 'AWS::KMS::Key', ARN: Arn }]);
    assert.deepEqual([denied.userIdentity.type, denied.userIdentity.arn], ['IAMUser', ANNA]);
    assert.match(denied.errorMessage ?? '', /user\/anna is not authorized/);
    assert.deepEqual([denied.volseal.grantId, allowed.volseal.grantId], [undefined, GrantId]);
    assert.equal(unreadable.requestParameters, null);
  });

  test('no key, no plaintext, no encrypted key, no token', async () => {
    const home = temporaryHome();
    const kms = openEmbedded(home);
    const { KeyId } = done(kms, 'CreateKey').KeyMetadata;
    const secrets: string[] = [];
    const made = ask(kms, 'GenerateDataKey', { KeyId, NumberOfBytes: 64 });
    secrets.push(revealed(made.plaintext!), made.body.CiphertextBlob);
    native.keyWipe(made.plaintext!);
    const Plaintext = Buffer.from('a secret of the user').toString('base64');
    const { CiphertextBlob } = done(kms, 'Encrypt', { KeyId, Plaintext });
    secrets.push(Plaintext, 'a secret of the user', CiphertextBlob);
    done(kms, 'Decrypt', { CiphertextBlob });
    secrets.push(done(kms, 'ReEncrypt', { CiphertextBlob, DestinationKeyId: KeyId }).CiphertextBlob);
    const { GrantToken } = done(kms, 'CreateGrant', { KeyId, GranteePrincipal: ANNA, Operations: ['Decrypt'] });
    done(kms, 'Decrypt', { CiphertextBlob, GrantTokens: [GrantToken] });
    done(kms, 'RetireGrant', { GrantToken });
    secrets.push(GrantToken);
    const text = readFileSync(join(auditDirectory(home, 'embedded'), 'audit.jsonl'), 'utf8');
    for (const secret of secrets) assert.ok(!text.includes(secret.slice(0, 20)));
    assert.doesNotMatch(text, /AAAAAAAA/);
  });

  test('or it does not answer: what cannot be recorded is not done', async () => {
    const home = temporaryHome();
    const kms = openEmbedded(home);
    const { KeyId } = done(kms, 'CreateKey').KeyMetadata;
    const path = join(auditDirectory(home, 'embedded'), 'audit.jsonl');
    const whole = readFileSync(path);
    const before = native.vaultInfo().liveKeys;
    writeFileSync(path, '');
    const cut = (error: unknown) => error instanceof VolsealError && error.code === 'ERR_AUDIT';
    assert.throws(() => ask(kms, 'GenerateDataKey', { KeyId, NumberOfBytes: 64 }), cut);
    assert.throws(() => ask(kms, 'CreateKey', { Description: 'never' }), cut);
    assert.equal(native.vaultInfo().liveKeys, before, 'the key that nobody got is wiped');
    writeFileSync(path, whole);
    assert.equal(done(kms, 'ListKeys').Keys.length, 1);
  });
});

describe('calls to a KMS elsewhere', () => {
  test('are recorded in the caller’s home, refusals too, without secrets', async () => {
    const serverHome = temporaryHome();
    const auditHome = temporaryHome();
    const { accessKeyId } = await signAs(serverHome);
    const server = await serveKms({ home: serverHome, host: '127.0.0.1', port: 0 });
    onTestFinished(() => server.close());
    const kms = openKms({ kind: 'url', url: server.url, auditHome });
    onTestFinished(() => kms.close());
    const wrapped = await kms.generateWrappedKey({ keyId: 'alias/aws/ebs', context: CONTEXT });
    native.keyWipe(await kms.unwrapKey({ ...wrapped, context: CONTEXT }));
    await assert.rejects(kms.unwrapKey({ ...wrapped, context: {} }), { code: 'ERR_CONTEXT_MISMATCH' });
    const directory = auditDirectory(auditHome, 'calls');
    const found = await records(directory);
    assert.deepEqual(
      found.map(({ eventName, errorCode }) => [eventName, errorCode]),
      [
        ['GenerateDataKeyWithoutPlaintext', undefined],
        ['Decrypt', undefined],
        ['Decrypt', 'InvalidCiphertextException'],
      ],
    );
    const served = await records(auditDirectory(serverHome, 'embedded'));
    assert.deepEqual(
      found.map(({ requestID }) => requestID),
      served.map(({ requestID }) => requestID),
      'both sides speak of the same calls',
    );
    for (const record of found) {
      assert.equal(record.userIdentity.accessKeyId, accessKeyId);
      assert.equal(record.volseal.endpoint, server.url);
      assert.equal(record.resources[0]?.ARN, wrapped.keyArn);
    }
    assert.deepEqual(found[1]?.requestParameters, { keyId: wrapped.keyArn, encryptionContext: CONTEXT });
    const text = readFileSync(join(directory, 'audit.jsonl'), 'utf8');
    assert.ok(!text.includes(wrapped.encryptedDataKey.toString('base64').slice(0, 20)));
    assert.equal((await verifyAudit(directory, fileOwner(directory))).broken, undefined);
  });

  test('fail where they cannot be recorded', async () => {
    const serverHome = temporaryHome();
    await signAs(serverHome);
    const server = await serveKms({ home: serverHome, host: '127.0.0.1', port: 0 });
    onTestFinished(() => server.close());
    const auditHome = temporaryHome();
    mkdirSync(join(auditHome, 'audit'));
    writeFileSync(join(auditHome, 'audit', 'calls'), 'a file where a directory belongs');
    const kms = openKms({ kind: 'url', url: server.url, auditHome });
    onTestFinished(() => kms.close());
    await assert.rejects(kms.listKeys(), (error) => error instanceof VolsealError && error.code === 'ERR_AUDIT');
  });
});

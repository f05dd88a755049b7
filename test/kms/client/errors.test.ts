import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { VolsealError } from '../../../src/errors.js';
import { kmsError } from '../../../src/kms/client/errors.js';

const call = {
  operation: 'Decrypt',
  endpoint: { kind: 'aws', region: 'eu-west-1', auditHome: '/x' },
  keyId: 'arn:key',
  context: { 'aws:ebs:id': 'vol-1' },
} as const;
const thrown = (facts: object, message = 'said') => Object.assign(new Error(message), facts);

describe('kmsError', () => {
  const codes: [object, string][] = [
    [{ name: 'InvalidCiphertextException' }, 'ERR_CONTEXT_MISMATCH'],
    [{ name: 'IncorrectKeyException' }, 'ERR_CONTEXT_MISMATCH'],
    [{ name: 'DisabledException' }, 'ERR_KMS_KEY_STATE'],
    [{ name: 'KMSInvalidStateException' }, 'ERR_KMS_KEY_STATE'],
    [{ name: 'NotFoundException' }, 'ERR_KMS_NOT_FOUND'],
    [{ name: 'AccessDeniedException' }, 'ERR_KMS_DENIED'],
    [{ name: 'UnrecognizedClientException' }, 'ERR_KMS_DENIED'],
    [{ name: 'InvalidSignatureException' }, 'ERR_KMS_DENIED'],
    [{ name: 'ExpiredTokenException' }, 'ERR_KMS_DENIED'],
    [{ name: 'CredentialsProviderError' }, 'ERR_KMS_DENIED'],
    [{ name: 'ThrottlingException' }, 'ERR_KMS_UNREACHABLE'],
    [{ name: 'TimeoutError' }, 'ERR_KMS_UNREACHABLE'],
    [{ code: 'ECONNREFUSED' }, 'ERR_KMS_UNREACHABLE'],
    [{ code: 'ENOTFOUND' }, 'ERR_KMS_UNREACHABLE'],
    [{ name: 'Whatever', $metadata: { httpStatusCode: 503 } }, 'ERR_KMS_UNREACHABLE'],
    [{ code: 'DEPTH_ZERO_SELF_SIGNED_CERT' }, 'ERR_KMS_REQUEST'],
    [{ code: 'HPE_INVALID_CONSTANT' }, 'ERR_KMS_REPLY'],
    [{ name: 'ValidationException' }, 'ERR_KMS_REQUEST'],
    [{ name: 'toString' }, 'ERR_KMS_REQUEST'],
  ];
  for (const [facts, code] of codes) {
    test(`${JSON.stringify(facts)} is ${code}, and names call, key, context, endpoint`, () => {
      const error = kmsError(thrown(facts), call);
      assert.equal(error.code, code);
      for (const part of ['Decrypt', 'arn:key', '{"aws:ebs:id":"vol-1"}', 'aws:eu-west-1', 'said'])
        assert.ok(error.message.includes(part), `${part} in: ${error.message}`);
      assert.deepEqual(error.details.encryptionContext, { 'aws:ebs:id': 'vol-1' });
    });
  }

  test('an empty message is not reported as an unknown error', () => {
    const error = kmsError(thrown({ name: 'InvalidCiphertextException' }, 'UnknownError'), call);
    assert.doesNotMatch(error.message, /UnknownError/);
    assert.match(error.message, /InvalidCiphertextException/);
  });

  test('only what is unreachable is worth a retry', () => {
    assert.equal(kmsError(thrown({ code: 'ECONNRESET' }), call).retryable, true);
    assert.equal(kmsError(thrown({ name: 'DisabledException' }), call).retryable, false);
  });

  test('our own errors pass, and a missing region says what to do', () => {
    const own = new VolsealError('ERR_KMS_STORE', 'x');
    assert.equal(kmsError(own, call), own);
    assert.equal(kmsError(new Error('Region is missing'), call).code, 'ERR_ARGUMENT');
    assert.match(kmsError(new Error('Region is missing'), call).message, /AWS_REGION/);
    assert.equal(kmsError('text', call).code, 'ERR_KMS_REQUEST');
  });
});

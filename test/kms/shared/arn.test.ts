import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { arnParts, formatArn, isKeyArn, parseArn, parseKeyArn, parseKmsArn } from '../../../src/kms/shared/arn.js';

const KEY = 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab';
const ALIAS = 'arn:aws-cn:kms:cn-north-1:111122223333:alias/my:alias';

describe('ARNs', () => {
  test('are read into their parts and written back', () => {
    for (const text of [KEY, ALIAS, 'arn:aws:iam::111122223333:role/a/b', 'arn:aws:sts::111122223333:assumed-role/a/b']) {
      assert.equal(formatArn(parseArn(text)!), text);
    }
    assert.deepEqual(parseArn(ALIAS), {
      partition: 'aws-cn',
      service: 'kms',
      region: 'cn-north-1',
      accountId: '111122223333',
      resource: 'alias/my:alias',
    });
  });

  test('what is none is not read as one', () => {
    for (const text of [
      '',
      'arn',
      'arn:',
      'arn:aws:kms:r:1',
      'arn:aws:kms:r:1:',
      'arn::kms:r:1:key/a',
      'arn:aws::r:1:x',
      `x${KEY}`,
      'alias/a',
    ]) {
      assert.equal(parseArn(text), undefined, text);
    }
  });

  test('a pattern has six parts as well', () => {
    assert.deepEqual(arnParts('arn:aws:*:*:*:a:b:c'), ['arn', 'aws', '*', '*', '*', 'a:b:c']);
    assert.deepEqual(arnParts('*'), ['*']);
  });

  test('of KMS, and of a key', () => {
    assert.equal(parseKmsArn(ALIAS)?.region, 'cn-north-1');
    assert.equal(parseKmsArn('arn:aws:iam::111122223333:root'), undefined);
    assert.equal(parseKeyArn(KEY)?.keyId, '1234abcd-12ab-34cd-56ef-1234567890ab');
    for (const text of [
      ALIAS,
      `${KEY}/more`,
      `${KEY}\n`,
      KEY.replace('111122223333', '1'),
      KEY.replace(':kms:', ':iam:'),
      KEY.replace('key/', 'key/ '),
    ]) {
      assert.equal(isKeyArn(text), false, text);
      assert.equal(parseKeyArn(text), undefined, text);
    }
  });
});

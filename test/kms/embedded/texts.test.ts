/** Errors whose names and texts AWS's own replies have. */
import { expect, test } from 'vitest';
import type { EmbeddedKms } from '../../../src/kms/embedded/service.js';
import { ask, done, openEmbedded, refused } from '../harness.js';

const PREFIX = 'arn:aws:kms:local:000000000000:';
const MRK = `mrk-${'0123456789abcdef'.repeat(2)}`;
const key = (kms: EmbeddedKms): string => done(kms, 'CreateKey').KeyMetadata.KeyId;

test.each<[operation: string, request: object, name: string, text: string | RegExp]>([
  [
    'CreateAlias',
    { AliasName: 'alias/my:alias', TargetKeyId: '$KEY' },
    'ValidationException',
    'alias/my:alias contains invalid characters for an alias',
  ],
  [
    'CreateAlias',
    { AliasName: 'my-alias', TargetKeyId: '$KEY' },
    'ValidationException',
    'Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html',
  ],
  ['CreateAlias', { AliasName: 'alias/a', TargetKeyId: 'alias/b' }, 'ValidationException', 'Aliases must refer to keys. Not aliases'],
  [
    'CreateAlias',
    { AliasName: 'alias/a', TargetKeyId: `${PREFIX}alias/b` },
    'ValidationException',
    'Aliases must refer to keys. Not aliases',
  ],
  ['UpdateAlias', { AliasName: 'alias/a', TargetKeyId: 'alias/b' }, 'ValidationException', 'Aliases must refer to keys. Not aliases'],
  ['DescribeKey', { KeyId: MRK }, 'NotFoundException', `Key '${PREFIX}key/${MRK}' does not exist`],
  ['DescribeKey', { KeyId: `${PREFIX}key/${MRK}` }, 'NotFoundException', `Key '${PREFIX}key/${MRK}' does not exist`],
  ['GenerateRandom', {}, 'ValidationException', 'NumberOfBytes is required.'],
  [
    'GetKeyPolicy',
    { KeyId: '$KEY', PolicyName: 'a b' },
    'ValidationException',
    /'policyName' failed to satisfy constraint: Member must satisfy regular expression pattern: \[\\w\]\+$/,
  ],
  ['TagResource', { KeyId: '$KEY', Tags: [{ TagKey: '', TagValue: '' }] }, 'ValidationException', /at 'tags\.1\.member\.tagKey' failed/],
  ...['ListKeys', 'ListAliases'].map(
    (name) => [name, { Marker: 'Zm9v' }, 'InvalidMarkerException', 'Could not deserialize marker'] as [string, object, string, string],
  ),
  ...['ListGrants', 'ListResourceTags', 'ListKeyRotations', 'ListKeyPolicies'].map(
    (name) =>
      [name, { KeyId: '$KEY', Marker: 'made-up' }, 'InvalidMarkerException', 'Could not deserialize marker'] as [
        string,
        object,
        string,
        string,
      ],
  ),
])('%s %j: %s', (operation, request, name, text) => {
  const kms = openEmbedded();
  const body = JSON.stringify(request).replaceAll('$KEY', key(kms));
  refused(ask(kms, operation, body), name, text);
});

test('the 26th rotation on demand', () => {
  const kms = openEmbedded();
  const KeyId = key(kms);
  for (let turn = 0; turn < 25; turn++) done(kms, 'RotateKeyOnDemand', { KeyId });
  const text = `The on-demand rotations limit has been reached for the given keyId. No more on-demand rotations can be performed for this key: ${PREFIX}key/${KeyId}`;
  refused(ask(kms, 'RotateKeyOnDemand', { KeyId }), 'LimitExceededException', text);
});

test('InvalidCiphertextException has no message member', () => {
  const answer = ask(openEmbedded(), 'Decrypt', { CiphertextBlob: Buffer.alloc(100).toString('base64') });
  expect(answer.body).toEqual({ __type: 'InvalidCiphertextException' });
});

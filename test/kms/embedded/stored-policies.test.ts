/** Policies that the store has and that this version refuses to read: an earlier one may have accepted them. */
import assert from 'node:assert/strict';
import { onTestFinished, test } from 'vitest';
import { openStore } from '../../../src/kms/embedded/store/store.js';
import { ask, done, openEmbedded, refused, temporaryHome } from '../harness.js';

/** Its condition key is none that volseal supplies. */
const UNREADABLE = JSON.stringify({
  Version: '2012-10-17',
  Statement: [
    {
      ...{ Effect: 'Allow', Principal: { AWS: 'arn:aws:iam::000000000000:root' }, Action: 'kms:*', Resource: '*' },
      Condition: { StringEquals: { 'kms:NoSuchKey': 'x' } },
    },
  ],
});

test('a key whose stored policy cannot be read: nobody uses it, and root sees it and replaces the policy', async () => {
  const home = temporaryHome();
  const kms = openEmbedded(home);
  const { KeyId } = done(kms, 'CreateKey').KeyMetadata;
  const store = openStore(home);
  onTestFinished(() => store.close());
  store.transaction(() => store.putKey({ ...store.key(KeyId)!, policy: UNREADABLE }));
  const names = new RegExp(`because the policy of the key arn:[^ ]*${KeyId} cannot be read \\(.*kms:NoSuchKey.*PutKeyPolicy replaces it`);
  refused(ask(kms, 'GenerateDataKey', { KeyId, KeySpec: 'AES_256' }), 'AccessDeniedException', names);
  refused(ask(kms, 'ScheduleKeyDeletion', { KeyId }), 'AccessDeniedException', names);
  const anna = 'arn:aws:iam::000000000000:user/anna';
  refused(ask(kms, 'PutKeyPolicy', { KeyId, Policy: '{}' }, anna), 'AccessDeniedException', names);
  assert.equal(done(kms, 'DescribeKey', { KeyId }).KeyMetadata.KeyId, KeyId);
  assert.equal(done(kms, 'GetKeyPolicy', { KeyId }).Policy, UNREADABLE);
  const Policy = UNREADABLE.replace('kms:NoSuchKey', 'kms:CallerAccount').replace('"x"', '"000000000000"');
  done(kms, 'PutKeyPolicy', { KeyId, Policy });
  done(kms, 'GenerateDataKey', { KeyId, KeySpec: 'AES_256' });
});

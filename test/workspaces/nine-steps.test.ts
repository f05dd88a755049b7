/** The nine steps of "How Amazon WorkSpaces Uses AWS KMS", with the three principals of the document. */
import assert from 'node:assert/strict';
import { existsSync, linkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, test } from 'vitest';
import type { AuditRecord } from '../../src/audit/record.js';
import {
  attachWorkspace,
  createWorkspace,
  describeVolume,
  describeWorkspace,
  listWorkspaces,
  rebootWorkspace,
  rebuildWorkspace,
  terminateWorkspace,
  VolsealError,
} from '../../src/index.js';
import { native } from '../../src/native.js';
import { ADMINISTRATOR, DIRECTORY, EBS, office, SID, USER_PAIR, WORKSPACES } from './office.js';

/** What the document shows of a record: everything but what differs from call to call. */
function shown({
  userIdentity,
  eventName,
  requestParameters,
  responseElements,
  additionalEventData,
  readOnly,
  resources,
  errorCode,
}: AuditRecord) {
  const who = userIdentity.arn ?? userIdentity.invokedBy;
  return { who, eventName, requestParameters, responseElements, additionalEventData, readOnly, resources, errorCode };
}

const failsWith = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof VolsealError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

test('the nine steps, and what the audit log says of each', async () => {
  const { keyArn, home, options, records, nothingLeft, image, ask } = await office();
  const resources = [{ accountId: '000000000000', type: 'AWS::KMS::Key', ARN: keyArn }];
  await records();
  const made = await createWorkspace(options);
  assert.match(made.workspaceId, /^ws-[a-z0-9]{9}$/);
  const [describe1, step1, ...rest] = (await records()).map(shown);
  assert.deepEqual([describe1?.eventName, describe1?.who], ['DescribeKey', ADMINISTRATOR]);
  const [workspacesGrant, ...ebsGrants] = made.grantIds;
  assert.deepEqual(step1, {
    who: ADMINISTRATOR,
    eventName: 'CreateGrant',
    requestParameters: {
      keyId: keyArn,
      granteePrincipal: WORKSPACES,
      operations: ['CreateGrant', 'GenerateDataKeyWithoutPlaintext', 'Decrypt', 'RetireGrant', 'DescribeKey'],
      constraints: { encryptionContextSubset: USER_PAIR },
      name: `${made.workspaceId}-workspaces`,
    },
    responseElements: { grantId: workspacesGrant, keyId: keyArn },
    additionalEventData: undefined,
    readOnly: false,
    resources,
    errorCode: undefined,
  });
  const volumes = [made.rootVolume, made.userVolume];
  const contexts = volumes.map(({ volumeId }) => ({ ...USER_PAIR, 'aws:ebs:id': volumeId }));
  for (const [index, { volumeId }] of volumes.entries()) {
    assert.deepEqual(rest[index], {
      who: WORKSPACES,
      eventName: 'CreateGrant',
      requestParameters: {
        keyId: keyArn,
        granteePrincipal: EBS,
        retiringPrincipal: WORKSPACES,
        operations: ['GenerateDataKeyWithoutPlaintext', 'Decrypt'],
        constraints: { encryptionContextSubset: contexts[index] },
        name: `${made.workspaceId}-${volumeId}`,
      },
      responseElements: { grantId: ebsGrants[index], keyId: keyArn },
      additionalEventData: undefined,
      readOnly: false,
      resources,
      errorCode: undefined,
    });
  }
  const keyMaterialId = ask('DescribeKey', { KeyId: keyArn }).KeyMetadata.CurrentKeyMaterialId;
  const use = (eventName: string, parameters: object) => ({
    who: EBS,
    eventName,
    requestParameters: parameters,
    responseElements: null,
    additionalEventData: { keyMaterialId },
    readOnly: true,
    resources,
    errorCode: undefined,
  });
  const [wrap1, unwrap1, wrap2, unwrap2, ...none] = rest.slice(2);
  const wrapped = (index: number) =>
    use('GenerateDataKeyWithoutPlaintext', { keyId: keyArn, numberOfBytes: 64, encryptionContext: contexts[index] });
  const unwrapped = (index: number) => use('Decrypt', { keyId: keyArn, encryptionContext: contexts[index] });
  assert.deepEqual([wrap1, unwrap1, wrap2, unwrap2, none], [wrapped(0), unwrapped(0), wrapped(1), unwrapped(1), []]);

  // 5 to 7: attach; the data key is in the vault while the volumes are attached, and nowhere else.
  await records();
  const attached = await attachWorkspace(made.workspaceId, { home });
  assert.deepEqual((await records()).map(shown), [unwrapped(0), unwrapped(1)]);
  assert.ok(Buffer.from(await attached.root.read(0, image.length)).equals(image));
  const note = Buffer.alloc(512, 'kept');
  await attached.user.write(512, note);
  await attached.user.flush();
  // A disabled key does not disturb what is attached; the next attach fails, and is mended by enabling it.
  ask('DisableKey', { KeyId: keyArn });
  assert.ok(Buffer.from(await attached.root.read(0, 512)).equals(image.subarray(0, 512)));
  await assert.rejects(terminateWorkspace(made.workspaceId, { home }), failsWith('ERR_STATE_BUSY', /detach/));
  await assert.rejects(rebuildWorkspace(made.workspaceId, { home }), failsWith('ERR_STATE_BUSY', /detach/));
  await attached.detach();
  await assert.rejects(attachWorkspace(made.workspaceId, { home }), failsWith('ERR_KMS_KEY_STATE', /disabled.*|Decrypt/));
  ask('EnableKey', { KeyId: keyArn });

  // 8: reboot from the stored keys; rebuild with a fresh root and the same user volume.
  const rebooted = await rebootWorkspace(made.workspaceId, await attachWorkspace(made.workspaceId, { home }), { home });
  await rebooted.root.write(0, note);
  await rebooted.detach();
  const rebuilt = await rebuildWorkspace(made.workspaceId, { home });
  assert.equal(rebuilt.userVolume.volumeId, made.userVolume.volumeId);
  assert.notEqual(rebuilt.rootVolume.volumeId, made.rootVolume.volumeId);
  assert.equal(existsSync(made.rootVolume.path), false);
  const again = await attachWorkspace(made.workspaceId, { home, readOnly: true });
  assert.ok(Buffer.from(await again.root.read(0, image.length)).equals(image), 'the root volume is fresh');
  assert.ok(Buffer.from(await again.user.read(512, 512)).equals(note), 'the user volume is kept');
  await again.detach();
  assert.equal((await describeVolume(rebuilt.rootVolume.path)).encryptionContext['aws:ebs:id'], rebuilt.rootVolume.volumeId);
  assert.equal(ask('ListGrants', { KeyId: keyArn }).Grants.length, 3);

  // 9: the grants are retired, all of them, by WorkSpaces.
  await records();
  await terminateWorkspace(made.workspaceId, { home });
  const retired = (await records()).map(shown);
  assert.deepEqual(
    retired,
    [rebuilt.grantIds[1], rebuilt.grantIds[2], workspacesGrant].map((grantId) => ({
      who: WORKSPACES,
      eventName: 'RetireGrant',
      requestParameters: null,
      responseElements: null,
      additionalEventData: { grantId },
      readOnly: false,
      resources,
      errorCode: undefined,
    })),
  );
  await nothingLeft();
  await assert.rejects(describeWorkspace(made.workspaceId, { home }), failsWith('ERR_WORKSPACE_NOT_FOUND', /no WorkSpace/));
});

describe('each permission taken away: the step that needs it fails, and nothing is left behind', () => {
  const deny = (principal: object, action: string) => ({ Effect: 'Deny', Principal: principal, Action: action, Resource: '*' });
  const cases: [string, object, RegExp][] = [
    ['0: the administrator may not see the key', deny({ AWS: ADMINISTRATOR }, 'kms:DescribeKey'), /DescribeKey .*Administrator/],
    [
      '1: the administrator may not make grants',
      deny({ AWS: ADMINISTRATOR }, 'kms:CreateGrant'),
      /CreateGrant to workspaces\.amazonaws\.com/,
    ],
    ['2: WorkSpaces may not make grants', deny({ Service: WORKSPACES }, 'kms:CreateGrant'), /CreateGrant to ebs\.amazonaws\.com/],
    [
      '3: EBS may not have data keys made',
      deny({ Service: EBS }, 'kms:GenerateDataKeyWithoutPlaintext'),
      /GenerateDataKeyWithoutPlaintext .*as ebs/,
    ],
    ['4: EBS may not have them unwrapped', deny({ Service: EBS }, 'kms:Decrypt'), /Decrypt .*as ebs/],
  ];
  for (const [name, statement, message] of cases) {
    test(name, async () => {
      const { options, putPolicy, nothingLeft, keyArn } = await office();
      putPolicy(statement);
      await assert.rejects(createWorkspace(options), (error) => {
        failsWith('ERR_KMS_DENIED', message)(error);
        assert.ok((error as VolsealError).message.includes(keyArn));
        assert.match((error as VolsealError).message, /explicit deny in a resource-based policy/);
        return true;
      });
      await nothingLeft();
      assert.equal(native.vaultInfo().liveKeys, 1, 'the root key of the KMS, and no data key');
      putPolicy();
      await terminateWorkspace((await createWorkspace(options)).workspaceId, { home: options.home });
      await nothingLeft();
    });
  }

  test('1: a grant that is no AWS resource’s, where the policies allow only those', async () => {
    const { options, putPolicy, nothingLeft } = await office();
    putPolicy({
      Effect: 'Deny',
      Principal: { AWS: ADMINISTRATOR },
      Action: 'kms:CreateGrant',
      Resource: '*',
      Condition: { Bool: { 'kms:GrantIsForAWSResource': true } },
    });
    await assert.rejects(createWorkspace(options), failsWith('ERR_KMS_DENIED', /CreateGrant to workspaces/));
    await nothingLeft();
  });

  test('5: EBS may not unwrap any more: the attach fails, and works again when it may', async () => {
    const { options, home, putPolicy } = await office();
    const { workspaceId } = await createWorkspace(options);
    putPolicy(deny({ Service: EBS }, 'kms:Decrypt'));
    await assert.rejects(attachWorkspace(workspaceId, { home }), failsWith('ERR_KMS_DENIED', /Decrypt with 1 grant token .*as ebs/));
    putPolicy();
    await (await attachWorkspace(workspaceId, { home })).detach();
  });

  test('8: a rebuild that is refused leaves the old root volume', async () => {
    const { options, home, putPolicy, image, ask, keyArn } = await office();
    const { workspaceId, rootVolume } = await createWorkspace(options);
    putPolicy(deny({ Service: EBS }, 'kms:GenerateDataKeyWithoutPlaintext'));
    await assert.rejects(rebuildWorkspace(workspaceId, { home }), failsWith('ERR_KMS_DENIED', /GenerateDataKeyWithoutPlaintext/));
    assert.deepEqual((await describeWorkspace(workspaceId, { home })).rootVolume, rootVolume);
    assert.equal(ask('ListGrants', { KeyId: keyArn }).Grants.length, 3);
    const attached = await attachWorkspace(workspaceId, { home });
    assert.ok(Buffer.from(await attached.root.read(0, image.length)).equals(image));
    await attached.detach();
  });

  test('9: WorkSpaces may not retire: terminating fails, keeps what it has to know, and is finished later', async () => {
    const { options, home, putPolicy, nothingLeft } = await office();
    const { workspaceId } = await createWorkspace(options);
    putPolicy(deny({ Service: WORKSPACES }, 'kms:RetireGrant'));
    await assert.rejects(terminateWorkspace(workspaceId, { home }), failsWith('ERR_KMS_DENIED', /RetireGrant of grant [0-9a-f]{64}/));
    assert.equal((await listWorkspaces({ home }))[0]?.state, 'terminating');
    for (const call of [attachWorkspace, rebuildWorkspace]) {
      await assert.rejects(call(workspaceId, { home }), failsWith('ERR_WORKSPACE_STATE', /is terminating/));
    }
    await assert.rejects(createWorkspace(options), failsWith('ERR_WORKSPACE_STATE', /which is terminating/));
    putPolicy();
    await terminateWorkspace(workspaceId, { home });
    await nothingLeft();
  });

  test('one grant revoked by the administrator: that volume attaches no more, and terminating does not mind', async () => {
    const { options, home, ask, keyArn, nothingLeft } = await office();
    const { workspaceId, grantIds, userVolume } = await createWorkspace(options);
    ask('RevokeGrant', { KeyId: keyArn, GrantId: grantIds[2] });
    await assert.rejects(attachWorkspace(workspaceId, { home }), (error) => {
      failsWith('ERR_KMS_DENIED', /Decrypt/)(error);
      return (error as VolsealError).message.includes(userVolume.volumeId);
    });
    await terminateWorkspace(workspaceId, { home });
    await nothingLeft();
  });
});

test('what a process left that was killed while a volume took its place goes with the volume', async () => {
  const { options, home, nothingLeft } = await office();
  const { workspaceId, userVolume, rootVolume } = await createWorkspace(options);
  const partialOf = (path: string): string => join(dirname(path), `.${basename(path)}.0123456789ab.partial`);
  // Its other name, of the moment between link and unlink; and one that was never finished.
  linkSync(userVolume.path, partialOf(userVolume.path));
  writeFileSync(partialOf(rootVolume.path), 'half');
  await terminateWorkspace(workspaceId, { home });
  await nothingLeft();
});

describe('what is refused before anything is made', () => {
  test('users, directories, images, sizes, keys, KMSs that are none', async () => {
    const { options, nothingLeft, box } = await office();
    const cases: [object, string, RegExp][] = [
      [{ sid: 'anna' }, 'ERR_ARGUMENT', /security identifier/],
      [{ directoryId: 'd-1' }, 'ERR_ARGUMENT', /directory id/],
      [{ root: { image: box.path('none.raw') } }, 'ERR_IO', /none\.raw.*ENOENT/],
      [{ user: { sizeBytes: 1000 } }, 'ERR_IMAGE_SIZE', /1000 bytes/],
      [{ key: 'alias/none' }, 'ERR_KMS_NOT_FOUND', /alias\/none/],
      [{ kms: 'http://127.0.0.1:1', workspacesPrincipal: WORKSPACES, ebsPrincipal: EBS }, 'ERR_ARGUMENT', /three principals/],
      [{ kms: 'aws:eu-west-1' }, 'ERR_ARGUMENT', /needs a role/],
      [{ folder: box.path('root.raw') }, 'ERR_IO', /EEXIST|ENOTDIR/],
    ];
    for (const [changes, code, message] of cases)
      await assert.rejects(createWorkspace({ ...options, ...changes }), failsWith(code, message));
    await nothingLeft();
  });

  test('a second WorkSpace of the same user; the default key needs no administrator', async () => {
    const { options, home, nothingLeft } = await office();
    const { administrator: _, key: __, ...plain } = options;
    const { workspaceId, keyArn } = await createWorkspace(plain);
    assert.match(keyArn, /^arn:aws:kms:local:/);
    await assert.rejects(
      createWorkspace(options),
      failsWith('ERR_WORKSPACE_STATE', new RegExp(`${SID} in ${DIRECTORY} has the WorkSpace ${workspaceId}`)),
    );
    const other = await createWorkspace({ ...options, directoryId: 'd-9067000001' });
    assert.equal((await listWorkspaces({ home })).length, 2);
    for (const id of [workspaceId, other.workspaceId]) await terminateWorkspace(id, { home });
    await nothingLeft();
  });

  test('stopped on request: nothing is left', async () => {
    const { options, nothingLeft } = await office();
    const controller = new AbortController();
    controller.abort();
    await assert.rejects(createWorkspace({ ...options, signal: controller.signal }), failsWith('ERR_ABORTED', /stopped|stop/));
    await nothingLeft();
  });
});

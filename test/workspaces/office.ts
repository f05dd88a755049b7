/**
 * What the tests of WorkSpaces share: an embedded KMS with an administrator and a key of its own, and a look at what is
 * left behind.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { onTestFinished } from 'vitest';
import { auditDirectory } from '../../src/audit/log.js';
import { readAudit } from '../../src/audit/read.js';
import type { AuditRecord } from '../../src/audit/record.js';
import { type CreateWorkspaceOptions, listWorkspaces } from '../../src/index.js';
import { administerKms } from '../../src/kms/embedded/administration.js';
import { EmbeddedKms } from '../../src/kms/embedded/service.js';
import { done } from '../kms/harness.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';

export const ACCOUNT = 'arn:aws:iam::000000000000:';
export const ADMINISTRATOR = `${ACCOUNT}role/Administrator`;
export const WORKSPACES = 'workspaces.amazonaws.com';
export const EBS = 'ebs.amazonaws.com';
export const SID = 'S-1-5-21-1004336348-1177238915-682003330-1001';
export const DIRECTORY = 'd-9067000000';
/** The pair of this user, as the document writes it. */
export const USER_PAIR = { 'aws:workspaces:sid-directoryid': `[${SID}]@[${DIRECTORY}]` };

/** The document's IAM policy for who administers WorkSpaces with a key. */
const identityPolicy = (keyArn: string) =>
  JSON.stringify({
    Version: '2012-10-17',
    Statement: [
      { Effect: 'Allow', Action: 'kms:CreateGrant', Resource: keyArn },
      { Effect: 'Allow', Action: ['kms:ListAliases', 'kms:ListKeys'], Resource: '*' },
    ],
  });

/** The document's key policy: root, and the administrator among the key users. `more` comes last. */
export const keyPolicy = (...more: object[]): string =>
  JSON.stringify({
    Version: '2012-10-17',
    Statement: [
      { Effect: 'Allow', Principal: { AWS: `${ACCOUNT}root` }, Action: 'kms:*', Resource: '*' },
      {
        Sid: 'Allow use of the key',
        Effect: 'Allow',
        Principal: { AWS: ADMINISTRATOR },
        Action: ['kms:Encrypt', 'kms:Decrypt', 'kms:ReEncrypt*', 'kms:GenerateDataKey*', 'kms:DescribeKey'],
        Resource: '*',
      },
      {
        Sid: 'Allow attachment of persistent resources',
        Effect: 'Allow',
        Principal: { AWS: ADMINISTRATOR },
        Action: ['kms:CreateGrant', 'kms:ListGrants', 'kms:RevokeGrant'],
        Resource: '*',
        Condition: { Bool: { 'kms:GrantIsForAWSResource': true } },
      },
      ...more,
    ],
  });

export interface Office {
  box: Sandbox;
  home: string;
  keyArn: string;
  image: Buffer;
  options: CreateWorkspaceOptions;
  /** Asks as root. */
  ask(operation: string, request?: object): ReturnType<typeof done>;
  putPolicy(...more: object[]): void;
  /** Records since the last call, of calls whose name is not among `left out`. */
  records(): Promise<AuditRecord[]>;
  /** Asserts that there is no grant on the key, no file in the directory and no WorkSpace in the store. */
  nothingLeft(): Promise<void>;
}

/** Everything in place for a WorkSpace whose root volume comes from an image. */
export async function office(): Promise<Office> {
  const box = sandbox();
  const home = box.path('home');
  const image = box.image('root.raw', 256 * 1024);
  const kms = EmbeddedKms.open(home);
  onTestFinished(() => kms.close());
  const ask: Office['ask'] = (operation, request = {}) => done(kms, operation, request);
  const keyArn: string = ask('CreateKey', { Policy: keyPolicy() }).KeyMetadata.Arn;
  const administration = administerKms(home);
  administration.putPrincipal('role/Administrator', [identityPolicy(keyArn)]);
  await administration.close();
  const directory = box.path('desks');
  let seen = 0;
  return {
    box,
    home,
    keyArn,
    image,
    ask,
    options: {
      home,
      sid: SID,
      directoryId: DIRECTORY,
      folder: directory,
      root: { image: box.path('root.raw') },
      user: { sizeBytes: 128 * 1024 },
      key: keyArn,
      administrator: ADMINISTRATOR,
    },
    putPolicy: (...more) => ask('PutKeyPolicy', { KeyId: keyArn, Policy: keyPolicy(...more) }),
    async records() {
      const all: AuditRecord[] = [];
      for await (const record of readAudit([auditDirectory(home, 'embedded')], {})) all.push(record);
      const fresh = all.slice(seen);
      seen = all.length;
      return fresh;
    },
    async nothingLeft() {
      assert.deepEqual(ask('ListGrants', { KeyId: keyArn }).Grants, []);
      let names: string[] = [];
      try {
        names = readdirSync(directory);
      } catch {
        // It was never made.
      }
      assert.deepEqual(names, []);
      assert.deepEqual(await listWorkspaces({ home }), []);
    },
  };
}

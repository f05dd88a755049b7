/** Records for tests, and the HMAC of their log's owner. */
import { createHmac, randomUUID } from 'node:crypto';
import { fileOwner } from '../../src/audit/log.js';
import type { AuditEvent } from '../../src/audit/record.js';
import type { LogOwner } from '../../src/audit/state.js';

export const authenticate = (message: Uint8Array): Buffer => createHmac('sha256', 'owner').update(message).digest();

/** The owner of the log in `directory`: its state in a file, and a key. */
export const ownerOf = (directory: string): LogOwner => ({ ...fileOwner(directory), authenticate });

/** A Decrypt by root, with `changes`. */
export const event = (changes: Partial<AuditEvent> = {}): AuditEvent => ({
  userIdentity: { type: 'Root', principalId: '0', arn: 'arn:aws:iam::000000000000:root', accountId: '000000000000' },
  eventTime: '2026-11-24T07:00:00Z',
  eventName: 'Decrypt',
  awsRegion: 'local',
  sourceIPAddress: 'in process',
  userAgent: 'test',
  requestParameters: { encryptionContext: { 'aws:ebs:id': 'vol-1' } },
  responseElements: null,
  requestID: randomUUID(),
  eventID: randomUUID(),
  readOnly: true,
  resources: [{ accountId: '000000000000', type: 'AWS::KMS::Key', ARN: 'arn:aws:kms:local:000000000000:key/k1' }],
  recipientAccountId: '000000000000',
  volseal: { endpoint: 'embedded' },
  ...changes,
});

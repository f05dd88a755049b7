/**
 * node kms-client-process.js URL: asks the KMS at the URL to unwrap a data key, once for each line on standard input,
 * and prints how the call went ("key" or the error's code). A key that came is wiped at once.
 */
import { createInterface } from 'node:readline';
import { kmsOver } from '../../src/kms/client/calls.js';
import { openConnection } from '../../src/kms/client/connection.js';
import { native } from '../../src/native.js';

const KEY_ARN = 'arn:aws:kms:us-east-1:111122223333:key/00000000-0000-4000-8000-000000000000';

const connection = openConnection({ kind: 'url', url: process.argv[2]!, auditHome: process.argv[3]! });
const kms = kmsOver(connection);
console.log(process.pid);
for await (const _ of createInterface({ input: process.stdin })) {
  try {
    native.keyWipe(await kms.unwrapKey({ keyArn: KEY_ARN, encryptedDataKey: Buffer.alloc(184, 1), context: { volume: 'a' } }));
    console.log('key');
  } catch (error) {
    console.log(String((error as { code?: string }).code));
  }
}

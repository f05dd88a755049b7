/**
 * node kms-steps.js HOME: changes and uses the embedded KMS there, and prints what was answered, a line of JSON each.
 */
import { writeSync } from 'node:fs';
import { EmbeddedKms } from '../../src/kms/embedded/service.js';
import { done } from '../kms/harness.js';

const kms = EmbeddedKms.open(process.argv[2]!);
const say = (answer: object): number => writeSync(1, `${JSON.stringify(answer)}\n`);
for (let round = 0; round < 2; round++) {
  const { KeyId } = done(kms, 'CreateKey').KeyMetadata;
  say({ KeyId });
  const { CiphertextBlob } = done(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId, NumberOfBytes: 64 });
  say({ KeyId, CiphertextBlob });
  const AliasName = `alias/${round}`;
  done(kms, 'CreateAlias', { AliasName, TargetKeyId: KeyId });
  say({ KeyId: AliasName });
}
await kms.close();

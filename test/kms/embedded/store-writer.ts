/**
 * A process that uses the store in argv[2] until it is killed or has done what argv[3] says: `managed` names
 * alias/aws/ebs once; `forever` makes keys with an alias each, and prints an id once its reply has come.
 */
import { writeSync } from 'node:fs';
import { EmbeddedKms } from '../../../src/kms/embedded/service.js';
import { ask } from '../harness.js';

const [, , home, mode] = process.argv;
const kms = EmbeddedKms.open(home!);
if (mode === 'managed') {
  writeSync(1, `${ask(kms, 'DescribeKey', { KeyId: 'alias/aws/ebs' }).body.KeyMetadata.KeyId}\n`);
  await kms.close();
} else {
  for (let index = 0; ; index++) {
    const { KeyId } = ask(kms, 'CreateKey', { Description: `${process.pid}` }).body.KeyMetadata;
    ask(kms, 'CreateAlias', { AliasName: `alias/${process.pid}-${index}`, TargetKeyId: KeyId });
    const { CiphertextBlob } = ask(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId, NumberOfBytes: 64 }).body;
    writeSync(1, `${KeyId} ${CiphertextBlob}\n`);
  }
}

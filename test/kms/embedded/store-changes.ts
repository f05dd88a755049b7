/**
 * node store-changes.js HOME: changes the embedded KMS there in five ways, one after the other, and prints each once it
 * is answered.
 */
import { writeSync } from 'node:fs';
import { EmbeddedKms } from '../../../src/kms/embedded/service.js';
import { done } from '../harness.js';

const kms = EmbeddedKms.open(process.argv[2]!);
const say = (what: string): number => writeSync(1, `${what}\n`);
const { KeyId } = done(kms, 'CreateKey').KeyMetadata;
say('key');
done(kms, 'CreateAlias', { AliasName: 'alias/one', TargetKeyId: KeyId });
say('alias');
done(kms, 'CreateGrant', { KeyId, GranteePrincipal: 'ebs.amazonaws.com', Operations: ['Decrypt'], Name: 'one' });
say('grant');
done(kms, 'RotateKeyOnDemand', { KeyId });
say('rotation');
done(kms, 'UpdateKeyDescription', { KeyId, Description: 'changed' });
say('description');
await kms.close();

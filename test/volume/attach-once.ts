// node attach-once.js VOLUME KMS READ_ONLY: attaches and detaches once; prints "attached" or the error's code.
import { attach } from '../../src/index.js';

const [volume, kms, readOnly] = process.argv.slice(2) as [string, string, string];
try {
  await (await attach(volume, { kms, readOnly: readOnly === 'true' })).detach();
  console.log('attached');
} catch (error) {
  console.log((error as { code: string }).code);
}

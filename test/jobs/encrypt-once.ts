// node encrypt-once.js IMAGE VOLUME KMS [force]: encrypts, with no reads of the image but the engine's; prints
// "encrypted" or the error's code and errno.
import { encryptImage, type VolsealError } from '../../src/index.js';

const [image, volume, kms, force] = process.argv.slice(2) as [string, string, string, string?];
try {
  await encryptImage(image, volume, { kms, force: force === 'force', raw: true });
  console.log('encrypted');
} catch (error) {
  const { code, details } = error as VolsealError;
  console.log(`${code} ${details.errno ?? ''}`);
}

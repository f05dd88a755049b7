// node densify-once.js VOLUME KMS: densifies; prints "full" or the error's code and errno.
import { densifyVolume, type VolsealError } from '../../src/index.js';

const [volume, kms] = process.argv.slice(2) as [string, string];
try {
  const { allocation } = await densifyVolume(volume, { kms });
  console.log(allocation);
} catch (error) {
  const { code, details } = error as VolsealError;
  console.log(`${code} ${details.errno ?? ''}`);
}

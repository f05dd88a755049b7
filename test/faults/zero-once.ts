// node zero-once.js VOLUME KMS: writes 3 MiB, zeroes and trims parts of it; prints "zeros" where they read as such, or
// the error's code and errno.
import { attach, type VolsealError } from '../../src/index.js';

const MIB = 1024 * 1024;
const [path, kms] = process.argv.slice(2) as [string, string];
try {
  await using volume = await attach(path, { kms });
  await volume.write(0, Buffer.alloc(3 * MIB, 0x55));
  await volume.zero(100, 2 * MIB - 100);
  await volume.trim(2 * MIB, MIB);
  const expected = Buffer.alloc(3 * MIB);
  expected.fill(0x55, 0, 100);
  console.log(expected.equals(await volume.read(0, 3 * MIB)) ? 'zeros' : 'other bytes');
} catch (error) {
  const { code, details } = error as VolsealError;
  console.log(`${code} ${details.errno ?? ''}`);
}

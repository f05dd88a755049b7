/**
 * A real disk image, encrypted and decrypted again: `npm run demo`.
 *
 * A raw ext4 image becomes an encrypted LUKS2 volume whose data key KMS wraps; the volume is attached, read and written
 * like a disk, and detached; then it becomes an image again, byte for byte what it was. Image and volume stay, to go on
 * with.
 *
 *   node dist/examples/round-trip.js [DIRECTORY]
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { attach, decryptImage, encryptImage } from 'volseal';

const directory = resolve(process.argv[2] ?? 'demo');
const image = join(directory, 'disk.raw');
const volumeFile = join(directory, 'disk.vol');
const restored = join(directory, 'restored.raw');
// The demo has its own KMS. Without this option the KMS in your data directory is used; or name aws, aws:eu-west-1,
// http://127.0.0.1:4599.
const home = join(directory, 'home');
const kms = `embedded:${home}`;

try {
  await mkdir(join(directory, 'files'), { recursive: true });
  // What an earlier run has left.
  await rm(image, { force: true });
  await writeFile(join(directory, 'files', 'letter.txt'), 'Dear reader, this file system is real.\n');
  execFileSync('mkfs.ext4', ['-q', '-d', join(directory, 'files'), image, '256M'], {
    env: { PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  });
  console.log(`1. a raw disk image with ext4 on it      ${image}`);

  const started = performance.now();
  const info = await encryptImage(image, volumeFile, { kms, encryptionContext: { user: 'alice' }, force: true });
  const rate = info.sizeBytes / 2 ** 20 / ((performance.now() - started) / 1000);
  console.log(`2. encrypted, ${rate.toFixed(0)} MiB/s, KMS included      ${volumeFile}`);
  console.log(`     volume id           ${info.volumeId}`);
  console.log(`     KMS key             ${info.keyId}`);
  console.log(`     encryption context  ${JSON.stringify(info.encryptionContext)}`);
  console.log(`     encrypted data key  ${info.encryptedDataKey.slice(0, 44)}...`);

  const volume = await attach(volumeFile, { kms, encryptionContext: { user: 'alice' } });
  try {
    const superblock = Buffer.from(await volume.read(1024, 1024));
    console.log(`3. attached: ${volume.sizeBytes} bytes; ext4 magic 0x${superblock.readUInt16LE(56).toString(16)} at byte 1080`);
    // ext4 leaves the first KiB to boot loaders.
    const before = await volume.read(0, 1024);
    await volume.write(100, Buffer.from('written through the volume'));
    await volume.flush();
    const text = Buffer.from(await volume.read(100, 26)).toString();
    console.log(`   wrote and read back "${text}", then put the old bytes back`);
    await volume.write(0, before);
  } finally {
    await volume.detach();
  }
  console.log('4. detached: the data key is wiped from memory');

  await decryptImage(volumeFile, restored, { kms });
  const [was, is] = await Promise.all([sha256(image), sha256(restored)]);
  if (was !== is) throw new Error('the restored image differs');
  console.log(`5. decrypted: identical to the original    sha256 ${is.slice(0, 16)}...`);
  const shown = (path: string): string => relative('', path) || '.';
  console.log(`
Go on with ${shown(image)} and ${shown(volumeFile)}:

  export VOLSEAL_HOME='${home}'
  alias volseal="node '${fileURLToPath(new URL('../program/main.js', import.meta.url))}'"    # or, once: npm link
  volseal info ${shown(volumeFile)}
  volseal attach ${shown(volumeFile)}        # a disk for QEMU, nbdcopy, nbdfuse, ...
  volseal detach ${shown(volumeFile)}
  volseal decrypt ${shown(volumeFile)} again.raw
  volseal encrypt --help`);
} finally {
  await rm(restored, { force: true });
  await rm(join(directory, 'files'), { recursive: true, force: true });
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

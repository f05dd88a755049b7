/** A directory of its own for a test, with an embedded KMS in it, and images to encrypt. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { describeVolume } from '../../src/index.js';
import { openKms } from '../../src/kms/client/calls.js';
import { parseKmsUri } from '../../src/kms/shared/endpoint.js';
import { native } from '../../src/native.js';

export interface Sandbox {
  directory: string;
  /** The `kms` option for the embedded KMS of this directory. */
  kms: string;
  /** A path in the directory. */
  path(name: string): string;
  /** Writes an image of random bytes and gives its contents. */
  image(name: string, bytes: number): Buffer;
  contents(name: string): Buffer;
}

/** Removed when the test ends. `parent` chooses the file system: a disk for O_DIRECT, tmpfs without. */
export function sandbox(parent: string = tmpdir()): Sandbox {
  const directory = mkdtempSync(join(parent, 'volseal test '));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const path = (name: string): string => join(directory, name);
  return {
    directory,
    kms: `embedded:${path('home')}`,
    path,
    image(name, bytes) {
      const contents = randomBytes(bytes);
      writeFileSync(path(name), contents);
      return contents;
    },
    contents: (name) => readFileSync(path(name)),
  };
}

/**
 * The data key of a volume, as its owner can ask KMS for it: 64 bytes. For tests only: no product code has a key in an
 * array.
 */
export async function dataKeyOf(volumePath: string, kms: string, header?: string): Promise<Buffer> {
  const info = await describeVolume(volumePath, { header });
  const client = openKms(parseKmsUri(kms));
  const handle = await client.unwrapKey({
    keyArn: info.keyId,
    encryptedDataKey: Buffer.from(info.encryptedDataKey, 'base64'),
    context: info.encryptionContext,
  });
  client.close();
  const text = Buffer.alloc(88);
  native.keyRevealBase64(handle, text, 0);
  native.keyWipe(handle);
  return Buffer.from(text.toString('latin1'), 'base64');
}

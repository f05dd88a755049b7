/**
 * A volume that belongs to one user of a virtual desktop: KMS unwraps its key for this user's encryption context only.
 *
 *   node dist/examples/user-volume.js DIRECTORY
 */
import { join } from 'node:path';
import { attach, createVolume, VolsealError, workspaceContext } from 'volseal';

const directory = process.argv[2];
if (directory === undefined) throw new Error('usage: user-volume DIRECTORY');
const kms = `embedded:${join(directory, 'kms home')}`;
const path = join(directory, 'alice.vol');

// volseal adds the pair that names the volume, aws:ebs:id.
const alice = workspaceContext({ sid: 'S-1-5-21-1001', directoryId: 'd-926722edaf' });
const mallory = workspaceContext({ sid: 'S-1-5-21-6666', directoryId: 'd-926722edaf' });

await createVolume(path, { sizeBytes: 16 * 1024 * 1024, kms, key: 'alias/aws/workspaces', encryptionContext: alice });
const volume = await attach(path, { kms, encryptionContext: alice });
try {
  await volume.write(0, Buffer.from("alice's own data"));
  console.log(`${volume.volumeId} is attached for alice`);
} finally {
  await volume.detach();
}
try {
  await attach(path, { kms, encryptionContext: mallory });
} catch (error) {
  if (!(error instanceof VolsealError) || error.code !== 'ERR_CONTEXT_MISMATCH') throw error;
  console.log(`mallory cannot attach it: ${error.code}`);
}

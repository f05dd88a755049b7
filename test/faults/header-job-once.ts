// node header-job-once.js KIND VOLUME KMS [ARGUMENT]: one job that makes or changes a header; prints "done", or the
// error's code and errno.
import { addRecoveryKey, adoptVolume, reencryptVolume, removeKeyslot, restoreHeader, type VolsealError } from '../../src/index.js';

const [kind, path, kms, argument] = process.argv.slice(2) as [string, string, string, string];
const jobs: Readonly<Record<string, () => Promise<unknown>>> = {
  reencrypt: () => reencryptVolume(path, argument, { kms, force: true }),
  add: () => addRecoveryKey(path, argument, { kms }),
  remove: () => removeKeyslot(path, argument, { kms }),
  restore: () => restoreHeader(path, argument, { kms }),
  adopt: () => adoptVolume(path, { kms, passphraseFile: argument }),
};
try {
  await jobs[kind]!();
  console.log('done');
} catch (error) {
  const { code, details } = error as VolsealError;
  console.log(`${code} ${details?.errno ?? ''}`.trim());
}

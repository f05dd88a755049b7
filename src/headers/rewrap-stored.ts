/** A volume that is an object in S3, under another KMS key: a new first part, and copies of the rest inside S3. */
import { VolsealError } from '../errors.js';
import { encodeHeader } from '../luks2/header.js';
import { isSnapshot } from '../stores/ebs/location.js';
import { checkReplaceable, replaceFront } from '../stores/s3/replace.js';
import { withStoredSource, withStoredVolume } from '../volume/stored-volume.js';
import { throwIfAborted } from '../workers/abort.js';
import { leasePool } from '../workers/pool.js';
import { checkSameKms, type RewrapOptions, type RewrappedVolume, rewrappedHeader, tryRewrap } from './rewrapped-header.js';

/** @throws {VolsealError} as `rewrapVolume`; `ERR_STORE_*`, `ERR_SOURCE_CHANGED`. Whatever fails, the object stays */
export async function rewrapStored(path: string, options: RewrapOptions): Promise<RewrappedVolume> {
  const { dryRun = false, key: toKey, store, signal, logger } = options;
  if (isSnapshot(path))
    throw new VolsealError('ERR_ARGUMENT', `${path}: a snapshot that is complete cannot be changed; rewrap a copy of it`, {
      details: { path },
    });
  if (options.header !== undefined)
    throw new VolsealError(
      'ERR_ARGUMENT',
      `${path}: its header is in a file, and is rewrapped beside a copy of the data: download that, and rewrap there`,
      { details: { path } },
    );
  checkReplaceable(path);
  if (dryRun) {
    return await withStoredSource(path, options, async (volume) => {
      const { volumeId, keyId: fromKeyArn } = volume.token;
      checkSameKms(fromKeyArn, toKey, path);
      await using pool = leasePool(logger);
      return { path, volumeId, fromKeyArn, toKeyArn: await tryRewrap(volume, pool, options), dryRun };
    });
  }
  const before = async ({ token }: { token: { keyId: string } }): Promise<void> => checkSameKms(token.keyId, toKey, path);
  return await withStoredVolume(
    path,
    options,
    async ({ volume, key, pool }) => {
      const { volumeId, keyId: fromKeyArn } = volume.token;
      const { keyArn, header } = await rewrappedHeader(volume, key, pool, options);
      throwIfAborted(signal, 'the volume is as it was');
      await replaceFront(path, volume.source.state ?? '', encodeHeader(header), store, signal);
      return { path, volumeId, fromKeyArn, toKeyArn: keyArn, dryRun };
    },
    before,
  );
}

/**
 * The same volume under another KMS key: KMS rewraps the data key, and the header records it. The data is not touched.
 */

import { withPath } from '../errors.js';
import { logged } from '../logging.js';
import { repairHeader, writeHeader } from '../luks2/store.js';
import { isStored } from '../stores/location.js';
import { type VolumeSession, withVolume } from '../volume/session.js';
import { checkSameKms, type RewrapOptions, type RewrappedVolume, rewrappedHeader, tryRewrap } from './rewrapped-header.js';

export type { RewrapOptions, RewrappedVolume };

const AS_BEFORE = 'the volume is as it was';

/**
 * Wraps a volume's data key under another KMS key of the same KMS, with the same encryption context (ReEncrypt).
 *
 * The new token is proved before the old one is given up: KMS unwraps it, and what comes out must be the key of this
 * volume's digest. Then the header's copies are written one after the other; whenever that ends, kill -9 included, one
 * of them is whole, and the data key in it opens. Nothing but the header is written. A volume in S3 is replaced by one
 * with the new header, whose data S3 copies; only if it is still the one that was read.
 *
 * @throws {VolsealError} as `attach`; `ERR_ARGUMENT` for a key of another region: ReEncrypt works inside one KMS
 */
export async function rewrapVolume(path: string, options: RewrapOptions): Promise<RewrappedVolume> {
  return logged('rewrap', { path }, options, (own) => rewrapOne(path, own));
}

async function rewrapOne(path: string, options: RewrapOptions): Promise<RewrappedVolume> {
  if (isStored(path)) return (await import('./rewrap-stored.js')).rewrapStored(path, options);
  const dryRun = options.dryRun === true;
  try {
    return await withVolume(path, options, { lock: dryRun ? 'none' : 'exclusive', ifStopped: AS_BEFORE }, async (session) => {
      const { file, pool } = session;
      const { volumeId, keyId: fromKeyArn } = file.token;
      session.throwIfAborted();
      checkSameKms(fromKeyArn, options.key, path);
      const toKeyArn = dryRun ? await tryRewrap(file, pool, options) : await rewrap(session, options);
      return { path, volumeId, fromKeyArn, toKeyArn, dryRun };
    });
  } catch (error) {
    throw withPath(error, path);
  }
}

async function rewrap(session: VolumeSession, options: RewrapOptions): Promise<string> {
  const { file, pool } = session;
  const { handle, path } = file.header;
  // First, so that nobody makes KMS rewrap what a forged header holds.
  const key = await session.unlock();
  await repairHeader(handle, file.found, path);
  const { keyArn, header } = await rewrappedHeader(file, key, pool, options);
  session.throwIfAborted();
  await writeHeader(handle, header, path);
  return keyArn;
}

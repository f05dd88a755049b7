/** Keyslots of a volume that is an object in S3: a new first part, and copies of the rest inside S3. */
import { VolsealError } from '../errors.js';
import { S3_PART_BYTES_MIN } from '../limits.js';
import { encodeHeader } from '../luks2/header.js';
import { isSnapshot } from '../stores/ebs/location.js';
import { checkReplaceable, replaceFront } from '../stores/s3/replace.js';
import { type StoredOpenOptions, withStoredVolume } from '../volume/stored-volume.js';
import type { KeyslotSession } from './keyslot-session.js';

/**
 * Opens the volume for a change of its header and what is behind it. The object is replaced at once by each `commit`,
 * and only if it is still the one that was read.
 * @throws {VolsealError} `ERR_ARGUMENT` what cannot be changed; `ERR_SOURCE_CHANGED`, `ERR_STORE_*`; as
 * `withStoredVolume`; what `change` throws. Whatever fails, the object is as it was
 */
export async function changingStored<T>(
  path: string,
  options: StoredOpenOptions,
  change: (session: KeyslotSession) => Promise<T>,
): Promise<T> {
  const refuse = (why: string): never => {
    throw new VolsealError('ERR_ARGUMENT', `${path}: ${why}`, { details: { path } });
  };
  if (isSnapshot(path)) refuse('a snapshot that is complete cannot be changed; change a copy of the volume');
  if (options.header !== undefined) refuse('its header is in a file: change it there, beside a copy of the data');
  checkReplaceable(path);
  const { store, signal } = options;
  return await withStoredVolume(path, options, async ({ volume, key, pool }) => {
    const { offsetBytes: frontBytes } = volume.segment;
    if (frontBytes > S3_PART_BYTES_MIN) refuse(`its header has ${frontBytes} bytes, more than S3 replaces in one part`);
    const front = await volume.header.read(0, frontBytes);
    let state = volume.source.state;
    const header = { path, read: async (at: number, bytes: number) => front.subarray(at, at + bytes) };
    return await change({
      ...{ file: { ...volume, header }, key, pool },
      async writeArea(bytes, at) {
        if (at + bytes.length > front.length) refuse('its keyslots reach into its data');
        front.set(bytes, at);
      },
      async writeHeader(next) {
        encodeHeader(next).copy(front);
      },
      async commit() {
        if (state === undefined)
          throw new VolsealError('ERR_STORE_REQUEST', `${path}: the server did not tell which object it made`, { details: { path } });
        state = await replaceFront(path, state, front, store, signal);
      },
    });
  });
}

/**
 * Reading all of a volume, also in the middle of a job in place: the volume is only read, and the job goes on
 * afterwards.
 */
import { decryptFrom, decryptImage as decryptWhole } from '../jobs/decrypt.js';
import type { DecryptedImage, DecryptOptions } from '../jobs/decrypt-options.js';
import { type VerifiedVolume, type VerifyOptions, verifyFrom, verifyVolume as verifyWhole } from '../jobs/verify.js';
import { logged } from '../logging.js';
import { isStored } from '../stores/location.js';
import type { TargetStream } from '../transfer/image-stream.js';
import type { ImageSession } from '../volume/session.js';
import { type OpenAnyOptions, type UnfinishedOptions, UnfinishedSession, wholeOrUnfinished } from './unfinished.js';

/** Options of `decryptImage`. */
export interface DecryptAnyOptions extends DecryptOptions, UnfinishedOptions {}

/** Options of `verifyVolume`. */
export interface VerifyAnyOptions extends VerifyOptions, UnfinishedOptions {}

/**
 * Decrypts a volume into a raw image of its exact old length.
 *
 * In the middle of a job in place (`encryptInPlace`, `decryptInPlace`, `reencryptInPlace`) each sector is decrypted by
 * the key of its side, and what is only in the journal is read there; not into a store.
 *
 * @param volumePath of a file or device, or `s3://BUCKET/KEY`, `ebs:snap-...`
 * @param image a path, `s3://BUCKET/KEY`, `ebs:new`, or an open stream, which gets the image in order; what it got
 * before a failure it keeps
 * @throws {VolsealError} `ERR_NOT_A_VOLUME`, `ERR_HEADER_*`, `ERR_VOLUME_SIZE`, `ERR_STATE_BUSY` (attached for
 * writing), `ERR_KMS_*`, `ERR_CONTEXT_MISMATCH`, `ERR_KEY_DIGEST`, `ERR_TARGET_EXISTS`, `ERR_TARGET_SIZE`,
 * `ERR_SOURCE_CHANGED`, `ERR_RESUME`, `ERR_STORE_*`, `ERR_ARGUMENT`, `ERR_IO`, `ERR_ABORTED`, `ERR_SELF_TEST`,
 * `ERR_STATE_INTERRUPTED` (a job is in the middle of it, and its journal is not there). Whatever fails, a target file
 * is as it was; a block device is not, and the message says so.
 */
export async function decryptImage(
  volumePath: string,
  image: string | TargetStream,
  options: DecryptAnyOptions = {},
): Promise<DecryptedImage> {
  const facts = { source: volumePath, target: typeof image === 'string' ? image : image.name };
  return logged('decrypt', facts, options, (own) => {
    const whole = () => decryptWhole(volumePath, image, own);
    if (isStored(volumePath) || (typeof image === 'string' && isStored(image)) || own.asIs === true) return whole();
    return wholeOrUnfinished(own, whole, () => inTheMiddle(volumePath, own, (session) => decryptFrom(session, image, own)));
  });
}

/**
 * Checks both header copies and that a detached header and the data belong together, has KMS unwrap the key, proves
 * digest and MAC with it, and with `against` compares all of the data. XTS has no authentication: without an image to
 * compare with, changed data cannot be told from data that was written.
 *
 * In the middle of a job in place the headers are those in the journal; its record and the part that is only there are
 * proved as well.
 *
 * @throws {VolsealError} `ERR_HEADER_DAMAGED` also where one copy is good and the other is not (`details.copies`);
 * `ERR_IMAGE_DIFFERS`; the rest as `decryptImage`
 */
export async function verifyVolume(path: string, options: VerifyAnyOptions = {}): Promise<VerifiedVolume> {
  return logged('verify', { path }, options, (own) => {
    const whole = () => verifyWhole(path, own);
    if (isStored(path)) return whole();
    return wholeOrUnfinished(own, whole, () => inTheMiddle(path, own, (session) => verifyFrom(session, path, own)));
  });
}

async function inTheMiddle<T>(path: string, options: OpenAnyOptions, use: (session: ImageSession) => Promise<T>): Promise<T | undefined> {
  await using session = await UnfinishedSession.open(path, options, false);
  return session && (await use(session));
}

/** The parts of an upload that S3 has: what a later run need not send again. */
import { VolsealError } from '../../errors.js';
import { S3_PARTS_MAX } from '../../limits.js';
import type { S3Location } from '../location.js';
import type { S3Connection } from './client.js';
import { parseCrc32 } from './crc32.js';
import type { Part } from './upload.js';

/** S3 gives at most 1,000 parts a page: so many pages, and the server only repeats itself. */
const PAGES_MAX = 2 * (S3_PARTS_MAX / 1000) + 2;

/**
 * Lists them page by page, by their number less one. Parts without CRC-32, or of another length than `lengthOf` says,
 * are left out: they are sent again, and replaced by that.
 * @param lengthOf bytes of part `index`; undefined where there is no such part
 * @throws {VolsealError} `ERR_STORE_*` (`details.name` is `NoSuchUpload` where the upload is gone), `ERR_ABORTED`
 */
export async function listParts(
  connection: S3Connection,
  location: S3Location,
  uploadId: string,
  lengthOf: (index: number) => number | undefined,
  signal: AbortSignal | undefined,
): Promise<Part[]> {
  const { bucket: Bucket, key: Key, name } = location;
  const parts: Part[] = [];
  let marker: string | undefined;
  for (let page = 0; page < PAGES_MAX; page += 1) {
    const from = marker === undefined ? {} : { PartNumberMarker: marker };
    const { Parts, IsTruncated, NextPartNumberMarker } = await connection.call(
      'ListParts',
      's3:ListMultipartUploadParts',
      location,
      ({ client, sdk }, send) => client.send(new sdk.ListPartsCommand({ Bucket, Key, UploadId: uploadId, ...from }), send),
      signal,
    );
    for (const { PartNumber = 0, ETag: etag, Size: bytes, ChecksumCRC32 } of Parts ?? []) {
      const crc32 = parseCrc32(ChecksumCRC32);
      const isWhole = PartNumber >= 1 && bytes !== undefined && bytes === lengthOf(PartNumber - 1);
      if (isWhole && etag !== undefined && crc32 !== undefined) parts[PartNumber - 1] = { etag, crc32, bytes };
    }
    if (IsTruncated !== true) return parts;
    marker = NextPartNumberMarker;
  }
  throw new VolsealError('ERR_STORE_REQUEST', `${name}: the server lists the parts of an upload without an end`, {
    details: { path: name },
  });
}

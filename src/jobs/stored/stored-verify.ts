/** Comparing the data of a volume in a store with an image. */
import { STORE_PIECE_BYTES } from '../../limits.js';
import type { NamedFile } from '../../output/named-file.js';
import type { ImageSource } from '../../stores/store.js';
import { movePieces } from '../../transfer/move-pieces.js';
import type { JobOptions } from '../../transfer/transform.js';
import type { StoredSession } from '../../volume/stored-volume.js';

/**
 * The first byte of the image that differs, undefined where none does.
 * @throws {VolsealError} `ERR_STORE_*`, `ERR_IO`, `ERR_ABORTED`
 */
export async function compareStored(
  { volume, key, pool }: StoredSession,
  image: NamedFile,
  job: JobOptions & { stopped: string },
): Promise<number | undefined> {
  const { segment, token, sizeBytes, source } = volume;
  let differsAt = Number.POSITIVE_INFINITY;
  // What lies behind a difference is not fetched any more.
  const needed: ImageSource = {
    ...source,
    async readRange(offsetBytes, target, signal) {
      if (offsetBytes - segment.offsetBytes < differsAt) await source.readRange(offsetBytes, target, signal);
    },
  };
  await movePieces(
    {
      ...{ pool, key, encrypt: false, sectorBytes: segment.sectorBytes, sparse: token.allocation === 'sparse', source: needed },
      ...{ sourceOffsetBytes: segment.offsetBytes, dataBytes: sizeBytes, targetBytes: token.imageBytes },
      ...{ pieceBytes: STORE_PIECE_BYTES, checksum: undefined, stopped: job.stopped },
      async write({ offsetBytes, bytes }) {
        if (offsetBytes >= differsAt) return;
        const expected = await image.read(offsetBytes, bytes.length);
        if (expected.equals(bytes)) return;
        const at = expected.findIndex((byte, index) => byte !== bytes[index]);
        differsAt = Math.min(differsAt, offsetBytes + (at === -1 ? expected.length : at));
      },
    },
    job,
  );
  return Number.isFinite(differsAt) ? differsAt : undefined;
}

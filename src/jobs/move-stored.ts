/** An object in a store, on its way into the files of a new volume. */
import { STORE_PIECE_BYTES } from '../limits.js';
import type { KeyHandle } from '../native.js';
import type { ImageSource } from '../stores/store.js';
import type { PoolLease } from '../workers/pool.js';
import { movePieces } from './move-pieces.js';
import type { JobOptions } from './transform.js';
import type { NewVolumeFiles, VolumePlan } from './volume-plan.js';

/** Encrypts an object into the files of a new volume, without its header. @throws {VolsealError} as `encryptImage` */
export async function moveStored(
  { sectorBytes }: VolumePlan,
  { volume, detached, layout }: NewVolumeFiles,
  source: ImageSource,
  key: KeyHandle,
  pool: PoolLease,
  job: JobOptions,
): Promise<void> {
  for (const target of detached === undefined ? [volume] : [volume, detached]) await target.begin();
  await movePieces(
    {
      ...{ pool, key, encrypt: true, sectorBytes, sparse: false, source, sourceOffsetBytes: 0 },
      ...{ dataBytes: source.sizeBytes, pieceBytes: STORE_PIECE_BYTES, targetBytes: layout.dataBytes },
      checksum: undefined,
      write: ({ offsetBytes, bytes }) => volume.file.write(bytes, layout.dataOffsetBytes + offsetBytes),
    },
    job,
  );
}
